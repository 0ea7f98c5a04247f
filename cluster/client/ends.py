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
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.talk import OVER, Talk, error_of_result
from kernelmill.cluster.client.watching import Watching
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.jobspec.packing import PackedJob, for_collecting, pack
from kernelmill.cluster.messages import Result, Submit
from kernelmill.cluster.roots import SCRATCH, Roots
from kernelmill.cluster.storage.layout import make_staging, staging_of, trash_of
from kernelmill.engine.caching import MEMORY_SHARE, CachedRows, cached_bytes
from kernelmill.engine.commit import MANIFEST_NAME, Manifest, decode_manifest
from kernelmill.engine.errors import Code, error
from kernelmill.engine.events import Event, fan_out
from kernelmill.engine.io.arrow_parts import read_rows
from kernelmill.engine.io.receipts import read_receipt
from kernelmill.engine.io.rejects import REJECT_SCHEMA
from kernelmill.engine.job import CollectSummary, JobResult, OutputResult, SinkOptions
from kernelmill.engine.leftovers import is_single
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.progress import progress_sink
from kernelmill.engine.settings import Settings
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.staging import check_parent, check_target, resolved_target

OnEvent = Callable[[Event], None] | None
OpenLink = Callable[[], contextlib.AbstractContextManager[Link]]
_CANCEL_PATIENCE_S = 10.0
_CLEANING_S, _POLL_S = 2.0, 0.005


class _Ended(NamedTuple):
    """A job that was committed, and how long it took."""

    result: Result
    seconds: float
    watching: Watching


class ClusterEnds:
    """Runs jobs on one cluster. `open_link` connects anew for each job, in the thread that runs it."""

    def __init__(self, open_link: OpenLink, roots: Roots, code_key: bytes, verify_output: str) -> None:
        self._open_link, self._roots, self._code_key = open_link, roots, code_key
        self._verify_output = verify_output

    def run_sink(self, job: JobPlan, target: str, options: SinkOptions, settings: Settings) -> JobResult:
        """Run a job whose last stage writes files, and publish them at `target`, all or nothing."""
        place = resolved_target(target)
        with self._running(job, place, options.mode, settings, options.on_event) as ended:
            if is_single(place):
                made = _single_result(target, ended)
            else:
                made = _folder_result(target, _manifest_of(place, ended.result), ended.seconds)
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
            return JobResult(sink.label, rows, size, (), manifest.counters, manifest.rejects, ended.seconds)
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
                yield place, _manifest_of(place, ended.result), ended
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
    ) -> Iterator[_Ended]:
        """Run a job to its end, with its events; whoever uses the result says `finish` when it is handed over."""
        began = time.monotonic()
        check_parent(place)
        check_target(place, "overwrite" if mode == "overwrite" else "error")
        packed = pack(
            job,
            job=secrets.token_bytes(16),
            output=self._roots.place_of(place),
            mode=mode,
            settings=settings,
            roots=self._roots,
            code_key=self._code_key,
            now_s=time.time(),
            verify_output=self._verify_output,
            sink=sink,
        )
        progress = progress_sink(settings)
        watching = Watching(packed.job, job.graph, fan_out(*(one for one in (progress, on_event) if one is not None)))
        try:
            result = self._submitted(packed, place, watching)
            yield _Ended(result, time.monotonic() - began, watching)
        except BaseException as problem:
            is_cancel = isinstance(problem, KeyboardInterrupt | GeneratorExit)
            watching.finish("cancelled" if is_cancel else "failed", 0, 0, time.monotonic() - began)
            raise
        finally:
            if progress is not None:
                progress.close()

    def _submitted(self, packed: PackedJob, place: str, watching: Watching) -> Result:
        """Submit a job and wait for its end. A job that nobody accepted leaves no staging."""
        make_staging(place, packed.job)
        submit = Submit(packed.job, packed.sheet, packed.parts, packed.signature, packed.expires_s)
        was_accepted = False
        try:
            with self._open_link() as link:
                talk = Talk(submit, packed.contents, link.say, time.monotonic())
                failpoint("client.submit.sent")
                try:
                    _talk_until_over(talk, link, watching)
                except BaseException:
                    _cancel(talk, link)
                    raise
                finally:
                    was_accepted = talk.was_accepted or talk.state == OVER
        finally:
            if not was_accepted:
                shutil.rmtree(staging_of(place, packed.job), ignore_errors=True)
        assert talk.result is not None
        _await_cleaning(staging_of(place, packed.job))
        if talk.result.state != "COMMITTED":
            raise error_of_result(talk.result)
        return talk.result


