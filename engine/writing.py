"""A plan's rows as Parquet files: what `LazyFrame.sink_parquet` and a job with several outputs ask for, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from kernelmill.engine.sizes import format_bytes, parse_bytes

JOB_ID_CHARACTERS_MAX = 256
FILES_MAX = 100_000
FILE_BYTES_MIN = 64 << 10
LEVELS_MAX = {"zstd": 22, "gzip": 9}
COMPRESSIONS = ("zstd", "snappy", "lz4", "gzip", "none")


def write_files(
    plan: LogicalPlan,
    path: Any,
    named: tuple[tuple[str, LogicalPlan], ...] = (),
    *,
    mode: str = "error",
    partition_by: str | Sequence[str] | None = None,
    files: int | None = None,
    max_rows_per_file: int | None = None,
    target_file_bytes: int | str | None = None,
    compression: str = "zstd",
    compression_level: int | None = None,
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
        columns = _columns(partition_by)
        cut = {
            "partition_by": partition_by if columns else None,
            "max_rows_per_file": max_rows_per_file,
            "target_file_bytes": target_file_bytes,
        }
        for option, value in cut.items():
            if value is not None:
                _check_cut(option, single=single, several=bool(named), files=files)
        sink = SinkParquet(
            plan,
            target,
            single,
            one_of("compression", compression, COMPRESSIONS),
            whole_number("row_group_rows", row_group_rows, 1),
            flag("statistics", statistics),
            named,
            files,
            _level(compression, compression_level),
            columns,
            None if max_rows_per_file is None else whole_number("max_rows_per_file", max_rows_per_file, 1),
            None if target_file_bytes is None else _target_bytes(target_file_bytes),
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


def _columns(names: Any) -> tuple[str, ...]:
    """The names that partition_by= gives; that they are columns is for the plan to say."""
    listed = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(listed, list | tuple) or not all(isinstance(name, str) for name in listed):
        hint = 'give names: partition_by=["year", "city"]; with_columns makes columns of expressions'
        raise error(Code.BAD_SETTING, f"partition_by cannot be {names!r}", hint=hint)
    for name in listed:
        if listed.count(name) > 1:
            raise error(Code.DUPLICATE_COLUMN, f"partition_by= names {name!r} twice", hint="name each column once")
    return tuple(listed)


def _check_cut(option: str, *, single: bool, several: bool, files: int | None) -> None:
    """Raise KM0107 for an option that makes further files where their number is settled."""
    if single:
        hint = "name a folder: a path that does not end in .parquet"
        raise error(Code.BAD_SETTING, f"{option}= and a path that is one file", hint=hint)
    if files is not None:
        what = f"{option}= and files={files}: both say how many files there are"
        raise error(Code.BAD_SETTING, what, hint="leave one of them away")
    if several and option == "partition_by":
        what = "partition_by= is about one output, and the job has several"
        raise error(Code.BAD_SETTING, what, hint="write job.outputs(frame)[name] with it, one by one")


def _level(compression: str, level: Any) -> int | None:
    if level is None:
        return None
    most = LEVELS_MAX.get(compression)
    if most is None:
        what = f"compression_level={level!r} with compression={compression!r}, which has no levels"
        raise error(Code.BAD_SETTING, what, hint=f"{' and '.join(LEVELS_MAX)} have levels")
    return whole_number("compression_level", level, 1, most)


def _target_bytes(given: Any) -> int:
    size = parse_bytes(given, name="target_file_bytes")
    if size < FILE_BYTES_MIN:
        hint = f"give at least {format_bytes(FILE_BYTES_MIN, binary=True)}; max_rows_per_file= makes smaller files"
        raise error(Code.BAD_SETTING, f"target_file_bytes cannot be {given!r}", hint=hint)
    return size


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
