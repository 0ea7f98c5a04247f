"""The scheduler: a pure state machine that a local runner and a cluster's master drive.

    actions = scheduler.handle(event, now)      events.py lists both; `now`: seconds, any monotonic clock
    deadline = scheduler.next_deadline()        send TimePassed then, if nothing came before
    scheduler.check()                           asserts every invariant; for tests

It knows tasks as (stage, index) and workers as names with slots; what a task does, where files lie and what a message
looks like is the caller's. The same events give the same actions: there is no clock, thread or chance in here.

The rules, in the order in which an event meets them:

- An event that the tables in state.py do not list raises IllegalEvent and changes nothing.
- The first output of a task counts; a rival is cancelled, and what it makes is dropped.
- An attempt that ends without output is tried again under a new number, on another worker where there is one, until the
  task's budget is spent. Only charged failures use that budget; a second one, of any kind of end, is a fuse.
- An output that is lost is made again only if the job or an open task needs it; so are the inputs that takes. A reader
  that is running goes on: it may have read what it needs, and says AttemptFailed if not. One whose holder is away is
  waited for a grace, and if it comes back later than that, but before it was made again, it counts all the same.
- Free slots go to ready tasks (tasks.py tells in which order), then to backups of late attempts (starting.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.schedule.attempts import AttemptBook, Numbers
from kernelmill.engine.schedule.backup import BackupWatch
from kernelmill.engine.schedule.events import (
    Action,
    AttemptFailed,
    AttemptFinished,
    AttemptFound,
    CancelAttempt,
    CancelRequested,
    DropOutput,
    Event,
    FinishJob,
    FinishStage,
    IllegalEvent,
    Outcome,
    OutputFound,
    OutputLost,
    SlotsChanged,
    TimePassed,
    WorkerDrained,
    WorkerJoined,
    WorkerLost,
)
from kernelmill.engine.schedule.invariants import check_job
from kernelmill.engine.schedule.legality import Legality, require
from kernelmill.engine.schedule.placement import Near, Placement
from kernelmill.engine.schedule.starting import Starter
from kernelmill.engine.schedule.state import (
    ABSENT,
    ALL_ENDED,
    BUDGET_SPENT,
    DISCARDED,
    DONE,
    JOB_CANCELLED,
    JOB_CANCELLING,
    JOB_DONE,
    JOB_FAILED,
    JOB_FAILING,
    JOB_RUNNING,
    NEXT_JOB,
    RESULT_LOST,
    RESULT_THERE,
    RUNNING,
    UNAVAILABLE,
    AttemptRecord,
    Policy,
    StageCounts,
    StageRecord,
    StageShape,
    WorkerRecord,
    key_of,
    stage_and_index,
)
from kernelmill.engine.schedule.tasks import TaskBoard
from kernelmill.engine.schedule.workers import WorkerPool

_OUTCOMES = {JOB_DONE: Outcome.DONE, JOB_FAILED: Outcome.FAILED, JOB_CANCELLED: Outcome.CANCELLED}


class Scheduler:
    """Decides which attempt runs on which worker, until every output of the last stages is there.

    shapes: the stages, every source before its readers; those that nothing reads are the job's result.
    given_stages: numbers of stages whose outputs are there from the start (tables in memory), and cannot be lost.
    numbers: where attempts' numbers come from; a master's schedulers share it, and it starts above those of all earlier
    masters, which OutputFound and AttemptFound may name.
    near: asked which worker is near each task of a stage when all is there that its tasks read; without it, tasks run
    on whichever worker has its turn.
    Raises ValueError if the shapes do not fit together. The first actions come with the first event.
    """

    def __init__(
        self,
        shapes: Sequence[StageShape],
        policy: Policy | None = None,
        *,
        given_stages: Collection[int] = (),
        numbers: Numbers | None = None,
        near: Near | None = None,
    ) -> None:
        self._policy = policy if policy is not None else Policy()
        self._board = TaskBoard(shapes, given_stages)
        self._pool = WorkerPool(self._policy.exclude_after_tasks)
        backups = self._policy.backups
        self._watch = BackupWatch(backups, self._board.stages) if backups is not None else None
        self._placement = Placement(near, self._pool.number_of) if near is not None else None
        self._attempts = AttemptBook(self._policy, numbers if numbers is not None else Numbers())
        self._starter = Starter(self._board, self._pool, self._attempts, self._watch, self._placement)
        self._legality = Legality(self._board, self._pool, self._attempts)
        self._now = float("-inf")
        self._job = JOB_RUNNING
        self._culprit: AttemptId | None = None
        self._voided: set[int] = set()  # attempts whose outputs were lost: never used again
        self._graces: dict[int, WorkerRecord] = {}  # lost workers whose outputs may come back, first deadline first
        self._actions: list[Action] = []
        self._on: dict[type, Callable[[Any], None]] = {
            WorkerJoined: self._on_worker_joined,
            WorkerLost: self._on_worker_lost,
            WorkerDrained: self._on_worker_drained,
            SlotsChanged: self._on_slots_changed,
            AttemptFinished: self._on_attempt_finished,
            AttemptFailed: self._on_attempt_failed,
            OutputLost: self._on_output_lost,
            OutputFound: self._on_output_found,
            AttemptFound: self._on_attempt_found,
            CancelRequested: self._on_cancel_requested,
            TimePassed: lambda event: None,
        }

    # What a caller asks.

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event, return what is to be done, in order. An illegal event raises and changes nothing.

        `now` in seconds; a value below an earlier one counts as that one, for two threads may hand in theirs crosswise.
        """
        before = self._now
        self._now = max(before, now)
        actions: list[Action] = []
        self._actions = actions
        try:
            self._on[type(event)](event)
        except IllegalEvent:
            self._now = before
            raise
        self._end_graces()
        self._take_news()
        self._settle()
        if self._job == JOB_RUNNING:
            self._starter.start_all(self._now, actions)
        return actions

    def next_deadline(self) -> float | None:
        """Tell when TimePassed has something to do, on the clock of `now`; None if only other events do."""
        if self._job != JOB_RUNNING:
            return None
        deadlines = [worker.grace_until_s for worker in self._graces.values()][:1]
        if self._watch is not None:
            deadlines.append(self._watch.next_deadline())
        return min((at for at in deadlines if at is not None), default=None)

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, or None while it is under way."""
        return _OUTCOMES.get(self._job)

    def winner_of(self, task: TaskId) -> AttemptId | None:
        """Tell whose output counts for the task; None if it is not there, or was given from outside."""
        stage, index = self._board.stages[task.stage], task.index
        if stage.states[index] != DONE or stage.winners[index] < 0:
            return None
        return AttemptId(task, stage.winners[index])

    def holder_of(self, task: TaskId) -> str | None:
        """Tell which worker holds the task's output; None if no worker does."""
        stage, index = self._board.stages[task.stage], task.index
        is_held = stage.states[index] == DONE and stage.holders[index] >= 0
        return self._pool.name_of(stage.holders[index]) if is_held else None

    def counts_of(self, stage: int) -> StageCounts:
        """Count a stage's tasks by state, for progress."""
        return StageCounts(*self._board.stages[stage].counts)

    def is_open(self, task: TaskId) -> bool:
        """Tell whether the task's output is wanted and not there."""
        return self._board.stages[task.stage].states[task.index] < DONE

    def is_running(self, attempt: AttemptId) -> bool:
        """Tell whether the attempt has not ended, cancelled or not."""
        return attempt.number in self._attempts.by_number

    @property
    def has_ready_tasks(self) -> bool:
        """Whether tasks wait for nothing but a slot."""
        return self._job == JOB_RUNNING and self._board.ready_stages != 0

    @property
    def slots(self) -> int:
        """How many attempts all workers together take at a time."""
        return self._pool.slots

    @property
    def attempts_running(self) -> int:
        """How many attempts have not ended, cancelled ones among them."""
        return len(self._attempts.by_number)

    def needs_worker(self, worker: str) -> bool:
        """Tell whether a worker runs attempts or holds outputs that are needed; if not, a draining one may go."""
        record = self._pool.get(worker)
        if record is None or record.state == ABSENT:
            return False
        if record.attempts:
            return True
        held = (self._task_at(key) for key in record.outputs)
        return any(self._is_held(s, i, record) and self._board.is_needed(s, i) for s, i in held)

    # Workers.

    def _on_worker_joined(self, event: WorkerJoined) -> None:
        self._legality.require_worker(event, event.worker)
        require(event, event.slots >= 0, "slots cannot be negative")
        self._pool.join(event.worker, event.slots, event.host)

    def _on_slots_changed(self, event: SlotsChanged) -> None:
        self._legality.require_worker(event, event.worker)
        require(event, event.slots >= 0, "slots cannot be negative")
        self._pool.resize(self._pool.at(event.worker), event.slots)

    def _on_worker_drained(self, event: WorkerDrained) -> None:
        self._legality.require_worker(event, event.worker)
        self._pool.drain(self._pool.at(event.worker))

    def _on_worker_lost(self, event: WorkerLost) -> None:
        self._legality.require_worker(event, event.worker)
        worker = self._pool.at(event.worker)
        lost = [record for record in list(worker.attempts.values()) if self._end(record, WorkerLost) != DISCARDED]
        spent = [record for record in lost if self._retry(record)]
        self._pool.leave(worker)
        if spent:
            self._fail(spent[0].id)
        for key in worker.outputs:
            stage, index = self._task_at(key)
            if self._is_held(stage, index, worker):
                self._board.suspend(stage, index)
        self._graces.pop(worker.number, None)  # a second loss: the grace begins anew
        worker.grace_until_s = self._now + max(0.0, self._policy.rejoin_grace_s - event.silent_s)
        last = next(reversed(self._graces.values()), worker)
        self._graces[worker.number] = worker
        if last.grace_until_s is not None and last.grace_until_s > worker.grace_until_s:  # one that was silent before
            self._graces = dict(sorted(self._graces.items(), key=lambda item: item[1].grace_until_s or 0.0))

    def _end_graces(self) -> None:
        while self._graces:
            number, worker = next(iter(self._graces.items()))
            if worker.grace_until_s is None or worker.grace_until_s > self._now:
                return
            del self._graces[number]
            worker.grace_until_s = None
            kept = worker.outputs[:0]
            for key in worker.outputs:
                stage, index = self._task_at(key)
                if stage.holders[index] != number:
                    continue
                if stage.states[index] == UNAVAILABLE:
                    self._board.lose(stage, index)  # not voided: until it is made again it may still come back
                else:
                    kept.append(key)
            worker.outputs = kept

    # Attempts.

    def _on_attempt_finished(self, event: AttemptFinished) -> None:
        record = self._legality.require_attempt(event, event.attempt)
        if self._end(record, AttemptFinished) == DISCARDED:
            self._actions.append(DropOutput(record.id))
            return
        stage, index = self._task_at(record.key)
        self._cancel_task(record.key)
        if self._watch is not None:
            self._watch.finish(stage, self._now - record.started_s)
        holder = -1 if stage.durable else record.worker.number
        if holder >= 0:
            record.worker.outputs.append(record.key)
        self._note_place(stage, index, holder)
        self._board.finish(stage, index, record.id.number, holder)

    def _on_attempt_failed(self, event: AttemptFailed) -> None:
        record = self._legality.require_attempt(event, event.attempt)
        if self._end(record, AttemptFailed) == DISCARDED:
            return
        self._attempts.note_failure(record, event.charged)
        if event.charged:
            self._pool.note_failure(record.worker, record.id.task.stage, record.id.task.index)
        is_spent = self._retry(record)
        if is_spent or not event.retryable:
            self._fail(record.id)

    def _on_attempt_found(self, event: AttemptFound) -> None:
        stage, index = self._legality.require_ended(event, event.attempt)
        worker = self._pool.get(event.worker)
        if worker is None or worker.state == ABSENT:
            raise IllegalEvent(event, "its worker is not here")
        if self._job != JOB_RUNNING or stage.states[index] >= RUNNING or event.attempt.number in self._voided:
            self._actions.append(CancelAttempt(event.attempt))
            return
        self._board.adopt(stage, index)
        record = self._attempts.adopt(event.attempt, worker, self._now)
        self._pool.add_attempt(worker, record)
        if self._watch is not None:
            self._watch.start(stage, record)

    def _end(self, record: AttemptRecord, event_type: type) -> str:
        """Forget an attempt and free its slot; return the state in which it ended."""
        self._pool.free_slot(record.worker, record)
        if self._watch is not None:
            self._watch.end(self._stage_of(record), record)
        return self._attempts.end(record, event_type)

    def _retry(self, record: AttemptRecord) -> bool:
        """Open the task of a live attempt that ended without output; tell whether that task's budget is spent."""
        if not self._attempts.leave(record):
            return False
        self._board.reopen(*self._task_at(record.key))
        return self._attempts.is_spent(record.key)

    def _cancel_task(self, key: int) -> None:
        """Cancel those live attempts of a task that have not ended."""
        for record in self._attempts.stop(key):
            if self._watch is not None:
                self._watch.forget(self._stage_of(record), record)
            self._actions.append(CancelAttempt(record.id))

    # Outputs.

    def _on_output_lost(self, event: OutputLost) -> None:
        stage, index = self._legality.require_ended(event, event.attempt)
        number = event.attempt.number
        if stage.winners[index] == number:
            self._lose(stage, index)
        else:
            self._voided.add(number)

    def _lose(self, stage: StageRecord, index: int) -> None:
        self._voided.add(stage.winners[index])
        self._board.lose(stage, index)

    def _on_output_found(self, event: OutputFound) -> None:
        stage, index = self._legality.require_ended(event, event.attempt)
        worker = self._pool.get(event.worker)
        is_held = worker is not None and worker.state != ABSENT
        require(event, is_held or (stage.durable and not event.worker), "its worker is not here")
        number = event.attempt.number
        holder = worker.number if worker is not None and not stage.durable else -1
        state = stage.states[index]
        if state == DONE and stage.winners[index] == number and stage.holders[index] == holder:
            return  # said again
        if state == DONE or number in self._voided or self._job not in (JOB_RUNNING, JOB_DONE):
            self._actions.append(DropOutput(event.attempt))
            return
        if worker is not None and holder >= 0 and (state != UNAVAILABLE or stage.holders[index] != holder):
            worker.outputs.append(key_of(stage.number, index))
        self._note_place(stage, index, holder)
        self._board.find(stage, index, number, holder)

    def _note_place(self, stage: StageRecord, index: int, holder: int) -> None:
        if self._placement is not None and stage.paired_readers:
            self._placement.note_output(stage, index, holder)

    def _is_held(self, stage: StageRecord, index: int, worker: WorkerRecord) -> bool:
        return stage.states[index] == DONE and stage.holders[index] == worker.number

    # The job.

    def _on_cancel_requested(self, event: CancelRequested) -> None:
        was_running = self._job == JOB_RUNNING
        self._job = NEXT_JOB[self._job, CancelRequested]
        if was_running:
            self._cancel_all()

    def _fail(self, culprit: AttemptId) -> None:
        if self._job == JOB_RUNNING:  # a worker that is lost may spend more than one budget: the first one counts
            self._job, self._culprit = NEXT_JOB[self._job, BUDGET_SPENT], culprit
            self._cancel_all()

    def _cancel_all(self) -> None:
        for key in list(self._attempts.live):
            self._cancel_task(key)
            self._board.reopen(*self._task_at(key))

    def _take_news(self) -> None:
        board = self._board
        for key in board.stopped_tasks:
            self._cancel_task(key)
        board.stopped_tasks.clear()
        for number in board.completed_stages:
            if board.stages[number].is_complete:  # and not lost again in the same event
                self._actions.append(FinishStage(number))
                if self._placement is not None:
                    self._placement.note_complete(board.stages[number])
        board.completed_stages.clear()

    def _settle(self) -> None:
        if self._job == JOB_RUNNING and self._board.stages_missing == 0:
            self._finish_job(RESULT_THERE)
        elif self._job == JOB_DONE and self._board.stages_missing:
            self._job = NEXT_JOB[self._job, RESULT_LOST]
        elif self._job in (JOB_FAILING, JOB_CANCELLING) and not self._attempts.by_number:
            self._finish_job(ALL_ENDED)

    def _finish_job(self, cause: str) -> None:
        self._job = NEXT_JOB[self._job, cause]
        self._actions.append(FinishJob(_OUTCOMES[self._job], self._culprit))

    def _task_at(self, key: int) -> tuple[StageRecord, int]:
        stage, index = stage_and_index(key)
        return self._board.stages[stage], index

    def _stage_of(self, record: AttemptRecord) -> StageRecord:
        return self._board.stages[record.id.task.stage]

    def check(self) -> None:
        """Assert every invariant: of the tasks, of the workers, and between both. Takes time in all tasks."""
        check_job(self._board, self._pool, self._attempts, self._graces, self._job)
        if self._watch is not None:
            self._watch.check(self._attempts.by_number.values())
