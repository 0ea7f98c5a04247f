"""Publishing a job's output from the files of its winners: steps 6 to 9 and 11 of the commit, each of which may be the
last one of a process and the first one of the next.

What is there tells how far an earlier process came: the manifest is in staging as soon as all files are in `final`
(gathering.py); then they get their public name (placing.py).
"""

from __future__ import annotations

import hashlib
import os
import shutil

import xxhash

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.jobspec.parts import PlanPart, decode_plan
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage.frames import Clean, Cleaned, Publish, Published
from kernelmill.cluster.storage.gathering import prepare
from kernelmill.cluster.storage.layout import MANIFEST, staging_of, trash_of
from kernelmill.cluster.storage.placing import is_public, place_folder, place_single
from kernelmill.cluster.storage.staged import locked, noted_manifest, write_again
from kernelmill.engine.commit import decode_manifest
from kernelmill.engine.durable import fsync_folder, output_errors
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.leftovers import OLD, is_single, undo_single


def publish(order: Publish, roots: Roots) -> Published:
    """Put the winners' files under the job's public name, or find that they are there.

    Raises BadPartError, or KM0501, KM0502, KM0402, KM0503, KM0607, KM0610, KM0618: then
    nothing has changed under the public name.
    """
    target = roots.path_of(order.sheet.output)
    with locked(staging_of(target, order.job)) as staging, output_errors("publishing the output", target):
        noted = noted_manifest(os.path.join(staging, MANIFEST))
        if noted is None:
            noted = prepare(order, _plan_of(order), target, staging)
            write_again(os.path.join(staging, MANIFEST), noted + xxhash.xxh3_128_digest(noted))
            fsync_folder(staging)
        failpoint("storage.manifest.written")
        mode = order.sheet.policy.mode
        if is_single(target):
            place_single(staging, target, mode)
        elif not is_public(staging, target, noted):
            place_folder(staging, target, mode, noted)
        fsync_folder(os.path.dirname(target))
        failpoint("storage.published")
    manifest = decode_manifest(noted)
    return Published(order.job, manifest.rows, manifest.bytes, xxhash.xxh3_128_digest(noted))


def clean(order: Clean, roots: Roots) -> Cleaned:
    """Remove a job's staging. What an unfinished publication left is undone first; an output that is public stays."""
    target = roots.path_of(order.output)
    try:
        remove_staging(target, order.job)
        return Cleaned(order.job, "")
    except (OSError, KernelmillError) as problem:
        return Cleaned(order.job, f"{staging_of(target, order.job)}: {problem}"[:8192])


def remove_staging(target: str, job: bytes) -> None:
    """Undo what an unfinished publication left at `target`, and remove the job's staging, as far as it is there.

    Raises OSError, KM0502 for staging that is none, KM0610 where another process keeps its lock.
    """
    staging = staging_of(target, job)
    trash = trash_of(staging)
    if os.path.lexists(staging):
        with locked(staging) as folder:
            if is_single(target):
                undo_single(folder, target)
            elif os.path.lexists(os.path.join(folder, OLD)) and not os.path.lexists(target):
                os.rename(os.path.join(folder, OLD), target)
            os.rename(staging, trash)  # from here on nobody finds a place to write in
    if os.path.lexists(trash):
        shutil.rmtree(trash, onerror=_if_there)


def _plan_of(order: Publish) -> PlanPart:
    """The job's plan, from the file that is named by its SHA-256. Raises KM0618 if that file is not what was signed."""
    with open(order.plan_path, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != os.path.basename(order.plan_path):
        what = "the job's plan, in the master's state, is not what was submitted"
        raise error(Code.PART_DAMAGED, what, where=order.plan_path, hint="look at that disk, and run the job again")
    return decode_plan(data)


def _if_there(_function: object, _path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    """What rmtree cannot delete is an error, unless somebody else has deleted it."""
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]
