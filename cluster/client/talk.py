"""One job's conversation with its master, as a pure machine: submit, send parts, watch, cancel, hear the result.

All that is said may be lost, doubled, or reach another master than it was meant for; so everything is said again until
it is answered, and saying it twice changes nothing: the job's id was chosen here.

    SUBMITTING   Submit each second, also where the master is BUSY or the client has TOO_MANY_JOBS, for some time;
                 Need -> PutPart; Accepted -> WATCHING
    WATCHING     Watch every two seconds; Refused: this master does not know the job -> SUBMITTING
    CANCELLING   CancelJob each second, Watch beside it
    any          Result -> OVER; silence -> the shell is told to connect anew

A conversation about a job that somebody else submitted begins with WATCHING, and ends where the job is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kernelmill.cluster.fields import Problem
from kernelmill.cluster.messages import (
    BUSY,
    PIECE_BYTES_MAX,
    TOO_MANY_JOBS,
    Accepted,
    CancelJob,
    ClientToMaster,
    Granted,
    MasterToClient,
    Need,
    PutPart,
    Refused,
    Result,
    Status,
    Submit,
    Watch,
)
from kernelmill.engine.errors import Code, KernelmillError, error

SUBMITTING, WATCHING, CANCELLING, OVER = "SUBMITTING", "WATCHING", "CANCELLING", "OVER"
_SUBMIT_AGAIN_S: Final = 1.0
_WATCH_AGAIN_S: Final = 2.0
_SILENCE_S: Final = 5.0
_SUBMISSIONS_MAX: Final = 5
_PLACE_S: Final = {BUSY: 180.0, TOO_MANY_JOBS: 600.0}
"""How long a client waits for a place, by what it was refused for: among the submissions, where those of clients that
are gone go after 60 s; among its own live jobs."""
_TOO_LATE: Final = "TOO_LATE"


class Talk:
    """What to say, given what was heard and the time. `say` is given each message that is to be sent.

    `submit` and the `contents` of its parts: of a job that is submitted here; without them it is there, or not at all.
    `first_answer_s`: how long a first answer may take; `patience_s`: how long a master that once answered may be away.
    """

    def __init__(
        self,
        job: bytes,
        say: Callable[[ClientToMaster], None],
        now: float,
        *,
        submit: Submit | None = None,
        contents: Mapping[bytes, bytes] | None = None,
        first_answer_s: float = 20.0,
        patience_s: float = 600.0,
    ) -> None:
        self.job, self._say = job, say
        self._submit, self._contents = submit, contents if contents is not None else {}
        self._first_answer_s, self._patience_s = first_answer_s, patience_s
        self.state = SUBMITTING if submit is not None else WATCHING
        self.result: Result | None = None
        self.status: Status | None = None
        self._submissions = 0
        self.waits_for = ""
        """Why the master has no place for the job at the moment, in its words; empty if it has."""
        self.too_late = ""
        """Why the job cannot be cancelled any more, in the master's words; empty if it was not said."""
        self._waits_since_s = now
        self._began_s = self._heard_s = self._connected_s = now
        self._has_answer = self._is_accepted = False
        self._again_s = now
        self.tick(now)

    @property
    def was_accepted(self) -> bool:
        """Whether the master said that it has the job."""
        return self._is_accepted

    def next_deadline(self) -> float:
        """When to call `tick` at the latest."""
        return min(self._again_s, self._connected_s + _SILENCE_S)

    def hear(self, message: MasterToClient, now: float) -> None:
        """Take one message in. Raises what the master refuses, as the error that it names."""
        if getattr(message, "job", self.job) != self.job or self.state == OVER:
            return
        self._heard_s = self._connected_s = now
        self._has_answer = True
        match message:
            case Need(sha256=digest, offset=offset):
                self.waits_for = ""
                self._put(digest, offset, now)
            case Accepted():
                if self.state == SUBMITTING:
                    self._enter(WATCHING, now)
            case Status():
                self.status = message
                if self.state == SUBMITTING:
                    self._enter(WATCHING, now)
            case Result():
                self.result = message
                self.state = OVER
            case Refused(code=code, text=text, hint=hint):
                self._refused(code, text, hint, now)
            case Granted():
                pass  # the result tells when it is done

    def tick(self, now: float) -> bool:
        """Say again what is not answered; True if nothing is heard and a new connection should be made.

        Raises KM0601 when the master has been away for too long.
        """
        if self.state == OVER:
            return False
        if now >= self._again_s:
            self._again_s = now + (_WATCH_AGAIN_S if self.state == WATCHING else _SUBMIT_AGAIN_S)
            if self.state == CANCELLING:
                self._say(CancelJob(self.job))
            submit = self._submit if self.state == SUBMITTING else None
            self._say(submit if submit is not None else Watch(self.job))
        silent_s = now - self._heard_s
        if silent_s > (self._patience_s if self._has_answer else self._first_answer_s):
            raise self._unreachable(silent_s)
        if now >= self._connected_s + _SILENCE_S:
            self._connected_s = now
            self._again_s = now  # said again as soon as there is a new connection
            return True
        return False

    def cancel(self, now: float) -> None:
        """Ask for the job's end; its result tells what became of it. One that waits for a place has no result."""
        if self.state == SUBMITTING and self.waits_for:
            self._say(CancelJob(self.job))  # it may have found a place since
            self.state = OVER
        elif self.state != OVER:
            self._enter(CANCELLING, now)
            self.tick(now)

    def _enter(self, state: str, now: float) -> None:
        self._is_accepted |= state == WATCHING
        self.waits_for = ""
        self.state, self._again_s = state, now
        self.tick(now)

    def _put(self, digest: bytes, offset: int, now: float) -> None:
        body = self._contents.get(digest)
        if body is None or not 0 <= offset <= len(body):
            raise error(Code.PROTOCOL, "the master asks for a part that this job does not have")
        self._say(PutPart(self.job, digest, offset, body[offset : offset + PIECE_BYTES_MAX]))
        self._again_s = now + _SUBMIT_AGAIN_S  # the next Need is its answer

    def _refused(self, code: str, text: str, hint: str, now: float) -> None:
        if self.state == SUBMITTING and code == Code.NO_JOB.value.wire:
            return  # said late, to a Watch
        if self.state == SUBMITTING and code in _PLACE_S:
            self._waits_since_s = self._waits_since_s if self.waits_for else now
            self.waits_for = text
            self._again_s = now + _SUBMIT_AGAIN_S
            if now < self._waits_since_s + _PLACE_S[code]:
                return
        if self.state == SUBMITTING:
            raise error_of(Problem(code, text, "", hint))
        if self.state == CANCELLING:
            self.too_late = text if code == _TOO_LATE else self.too_late
            return  # the result comes by itself
        self._submissions += 1
        if self._submit is None or self._submissions > _SUBMISSIONS_MAX:
            raise error_of(Problem(code, text, "", hint))
        self._enter(SUBMITTING, now)  # a master that has not this job in its journal

    def _unreachable(self, silent_s: float) -> KernelmillError:
        what = f"the cluster's master has not answered for {silent_s:.0f} s"
        if not self._has_answer:
            hint = "is it running, is the address right, and is this client still in its clients.allow?"
            return error(Code.UNREACHABLE, what, hint=hint)
        hint = f"the job may go on without this client: kernelmill jobs shows {self.job.hex()}"
        return error(Code.UNREACHABLE, what, hint=hint)


