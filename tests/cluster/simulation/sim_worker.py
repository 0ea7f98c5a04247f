"""A worker of the simulation: the real machine, with slots, disk, blocks and connections made up around it."""

from __future__ import annotations

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import (
    AttemptName,
    BlocksOutput,
    Count,
    FilesOutput,
    Origin,
    OutputFile,
    Problem,
    TaskRecord,
    Versions,
    has_code,
)
from kernelmill.cluster.journal.translate import attempt_number
from kernelmill.cluster.keys import signing
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker import slotframes
from kernelmill.cluster.worker.bench import Identity, WorkerSettings
from kernelmill.cluster.worker.machine import Worker
from kernelmill.engine.plan.stages import EdgeKind

FREE_BYTES = 1 << 40
ROWS_A_MAP = 6


def rows_of_map(task):
    """How many rows a map task makes: some make none."""
    return 0 if task % 4 == 2 else ROWS_A_MAP


VERSIONS = Versions("1", "3.11", "24", "0.68", "2.0")
SETTINGS = WorkerSettings(hung_s=6.0, compile_s=6.0)
DIGEST = b"x" * 16


class SimWorker:
    """A supervisor; its disk (notes and blocks) outlives it."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.up, self.down = world.new_link(), world.new_link()
        self.size = world.rng.randint(1, 3)
        self.ticket_key = world.rng.randbytes(32)
        self.notes = {}  # AttemptName -> Done
        self.blocks = {}  # AttemptName -> rows by partition
        self.free_bytes = FREE_BYTES
        self.life = 0
        self.is_up = False
        self.start()

    def start(self):
        world = self.world
        self.is_up, self.is_drained = True, False
        self.life += 1
        self.connection = 0
        self.slots = {}
        self.spool = {}
        self.deadline_s = None
        for name in [name for name in self.blocks if name not in self.notes]:
            del self.blocks[name]
        me = Identity(self.name, world.rng.randbytes(16), VERSIONS, "", 0, self.size, 1 << 30, self.ticket_key)
        self.machine = Worker(me, sorted(self.notes.values(), key=lambda done: done.attempt), world.now, SETTINGS)
        self.perform(self.machine.start())
        self.plan_tick()

    def kill(self):
        if self.is_up:
            self.world.seen.update(self.machine.seen)
        self.is_up = False

    def lose_disk(self):
        self.notes.clear()
        self.blocks.clear()
        self.ticket_key = self.world.rng.randbytes(32)

    @property
    def session(self):
        """As the master's machine counts sessions; None without one."""
        found = self.machine.session
        return int.from_bytes(found, "big") if self.is_up and found else None

    # Time and events.

    def at(self, when_s, what, *args):
        """Later, if this life lasts."""
        self.world.at(when_s, self.later, self.life, what, args)

    def later(self, life, what, args):
        if self.is_up and life == self.life:
            what(*args)

    def tell(self, event):
        if not self.is_up:
            return
        self.perform(self.machine.handle(event, self.world.now))
        self.machine.check()
        self.plan_tick()

    def plan_tick(self):
        due = self.machine.next_deadline()
        if due is not None and due != self.deadline_s:
            assert due >= self.world.now, "a deadline that has passed makes its caller spin"
            self.deadline_s = due
            self.at(due, self.tick, due)

    def tick(self, due):
        if due != self.deadline_s:
            return
        self.deadline_s = None
        samples = tuple(slot.sample() for slot in self.slots.values() if slot.run is not None)
        self.tell(ev.TimePassed(ev.Sample(0, self.free_bytes, samples), self.world.rng.random()))

    def take(self, epoch, life, session, body):
        """A message of a master, from whichever time."""
        if not self.is_up:
            return
        if isinstance(body, m.CommitAck):
            self.world.check_acknowledged(self.name, body.attempt)
        self.tell(ev.MasterSaid(epoch, life, session, body))

    def disconnect(self):
        if self.is_up:
            self.connection += 1
            self.tell(ev.Disconnected())

    # What the machine orders.

    def perform(self, actions):
        for action in actions:
            if not self.is_up:
                return
            self.world.worker_effects += 1
            if self.world.worker_effects == self.world.crash_worker_at:
                self.world.seen["worker killed"] += 1
                self.world.see_it_go(self)
                self.kill()
                self.world.at(self.world.now + 0.5, self.start)
                return
            self.perform_one(action)

    def perform_one(self, action):
        world, now, rng = self.world, self.world.now, self.world.rng
        match action:
            case ev.Send(body=m.Hello()) if world.fault(0.05):
                world.seen["HELLO lost"] += 1
            case ev.Send(session=session, body=body):
                self.up.send(world.from_worker, self.name, session, body)
                if isinstance(body, m.Done) and world.fault(0.05):
                    self.up.send(world.from_worker, self.name, session, body)
                    world.seen["DONE doubled"] += 1
            case ev.Reconnect():
                self.connection += 1
                self.at(now + rng.uniform(0.01, 0.1), self.try_to_connect, self.connection)
            case ev.StartSlot(slot=number):
                self.slots[number] = SimSlot(self, number)
                self.at(now + rng.uniform(0.05, 0.4), self.slot_says, number, slotframes.SlotReady(1))
            case ev.KillSlot(slot=number):
                self.at(now + 0.01, self.slot_dies, number, "killed")
            case ev.TellSlot(slot=number, frame=frame):
                if number in self.slots:
                    self.slots[number].take(frame)
            case ev.OpenInSlot(slot=number, spec=spec):
                if world.fault(0.02):
                    self.at(now + 0.1, self.slot_dies, number, "died while it opened a job")
                self.slots[number].open(spec)
                self.at(now + rng.uniform(0.01, 0.1), self.slot_says, number, slotframes.JobOpened(spec.job))
            case ev.BringParts(spec=spec):
                self.at(now + rng.uniform(0.01, 0.3), self.tell, ev.PartsCame(spec.job))
            case ev.WantBlock(want=want, ticket=ticket):
                self.at(now + rng.uniform(0.01, 0.2), self.fetch, want, ticket)
            case ev.KeepNote(done=done):
                self.notes[done.attempt] = done
            case ev.ReadNote(attempt=name):
                world.seen["note read again"] += 1
                self.tell(ev.NoteRead(name, self.notes.get(name)))
            case ev.DeleteAttempt(attempt=name):
                self.delete(name)
            case ev.DeleteJob(job=job):
                for name in [name for name in {**self.notes, **self.blocks} if name.job == job]:
                    self.delete(name)
            case ev.Exit(status=status):
                assert status == 0, action.text
                world.seen.update(self.machine.seen)
                self.is_up, self.is_drained = False, True

    def delete(self, name):
        self.notes.pop(name, None)
        self.blocks.pop(name, None)

    def try_to_connect(self, connection):
        if connection != self.connection:
            return
        if self.world.is_open and not self.up.is_cut and not self.down.is_cut:
            self.tell(ev.Connected())
        else:
            self.at(self.world.now + 0.2, self.try_to_connect, connection)

    def slot_says(self, number, frame):
        if number in self.slots:
            self.tell(ev.SlotSaid(number, frame))

    def slot_dies(self, number, text):
        slot = self.slots.pop(number, None)
        if slot is not None:
            self.tell(ev.SlotDied(number, "SIGNALLED", text, slot.sample() if slot.run is not None else None))

    def fetch(self, want, ticket, tries=3):
        """What a data plane does: the holder's answer to a ticket."""
        world, holder = self.world, self.world.workers[want.holder]
        place = want.job, want.stage, want.gen, want.output, want.partition, self.name
        name = AttemptName(want.job, want.stage, want.map_task, want.attempt)
        blocks = holder.blocks.get(name) if holder.is_up else None
        if ticket != signing.ticket(holder.ticket_key, *place):
            world.seen["ticket refused"] += 1
            blocks = None
        if blocks is None and tries > 1:
            self.at(world.now + 1.0, self.fetch, want, ticket, tries - 1)
        elif blocks is None:
            self.tell(ev.BlockMissed(want, "FETCH_UNREACHABLE"))
        elif name in world.damaged:
            self.tell(ev.BlockMissed(want, "CORRUPT_BLOCK"))
        else:
            path = f"spool/{len(self.spool)}"
            self.spool[path] = blocks[want.partition]
            world.seen["block fetched"] += 1
            self.tell(ev.BlockCame(want, path))


