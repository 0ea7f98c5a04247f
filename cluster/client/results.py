"""What a job left, as `JobResult`: from the master's Result and, where the output is a folder, its manifest."""

from __future__ import annotations

import os

import xxhash

from kernelmill.cluster.messages import Result
from kernelmill.engine.commit import MANIFEST_NAME, Manifest, decode_manifest
from kernelmill.engine.errors import Code, error
from kernelmill.engine.job import JobResult, OutputResult
from kernelmill.engine.leftovers import is_single


def job_result(target: str, place: str, result: Result, seconds: float) -> JobResult:
    """The result of a job that was committed, whose output `target` lies at `place`.

    Raises KM0502 if what is there is not what the job published.
    """
    if is_single(place):
        counters = {one.name: one.count for one in sorted(result.counters, key=lambda one: one.name)}
        rejects = {one.name: one.count for one in sorted(result.rejects, key=lambda one: one.name)}
        name, job = os.path.basename(target), result.job.hex()
        return JobResult(target, result.rows, result.size_bytes, (name,), counters, rejects, seconds, job_id=job)
    manifest = manifest_of(place, result)
    outputs = {
        one.name: OutputResult(os.path.join(target, one.name), one.rows, one.bytes, tuple(f.name for f in one.files))
        for one in manifest.outputs
    }
    files = tuple(file.name for file in manifest.files)
    return JobResult(
        target,
        manifest.rows,
        manifest.bytes,
        files,
        manifest.counters,
        manifest.rejects,
        seconds,
        outputs,
        result.job.hex(),
    )


def manifest_of(place: str, result: Result) -> Manifest:
    """The manifest of the folder that was published. Raises KM0502 if it is another one by now."""
    path = os.path.join(place, MANIFEST_NAME)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as problem:
        what = f"the output was published, and cannot be read here: {problem.strerror}"
        hint = "does this client see the same files as the cluster, under its roots? was it removed since?"
        raise error(Code.COMMIT, what, where=path, hint=hint) from problem
    if xxhash.xxh3_128_digest(data) != result.manifest_xxh3:
        what = "the output was published, and another job has replaced it since"
        raise error(Code.COMMIT, what, where=path, hint="write jobs that run at once to different places")
    return decode_manifest(data, where=path)
