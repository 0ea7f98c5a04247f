"""What a slot's task is given: a context that keeps the progress page, and takes the rows that it is to take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.progresspage import ProgressPage, SlotPlace
from kernelmill.cluster.worker.selection import Selection
from kernelmill.cluster.worker.slotframes import RunTask
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io.context import Place, RowPlace
from kernelmill.engine.io.linesinplace import LinesInPlace


class Whereabouts:
    """Where the attempt is, as its progress page says. The task's thread writes, once a batch and at every step."""

    def __init__(self, page: ProgressPage) -> None:
        self._page, self._now, self._steps = page, SlotPlace(), 0  # the steps of _now are those of its last change
        self._running = "run"
        self.is_copy = False
        """Whether this process is a copy of the slot, made by a user's function: at the next step it ends."""

    def begin(self, attempt: AttemptKey, *, is_own: bool = False) -> None:
        """A task begins; until its first step it counts as compiling. `is_own`: it calls nothing of a user's."""
        self._running = "engine" if is_own else "run"
        self._put(SlotPlace(attempt.epoch, attempt.number, "compile"))

    def end(self) -> None:
        """No task runs. Which rows the last one read stays: what it did to its process may show when it is over."""
        self._put(SlotPlace(first_row=self._now.first_row, rows=self._now.rows))

    def phase(self, name: str) -> None:
        """What the attempt does from now on."""
        if self._now.phase != name:
            self._put(self._now._replace(phase=name, steps=self._steps + 1))

    def rows(self, first: int, count: int) -> None:
        """These rows of the task go through its steps now."""
        epoch, number, _, batch, _, _, size_bytes, _ = self._now
        self._put(SlotPlace(epoch, number, self._running, batch, first, count, size_bytes, self._steps + 1))

    def step(self) -> None:
        """A sign of life."""
        if self._now.phase == self._running:
            self.live()
        else:
            self._put(self._now._replace(phase=self._running, steps=self._steps + 1))

    def batch(self, rows: int, size_bytes: int) -> None:
        """The batch before is done; the next has `rows`, as far as that is known; so many bytes were read in all."""
        epoch, number, _, batch, first_row, rows_before, _, _ = self._now
        if rows:
            first_row, rows_before = first_row + rows_before, rows
        self._put(
            SlotPlace(epoch, number, self._running, batch + 1, first_row, rows_before, size_bytes, self._steps + 1)
        )

    def live(self) -> None:
        """A sign of life, and nothing else has changed."""
        if self.is_copy:
            os._exit(0)
        self._steps += 1
        self._page.write_steps(self._steps)

    def live_in_run(self) -> None:
        """A sign of life of a loop over records. By any thread: of two that come at once one may be missed."""
        if self._now.phase == self._running and not self.is_copy:
            self._steps += 1
            self._page.write_steps(self._steps)

    def mirror(self, place: SlotPlace) -> None:
        """Say where another process of this slot is, which runs the attempt."""
        self._put(place)

    @property
    def place(self) -> SlotPlace:
        """What the page says."""
        return self._now._replace(steps=self._steps)

    def _put(self, place: SlotPlace) -> None:
        if self.is_copy:
            os._exit(0)
        self._now, self._steps = place, place.steps
        self._page.write(place)


class SlotContext(TaskContext):
    """A task's context that keeps the progress page."""

    def __init__(self, whereabouts: Whereabouts, order: RunTask, keys: tuple[str, ...], **given: object) -> None:
        attempt = AttemptId(TaskId(order.task.stage, order.task.index), order.attempt.number)
        super().__init__(attempt, **given)  # type: ignore[arg-type]
        self._whereabouts = whereabouts
        self.selection = Selection(keys, order.left_out, order.only, self.reject)

    def selected(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The rows of the split that this attempt takes; lines stay where they were read if it takes all."""
        first = 0
        if self.selection.takes_all:
            for batch in batches:
                self._whereabouts.rows(first, batch.num_rows)
                first += batch.num_rows
                if batch.num_rows:
                    yield batch
            return
        for batch in batches:
            place = self.take_place()
            self._whereabouts.rows(first, batch.num_rows)
            rows = batch.batch() if isinstance(batch, LinesInPlace) else batch
            taken, which = self.selection.taken(rows, first, place, self.origin)
            first += batch.num_rows
            if taken.num_rows:
                self.rows_from(place if isinstance(which, slice) else partial(_place_of, place, which))
                yield taken
            if self.selection.is_past(first):
                return

    def check_cancelled(self) -> None:
        """Raise KM0701 if the attempt is cancelled; a sign of life."""
        self._whereabouts.step()
        if self._is_cancelled():
            super().check_cancelled()

    def live(self) -> None:
        """Give a sign of life, while rows go through the task's steps. By any thread."""
        self._whereabouts.live_in_run()

    def progress(self, bytes_done: int) -> None:
        """Report input bytes: a batch more."""
        self._whereabouts.batch(0, bytes_done)

    def rows_from(self, place: Place | None) -> None:
        """Say where rows come from; a sign of life."""
        self._whereabouts.step()
        self._place = place


def _place_of(place: Place, which: NDArray[np.int64], row: int) -> RowPlace:
    return place(int(which[row]))