def _talk_until_over(talk: Talk, link: Link, watching: Watching) -> None:
    while talk.state != OVER:
        heard = link.hear(max(0.0, talk.next_deadline() - time.monotonic()))
        now = time.monotonic()
        if heard is not None:
            talk.hear(heard, now)
            if talk.status is not None:
                watching.take(talk.status)
        if talk.tick(now):
            link.reconnect()


def _await_cleaning(staging: str) -> None:
    """Wait a moment for the storage process to remove a job's staging: nothing is left beside an output that is there.

    It does so right after the result was told; where it takes longer nobody needs to wait.
    """
    until_s = time.monotonic() + _CLEANING_S
    while time.monotonic() < until_s and any(map(os.path.lexists, (staging, trash_of(staging)))):
        time.sleep(_POLL_S)


def _cancel(talk: Talk, link: Link) -> None:
    """Ask for the job's end, and wait for it a while: a second interrupt leaves at once."""
    until_s = time.monotonic() + _CANCEL_PATIENCE_S
    with contextlib.suppress(Exception):  # there is an error already, which says more
        talk.cancel(time.monotonic())
        while talk.state != OVER and time.monotonic() < until_s:
            heard = link.hear(0.2)
            if heard is not None:
                talk.hear(heard, time.monotonic())
            if talk.tick(time.monotonic()):
                link.reconnect()


def _manifest_of(place: str, result: Result) -> Manifest:
    """The manifest of the folder that was published. Raises KM0502 if it is another one by now."""
    path = os.path.join(place, MANIFEST_NAME)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as problem:
        what = f"the output was published, and cannot be read here: {problem.strerror}"
        hint = "does this client see the same files as the cluster, under its roots?"
        raise error(Code.COMMIT, what, where=path, hint=hint) from problem
    if xxhash.xxh3_128_digest(data) != result.manifest_xxh3:
        what = "the output was published, and another job has replaced it since"
        raise error(Code.COMMIT, what, where=path, hint="write jobs that run at once to different places")
    return decode_manifest(data, where=path)


def _folder_result(target: str, manifest: Manifest, seconds: float) -> JobResult:
    outputs = {
        one.name: OutputResult(os.path.join(target, one.name), one.rows, one.bytes, tuple(f.name for f in one.files))
        for one in manifest.outputs
    }
    files = tuple(file.name for file in manifest.files)
    told = manifest.counters, manifest.rejects, seconds, outputs
    return JobResult(target, manifest.rows, manifest.bytes, files, *told)


def _single_result(target: str, ended: _Ended) -> JobResult:
    result = ended.result
    counters = {one.name: one.count for one in sorted(result.counters, key=lambda one: one.name)}
    rejects = {one.name: one.count for one in sorted(result.rejects, key=lambda one: one.name)}
    files = (os.path.basename(target),)
    return JobResult(target, result.rows, result.size_bytes, files, counters, rejects, ended.seconds)


def _rejects_in(place: str, manifest: Manifest) -> pa.Table | None:
    """The rejected records of a job whose output is at `place`, None if there are none."""
    if not manifest.reject_files:
        return None
    tables = [pq.read_table(os.path.join(place, file.name)) for file in manifest.reject_files]
    return pa.concat_tables(tables).cast(REJECT_SCHEMA)
