"""LocalRunner: the pure scheduler around threads of this process.

One thread (the caller's) hears what happened and asks the scheduler; the others run attempts. Errors of input, output
or plan are not tried again here: the same thread would meet them again. A spilled block that is found damaged is: its
map task runs again.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from kernelmill.engine.background import cancelled, cancelling
from kernelmill.engine.caching import cached_bytes, spill_cached
from kernelmill.engine.commit import PartFile
from kernelmill.engine.compiling import for_run
from kernelmill.engine.errors import CancelledError, Code, KernelmillError, MemoryLimitError, error
from kernelmill.engine.events import (
    COMPILE_KERNELS,
    Event,
    JobFinished,
    JobStarted,
    PhaseEnded,
    PhaseStarted,
    SpillWritten,
    StageInfo,
    StageStarted,
    TaskFailed,
    TaskFinished,
    TaskProgress,
    TaskStarted,
    fan_out,
)
from kernelmill.engine.exec.buildside import SharedBuilds
from kernelmill.engine.exec.context import Scratch, TaskContext, TaskResult
from kernelmill.engine.exec.needs import kernels_of
from kernelmill.engine.exec.task import run_task
from kernelmill.engine.grants import Grants, plan_grants
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.io.rejects import REJECT_SCHEMA, RejectWriter
from kernelmill.engine.lazymodules import load_parquet
from kernelmill.engine.plan.physical import Pipeline, ToParquet
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.plan.stages import task_of
from kernelmill.engine.progress import progress_sink
from kernelmill.engine.schedule import events as schedule
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import Policy, shapes_of
from kernelmill.engine.settings import Settings
from kernelmill.engine.shuffle.store import BlockStore, LostBlockError
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.staging import Staging
from kernelmill.engine.syncing import Syncs
from kernelmill.kernels import _jit

_WORKER = "local"
PATIENCE_S = 8.5
"""So long after a Ctrl-C a job waits for its threads: one in a function that never returns cannot be stopped. A little
more than the command line, which ends its process then and says so."""
_STILL_AT_WORK = "kernelmill: a function of yours has not returned: it runs on until the process ends"
_Report = tuple[AttemptId, TaskResult | BaseException] | None
"""What came of an attempt; None: the job is to end."""


class LocalRunner:
    """One job on threads of this process. Use it in a `with`: leaving it cancels what still runs and frees all."""

    def __init__(
        self,
        job: JobPlan,
        settings: Settings,
        on_event: Callable[[Event], None] | None,
        staging: Staging | None,
        *,
        room_bytes: int = 0,
        sink: HeldSink | None = None,
    ) -> None:
        job = replace(job, functions=tuple(map(for_run, job.functions)))
        self._job, self._settings, self._staging, self._sink = job, settings, staging, sink
        self._graph = job.graph
        self._grants, self.room_bytes = _granted(job, settings, room_bytes)
        self._progress = progress_sink(settings)
        self._emit = fan_out(*(sink for sink in (self._progress, on_event) if sink is not None))
        self.store = BlockStore(
            memory_bytes_max=self._grants.store_bytes,
            spill_dir=settings.spill_dir,
            spill_bytes_max=settings.spill_limit_bytes,
        )
        self.rejects = RejectWriter(settings.max_rejects)
        self._syncs = Syncs()
        self._scheduler = Scheduler(shapes_of(self._graph), Policy(max_attempts=settings.max_attempts))
        self._orders: queue.SimpleQueue[AttemptId | None] = queue.SimpleQueue()
        self._reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
        self._working = 0
        self._scratches: list[Scratch] = []
        self._cancelled = threading.Event()
        self._results: dict[TaskId, TaskResult] = {}
        self._errors: dict[AttemptId, BaseException] = {}
        self._stages_started: set[int] = set()
        self._slots = 0
        self._began = time.perf_counter()
        self._is_over = False
        self._builds = SharedBuilds()

    def __enter__(self) -> LocalRunner:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, _: object) -> None:
        self._cancelled.set()
        for _thread in range(self._working):
            self._orders.put(None)
        try:
            self._await_threads(problem if isinstance(problem, KeyboardInterrupt) else None)
        finally:
            self._close(kind)

    def _await_threads(self, interrupt: KeyboardInterrupt | None) -> None:
        """Return when no thread works any more; after a Ctrl-C within PATIENCE_S, and after a second one at once.

        What then still works is a daemon: it finds the store and the staging gone, and nobody hears of it.
        """
        until_s = None if interrupt is None else time.monotonic() + PATIENCE_S
        try:
            while self._working:  # Thread.join, once interrupted, takes the thread for ended (CPython's issue 89437)
                ended = self._ended.get(timeout=None if until_s is None else max(0.0, until_s - time.monotonic()))
                self._working -= 1
                ended.join()
        except queue.Empty:
            assert interrupt is not None
            interrupt.add_note(_STILL_AT_WORK)
        except KeyboardInterrupt as again:
            if interrupt is None:
                self._await_threads(again)
            else:
                again.add_note(_STILL_AT_WORK)
            raise

    def _close(self, kind: type[BaseException] | None) -> None:
        self._syncs.close()
        self.store.close()
        if not self._is_over:
            is_cancelled = kind is None or issubclass(kind, KeyboardInterrupt | GeneratorExit | CancelledError)
            self._finish("cancelled" if is_cancelled else "failed", 0, 0)
        if self._progress is not None:
            self._progress.close()

    def results(self) -> Iterator[int]:
        """Run the job; yields the index of each task of the last stage as soon as it and all before it are done.

        At its end the files that tasks wrote are durable.
        """
        with cancelling().waking(self._wake):
            yield from self._results_in_order()

    def _results_in_order(self) -> Iterator[int]:
        self._emit(self._started())
        _jit.use_cache_root(self._settings.cache_dir)
        reading, later = self._split_pipelines()
        self._load_kernels(reading)
        self._start_threads()
        last, given_out = self._graph.last, 0
        self._slots = self._slots_after(None)
        self._handle(schedule.WorkerJoined(_WORKER, self._slots))
        self._load_kernels(later)  # while the first tasks run: this thread has nothing else to do yet
        if self._staging is not None:
            load_parquet()
        while True:
            while given_out < last.tasks and TaskId(last.number, given_out) in self._results:
                yield given_out
                given_out += 1
            if self._scheduler.outcome is not None:
                break
            report = self._reports.get()
            if report is None:
                raise cancelled()
            self._hear(*report)
        self._syncs.wait()

    def _wake(self) -> None:
        """End the job, from any thread: attempts at their next batch, and the caller's thread when it hears of it."""
        self._cancelled.set()
        self._reports.put(None)

    def result_of(self, index: int) -> TaskResult:
        """The result of a task of the last stage."""
        return self._results[TaskId(self._graph.last.number, index)]

    def parts_of(self, stage: int) -> list[PartFile]:
        """The files that the tasks of a stage wrote, in order."""
        results = [self._results[TaskId(stage, index)] for index in range(self._graph.stages[stage].tasks)]
        return [part for result in results for part in (result.parts or (result.part,)) if part is not None]

    def counters(self) -> dict[str, int]:
        """The sums of the winning attempts' counters, by name."""
        sums: dict[str, int] = {}
        for task in sorted(self._results):
            for name, n in self._results[task].counters.items():
                sums[name] = sums.get(name, 0) + n
        return dict(sorted(sums.items()))

    def write_rejects(self, staging: Staging) -> list[PartFile]:
        """Write the rejected records, if any, to one staged file."""
        if not self.rejects.rows:
            return []
        operator = ToParquet("zstd", 1 << 16, True, REJECT_SCHEMA)
        with PartWriter(staging.reject_path(0, 0), operator) as writer:
            for batch in self.rejects.table().to_batches():
                writer.write(batch)
            return [writer.close()]

    def finished(self, rows: int, size: int) -> None:
        """The output is in place: say so."""
        self._finish("done", rows, size)

    def _finish(self, outcome: str, rows: int, size: int) -> None:
        self._is_over = True
        self._emit(JobFinished(outcome, rows, size, time.perf_counter() - self._began))

    def _started(self) -> JobStarted:
        stages = tuple(
            StageInfo(stage.number, stage.label, stage.tasks, sum(split.size_bytes for split in stage.splits))
            for stage in self._graph.stages
        )
        job_id = os.urandom(8).hex()
        return JobStarted(job_id, stages, self._settings.threads, self._settings.memory_bytes)

    def _split_pipelines(self) -> tuple[list[Pipeline], list[Pipeline]]:
        """The pipelines of stages that can run at once, and those of the others."""
        pairs = list(zip(self._graph.stages, self._job.pipelines, strict=True))
        reading = [pipeline for stage, pipeline in pairs if not stage.inputs]
        return reading, [pipeline for stage, pipeline in pairs if stage.inputs]

    def _load_kernels(self, pipelines: list[Pipeline]) -> None:
        """Load the kernels that these pipelines call; what the cache lacks is compiled, in a phase with a name."""
        compiled: list[str] = []

        def on_compile(name: str) -> None:
            compiled.append(name)
            self._emit(PhaseStarted(COMPILE_KERNELS, name))

        seconds = _jit.load(kernels_of(pipelines), on_compile)
        if compiled:
            self._emit(PhaseEnded(COMPILE_KERNELS, seconds, f"{len(compiled)} compiled"))

    def _start_threads(self) -> None:
        slots = zip(self._grants.slots_of_stage, self._graph.stages, strict=True)
        threads = max(min(count, stage.tasks) for count, stage in slots)
        # The last one given back is the first taken: with fewer slots than threads, fewer tables are resident.
        self._scratches = [Scratch() for _ in range(threads)]
        for number in range(threads):
            thread = threading.Thread(target=self._work, name=f"kernelmill-{number}", daemon=True)
            thread.start()
            self._working += 1

    # In the caller's thread ------------------------------------------------------------------------------------------

    def _slots_after(self, finished: TaskId | None) -> int:
        """Slots once `finished` is done: the least that memory allows any stage that may then run."""
        counts_of = self._scheduler.counts_of
        left = {stage.number: stage.tasks - counts_of(stage.number).done for stage in self._graph.stages}
        if finished is not None:
            left[finished.stage] -= 1
        runnable = [
            self._grants.slots_of_stage[stage.number]
            for stage in self._graph.stages
            if left[stage.number] > 0 and not any(left[edge.source] > 0 for edge in stage.inputs)
        ]
        return min(runnable, default=1)

    def _handle(self, event: schedule.Event) -> None:
        for action in self._scheduler.handle(event, time.monotonic()):
            match action:
                case schedule.StartAttempt():
                    self._start(action.attempt)
                case schedule.CancelAttempt():
                    self._cancelled.set()  # locally attempts are cancelled all together
                case schedule.FinishStage():
                    self._free_sources(action.stage)
                case schedule.FinishJob():
                    self._raise_failure(action)

    def _free_sources(self, finished: int) -> None:
        """Forget the blocks that only finished stages have read."""
        self._builds.drop(finished)
        for edge in self._graph.stages[finished].inputs:
            readers = self._graph.readers_of(edge.source)
            if all(self._scheduler.counts_of(reader.number).done == reader.tasks for reader in readers):
                for index in range(self._graph.stages[edge.source].tasks):
                    self.store.drop(edge.source, index)

    def _start(self, attempt: AttemptId) -> None:
        if attempt.task.stage not in self._stages_started:
            self._stages_started.add(attempt.task.stage)
            self._emit(StageStarted(attempt.task.stage))
        self._orders.put(attempt)

    def _hear(self, attempt: AttemptId, outcome: TaskResult | BaseException) -> None:
        if isinstance(outcome, TaskResult):
            self._results[attempt.task] = outcome
            self.rejects.add(attempt.task, outcome.rejects)
            self._emit(TaskFinished(attempt, outcome.rows, outcome.bytes))
            if outcome.spilled_bytes:
                self._emit(SpillWritten(outcome.spilled_bytes, attempt.task.stage))
            slots = self._slots_after(attempt.task)
            if slots != self._slots:  # said first: the answer to the next line fills them with the next stage's tasks
                self._slots = slots
                self._handle(schedule.SlotsChanged(_WORKER, slots))
            self._handle(schedule.AttemptFinished(attempt))
            return
        self._errors[attempt] = outcome
        lost = outcome if isinstance(outcome, LostBlockError) else None
        code = outcome.code if isinstance(outcome, KernelmillError) else Code.INTERNAL
        self._emit(TaskFailed(attempt, str(code), str(outcome), lost is not None))
        holder = self._scheduler.winner_of(TaskId(lost.ref.stage, lost.ref.task)) if lost is not None else None
        if holder is not None:  # said first, or the reader would be started on the same block again
            self._results.pop(holder.task, None)
            self._handle(schedule.OutputLost(holder))
        self._handle(schedule.AttemptFailed(attempt, retryable=lost is not None, charged=lost is None))

    def _raise_failure(self, action: schedule.FinishJob) -> None:
        if action.outcome is schedule.Outcome.FAILED:
            first = self._errors[action.culprit] if action.culprit is not None else next(iter(self._errors.values()))
            raise first
        if action.outcome is schedule.Outcome.CANCELLED:
            raise cancelled()

    # In the worker threads -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._work_off_orders()
        finally:
            self._ended.put(threading.current_thread())

    def _work_off_orders(self) -> None:
        while (attempt := self._orders.get()) is not None:
            scratch = self._scratches.pop()
            try:
                outcome: TaskResult | BaseException = self._run(attempt, scratch)
            except KernelmillError as problem:
                outcome = problem
            except MemoryError as problem:
                outcome = error(Code.MEMORY_LIMIT, "the system has no more memory", hint="lower memory= or threads=")
                outcome.__cause__ = problem
            except KeyboardInterrupt as problem:  # a user's function raised it: Python's own goes to the main thread
                outcome = error(Code.CANCELLED, "the job was cancelled: a function raised KeyboardInterrupt")
                outcome.__cause__ = problem
            except BaseException as problem:  # whatever it is, the job must hear of it rather than wait for ever
                hint = "report this with the command, the input's shape and the text above"
                outcome = error(Code.INTERNAL, f"{type(problem).__name__}: {problem}", hint=hint)
                outcome.__cause__ = problem
            self._scratches.append(scratch)
            self._reports.put((attempt, outcome))

    def _run(self, attempt: AttemptId, scratch: Scratch) -> TaskResult:
        self._emit(TaskStarted(attempt, threading.current_thread().name))
        task = task_of(self._graph, attempt.task.stage, attempt.task.index)
        part_path = None
        if self._staging is not None and not task.partitions:
            stages = [self._graph.last.number, *(stage for _, stage, _ in self._job.named)]
            part_path = self._staging.part_path(task.index, attempt.number, stages.index(task.stage))
        context = TaskContext(
            attempt,
            scratch=scratch,
            part_path=part_path,
            is_cancelled=self._cancelled.is_set,
            on_progress=lambda done: self._emit(TaskProgress(attempt, done)),
            on_bad=self._settings.on_bad,
            max_rejects=self._settings.max_rejects,
            memory_bytes_max=self._grants.held_bytes_of_stage[attempt.task.stage],
            sink=self._sink,
            sync_later=self._syncs.add,
            builds=self._builds,
        )
        return run_task(task, self.store, context, self._job.tables, self._job.functions, self._job.sources)


def _granted(job: JobPlan, settings: Settings, room_bytes: int) -> tuple[Grants, int]:
    """Memory for a job beside what cached rows hold and `room_bytes` for more of them; those rows give way to a job.

    The second is the room that there is.
    """
    aside = room_bytes + cached_bytes()
    try:
        return plan_grants(job, settings, aside), room_bytes
    except MemoryLimitError:
        if not aside:
            raise
    spill_cached()
    return plan_grants(job, settings), 0
