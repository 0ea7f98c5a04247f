"""Finding the rows that end, or hold up, the process of a user's function: by halving, in processes of their own.

A slot that is told to isolate runs the attempt in a slot of its own, its child, whose frames it passes on. If that ends
well, so does the attempt. If the child dies or hangs, a few rows are tried, then more, and those that fail are halved,
each try by a child that throws away what it makes, down to one row, or one group of a reduce, which must fail alone;
then a last child, which runs nothing, says what it is. A child that comes through is used for the next try.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.blockindex import attempt_folder
from kernelmill.cluster.fields import Origin, Problem
from kernelmill.cluster.worker.progresspage import SlotPlace
from kernelmill.cluster.worker.slotcontext import Whereabouts
from kernelmill.cluster.worker.slotframes import (
    BlockHere,
    BlockWanted,
    JobOpened,
    Only,
    OpenJob,
    RunTask,
    SlotReady,
    TaskDone,
    TaskFailed,
    ToSupervisor,
)
from kernelmill.cluster.worker.slottask import SlotJob
from kernelmill.cluster.worker.tries import TURN_S, Tries, TryProcess
from kernelmill.cluster.worker.watch import COMPILE_S, is_own, patience_s, takes_memory
from kernelmill.engine.errors import Code, error

PROBE_SHARE = 0.1
"""How long a try of some of the rows may be silent at least, of what all may, where the whole task was held up."""
FOUND_MAX = 16
"""Rows that one attempt names at most; the next one goes on from there."""
_BATCHES_HINT = "functions of whole batches or groups give no sign of life within one: make split_size= smaller"
_HUNG_HINT = "start workers with a longer --hung-after"
_CALLED_MAX = 8
_HEADROOM_BYTES = 512 << 20


class Death(NamedTuple):
    """How a child ended: a failure's name, and what to say of it."""

    failure: str
    text: str


