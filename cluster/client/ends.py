"""How a job ends that runs on a cluster: the same ways as `engine/ends.py` has, which `engine/execute.py` asks for.

A sink's files are published by the master's storage process. Rows that are collected or cached go through Arrow files
in the scratch root: a client never talks to a worker.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from kernelmill.cluster.client.asking import jobs_of
from kernelmill.cluster.client.following import cancel, follow
from kernelmill.cluster.client.jobids import ending, id_of
from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.results import job_result, manifest_of
from kernelmill.cluster.client.talk import SUBMITTING, Talk, error_of_result
from kernelmill.cluster.client.watching import Watching
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.jobspec.packing import PackedJob, UnsignedJob, for_collecting, pack
from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.messages import Result, Submit
from kernelmill.cluster.roots import SCRATCH, Roots
from kernelmill.cluster.storage.layout import drop_untouched, make_staging, staging_of, trash_of
from kernelmill.engine.background import cancelling
from kernelmill.engine.caching import MEMORY_SHARE, CachedRows, cached_bytes
from kernelmill.engine.commit import Manifest
from kernelmill.engine.errors import CancelledError, Code, KernelmillError, error
from kernelmill.engine.events import Event, fan_out
from kernelmill.engine.io.arrow_parts import read_rows
from kernelmill.engine.io.receipts import read_receipt
from kernelmill.engine.io.rejects import REJECT_SCHEMA
from kernelmill.engine.job import CollectSummary, JobResult, SinkOptions
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.progress import progress_sink
from kernelmill.engine.settings import Settings
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.staging import check_parent, check_target, resolved_target

OnEvent = Callable[[Event], None] | None
OpenLink = Callable[[], contextlib.AbstractContextManager[Link]]
_CLEANING_S, _POLL_S = 2.0, 0.001


class _Ended(NamedTuple):
    """A job that was committed, and how long it took."""

    result: Result
    seconds: float
    watching: Watching


class ClusterEnds:
    """Runs jobs on one cluster. `open_link` connects anew for each job, in the thread that runs it."""

    def __init__(self, open_link: OpenLink, roots: Roots, bundle: Bundle, verify_output: str, code_policy: str) -> None:
        self._open_link, self._roots = open_link, roots
        self._client, self._code_key = bundle.name, bytes.fromhex(bundle.code_key)
        self._verify_output, self._code_policy = verify_output, code_policy

    def run_sink(self, job: JobPlan, target: str, options: SinkOptions, settings: Settings) -> JobResult:
        """Run a job whose last stage writes files, and publish them at `target`, all or nothing.

        Where it has a name and this client has run it, or runs it, that is found and waited for (KM0617 otherwise).
        """
        place = resolved_target(target)
        with self._running(job, place, options.mode, settings, options.on_event, name=options.job_id) as ended:
            made = job_result(target, place, ended.result, ended.seconds)
            ended.watching.finish("done", made.rows, made.bytes, ended.seconds)
        return made

    def run_to_sink(self, job: JobPlan, sink: HeldSink, settings: Settings, on_event: OnEvent) -> JobResult:
        """Run a job whose last stage gives its rows to copies of `sink`, which commits here with their receipts."""
        if settings.on_bad == "reject" and not sink.takes_rejects:
            what = f"on_bad='reject' sets records aside, and sink {sink.label} has no place for them"
            raise error(Code.BAD_SETTING, what, hint="give it a method rejects(table)")
        is_committed = False
        try:
            sink.begin(job.schema, job.graph.last.tasks)
            with self._in_scratch(job, settings, on_event, sink) as (place, manifest, ended):
                receipts = [read_receipt(os.path.join(place, file.name)) for file in manifest.files]
                rejects = _rejects_in(place, manifest)
                if rejects is not None:
                    sink.rejects(rejects)
                sink.commit([bytes(one.receipt) for one in receipts])
                is_committed = True
                rows, size = sum(one.rows for one in receipts), sum(one.bytes for one in receipts)
                ended.watching.finish("done", rows, size, ended.seconds)
            counters, rejected, job_id = manifest.counters, manifest.rejects, ended.result.job.hex()
            return JobResult(sink.label, rows, size, (), counters, rejected, ended.seconds, job_id=job_id)
        except BaseException:
            if not is_committed:
                sink.abort()
            raise

    def run_collect(
        self, job: JobPlan, settings: Settings, on_event: OnEvent
    ) -> Generator[pa.RecordBatch, None, CollectSummary]:
        """Run a job, and yield its rows in order; as `engine.ends.run_collect`."""
        rows = size = 0
        with self._in_scratch(for_collecting(job), settings, on_event) as (place, manifest, ended):
            for file in manifest.files:
                for batch in read_rows(os.path.join(place, file.name), job.schema):
                    rows, size = rows + batch.num_rows, size + batch.nbytes
                    yield batch
            ended.watching.finish("done", rows, size, ended.seconds)
            return CollectSummary(manifest.counters, _rejects_in(place, manifest))

    def run_cached(self, job: JobPlan, settings: Settings, on_event: OnEvent) -> CachedRows:
        """Run a job, and hold its rows in this process for the plans that come."""
        room = max(0, settings.memory_bytes // MEMORY_SHARE - cached_bytes())
        with self._in_scratch(for_collecting(job), settings, on_event) as (place, manifest, ended):
            cached = CachedRows(
                job.schema,
                job.input_bytes,
                memory_bytes_max=room,
                spill_dir=settings.spill_dir,
                spill_bytes_max=settings.spill_limit_bytes,
            )
            try:
                size = sum(cached.add(read_rows(os.path.join(place, one.name), job.schema)) for one in manifest.files)
                cached.counters, cached.is_reduced = manifest.counters, job.is_reduced
                cached.rejects = _rejects_in(place, manifest)
            except BaseException:
                cached.close()
                raise
            ended.watching.finish("done", cached.rows, size, ended.seconds)
            return cached

    @contextlib.contextmanager
    def _in_scratch(
        self, job: JobPlan, settings: Settings, on_event: OnEvent, sink: HeldSink | None = None
    ) -> Iterator[tuple[str, Manifest, _Ended]]:
        """Run a job into a folder below the scratch root, which is removed in the end."""
        scratch = self._roots.folder_of(SCRATCH)
        if scratch is None:
            what = "rows come back through files, and this connection has no root for them"
            hint = f"name a folder that all share: km.connect(..., roots={{'{SCRATCH}': '/mnt/shared/scratch'}})"
            raise error(Code.BAD_SETTING, what, hint=hint)
        place = os.path.join(scratch, f"rows-{secrets.token_hex(8)}")
        try:
            with self._running(job, place, "error", settings, on_event, sink) as ended:
                yield place, manifest_of(place, ended.result), ended
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _running(
        self,
        job: JobPlan,
        place: str,
        mode: str,
        settings: Settings,
        on_event: OnEvent,
        sink: HeldSink | None = None,
        name: str | None = None,
    ) -> Iterator[_Ended]:
        """Run a job to its end, with its events; whoever uses the result says `finish` when it is handed over."""
        began = time.monotonic()
        check_parent(place)
        if name is None:
            check_target(place, _written(mode))
        unsigned = pack(
            job,
            output=self._roots.place_of(place),
            mode=mode,
            settings=settings,
            roots=self._roots,
            verify_output=self._verify_output,
            code_policy=self._code_policy,
            sink=sink,
        )
        number, is_there, made_here = self._place_for(name, unsigned, place, mode)
        packed = unsigned.sign(number, self._code_key, time.time())
        progress = progress_sink(settings)
        watching = Watching(packed.job, job.graph, fan_out(*(one for one in (progress, on_event) if one is not None)))
        try:
            if is_there:
                result = self._followed(number, place, watching)
            else:
                result = self._submitted(packed, place, watching, is_named=name is not None, made_here=made_here)
            yield _Ended(result, time.monotonic() - began, watching)
        except BaseException as problem:
            is_cancel = isinstance(problem, KeyboardInterrupt | GeneratorExit | CancelledError)
            watching.finish("cancelled" if is_cancel else "failed", 0, 0, time.monotonic() - began)
            raise
        finally:
            if progress is not None:
                progress.close()

    def _place_for(self, name: str | None, unsigned: UnsignedJob, place: str, mode: str) -> tuple[bytes, bool, bool]:
        """The job's id, whether it is there already, and whether its staging was made here, for it is not.

        Of a job with a name, raises KM0501 if the output is there, KM0617 if the name is another job's. Where another
        process runs the same job at this moment, what is in the way may be its: then it is looked for again. The end of
        one that is being cancelled, or has failed, is waited for: it is run again.
        """
        if name is None:
            number = secrets.token_bytes(16)
            return number, False, make_staging(place, number)
        likeness, is_second = unsigned.likeness(), False
        while True:
            with self._open_link() as link:
                rows = jobs_of(link)
                while (last := ending(rows, self._client, name)) is not None:
                    follow(Talk(last, link.say, time.monotonic()), link, lambda status: None, check=cancelling().check)
                    rows = jobs_of(link)
                number, is_there = id_of(rows, self._client, name, likeness)
            if is_there:
                return number, True, False
            try:
                check_target(place, _written(mode))
                return number, False, make_staging(place, number, may_be_there=True)
            except KernelmillError:
                if is_second:
                    raise
            is_second = True

    def _submitted(
        self, packed: PackedJob, place: str, watching: Watching, *, is_named: bool, made_here: bool
    ) -> Result:
        """Submit a job and wait for its end. A job that nobody accepted leaves no staging.

        Of one that has a name another process may submit the same at this moment: then that one is followed.
        """
        submit = Submit(packed.job, packed.sheet, packed.parts, packed.signature, packed.expires_s)
        is_anothers = was_accepted = False
        try:
            with self._open_link() as link:
                talk = Talk(packed.job, link.say, time.monotonic(), submit=submit, contents=packed.contents)
                failpoint("client.submit.sent")
                try:
                    self._follow(talk, link, watching)
                except KernelmillError as problem:
                    is_anothers = is_named and problem.code is Code.JOB_EXISTS
                    if not is_anothers:
                        raise
                finally:
                    was_accepted = talk.was_accepted or talk.result is not None
            if is_anothers:
                return self._followed(packed.job, place, watching, is_ours=made_here)
        finally:
            if made_here and not was_accepted and not is_anothers:
                shutil.rmtree(staging_of(place, packed.job), ignore_errors=True)
        try:
            return _result_of(talk, place)
        except KernelmillError:
            if made_here:
                drop_untouched(place, packed.job)
            raise

    def _followed(self, job: bytes, place: str, watching: Watching, *, is_ours: bool = False) -> Result:
        """Wait for the end of a job that is there; `is_ours`: its staging may have come after its end, from here."""
        with self._open_link() as link:
            talk = Talk(job, link.say, time.monotonic())
            self._follow(talk, link, watching)
        try:
            return _result_of(talk, place)
        finally:
            if is_ours:
                shutil.rmtree(staging_of(place, job), ignore_errors=True)

    def _follow(self, talk: Talk, link: Link, watching: Watching) -> None:
        try:
            follow(talk, link, watching.take, on_wait=watching.wait, check=cancelling().check)
        except CancelledError:
            cancel(talk, link)
            if talk.result is None or talk.result.state != "COMMITTED":  # else it came too late: the output is there
                raise
        except KernelmillError as problem:
            if talk.state != SUBMITTING or problem.code is Code.UNREACHABLE:  # otherwise it was refused
                cancel(talk, link)
            raise
        except BaseException:
            cancel(talk, link)
            raise


def _written(mode: str) -> Literal["error", "overwrite"]:
    return "overwrite" if mode == "overwrite" else "error"


def _result_of(talk: Talk, place: str) -> Result:
    assert talk.result is not None
    _await_cleaning(staging_of(place, talk.job))
    if talk.result.state != "COMMITTED":
        raise error_of_result(talk.result)
    return talk.result


def _await_cleaning(staging: str) -> None:
    """Wait a moment for the storage process to remove a job's staging: nothing is left beside an output that is there.

    It does so right after the result was told; where it takes longer nobody needs to wait.
    """
    until_s = time.monotonic() + _CLEANING_S
    while time.monotonic() < until_s and any(map(os.path.lexists, (staging, trash_of(staging)))):
        time.sleep(_POLL_S)


def _rejects_in(place: str, manifest: Manifest) -> pa.Table | None:
    """The rejected records of a job whose output is at `place`, None if there are none."""
    if not manifest.reject_files:
        return None
    tables = [pq.read_table(os.path.join(place, file.name)) for file in manifest.reject_files]
    return pa.concat_tables(tables).cast(REJECT_SCHEMA)
