"""Where a slot's tasks learn who holds blocks, and wait for those that are not on this host.

Two threads meet here: the slot's reading thread brings SourceInputs, BlockHere and cancellation, the task's thread asks
and waits. Of at most `wanted_max` blocks ahead of what the task reads the index is awaited; what is in them comes then,
while the task reads others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.slotframes import HELD_MAX, BlockHere, BlockWanted, MapHeld, SourceInputs
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.stages import BlockRef

WANTED_MAX = 64


class Holding(NamedTuple):
    """Which attempt's blocks of a map task count, and on which worker they lie."""

    gen: int
    attempt: AttemptKey
    holder: str


class BlockDesk:
    """What is known of blocks elsewhere; `ask` sends a BlockWanted to the supervisor."""

    def __init__(self, ask: Callable[[BlockWanted], None], *, wanted_max: int = WANTED_MAX) -> None:
        self._ask, self._wanted_max = ask, wanted_max
        self._held: dict[tuple[int, int], Holding] = {}
        self._without_rows: dict[int, frozenset[int]] = {}  # tasks, by stage
        self._ahead: deque[BlockRef] = deque()
        self._open: set[BlockRef] = set()
        self._answers: dict[BlockRef, BlockHere] = {}
        self._begun: dict[BlockRef, BlockHere] = {}  # open ones whose index is here
        self._is_cancelled = False
        self._changed = threading.Condition()

    # By the reading thread -------------------------------------------------------------------------------------------

    def take_inputs(self, frame: SourceInputs) -> None:
        """Note who holds these tasks' outputs; what was noted of them before is void."""
        with self._changed:
            if frame.without_rows is not None:
                self._without_rows[frame.stage] = _tasks_of(frame.without_rows)
            without_rows = self.without_rows(frame.stage)
            for each in frame.held:
                holder = frame.holders[each.holder]
                self._held[frame.stage, each.task] = Holding(frame.gen, each.attempt, holder)
                if each.task in without_rows:
                    without_rows = self._without_rows[frame.stage] = without_rows - {each.task}
            self._changed.notify_all()

    def take_answer(self, frame: BlockHere) -> None:
        """Note where a block is that was asked for; one that nobody waits for is an earlier task's."""
        ref = BlockRef(frame.stage, frame.map_task, frame.partition, frame.output)
        with self._changed:
            if ref not in self._open:
                return
            if frame.is_whole:
                self._open.discard(ref)
                self._begun.pop(ref, None)
                self._answers[ref] = frame
            else:
                self._begun[ref] = frame
            gen = self._held[ref.stage, ref.task].gen
            self._held[ref.stage, ref.task] = Holding(gen, frame.attempt, frame.holder)
            self._ask_ahead()
            self._changed.notify_all()

    def cancel(self) -> None:
        """Let whoever waits raise KM0701, until `begin`."""
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()

    # By the task's thread --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Forget the task before: its questions, answers and cancellation."""
        with self._changed:
            self._is_cancelled = False
            self._ahead.clear()
            self._open.clear()
            self._answers.clear()
            self._begun.clear()

    def forget(self) -> None:
        """Forget the job: who holds its blocks, and all of its tasks."""
        self.begin()
        with self._changed:
            self._held.clear()
            self._without_rows.clear()

    def without_rows(self, stage: int) -> frozenset[int]:
        """The tasks of a stage of which was told that they left no rows; who holds their outputs was not."""
        return self._without_rows.get(stage, frozenset())

    def holding(self, ref: BlockRef) -> Holding:
        """Who holds the output that a block is of. Raises KM0901 if it was not told before the task."""
        with self._changed:
            found = self._held.get((ref.stage, ref.task))
        if found is None:
            raise error(Code.INTERNAL, f"nobody said who holds the output of task {ref.stage}.{ref.task}")
        return found

    def known(self) -> list[SourceInputs]:
        """All that was told of holders, for another process of this slot."""
        with self._changed:
            bare = [SourceInputs(stage, 0, (), (), _bits_of(tasks)) for stage, tasks in self._without_rows.items()]
            by_stage: dict[tuple[int, int], list[tuple[int, Holding]]] = {}
            for (stage, task), held in self._held.items():
                if task in self.without_rows(stage):
                    continue  # it had rows before it was made again
                by_stage.setdefault((stage, held.gen), []).append((task, held))
        frames = []
        for (stage, gen), own in by_stage.items():
            for start in range(0, len(own), HELD_MAX):
                page = own[start : start + HELD_MAX]
                holders = tuple(sorted({held.holder for _, held in page}))
                number_of = {holder: number for number, holder in enumerate(holders)}
                told = (MapHeld(task, held.attempt, number_of[held.holder]) for task, held in page)
                frames.append(SourceInputs(stage, gen, holders, tuple(told)))
        return [*bare, *frames]

    def want(self, refs: Iterable[BlockRef]) -> None:
        """Ask for these blocks before they are read, in this order, some at a time."""
        with self._changed:
            self._ahead.extend(refs)
            self._ask_ahead()

    def wait_for(self, ref: BlockRef, code: str = "", *, whole: bool = True) -> BlockHere:
        """Ask for a block, unless it was asked for, and wait till it is here. Raises KM0701 if the task is cancelled.

        code: what is wrong with the copy that was found; it is asked for again then. whole: else its index is enough.
        """
        with self._changed:
            if code:
                self._answers.pop(ref, None)
                self._begun.pop(ref, None)
                self._open.discard(ref)
            if ref not in self._answers and ref not in self._open:
                self._send(ref, code)
            while (answer := self._answers.get(ref)) is None and not self._is_cancelled:
                if not whole and ref in self._begun:
                    return self._begun[ref]
                self._changed.wait()
            if answer is None or self._is_cancelled:
                raise error(Code.CANCELLED, "the task was cancelled")
            if not answer.path:  # it only says where to look: if it is not there, it is asked for again
                del self._answers[ref]
            return answer

    def report(self, ref: BlockRef, code: str) -> None:
        """Say that a block is damaged, without waiting for another: the task ends."""
        with self._changed:
            self._send(ref, code)

    def _ask_ahead(self) -> None:
        while self._ahead and len(self._open) - len(self._begun) < self._wanted_max:
            ref = self._ahead.popleft()
            if ref not in self._open and ref not in self._answers:
                self._send(ref, "")

    def _send(self, ref: BlockRef, code: str) -> None:
        held = self._held[ref.stage, ref.task]
        self._open.add(ref)
        place = ref.stage, held.gen, ref.task, ref.output, ref.partition
        self._ask(BlockWanted(*place, held.attempt, held.holder, code))


def _tasks_of(bits: bytes) -> frozenset[int]:
    """The tasks whose bits are set: see TaskBits."""
    return frozenset(8 * at + n for at, byte in enumerate(bits) if byte for n in range(8) if byte >> n & 1)


def _bits_of(tasks: frozenset[int]) -> bytes:
    """The bits of tasks."""
    bits = bytearray(max(tasks, default=-1) // 8 + 1)
    for task in tasks:
        bits[task >> 3] |= 1 << (task & 7)
    return bytes(bits)
