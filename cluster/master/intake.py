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
from kernelmill.cluster.messages import BUSY, Need, PutPart, Refused, Submit
from kernelmill.cluster.versions import VERSIONS_HINT, listed
from kernelmill.cluster.wire import FRAME_BYTES_MAX
from kernelmill.engine.errors import Code

JOB_BYTES_MAX: Final = 1 << 30
"""Bytes of all parts of one job."""
SUBMIT_BYTES_MAX: Final = FRAME_BYTES_MAX - (64 << 10)
"""Bytes of a Submit: what it says travels on in messages that say a little more."""
BUFFER_BYTES_MAX: Final = 512 << 20
"""Bytes of parts that are not whole, of all clients: what is promised to them, not what has come."""
CLIENT_BUFFER_BYTES_MAX: Final = 128 << 20
"""The same of one client."""
SUBMISSIONS_MAX: Final = 256
CLIENT_SUBMISSIONS_MAX: Final = 16
"""Submissions of one client that are not whole: others find a place whatever one of them does."""
SILENCE_S: Final = 60.0
_TEXT: Final = 4096
_BUSY_HINT: Final = "others submit too: it is tried again; if it stays so, ask who submits so many"


class _Buffer:
    """What has come of a part of so many bytes."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes, self.data = size_bytes, bytearray()


class _Coming(NamedTuple):
    client: str
    submit: Submit
    heard_s: float


class Intake:
    """Submissions whose parts are not all here. Answers are messages for the client; None says to wait."""

    def __init__(self, parts: PartsFolder, versions: Versions, roots: Sequence[str]) -> None:
        self._parts, self._versions, self._roots = parts, versions, roots
        self._coming: dict[bytes, _Coming] = {}
        self._buffers: dict[tuple[str, bytes], _Buffer] = {}  # client, sha256: nobody spoils another's part
        self._writing: set[bytes] = set()
        self._has_leftovers = False

    def submit(self, client: str, submit: Submit, now: float) -> SubmitReceived | Need | Refused | None:
        """Take a job: the event if all is here, or what is needed next."""
        if submit.sheet.versions != self._versions:
            text = f"the client has {listed(submit.sheet.versions)}; the master has {listed(self._versions)}"
            return _refusal(submit.job, "VERSION", text, VERSIONS_HINT)
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
        if known is None and (flaw := self._has_no_place(client)):
            return _refusal(submit.job, BUSY, flaw, _BUSY_HINT)
        self._coming[submit.job] = _Coming(client, submit, now)
        return self._next(submit.job)

    def put(self, client: str, put: PutPart, now: float) -> SubmitReceived | Need | Refused | None:
        """Take a piece; one that was not asked for changes nothing."""
        coming = self._coming.get(put.job)
        if coming is None or coming.client != client:
            return None  # the client submits again
        self._coming[put.job] = coming._replace(heard_s=now)
        part = next((one for one in coming.submit.parts if one.sha256 == put.sha256), None)
        buffer = self._buffers.get((client, put.sha256))
        if part is None or buffer is None or put.offset != len(buffer.data):
            return self._next(put.job)
        if len(buffer.data) + len(put.piece) > part.size_bytes:
            return self._drop(put.job, part, f"a part longer than its {part.size_bytes} bytes")
        buffer.data += put.piece
        if len(buffer.data) == part.size_bytes:
            if hashlib.sha256(buffer.data).digest() != part.sha256:
                return self._drop(put.job, part, "a part that is not what its sha256 says")
            self._keep(part, bytes(buffer.data))
            del self._buffers[client, put.sha256]
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
                    self._forget(job)
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
            self._forget(job)
        used = {(one.client, part.sha256) for one in self._coming.values() for part in one.submit.parts}
        for key in self._buffers.keys() - used:
            del self._buffers[key]

    def note_refused(self) -> None:
        """A job that was given on was refused: its parts may be nobody's."""
        self._has_leftovers = True

    def take_leftovers(self) -> bool:
        """Tell, once, whether parts may lie in the folder of which no job came."""
        found, self._has_leftovers = self._has_leftovers, False
        return found

    def parts_in_use(self) -> set[bytes]:
        """The parts of jobs on their way in."""
        return {part.sha256 for one in self._coming.values() for part in one.submit.parts} | self._writing

    def _next(self, job: bytes) -> SubmitReceived | Need | Refused | None:
        client, submit, _ = self._coming[job]
        missing = [part for part in submit.parts if not self._parts.has(part.sha256)]
        for part in missing:
            if part.sha256 in self._writing:
                continue
            if part.size_bytes == 0:
                return self._keep_empty(job, part)
            buffer = self._buffers.get((client, part.sha256))
            if buffer is None:
                if self._has_no_room(client, part.size_bytes):
                    return _refusal(job, BUSY, "the master holds as many parts on their way as it can", _BUSY_HINT)
                buffer = self._buffers[client, part.sha256] = _Buffer(part.size_bytes)
            return Need(job, part.sha256, len(buffer.data))
        if missing:
            return None  # they are being written
        del self._coming[job]
        accepted = JobAccepted(client, submit.sheet, submit.parts, submit.signature, submit.expires_s)
        return SubmitReceived(client, job_sheet(job, accepted))

    def _keep_empty(self, job: bytes, part: JobPart) -> SubmitReceived | Need | Refused | None:
        if hashlib.sha256(b"").digest() != part.sha256:
            return self._drop(job, part, "an empty part that is not what its sha256 says")
        self._keep(part, b"")
        return self._next(job)

    def _keep(self, part: JobPart, data: bytes) -> None:
        if part.sha256 not in self._writing:  # by way of another job
            self._writing.add(part.sha256)
            self._parts.keep(part.sha256, data)

    def _drop(self, job: bytes, part: JobPart, what: str) -> Refused:
        self._buffers.pop((self._coming[job].client, part.sha256), None)
        self._forget(job)
        return _refusal(job, "PROTOCOL", what)

    def _forget(self, job: bytes) -> None:
        """A submission comes to nothing."""
        del self._coming[job]
        self._has_leftovers = True

    def _has_no_place(self, client: str) -> str:
        """Why no further submission of a client is taken now; empty if one is."""
        own = sum(one.client == client for one in self._coming.values())
        if own >= CLIENT_SUBMISSIONS_MAX:
            return f"{own} jobs of {client} are on their way in"
        return "too many jobs are on their way in" if len(self._coming) >= SUBMISSIONS_MAX else ""

    def _has_no_room(self, client: str, size_bytes: int) -> bool:
        own = sum(buffer.size_bytes for (name, _), buffer in self._buffers.items() if name == client)
        all_of_them = sum(buffer.size_bytes for buffer in self._buffers.values())
        return own + size_bytes > CLIENT_BUFFER_BYTES_MAX or all_of_them + size_bytes > BUFFER_BYTES_MAX


def _refusal(job: bytes, code: str, text: str, hint: Any = "") -> Refused:
    return Refused(job, code, text, hint)
