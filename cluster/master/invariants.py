"""What must hold at the master after every event; the names are those of CLUSTER.md section 12."""

from __future__ import annotations

from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import Desk
from kernelmill.cluster.master.facts import TaskCommitted, attempt_epoch
from kernelmill.cluster.master.jobs import AHEAD_MAX, JobRun
from kernelmill.cluster.master.ledger import COMMITTING, ENDS, StageLedger
from kernelmill.engine.ids import AttemptId, TaskId


def check_master(desk: Desk) -> None:
    """Assert every invariant of the master's parts and between them."""
    desk.sessions.check()
    assert desk.durable <= desk.ordered, "durable before it was ordered (S2)"
    assert all(desk.durable < number <= desk.ordered for number, _, _ in desk.queue), "the queue of facts"
    for job in desk.jobs.values():
        job.scheduler.check()
        _check_state(desk, job)
        _check_attempts(desk, job)
        for number, stage in enumerate(job.ledger.stages):
            _check_stage(desk, job, number, stage)
        _check_backups(desk, job)
    _check_slots(desk)


def _check_state(desk: Desk, job: JobRun) -> None:
    what = f"job {job.id}: {job.state}, {job.ledger.state}"
    assert (job.state == states.PAUSED) == bool(job.pauses and not job.is_over and job.state != states.ENDING), what
    assert job.is_over == (job.ledger.state in ENDS), what
    if job.state == states.COMMITTING:
        assert job.ledger.state == COMMITTING and job.ledger.is_complete, what
    if job.state in (states.RUNNING, states.SUBMITTED, states.ENDING):
        assert job.ledger.state not in ENDS and job.ledger.state != COMMITTING, what
    ordered = {
        (fact.stage, fact.task) for _, fact, _ in desk.queue if isinstance(fact, TaskCommitted) and fact.job == job.id
    }
    assert job.pending == ordered, f"{what}: commits that are ordered and not durable"


def _check_attempts(desk: Desk, job: JobRun) -> None:
    on_workers = {number for runs in job.runs_of_worker.values() for number in runs}
    assert on_workers == set(job.attempts), "attempts by number and by worker"
    readers = sum(bool(job.sheet.stages[run.id.task.stage].inputs) for run in job.attempts.values())
    assert job.readers_running == readers and not (readers and job.ahead), "attempts that read blocks, and what waits"
    assert job.scheduler.attempts_running == len(job.attempts), "an attempt that only one of the two follows"
    for number, run in job.attempts.items():
        what = f"attempt {run.id} of {job.id}, {run.state}"
        assert job.scheduler.is_running(run.id), what
        assert desk.sessions.get(run.worker) is not None, f"{what}: its worker is lost"
        assert attempt_epoch(number) <= desk.ledger.epoch, f"{what}: of an epoch to come (S10)"
        assert run.gen <= job.ledger.stages[run.id.task.stage].gen, what


def _check_stage(desk: Desk, job: JobRun, number: int, stage: StageLedger) -> None:
    """S1 and S6, and that the scheduler calls nothing done that is not committed, durably."""
    assert stage.committed == sum(winner >= 0 for winner in stage.winners), f"stage {number}: the count of commits"
    assert not stage.dead.intersection(stage.winners), f"stage {number}: a dead output counts (S1)"
    for task in range(stage.sheet.tasks):
        winner = job.scheduler.winner_of(TaskId(number, task))
        if winner is None:
            continue
        what = f"task {number}.{task} of {job.id}, done by {winner}"
        is_pending = winner.number != stage.winners[task]
        # The ledger is ahead of the scheduler by the facts that are ordered: a loss or a roll-back of this very output.
        assert not is_pending or (winner.number in stage.dead and desk.queue), f"{what}: not committed (S1, S2)"
        assert (number, task) not in job.pending or is_pending, f"{what}: before it is durable (S2)"
    if stage.sheet.cells:
        anew = StageLedger(job.sheet, number)
        for task, vector in enumerate(stage.vectors):
            if vector:
                anew.put_vector(task, vector)
        totals = [(ledger.rows, ledger.sums, ledger.xors) for ledger in (anew, stage)]
        assert totals[0] == totals[1], f"stage {number}: totals (S6)"
        for task, winner_number in enumerate(stage.winners):
            assert winner_number < 0 or stage.vectors[task], f"task {number}.{task}: committed without a vector"


def _check_backups(desk: Desk, job: JobRun) -> None:
    """L6: a task has one attempt that is wanted, or two on different workers."""
    wanted: dict[TaskId, list[AttemptId]] = {}
    for run in job.attempts.values():
        if run.state != states.STOPPING:
            wanted.setdefault(run.id.task, []).append(run.id)
    for task, attempts in wanted.items():
        workers = {job.attempts[attempt.number].worker for attempt in attempts}
        assert len(attempts) == len(workers) <= 3, f"task {task}: {attempts} (L6)"


def _check_slots(desk: Desk) -> None:
    """No worker is promised to several jobs at once beyond its slots, but for what came along with it."""
    for session in desk.sessions:
        grants = [job.grants.get(session.worker, 0) for job in desk.jobs.values()]
        most = session.slots * (1 + AHEAD_MAX if sum(map(bool, grants)) == 1 else 1)
        assert sum(grants) <= most, f"{session.worker}: {grants} of {session.slots} slots"
