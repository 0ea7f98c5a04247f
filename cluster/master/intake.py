"""Jobs on their way in: a job is given to the machine when all of its parts are durable here, and not before.

A client sends one piece at a time, each as the answer to a Need, so nobody can send what was not asked for. Whatever is
lost on the way heals when the client submits again: Need says from where to go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kernelmill.cluster.fields import JobPart, Versions
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.journal.translate import job_sheet
from kernelmill.cluster.master.events import SubmitReceived
from kernelmill.cluster.master.partsfolder import PartsFolder
from kernelmill.cluster.messages import Need, PutPart, Refused, Submit
from kernelmill.cluster.wire import FRAME_BYTES_MAX
from kernelmill.engine.errors import Code

JOB_BYTES_MAX: Final = 1 << 30
"""Bytes of all parts of one job."""
SUBMIT_BYTES_MAX: Final = FRAME_BYTES_MAX - (64 << 10)
"""Bytes of a Submit: what it says travels on in messages that say a little more."""
BUFFER_BYTES_MAX: Final = 256 << 20
"""Bytes of parts that are not whole, of all clients."""
SUBMISSIONS_MAX: Final = 256
SILENCE_S: Final = 60.0
_TEXT: Final = 4096


class _Coming(NamedTuple):
    client: str
    submit: Submit
    heard_s: float


class Intake:
    """Submissions whose parts are not all here. Answers are messages for the client; None says to wait."""

    def __init__(self, parts: PartsFolder, versions: Versions, roots: Sequence[str]) -> None:
        self._parts, self._versions, self._roots = parts, versions, roots
        self._coming: dict[bytes, _Coming] = {}
        self._buffers: dict[bytes, bytearray] = {}
        self._writing: set[bytes] = set()
        self._sizes = 0

    def submit(self, client: str, submit: Submit, now: float) -> SubmitReceived | Need | Refused | None:
        """Take a job: the event if all is here, or what is needed next."""
        if submit.sheet.versions != self._versions:
            return _refusal(
                submit.job, "VERSION", f"the client has {submit.sheet.versions}, the master {self._versions}"
            )
        if submit.sheet.output.root not in self._roots:
            text = f"the master has no root {submit.sheet.output.root}, only: {', '.join(self._roots) or 'no root'}"
            hint = f"start the master with --root {submit.sheet.output.root}=FOLDER, or write below a root that it has"
            return _refusal(submit.job, Code.BAD_SETTING.value.wire, text[:_TEXT], hint)
        if sum(part.size_bytes for part in submit.parts) > JOB_BYTES_MAX:
            return _refusal(submit.job, "TOO_LARGE", f"its parts have more than {JOB_BYTES_MAX} bytes")
        if len(msgspec.msgpack.encode(submit)) > SUBMIT_BYTES_MAX:
            hint = "a job of fewer stages, parts or shorter labels has a smaller sheet"
            return _refusal(submit.job, "TOO_LARGE", f"its sheet has more than {SUBMIT_BYTES_MAX} bytes", hint)
        if "plan" not in {part.role for part in submit.parts}:
            return _refusal(submit.job, "PROTOCOL", "the job has no plan")
        known = self._coming.get(submit.job)
        if known is not None and known.client != client:
            return _refusal(submit.job, "JOB_EXISTS", "another job has this id")
        if known is None and len(self._coming) >= SUBMISSIONS_MAX:
            return _refusal(submit.job, "TOO_MANY_JOBS", "too many jobs are being submitted; try again")
        self._coming[submit.job] = _Coming(client, submit, now)
        return self._next(submit.job)

    def put(self, client: str, put: PutPart, now: float) -> SubmitReceived | Need | Refused | None:
        """Take a piece; one that was not asked for changes nothing."""
        coming = self._coming.get(put.job)
        if coming is None or coming.client != client:
            return None  # the client submits again
        self._coming[put.job] = coming._replace(heard_s=now)
        part = next((one for one in coming.submit.parts if one.sha256 == put.sha256), None)
        buffer = self._buffers.get(put.sha256)
        if part is None or buffer is None or put.offset != len(buffer):
            return self._next(put.job)
        if len(buffer) + len(put.piece) > part.size_bytes:
            return self._drop(put.job, part, f"a part longer than its {part.size_bytes} bytes")
        self._sizes += len(put.piece)
        buffer += put.piece
        if len(buffer) == part.size_bytes:
            if hashlib.sha256(buffer).digest() != part.sha256:
                return self._drop(put.job, part, "a part that is not what its sha256 says")
            self._writing.add(part.sha256)
            self._parts.keep(part.sha256, bytes(buffer))
            self._forget_buffer(part.sha256)
        return self._next(put.job)

    def take_written(self) -> list[tuple[str, SubmitReceived | Refused]]:
        """Take what the folder has written: jobs that are whole now, or that cannot be kept, with their clients."""
        found: list[tuple[str, SubmitReceived | Refused]] = []
        for sha256, problem in self._parts.take():
            self._writing.discard(sha256)
            waiting = [
                (job, one)
                for job, one in self._coming.items()
                if any(part.sha256 == sha256 for part in one.submit.parts)
            ]
            for job, coming in waiting:
                if problem is not None:
                    del self._coming[job]
                    text = f"the master cannot keep its parts: {problem.strerror or problem}"
                    found.append((coming.client, _refusal(job, "JOURNAL_FULL", text)))
                    continue
                answer = self._next(job)
                if isinstance(answer, SubmitReceived):
                    found.append((coming.client, answer))
        return found

    def pass_time(self, now: float) -> None:
        """Forget submissions whose clients are silent."""
        for job in [job for job, one in self._coming.items() if one.heard_s + SILENCE_S <= now]:
            del self._coming[job]
        used = {part.sha256 for one in self._coming.values() for part in one.submit.parts}
        for sha256 in [sha256 for sha256 in self._buffers if sha256 not in used]:
            self._forget_buffer(sha256)

    def parts_in_use(self) -> set[bytes]:
        """The parts of jobs on their way in."""
        return {part.sha256 for one in self._coming.values() for part in one.submit.parts} | self._writing

    def _next(self, job: bytes) -> SubmitReceived | Need | Refused | None:
        client, submit, _ = self._coming[job]
        missing = [part for part in submit.parts if not self._parts.has(part.sha256)]
        for part in missing:
            if part.sha256 in self._writing:
                continue
            if part.sha256 not in self._buffers and self._sizes + part.size_bytes > BUFFER_BYTES_MAX:
                return None  # the client asks again, and others will be done
            buffer = self._buffers.setdefault(part.sha256, bytearray())
            if part.size_bytes == 0:
                return self._keep_empty(job, part)
            return Need(job, part.sha256, len(buffer))
        if missing:
            return None  # they are being written
        del self._coming[job]
        accepted = JobAccepted(client, submit.sheet, submit.parts, submit.signature, submit.expires_s)
        return SubmitReceived(client, job_sheet(job, accepted))

    def _keep_empty(self, job: bytes, part: JobPart) -> SubmitReceived | Need | Refused | None:
        self._forget_buffer(part.sha256)
        if hashlib.sha256(b"").digest() != part.sha256:
            return self._drop(job, part, "an empty part that is not what its sha256 says")
        self._writing.add(part.sha256)
        self._parts.keep(part.sha256, b"")
        return self._next(job)

    def _drop(self, job: bytes, part: JobPart, what: str) -> Refused:
        self._coming.pop(job, None)
        self._forget_buffer(part.sha256)
        return _refusal(job, "PROTOCOL", what)

    def _forget_buffer(self, sha256: bytes) -> None:
        self._sizes -= len(self._buffers.pop(sha256, b""))


def _refusal(job: bytes, code: str, text: str, hint: Any = "") -> Refused:
    return Refused(job, code, text, hint)