class Isolation:
    """Runs one attempt in children of this process; `send` passes frames on to the supervisor.

    hung_s, probe_s: how long children may be silent, if not the job's `hung_ms`, and PROBE_SHARE of it. compile_s: the
    same while they open the job, or compile.
    """

    def __init__(
        self,
        order: RunTask,
        opening: OpenJob,
        job: SlotJob,
        desk: BlockDesk,
        whereabouts: Whereabouts,
        send: Callable[[ToSupervisor], None],
        *,
        hung_s: float | None = None,
        probe_s: float | None = None,
        compile_s: float = COMPILE_S,
    ) -> None:
        self.attempt, self._order = order.attempt, order
        self._opening, self._job, self._desk, self._whereabouts = opening, job, desk, whereabouts
        given_s = opening.hung_ms / 1000
        self._send = send
        self._hung_s = given_s if hung_s is None else hung_s
        self._probe_s = PROBE_SHARE * given_s if probe_s is None else probe_s
        self._compile_s = compile_s
        self._memory_bytes_max = opening.memory_bytes + _HEADROOM_BYTES
        self._last = SlotPlace()
        self._tries = Tries()
        self._child: TryProcess | None = None
        self._is_cancelled = threading.Event()

    # By the reading thread -------------------------------------------------------------------------------------------

    def forward(self, frame: BlockHere) -> bool:
        """Give an answer to the child that asked; whether there is one."""
        child = self._child
        if child is None:
            return False
        child.tell(frame)
        return True

    def cancel(self) -> None:
        """End the attempt as soon as the child is looked at."""
        self._is_cancelled.set()

    # By the task's thread --------------------------------------------------------------------------------------------

    def run(self) -> TaskDone | TaskFailed:
        """Run the attempt; POISON with the rows to blame if it kills or hangs the process that it runs in."""
        order = self._order
        whole = msgspec.structs.replace(order, is_isolating=False)
        try:
            began = time.monotonic()
            ended = self._try(whole, self._hung_s)
            if not isinstance(ended, Death):
                return ended
            seconds = time.monotonic() - began
            last = self._last
            self._throw_away(order)
            found = [] if self._is_own_silence(ended) else self._search(whole, last, ended, seconds)
        except _Cancelled:
            told = Problem(Code.CANCELLED.value.wire, "the task was cancelled", "", "")
            return TaskFailed(order.attempt, "CANCELLED", "", told, None, ())
        finally:
            self._end_child()
            self._tries.close()
            self._whereabouts.end()
        if not found:
            told = Problem(Code.TASK_LOST.value.wire, f"the task's process {ended.text}", "", self._hint(ended))
            return TaskFailed(order.attempt, ended.failure, "", told, last.batch, ())
        origins = tuple(origin for origin, _, _ in found)
        return TaskFailed(order.attempt, "POISON", "", self._problem(ended, *found[0][1:]), last.batch, origins)

    def _is_own_silence(self, ended: Death) -> bool:
        """Whether the silence was of our own code, for which no row is to blame more than others."""
        return ended.failure == "HUNG" and not self._job.users_own(self._order.task.stage)

    def _hint(self, ended: Death) -> str:
        """What to do where no row alone is to blame."""
        stage = self._order.task.stage
        if ended.failure != "HUNG":
            return "no row does so alone; look at the job's log, and at the memory of the workers"
        if self._job.calls_with_batches(stage):
            return f"{_BATCHES_HINT}; or {_HUNG_HINT}"
        called = self._job.users_own(stage)
        if not called:
            return f"it calls nothing of yours: look at the disks that it reads and writes; or {_HUNG_HINT}"
        silent = " or ".join(called[:_CALLED_MAX])
        return f"no row does so alone; silent was {silent}: where that may well take so long, {_HUNG_HINT}"

    def _problem(self, ended: Death, text: str, where: str) -> Problem:
        code = Code.FUNCTION_HUNG if ended.failure == "HUNG" else Code.FUNCTION_CRASHED
        hint = f"{text}; mend the function, or set such records aside with on_bad='reject'"
        if ended.failure == "HUNG":
            hint += f"; where it may well take so long, {_HUNG_HINT}"
        return Problem(
            code.value.wire, f"the process of a function that was given this record {ended.text}", where, hint
        )

    def _search(self, whole: RunTask, last: SlotPlace, ended: Death, seconds: float) -> list[tuple[Origin, str, str]]:
        """The rows that fail alone: origin, text and place of each."""
        keys = self._job.distinct_keys(whole)
        probe_s = self._hung_s
        if ended.failure == "HUNG":
            probe_s = min(probe_s, max(self._probe_s, 2 * (seconds - self._hung_s)))
        if keys is None:
            ranges = [(last.first_row, last.first_row + last.rows), (0, last.first_row + last.rows)]
        else:
            ranges = [(0, len(keys))]
        found: list[tuple[Origin, str, str]] = []
        while len(found) < (FOUND_MAX if self._job.sets_bad_rows_aside else 1):
            order = msgspec.structs.replace(whole, left_out=(*whole.left_out, *(origin for origin, _, _ in found)))
            bad = next((each for each in ranges if self._fails(order, each, keys, probe_s)), None)
            if bad is None:
                break
            row, is_seen = self._narrow(order, bad, keys, probe_s)
            is_sure = is_seen and probe_s == self._hung_s
            if not is_sure and not self._fails(order, (row, row + 1), keys, self._hung_s):
                break  # it takes several rows together, or it was not their fault
            named = self._try(msgspec.structs.replace(order, only=_only(row, row + 1, keys, is_naming=True)), probe_s)
            if not isinstance(named, TaskFailed) or not named.origins or named.problem is None:
                break
            found.append((named.origins[0], named.problem.what, named.problem.where))
        return found

    def _narrow(self, order: RunTask, bad: tuple[int, int], keys: list[int] | None, probe_s: float) -> tuple[int, bool]:
        """The only row that can be to blame for a range that fails, and whether it was seen to fail alone.

        A try that comes through is cheap and one that fails costs a process: so one row is tried first, then two, four
        and so on, which finds a function that fails for every row at once; what fails then is halved.
        """
        (start, stop), is_seen = bad, bad[1] - bad[0] == 1
        rows, is_halving = 1, False
        while stop - start > 1:
            middle = (start + stop) // 2
            if not is_halving:
                middle, rows = min(middle, start + rows), 2 * rows
            is_first = self._fails(order, (start, middle), keys, probe_s)
            start, stop = (start, middle) if is_first else (middle, stop)
            is_halving |= is_first
            is_seen = is_first and stop - start == 1
        return start, is_seen

    def _fails(self, order: RunTask, rows: tuple[int, int], keys: list[int] | None, probe_s: float) -> bool:
        if rows[0] >= rows[1]:
            return False
        only = _only(*rows, keys, is_naming=False)
        return isinstance(self._try(msgspec.structs.replace(order, only=only), probe_s), Death)

    def _try(self, order: RunTask, hung_s: float) -> TaskDone | TaskFailed | Death:
        """Run this in a child, until it ends or hangs."""
        child = self._child
        if child is None:
            child = self._child = self._tries.begin((self._opening, *self._desk.known()), self._live)
        child.tell(order)
        self._last = SlotPlace()
        alive_s, alive_bytes = time.monotonic(), child.resident_bytes()
        while True:
            self._live()
            try:
                frame = child.frame(TURN_S)
            except EOFError:
                self._look(child, at_end=True)
                return _death(self._end_child())
            has_moved = self._look(child)
            match frame:
                case BlockWanted():
                    self._send(frame)
                case TaskDone() | TaskFailed():
                    return frame
                case SlotReady() | JobOpened():
                    has_moved = True
                case None:
                    pass
                case _:
                    raise error(Code.INTERNAL, f"a child of a slot said {type(frame).__name__}")
            held_bytes = child.resident_bytes()
            phase, is_begun = self._last.phase, self._last.epoch != 0
            if has_moved or (is_begun and phase == "fetch"):
                alive_s, alive_bytes = time.monotonic(), held_bytes  # or it waits for others
            if held_bytes > self._memory_bytes_max:
                self._end_child()
                return Death("OOM_KILLED", f"took more than {self._memory_bytes_max:,} bytes of memory")
            silent_s = patience_s(phase, hung_s)
            if not is_begun or phase == "compile":
                silent_s = max(self._compile_s, hung_s)  # it opens the job, or compiles
            if time.monotonic() >= alive_s + silent_s:
                self._end_child()
                grown_bytes = held_bytes - alive_bytes
                if not is_own(phase) and takes_memory(grown_bytes, self._memory_bytes_max - held_bytes):
                    text = f"took {grown_bytes:,} bytes of memory in {silent_s:g} s without a sign of life"
                    return Death("OOM_KILLED", text)
                return Death("HUNG", f"was held up: no sign of life for {silent_s:g} s")

    def _live(self) -> None:
        """Give a sign of life, for whether a child hangs is found out here; end all if the attempt is cancelled."""
        if self._is_cancelled.is_set():
            raise _Cancelled
        self._whereabouts.live()

    def _look(self, child: TryProcess, *, at_end: bool = False) -> bool:
        """Read where the child is, or was `at_end`, and say so in this slot's page; whether it has moved."""
        place = child.page.read()
        if at_end and place is not None and place.epoch == 0:  # it was done, and could not say so any more
            self._last = self._last._replace(first_row=place.first_row, rows=place.rows)
            return False
        has_moved = place is not None and place.epoch != 0 and place != self._last
        if has_moved and place is not None:
            self._last = place
            self._whereabouts.mirror(place)
        return has_moved

    def _throw_away(self, order: RunTask) -> None:
        """What the child that died left behind: nothing of it counts."""
        opening = self._opening
        shutil.rmtree(attempt_folder(opening.scratch, opening.worker, order.task.job, order.attempt), True)

    def _end_child(self) -> int | None:
        child, self._child = self._child, None
        return child.end() if child is not None else 0


class _Cancelled(Exception):
    """The attempt is not wanted any more."""


def _only(start: int, stop: int, keys: list[int] | None, *, is_naming: bool) -> Only:
    if keys is None:
        return Only(start, stop - 1, False, is_naming)
    return Only(keys[start], keys[stop - 1], True, is_naming)


def _death(status: int | None) -> Death:
    if status is None:
        return Death("SIGNALLED", "has ended")
    if status >= 0:
        return Death("SIGNALLED", f"ended itself with status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Death("SIGNALLED", f"was ended by {name}")
