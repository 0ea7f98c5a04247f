"""What clients may ask of the master, one method a verb, and what they are told without asking again.

A client is told of a job on every connection that submitted or watches it; who watches says so again every few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from kernelmill.cluster import messages as m
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.journal.translate import job_sheet
from kernelmill.cluster.master import answers
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.intake import Intake
from kernelmill.cluster.master.lives import TOO_MANY_JOBS_HINT
from kernelmill.cluster.master.logbook import LogBook
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.posts import Mail, Post
from kernelmill.cluster.master.translate import WorkerMail

WATCH_S: Final = 15.0
"""How long one Watch or Submit is answered."""
STATUS_EVERY_S: Final = 0.2
_WATCHERS_MAX: Final = 64  # connections a job


class _Watcher(NamedTuple):
    client: str
    key: str
    is_admin: bool
    until_s: float


class ClientDesk:
    """Answers clients. `tell` gives an event to the machine and performs what it orders."""

    def __init__(
        self,
        post: Post,
        master: Master,
        workers: WorkerMail,
        intake: Intake,
        logs: LogBook,
        tell: Callable[[told.Event], None],
    ) -> None:
        self._post, self._master, self._workers, self._intake, self._logs = post, master, workers, intake, logs
        self._tell = tell
        self._watchers: dict[str, dict[bytes, _Watcher]] = {}  # job -> way -> who, until when
        self._statuses: dict[str, m.Status] = {}  # what the watchers were told last
        self._asking: tuple[bytes, int] | None = None  # way and number of the message that is being answered
        self._now = self._due_s = 0.0
        self._verbs: dict[type, Callable[[Mail, Any], None]] = {
            m.Submit: self._submit,
            m.PutPart: self._put_part,
            m.Watch: self._watch,
            m.CancelJob: self._cancel,
            m.Forget: self._forget,
            m.ListJobs: self._list_jobs,
            m.ListWorkers: self._list_workers,
            m.DrainWorker: self._drain,
            m.ReadLog: self._read_log,
        }

    # Verbs.

    def take(self, mail: Mail, now: float) -> None:
        """Answer one message."""
        self._now, self._asking = now, (mail.route.id, mail.envelope.seq)
        try:
            self._verbs[type(mail.envelope.body)](mail, mail.envelope.body)
        finally:
            self._asking = None

    def _submit(self, mail: Mail, body: m.Submit) -> None:
        if self._master.has_job(body.job.hex()) and not self._may_see(mail, body.job.hex()):
            self._reply(mail, m.Refused(body.job, "JOB_EXISTS", "another job has this id", ""))
            return
        self._listen(body.job.hex(), mail)
        if self._master.has_job(body.job.hex()):
            accepted = JobAccepted(mail.peer.name, body.sheet, body.parts, body.signature, body.expires_s)
            self._tell(told.SubmitReceived(mail.peer.name, job_sheet(body.job, accepted)))
        elif flaw := self._master.has_too_many_jobs(mail.peer.name):  # before it sends all parts
            self._reply(mail, m.Refused(body.job, m.TOO_MANY_JOBS, flaw, TOO_MANY_JOBS_HINT))
        else:
            self._answer_intake(mail, self._intake.submit(mail.peer.name, body, self._now))

    def _put_part(self, mail: Mail, body: m.PutPart) -> None:
        self._answer_intake(mail, self._intake.put(mail.peer.name, body, self._now))

    def _answer_intake(self, mail: Mail, answer: told.SubmitReceived | m.Need | m.Refused | None) -> None:
        if isinstance(answer, told.SubmitReceived):
            self._tell(answer)
        elif answer is not None:
            self._reply(mail, answer)

    def _watch(self, mail: Mail, body: m.Watch) -> None:
        job = body.job.hex()
        if not self._may_see(mail, job):
            self._reply(mail, m.Refused(body.job, "NO_JOB", "no job of yours has this id", ""))
            return
        self._listen(job, mail)
        if self._master.is_ended(job):
            self._reply(mail, answers.result_of(self._master.desk, job))
        elif self._master.is_live(job):
            self._reply(mail, answers.status_of(self._master.desk, job, self._workers.progress))

    def _cancel(self, mail: Mail, body: m.CancelJob) -> None:
        self._tell(told.CancelReceived(mail.peer.name, body.job.hex(), mail.peer.is_admin))

    def _forget(self, mail: Mail, body: m.Forget) -> None:
        self._tell(told.ForgetReceived(mail.peer.name, body.job.hex(), mail.peer.is_admin))

    def _list_jobs(self, mail: Mail, body: m.ListJobs) -> None:
        if body.everybodys and not mail.peer.is_admin:
            self._reply(mail, m.Refused(b"", "AUTH", "the jobs of all are for administrators", "ask for your own"))
            return
        client = None if body.everybodys else mail.peer.name
        self._reply(mail, answers.jobs_page(self._master.desk, client, body.page))

    def _list_workers(self, mail: Mail, body: m.ListWorkers) -> None:
        desk = self._master.desk
        self._reply(mail, answers.workers_list(desk, self._workers.members, self._workers.progress))

    def _drain(self, mail: Mail, body: m.DrainWorker) -> None:
        if not mail.peer.is_admin:
            hint = "kernelmill keys add-client NAME --admin"
            self._reply(mail, m.Refused(b"", "AUTH", "draining a worker is for administrators", hint))
        elif body.worker not in self._master.peers():
            self._reply(mail, m.Refused(b"", "NO_SUCH_WORKER", f"there is no worker {body.worker} here", ""))
        else:
            self._tell(told.DrainRequested(body.worker))
            self._reply(mail, m.Granted(b""))

    def _read_log(self, mail: Mail, body: m.ReadLog) -> None:
        if self._may_see(mail, body.job.hex()):
            self._reply(mail, self._logs.page(body.job, body.first))
        else:
            self._reply(mail, m.Refused(body.job, "NO_JOB", "no job of yours has this id", ""))

    # What the machine orders.

    def accept(self, action: told.Accept) -> None:
        """A job is durable."""
        state = answers.state_of(self._master.desk, action.job)
        self._send_to_watchers(action.job, m.Accepted(bytes.fromhex(action.job), state))

    def refuse(self, action: told.Refuse) -> None:
        """What a client asked for is not done."""
        self._intake.note_refused()
        body = m.Refused(bytes.fromhex(action.job), action.code, action.text[:8192], action.hint)
        if self._asking is not None:
            self._answer(body)
        else:  # a job whose parts were being written
            self._send_to_watchers(action.job, body, action.peer)

    def grant(self, action: told.Grant) -> None:
        """What a client asked for is done."""
        self._answer(m.Granted(bytes.fromhex(action.job)))

    def tell_result(self, action: told.TellResult) -> None:
        """A job has ended, durably."""
        self._send_to_watchers(action.job, answers.result_of(self._master.desk, action.job))
        self._statuses.pop(action.job, None)
        failpoint("master.result.sent")

    def take_written(self) -> None:
        """Parts are durable: submit what is whole."""
        for client, found in self._intake.take_written():
            if isinstance(found, told.SubmitReceived):
                self._tell(found)
            else:
                self._send_to_watchers(found.job.hex(), found, client)

    def pass_time(self, now: float) -> float | None:
        """Tell watchers what has changed; tell when to call again, or None if nobody watches."""
        if now < self._due_s:
            return self._due_s
        self._now, self._due_s = now, now + STATUS_EVERY_S
        self._intake.pass_time(now)
        for job, routes in [*self._watchers.items()]:
            for route in self._silent_or_revoked(routes, now):
                del routes[route]
            if not routes:
                del self._watchers[job]
                self._statuses.pop(job, None)
            elif self._master.is_live(job) and not self._master.is_ended(job):
                status = answers.status_of(self._master.desk, job, self._workers.progress)
                if status != self._statuses.get(job):
                    self._statuses[job] = status
                    self._send_to_watchers(job, status)
        return self._due_s if self._watchers else None

    # Ways.

    def _silent_or_revoked(self, routes: Mapping[bytes, _Watcher], now: float) -> list[bytes]:
        return [route for route, one in routes.items() if one.until_s <= now or not self._post.knows(one.key)]

    def _may_see(self, mail: Mail, job: str) -> bool:
        return self._master.has_job(job, None if mail.peer.is_admin else mail.peer.name)

    def _listen(self, job: str, mail: Mail) -> None:
        routes = self._watchers.setdefault(job, {})
        routes.pop(mail.route.id, None)
        routes[mail.route.id] = _Watcher(mail.peer.name, mail.peer.key, mail.peer.is_admin, self._now + WATCH_S)
        if len(routes) > _WATCHERS_MAX:
            del routes[next(iter(routes))]

    def _reply(self, mail: Mail, body: Any) -> None:
        self._post.send(mail.route.id, body, ack=mail.envelope.seq)

    def _answer(self, body: Any) -> None:
        assert self._asking is not None, f"{body} answers nobody"
        route, seq = self._asking
        self._post.send(route, body, ack=seq)

    def _send_to_watchers(self, job: str, body: Any, client: str = "") -> None:
        """Send to all who listen and may know: those of one client, or the job's owner and administrators."""
        routes = self._watchers.get(job, {})
        for route, watcher in [*routes.items()]:
            is_his = self._master.has_job(job, None if watcher.is_admin else watcher.client)
            if not (watcher.client == client if client else is_his) or not self._post.knows(watcher.key):
                continue
            ack = self._asking[1] if self._asking is not None and self._asking[0] == route else 0
            if not self._post.send(route, body, ack=ack):
                del routes[route]
