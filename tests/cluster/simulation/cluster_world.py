"""A cluster in virtual time under a seed: the real machines of master and workers; network, journal, storage made up.

The network is as truthful as CLUSTER.md section 10 asks: first in, first out on a connection; a cut loses a run out of
the middle of what was sent meanwhile, the rest comes late, to the next master too; cuts may be one-way. The journal
makes records durable in order, and a killed master may leave some that it never heard of. Nothing here believes the
master: what it acknowledges must be durable, what it starts must be new, and at the end each row is there once.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import struct
import zlib
from collections import Counter

from sim_worker import VERSIONS, SimWorker, rows_of_map

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import Consumed, JobPart, Place, Policy, Sheet, SheetEdge, SheetStage
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.journal.translate import attempt_number
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.desk import MasterSettings
from kernelmill.cluster.master.facts import (
    JobEnded,
    JobSheet,
    StageSheet,
    TaskCommitted,
)
from kernelmill.cluster.master.ledger import ENDS, Ledger
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.translate import WorkerMail
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.state import BackupPolicy

EVENTS_MAX = 60_000
CLIENT = "ada"
SETTINGS = MasterSettings(
    no_workers_s=15.0,
    output_stuck_s=20.0,
    backups=BackupPolicy(done_share=0.5, late_s_min=2.0, slots_share=0.3),
)


def seal_of(job, attempt, gen, worker):
    return hashlib.blake2b(repr((job, str(attempt), gen, worker)).encode(), digest_size=16).digest()


def hash_of(row):
    return zlib.crc32(repr(row).encode()) * 0x9E3779B97F4A7C15 % (1 << 64)


def sums_of(rows):
    total = xor = 0
    for row in rows:
        total, xor = (total + hash_of(row)) % (1 << 64), xor ^ hash_of(row)
    return len(rows), total, xor


def vector_of(blocks):
    return b"".join(struct.pack("<4Q", 16 * len(rows), *sums_of(rows)) for rows in blocks)


def sheets(rng, count, poison, brisk):
    found = []
    for number in range(count):
        maps, reduces = rng.randint(20, 40) if brisk else rng.randint(2, 6), rng.randint(1, 4)
        stages = [StageSheet(maps, (reduces,)), StageSheet(reduces, (), (Edge(0, EdgeKind.HASH),))]
        shape = rng.random()
        if shape < 0.3:  # a stage in the middle
            last = rng.randint(1, 3)
            stages[1] = StageSheet(reduces, (last,), (Edge(0, EdgeKind.HASH),))
            stages.append(StageSheet(last, (), (Edge(1, EdgeKind.HASH),)))
        elif shape < 0.5:  # the last one reads the middle one pair by pair
            stages[1] = StageSheet(reduces, (1,), (Edge(0, EdgeKind.HASH),))
            stages.append(StageSheet(reduces, (), (Edge(1, EdgeKind.ONE_TO_ONE),)))
        sheet = JobSheet(
            f"{number + 1:032x}",
            CLIENT,
            bytes([number]),
            tuple(stages),
            on_bad="reject" if poison else "error",
            attempts_max=50,
            accepted=accepted_of(stages, has_code=number % 2 == 1),
        )
        found.append(sheet)
    return found


def accepted_of(stages, *, has_code=False):
    """What workers are told of a job."""
    shapes = tuple(
        SheetStage(
            "s", stage.tasks, stage.partitions, tuple(SheetEdge(e.source, e.kind.value, e.output) for e in stage.inputs)
        )
        for stage in stages
    )
    sheet = Sheet(shapes, Place("out", ("x",)), Policy("error", 9, "error", "signed", "tail", 4, False), VERSIONS)
    roles = ("plan", "code") if has_code else ("plan",)
    parts = tuple(JobPart(role, role[:1].encode() * 32, 1) for role in roles)
    return JobAccepted(CLIENT, sheet, parts, b"g" * 32, 1 << 40)


class Link:
    """One direction between a worker and whoever is master: first in, first out, but for what a cut loses."""

    def __init__(self, world):
        self.world, self.last_s = world, 0.0
        self.cut = (0.0, 0.0)  # from, until
        self.lost = (0.0, 0.0)  # sent in here: never comes

    def send(self, deliver, *args):
        world = self.world
        now, rng = world.now, world.rng
        if self.lost[0] <= now < self.lost[1]:
            world.seen["message lost"] += 1
            return
        start = self.cut[1] if self.cut[0] <= now < self.cut[1] else now
        self.last_s = max(self.last_s, start + rng.uniform(0.001, 0.02))
        world.at(self.last_s, deliver, *args)

    @property
    def is_cut(self):
        return self.cut[0] <= self.world.now < self.cut[1]

    def break_for(self, seconds):
        now, rng = self.world.now, self.world.rng
        self.cut = now, now + seconds
        first = now + rng.uniform(0.0, seconds)
        self.lost = first, rng.uniform(first, now + seconds)


class World:
    def __init__(
        self,
        seed,
        faults=None,
        crash_at=None,
        jobs=None,
        poison=False,
        fickle=False,
        brisk=False,
        crash_worker_at=None,
    ):
        self.rng = rng = random.Random(seed)
        self.now, self.queue, self.sequence, self.events = 0.0, [], 0, 0
        self.seen = Counter()
        self.faults_left = rng.randint(0, 14) if faults is None else faults
        self.sheets = {sheet.job: sheet for sheet in sheets(rng, jobs or rng.choice([1, 1, 2, 3]), poison, brisk)}
        self.poison = {(job, 0, row) for job in self.sheets for row in range(rng.randint(1, 3))} if poison else set()
        self.fickle = {(job, rng.randint(0, 1)) for job in self.sheets} if fickle else set()
        self.master, self.epoch, self.incarnation = None, 0, 0
        self.journal, self.in_flight, self.durable_s = [], [], 0.0  # records: (number, facts)
        self.epoch_start = 0
        self.started, self.files, self.damaged, self.is_open = set(), {}, set(), False
        self.published, self.results, self.accepted = {}, {}, set()
        self.effects, self.crash_at = 0, crash_at
        self.worker_effects, self.crash_worker_at = 0, crash_worker_at
        self.workers = {}
        for number in range(rng.randint(2, 5)):
            self.workers[f"w{number}"] = SimWorker(self, f"w{number}")
        self.start_master()
        for job in self.sheets:
            self.at(rng.uniform(0.0, 3.0), self.submit, job)
        for _ in range(self.faults_left):
            self.at(
                rng.uniform(0.5, 25.0),
                rng.choice(
                    [
                        self.break_link,
                        self.kill_worker,
                        self.kill_worker,
                        self.lose,
                        self.damage,
                        self.kill_master,
                        self.forge,
                        self.fill_journal,
                        self.drain,
                        self.disconnect,
                    ]
                ),
            )

    def new_link(self):
        return Link(self)

    def split(self, rows, count):
        return [[row for row in rows if hash_of(row[:2]) % count == part] for part in range(count)]

    def vector_of(self, blocks):
        return vector_of(blocks)

    def consumed_of(self, maps, rows):
        count, total, xor = sums_of(rows)
        return Consumed(maps, count, total.to_bytes(8, "little"), xor.to_bytes(8, "little"))

    # Time.

    def at(self, when_s, what, *args):
        heapq.heappush(self.queue, (when_s, self.sequence, what, args))
        self.sequence += 1

    def fault(self, share):
        if self.faults_left > 0 and self.rng.random() < share:
            self.faults_left -= 1
            return True
        return False

    def run(self, until_s=600.0):
        while self.queue and not self.is_over:
            self.now, _, what, args = heapq.heappop(self.queue)
            assert self.now < until_s, f"not over after {until_s} s (L1): {self.states()}"
            self.events += 1
            assert self.events < EVENTS_MAX, "the jobs go on for ever"
            what(*args)
        self.check_end()
        return self

    @property
    def is_over(self):
        return len(self.results) == len(self.sheets)

    def states(self):
        return {job: self.master.state_of(job) for job in self.accepted} if self.master else "no master"

    # The master and its journal.

    def start_master(self):
        facts = [fact for _, facts in self.journal for fact in facts]
        self.epoch += 1
        self.incarnation += 1
        self.master = Master(Ledger.of(facts), seal_of, SETTINGS)
        self.mail = WorkerMail(self.master, "ipc:///master")
        self.life = self.rng.randbytes(8)
        self.in_flight, self.first_number, self.is_full = [], len(self.journal), False
        self.deadline_s = None
        self.is_open = False  # peers are let in when the epoch is durable
        self.perform(self.master.start(self.epoch, self.life, self.now))
        for job in sorted(self.accepted - set(self.results)):
            self.at(self.now + 2.0, self.submit, job)

    def kill_master(self):
        if self.master is None:
            return
        self.seen["master killed"] += 1
        self.seen.update(self.master.seen)
        survivors = self.rng.randint(0, len(self.in_flight))
        self.journal += self.in_flight[:survivors]  # durable, though nobody was told
        self.in_flight, self.master, self.is_open = [], None, False
        self.incarnation += 1
        for worker in self.workers.values():
            if self.rng.random() < 0.8:  # the others hear nothing more
                self.at(self.now + 0.05, worker.disconnect)
        self.at(self.now + self.rng.uniform(0.1, 2.0), self.start_master)

    def tell(self, event):
        if self.master is None:
            return
        self.perform(self.master.handle(event, self.now))
        if self.master is not None:
            self.master.check()
            deadline = self.master.next_deadline()
            if deadline is not None and deadline != self.deadline_s:
                is_due = isinstance(event, ev.TimePassed) and deadline <= self.now
                assert deadline >= self.now and not is_due, f"a deadline that has passed makes its caller spin: {event}"
                self.deadline_s = deadline
                self.at(deadline, self.tick, self.incarnation, deadline)

    def tick(self, incarnation, deadline):
        if incarnation == self.incarnation and deadline == self.deadline_s:
            self.deadline_s = None
            self.tell(ev.TimePassed())

    def perform(self, actions):
        for action in actions:
            self.effects += 1
            if self.effects == self.crash_at:
                self.kill_master()
                return
            self.perform_one(action)

    def perform_one(self, action):
        self.seen[type(action).__name__] += 1
        match action:
            case ev.Record(number, facts):
                assert number == len(self.in_flight) + len(self.journal) - self.first_number + 1
                self.in_flight.append((number, facts))
                slow = self.rng.choice([0.01] * 19 + [0.8])  # a disk that is busy with something else
                self.durable_s = max(self.durable_s, self.now) + self.rng.uniform(0.0002, slow)
                self.at(self.durable_s, self.make_durable, self.incarnation, number)
            case ev.Accept(job=job):
                assert job in self.durable_ledger().jobs, "accepted before it was durable (S2)"
                self.accepted.add(job)
            case ev.TellResult(job=job, state=state, code=code):
                ledger = self.durable_ledger()
                assert ledger.jobs[job].state == state, "a result before it was durable (S2)"
                self.results[job] = state, code
            case ev.Publish(job=job, winners=winners):
                self.at(self.now + self.rng.uniform(0.05, 1.0), self.publish, job, winners, self.incarnation)
            case ev.CleanStaging():
                pass
            case ev.Refuse(peer=peer) if peer not in self.workers:
                self.seen[f"client refused: {action.code}"] += 1
            case _:
                for letter in self.mail.letters(action):
                    self.send(letter.worker, letter.session, letter.body)

    def send(self, name, session, body):
        worker = self.workers[name]
        envelope = b"" if session is None else session.to_bytes(8, "big")
        worker.down.send(worker.take, self.epoch, self.life, envelope, body)

    def durable_ledger(self):
        return Ledger.of(fact for _, facts in self.journal for fact in facts)

    def make_durable(self, incarnation, number):
        if incarnation != self.incarnation:
            return
        if self.is_full:
            self.at(self.now + 0.5, self.make_durable, incarnation, number)
            return
        while self.in_flight and self.in_flight[0][0] <= number:
            self.journal.append(self.in_flight.pop(0))
        self.is_open = True
        self.tell(ev.Recorded(number))

    def fill_journal(self):
        if self.master is not None and not self.is_full:
            self.is_full = True
            self.seen["journal filled"] += 1
            self.at(self.now + self.rng.uniform(0.5, 4.0), self.free_journal, self.incarnation)
            self.tell(ev.JournalFilled())

    def free_journal(self, incarnation):
        if incarnation == self.incarnation:
            self.is_full = False
            self.tell(ev.JournalFreed())

    # Messages to the master, from whichever time.

    def from_worker(self, name, session, body):
        if self.master is None or not self.is_open:
            if self.rng.random() < 0.5:  # it waits for the next master
                self.seen["message for the next master"] += 1
                self.at(self.now + 0.3, self.from_worker, name, session, body)
            return
        number = int.from_bytes(session, "big")
        if isinstance(body, m.Hello):
            key = "k" * 40
            event = self.mail.take_hello(name, self.rng.getrandbits(60), body, "host", key)
        else:
            event = self.mail.event_of(name, number, body)
        if event is not None:
            self.tell(event)
        if isinstance(body, m.Beat) and self.master is not None and session:
            self.send(name, number, m.Heard())

    def submit(self, job):
        if job in self.results:
            return
        self.tell(ev.SubmitReceived(CLIENT, self.sheets[job]))
        self.at(self.now + 3.0, self.submit, job)

    # Storage.

    def publish(self, job, winners, incarnation):
        if incarnation != self.incarnation:
            return
        if self.fault(0.3):
            code = self.rng.choice(["OUTPUT_FULL", "BAD"])
            bad = self.rng.choice(winners) if code == "BAD" else None
            if bad is not None and job not in self.published:
                self.files.pop((job, bad[2]))
            elif bad is not None:
                bad = None
            if bad is not None or code == "OUTPUT_FULL":
                self.tell(ev.PublishFailed(job, code, "the tail differs", bad))
                return
        for _, _, number in winners:
            if (job, number) not in self.files:
                self.tell(ev.PublishFailed(job, "BAD", "missing", next(w for w in winners if w[2] == number)))
                return
        assert self.published.setdefault(job, winners) == winners, "published twice, differently"
        if self.rng.random() < 0.1 and self.faults_left > 0:
            self.faults_left -= 1
            self.kill_master()
            return
        self.tell(ev.Published(job))

    # Faults.

    def any_worker(self):
        return self.workers[self.rng.choice(sorted(self.workers))]

    def break_link(self):
        worker, seconds = self.any_worker(), self.rng.choice([0.5, 2.0, 4.0, 7.0, 12.0])
        links = self.rng.choice([(worker.up,), (worker.down,), (worker.up, worker.down)])
        for link in links:
            link.break_for(seconds)
        if seconds > 3.0:
            self.at(self.now + 3.0, worker.disconnect)  # as heartbeats of the socket tell
        self.seen["link cut"] += 1

    def disconnect(self):
        worker = self.any_worker()
        if worker.session is not None:
            self.tell(ev.PeerDisconnected(worker.name, worker.session))
            self.seen["disconnected"] += 1

    def see_it_go(self, worker):
        """A process that ends on the master's host: its connection ends with it."""
        if worker.session is not None:
            self.at(self.now + 0.05, self.tell, ev.PeerDisconnected(worker.name, worker.session))

    def kill_worker(self):
        worker = self.any_worker()
        session = worker.session
        if worker.is_up:
            worker.kill()
            self.seen["worker killed"] += 1
            if self.rng.random() < 0.4:
                worker.lose_disk()
            if self.rng.random() < 0.5 and session is not None:
                self.tell(ev.PeerGone(worker.name, session, "unreachable"))
            self.at(self.now + self.rng.choice([0.2, 2.0, 8.0, 20.0]), worker.start)

    def lose(self):
        """All workers at once, for longer than jobs wait."""
        if self.rng.random() < 0.2:
            for worker in self.workers.values():
                worker.kill()
                self.at(self.now + 25.0, worker.start)
            self.seen["all workers killed"] += 1

    def drain(self):
        worker = self.any_worker()
        if self.rng.random() < 0.5:
            self.tell(ev.DrainRequested(worker.name))
            self.at(self.now + 15.0, self.return_drained, worker)

    def return_drained(self, worker):
        if worker.is_drained:
            self.seen["drained and gone"] += 1
            worker.start()
        elif worker.is_up:  # it is needed still: whoever wanted it to go lets it stay
            worker.kill()
            worker.start()

    def damage(self):
        held = sorted({name for worker in self.workers.values() for name in worker.blocks})
        if held:
            self.damaged.add(self.rng.choice(held))

    def forge(self):
        """DONE of another's attempt, of no job at all, and orders by whom they do not concern."""
        worker = self.any_worker()
        if worker.session is None:
            return
        job = self.rng.choice(sorted(self.sheets))
        attempt = AttemptId(TaskId(self.rng.randint(0, 3), self.rng.randint(0, 9)), (1 << 32) + self.rng.randint(0, 9))
        self.tell(ev.DoneReceived(worker.name, worker.session, job, attempt, 0, b"no such seal 123"))
        self.tell(ev.DoneReceived(worker.name, worker.session, "f" * 32, attempt, 0, b""))
        self.tell(ev.AcceptReceived(worker.name, worker.session, job, attempt))
        self.tell(ev.BeatReceived(worker.name, worker.session + 1, (), (), 0))
        self.tell(ev.CancelReceived("eve", job))
        if job in self.accepted:
            self.tell(ev.SubmitReceived(CLIENT, JobSheet(job, CLIENT, b"other", self.sheets[job].stages)))

    # What must hold.

    def check_acknowledged(self, worker, name):
        facts = [fact for _, facts in self.journal for fact in facts if isinstance(fact, TaskCommitted)]
        found = name.job.hex(), attempt_number(name.attempt)
        assert found in {(fact.job, fact.attempt) for fact in facts}, f"{worker} was told that {name} counts (S2)"

    def check_end(self):
        ledger = self.durable_ledger()
        for job, (state, _) in self.results.items():
            assert ledger.jobs[job].state == state in ENDS
            assert state != "COMMITTED" or job in self.published
            if state == "COMMITTED":
                self.check_rows(job, ledger)
        ends = Counter(fact.job for _, facts in self.journal for fact in facts if isinstance(fact, JobEnded))
        assert all(count == 1 for count in ends.values())
        if self.master is not None:
            self.seen.update(self.master.seen)
        for worker in self.workers.values():
            worker.kill()

    def check_rows(self, job, ledger):
        rows = Counter()
        variants = {}
        for _, _, number in self.published[job]:
            for task, row, variant in self.files[job, number]:
                rows[task, row] += 1
                assert variants.setdefault(task, variant) == variant, f"rows of two runs of map {task} are mixed"
        left_out = {(o.at, o.row) for origins in ledger.jobs[job].poison.values() for o in origins}
        maps = range(self.sheets[job].stages[0].tasks)
        expected = {(task, row) for task in maps for row in range(rows_of_map(task))}
        assert left_out == {key[1:] for key in self.poison if key[0] == job}
        assert set(rows) == expected - left_out, "rows are lost, or were left out and are there"
        assert set(rows.values()) <= {1}, "rows are there twice"
