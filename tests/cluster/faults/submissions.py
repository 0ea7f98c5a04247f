"""Jobs submitted by hand: packed as a client would, changed at will, said to the master over its own protocol."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import known
import msgspec
import rig as rigs

from kernelmill.cluster import messages
from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.talk import OVER, Talk
from kernelmill.cluster.fields import JobPart
from kernelmill.cluster.jobspec.packing import PackedJob, pack
from kernelmill.cluster.jobspec.parts import part_of, spec_digest
from kernelmill.cluster.keys.signing import sign_spec
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.sockets import new_context
from kernelmill.cluster.storage.layout import make_staging
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.settings import Settings


def packed(rig: rigs.Rig, truth: known.Truth, name: str, *, job: bytes) -> PackedJob:
    """A known job whose output is `files/NAME`, as `rig.run` would submit it."""
    frame = truth.job.frame(truth.source)
    plan = plan_job(
        SinkParquet(frame._plan, str(rig.files / name), False), split_bytes=64 << 10, partitions=known.PARTITIONS
    )
    roots = Roots({rigs.ROOT: rig.files})
    return pack(
        plan,
        output=roots.place_of(str(rig.files / name)),
        mode="error",
        settings=Settings(progress="off", memory_bytes=1 << 30),
        roots=roots,
    ).sign(job, bytes.fromhex(rig.read_bundle("client", "ann", is_admin=True).code_key), time.time())


def with_part(made: PackedJob, role: str, data: bytes) -> PackedJob:
    """The job with other bytes as its part of this role; its signature is that of the job as it was."""
    parts = tuple(part_of(role, data) if part.role == role else part for part in made.parts)
    contents = {**made.contents, **{part.sha256: data for part in parts if part.role == role}}
    return made._replace(parts=parts, contents=contents)


def signed(rig: rigs.Rig, made: PackedJob, *, key: bytes | None = None) -> PackedJob:
    """The job with a signature that fits it, by the cluster's code key or by another."""
    code_key = key or bytes.fromhex(rig.read_bundle("client", "ann", is_admin=True).code_key)
    digest = spec_digest(made.job, made.sheet, made.parts, made.expires_s)
    return made._replace(signature=sign_spec(code_key, digest, made.expires_s))


def submit_of(made: PackedJob) -> messages.Submit:
    """What a client says to have the job run."""
    return messages.Submit(made.job, made.sheet, made.parts, made.signature, made.expires_s)


def code_part(made: PackedJob) -> JobPart:
    """The part that holds functions."""
    return next(part for part in made.parts if part.role == "code")


def stage(rig: rigs.Rig, made: PackedJob) -> Path:
    """Make the job's staging, as its client does before it submits; the output's path."""
    target = rig.files.joinpath(*made.sheet.output.parts)
    make_staging(str(target), made.job)
    return target


def result_of(rig: rigs.Rig, made: PackedJob, *, client: str = "ann", within_s: float = 60.0) -> messages.Result:
    """Submit the job and wait for its end. Raises what the master refuses."""
    context = new_context()
    try:
        with Link(context, rig.read_bundle("client", client, is_admin=True), rig.address) as link:
            talk = Talk(made.job, link.say, time.monotonic(), submit=submit_of(made), contents=made.contents)
            until_s = time.monotonic() + within_s
            while talk.state != OVER:
                assert time.monotonic() < until_s, f"no end of the job within {within_s} s"
                heard = link.hear(0.2)
                if heard is not None:
                    talk.hear(heard, time.monotonic())
                if talk.tick(time.monotonic()):
                    link.reconnect()
            assert talk.result is not None
            return talk.result
    finally:
        context.destroy(linger=0)


def sheet_of(made: PackedJob, **changed: Any) -> PackedJob:
    """The job with another sheet; its signature is that of the job as it was."""
    return made._replace(sheet=msgspec.structs.replace(made.sheet, **changed))