class SimSlot:
    """A slot's process: one task at a time, as its frames say."""

    def __init__(self, worker, number):
        self.worker, self.world, self.number = worker, worker.world, number
        self.run = None
        self.line = []  # RunTasks that were not begun
        self.said_s = 0.0
        self.held = {}  # (stage, map task) -> (gen, attempt, holder)
        self.without_rows = {}  # stage -> the bits of its tasks
        self.opened = self.has_code = False
        self.is_hung = False
        self.steps = 0

    def sample(self):
        self.steps += not self.is_hung
        return ev.SlotSample(self.number, self.run.attempt, "run", 0, 0, 0, 0, self.steps, 0)

    def say(self, frame):
        self.worker.tell(ev.SlotSaid(self.number, frame))

    def say_late(self, frame):
        """What a process says of its end comes behind what it said before, and not at all if it dies meanwhile."""
        delay_s = self.world.rng.uniform(0.0, 0.05) if self.line else 0.0
        self.begin_next()
        self.said_s = max(self.said_s, self.world.now + delay_s)
        if self.said_s > self.world.now:
            self.worker.at(self.said_s, self.worker.slot_says, self.number, frame)
        else:
            self.say(frame)

    def begin_next(self):
        if self.run is not None or not self.line:
            return
        world, frame = self.world, self.line.pop(0)
        assert frame.attempt not in world.started, f"{frame.attempt} is started twice, or in two jobs (S3)"
        world.started.add(frame.attempt)
        self.run, self.found, self.asked = frame, {}, set()
        slow = [9.0] if world.faults_left > 0 else []
        self.later(world.rng.choice([0.1, 0.3, 0.5, 0.5, 1.0, 2.0, *slow]), self.work)

    def leave_line(self, attempt):
        """Tell whether an attempt stood in line; it does no more."""
        before = len(self.line)
        self.line = [frame for frame in self.line if frame.attempt != attempt]
        return len(self.line) < before

    def later(self, seconds, what, *args):
        self.worker.at(self.world.now + seconds, self.if_alive, self.run, what, args)

    def if_alive(self, run, what, args):
        if self.worker.slots.get(self.number) is self and run is self.run:
            what(*args)

    def open(self, spec):
        assert not self.opened and not self.has_code, "a second job in a process that had a user's code, or has a job"
        self.opened, self.has_code = True, has_code(spec.parts)

    def take(self, frame):
        world = self.world
        match frame:
            case slotframes.CloseJob():
                assert self.run is None and self.opened
                self.opened, self.held, self.without_rows = False, {}, {}
                world.seen["slot used again"] += 1
                self.worker.at(world.now + 0.01, self.worker.slot_says, self.number, slotframes.SlotReady(1))
            case slotframes.SourceInputs():
                if frame.without_rows is not None:
                    self.without_rows[frame.stage] = int.from_bytes(frame.without_rows, "little")
                for each in frame.held:
                    self.held[frame.stage, each.task] = frame.gen, each.attempt, frame.holders[each.holder]
            case slotframes.RunTask():
                self.line.append(frame)
                if self.run is not None or len(self.line) > 1:
                    assert not self.has_code, "two tasks at a time in a process that runs a user's code"
                    world.seen["attempt in line"] += 1
                self.begin_next()
            case slotframes.BlockHere():
                key = frame.stage, frame.map_task
                if self.run is None or key not in self.asked:
                    return
                self.asked.discard(key)
                self.held[key] = self.held[key][0], frame.attempt, frame.holder
                if frame.path:
                    self.found[key] = self.worker.spool[frame.path]
                self.later(0.01, self.work)
            case slotframes.TakeBack():
                if self.leave_line(frame.attempt):
                    self.say(slotframes.TaskReturned(frame.attempt))
            case slotframes.CancelTask() if self.leave_line(frame.attempt):
                self.say(slotframes.TaskFailed(frame.attempt, "CANCELLED", "", None, None, ()))
            case slotframes.CancelTask() if self.run is not None and frame.attempt == self.run.attempt:
                if world.rng.random() < 0.7:
                    self.later(0.01, self.fail, "CANCELLED")

    @property
    def job(self):
        return self.run.task.job

    @property
    def sheet(self):
        return self.world.sheets[self.job.hex()].stages[self.run.task.stage]

    def ask(self, key, code):
        gen, attempt, holder = self.held[key]
        partition = 0 if self.sheet.inputs[0].kind is EdgeKind.ONE_TO_ONE else self.run.task.index
        self.asked.add(key)
        self.found.pop(key, None)
        self.say(slotframes.BlockWanted(key[0], gen, key[1], 0, partition, attempt, holder, code))

    def read(self):
        """The rows of a task's inputs and what it consumed; None while a block is not here."""
        world, task, sheet = self.world, self.run.task, self.sheet
        if not sheet.inputs:
            variant = self.run.attempt.number if (self.job.hex(), task.index) in world.fickle else 0
            return [(task.index, row, variant) for row in range(rows_of_map(task.index))], ()
        (edge,) = sheet.inputs
        is_paired = edge.kind is EdgeKind.ONE_TO_ONE
        sources = [task.index] if is_paired else range(world.sheets[self.job.hex()].stages[edge.source].tasks)
        rows = []
        for source in sources:
            key = edge.source, source
            if not is_paired and self.without_rows[edge.source] >> source & 1:
                self.found[key] = []
                world.seen["output without rows not looked for"] += 1
                continue
            _, attempt, holder = self.held[key]
            name = AttemptName(self.job, edge.source, source, attempt)
            if key not in self.found and holder == self.worker.name:
                if name in self.worker.blocks and name not in world.damaged:
                    self.found[key] = self.worker.blocks[name][0 if is_paired else task.index]
                elif key not in self.asked:
                    self.ask(key, "CORRUPT_BLOCK" if name in world.damaged else "FETCH_UNREACHABLE")
            elif key not in self.found and key not in self.asked:
                self.ask(key, "")
            if self.run is None:
                return None  # ended by what was said meanwhile
            rows += self.found.get(key, [])
        if any((edge.source, source) not in self.found for source in sources):
            return None
        return rows, (world.consumed_of(len(sources), rows),)

    def work(self):
        found = self.read()
        if found is None:
            return
        world, run = self.world, self.run
        rows, consumed = found
        job = self.job.hex()
        bad = [row for row in rows if (job, *row[:2]) in world.poison and run.task.stage == 0]
        bad = [row for row in bad if Origin(0, row[0], row[1], b"") not in run.left_out]
        if bad and run.is_isolating:
            self.fail("POISON", tuple(Origin(0, row[0], row[1], b"") for row in bad[:2]))
        elif bad:
            self.break_down(world.rng.choice(["USER_ERROR", "SIGNALLED"]))
        elif world.fault(0.06):
            self.break_down(world.rng.choice(["USER_ERROR", "HUNG", "HUNG", "DISK_FULL", "OUTPUT_FULL", "SIGNALLED"]))
        else:
            left_out = {(origin.at, origin.row) for origin in run.left_out}
            self.finish([row for row in rows if row[:2] not in left_out], consumed)

    def break_down(self, code):
        worker = self.worker
        if code == "DISK_FULL":
            worker.free_bytes = 0
            worker.at(self.world.now + 4.0, setattr, worker, "free_bytes", FREE_BYTES)
        if code == "SIGNALLED":
            worker.slot_dies(self.number, "killed by signal 11")
        elif code == "HUNG":
            self.is_hung = True
        else:
            self.fail(code)

    def fail(self, code, origins=()):
        key, self.run = self.run.attempt, None
        problem = Problem("FUNCTION_FAILED", f"it broke at {self.world.now}", "", "")  # never the same twice
        self.say_late(slotframes.TaskFailed(key, code, "ValueError", problem, 0, origins))

    def finish(self, rows, consumed):
        run, world = self.run, self.world
        name = AttemptName(run.task.job, run.task.stage, run.task.index, run.attempt)
        partitions = self.sheet.partitions
        if partitions:
            blocks = world.split(rows, partitions[0])
            self.worker.blocks[name] = blocks
            vectors = world.vector_of(blocks)
            output = BlocksOutput(sum(16 * len(part) for part in blocks), vectors)
        else:
            key = run.task.job.hex(), attempt_number(run.attempt)
            assert key not in world.files
            world.files[key] = rows
            output = FilesOutput((OutputFile("part.parquet", len(rows), 1, DIGEST, DIGEST),))
        rejects = (Count("it broke", len(run.left_out)),) if run.left_out else ()
        self.run = None
        self.say_late(slotframes.TaskDone(run.attempt, TaskRecord((), rejects, output, ()), consumed, len(rows), 0, 0))
