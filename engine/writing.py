"""A plan's rows as Parquet files: what `LazyFrame.sink_parquet` and a job with several outputs ask for, checked."""

from __future__ import annotations

import os
from typing import Any

from kernelmill.engine.errors import Code, error
from kernelmill.engine.execute import Progress, run_settings, run_sink, runs_elsewhere
from kernelmill.engine.io.source import is_file_name
from kernelmill.engine.job import JobResult, SinkOptions
from kernelmill.engine.leftovers import is_single
from kernelmill.engine.options import flag, one_of, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import LogicalPlan, SinkParquet
from kernelmill.engine.plan.planner import plan_job

JOB_ID_CHARACTERS_MAX = 256
FILES_MAX = 100_000
COMPRESSIONS = ("zstd", "snappy", "lz4", "gzip", "none")


def write_files(
    plan: LogicalPlan,
    path: Any,
    named: tuple[tuple[str, LogicalPlan], ...] = (),
    *,
    mode: str = "error",
    files: int | None = None,
    compression: str = "zstd",
    row_group_rows: int = 1_048_576,
    statistics: bool = True,
    on_bad: str | None = None,
    max_rejects: int | None = None,
    job_id: str | None = None,
    progress: Progress = None,
    **settings: Any,
) -> JobResult:
    """Run `plan` and write its rows, all or nothing; `named` are further outputs of the map that it is one of.

    Options and errors as `LazyFrame.sink_parquet`.
    """
    origin = users_line()
    with located(origin):
        target = _target(path)
        single = is_single(target)
        if single and named:
            what = f"{path!r} would be one file, and the job has several outputs"
            raise error(Code.BAD_SETTING, what, hint="name a folder: each output gets one of its own in it")
        if files is not None:
            _check_files(files, single=single, several=bool(named))
        sink = SinkParquet(
            plan,
            target,
            single,
            one_of("compression", compression, COMPRESSIONS),
            whole_number("row_group_rows", row_group_rows, 1),
            flag("statistics", statistics),
            named,
            files,
            origin=origin,
        )
        one_of("mode", mode, ("error", "overwrite"))
        _check_job_id(job_id)
    resolved, on_event = run_settings(progress, on_bad=on_bad, max_rejects=max_rejects, **settings)
    job = plan_job(sink, split_bytes=resolved.split_bytes, partitions=resolved.partitions)
    return run_sink(job, target, SinkOptions(mode, single, on_event, job_id), resolved)


def _check_files(files: Any, *, single: bool, several: bool) -> None:
    whole_number("files", files, 1, FILES_MAX)
    if several:
        what = "files= is about one output, and the job has several"
        raise error(Code.BAD_SETTING, what, hint="partitions= of the job, or of an output, says how many files it has")
    if single and files != 1:
        hint = "name a folder: a path that does not end in .parquet"
        raise error(Code.BAD_SETTING, f"files={files} and a path that is one file", hint=hint)


def _target(path: Any) -> str:
    named = os.fsdecode(os.fspath(path)) if isinstance(path, str | os.PathLike) else ""
    if not is_file_name(named):
        raise error(Code.BAD_SETTING, f"an output cannot be {path!r}", hint='give a path: "out/" or "out.parquet"')
    target = os.path.expanduser(named)
    if "://" in target:  # it would become a folder called "s3:"
        what = f"{target}: only paths of this machine can be written"
        raise error(Code.BAD_SETTING, what, hint="write to a local or shared file system and copy it from there")
    return target


def _check_job_id(job_id: Any) -> None:
    if job_id is None:
        return
    if not isinstance(job_id, str) or not 1 <= len(job_id) <= JOB_ID_CHARACTERS_MAX:
        hint = f"give a text of 1 to {JOB_ID_CHARACTERS_MAX} characters, such as job_id='counts of 2024-05-01'"
        raise error(Code.BAD_SETTING, f"job_id cannot be {job_id!r}", hint=hint)
    if not runs_elsewhere():
        hint = "connect first: with km.connect(...), or leave job_id= away"
        raise error(Code.BAD_SETTING, "job_id= names a job of a cluster, and this one runs in this process", hint=hint)