# Names of failures between master and worker that are no codes of their own.
_CODE_OF_FAILURE: Final = {
    "USER_ERROR": Code.FUNCTION_FAILED,
    "POISON": Code.FUNCTION_FAILED,
    "SIGNALLED": Code.TASK_LOST,
    "OOM_KILLED": Code.MEMORY_LIMIT,
    "HUNG": Code.TASK_LOST,
    "INPUT_CORRUPT": Code.FORMAT,
    "OUTPUT_FULL": Code.DISK_FULL,
    "OUTPUT_LOST": Code.COMMIT,
    "WORKER_LOST": Code.TASK_LOST,
    "FETCH_UNREACHABLE": Code.TASK_LOST,
}
_CODE_OF_WIRE: Final = {code.value.wire: code for code in Code}


def error_of(problem: Problem) -> KernelmillError:
    """The error that a problem from elsewhere is here: the class of its code, KM0602 for a name that is not known."""
    code = _CODE_OF_WIRE.get(problem.code) or _CODE_OF_FAILURE.get(problem.code, Code.REFUSED)
    return error(code, problem.what, where=problem.where, hint=problem.hint)


def error_of_result(result: Result) -> KernelmillError:
    """The error by which a job ended that was not committed."""
    if result.problem is not None:
        return error_of(result.problem)
    if result.state == "CANCELLED":
        return error(Code.CANCELLED, "the job was cancelled")
    return error_of(Problem(result.code, f"the job failed: {result.code}", "", ""))
