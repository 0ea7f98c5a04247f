"""How a map's driver gives what it stages to the key table itself, without Python: counted, or folded by a combine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernelmill.engine.batch import Bytes
from kernelmill.engine.exec.keys import Call, Drain, Folding
from kernelmill.engine.exec.stages import Stage
from kernelmill.kernels import usermaps
from kernelmill.kernels.table import Groups
from kernelmill.kernels.userfolds import ROW
from kernelmill.kernels.usermaps import CompiledMap

COUNT_ROWS, FOLD_ROWS = 1 << 12, 1 << 10
"""A driver that drains its stage does so that often: rows and their texts are still in the core's own caches, those of
a fold, which have more columns, in its first one."""


NO_GROUPS: Groups = np.empty(0, np.int32)


class StagedWords:
    """All the room of a stage: what its rows to come will lie in. The key, and columns of numbers by name."""

    def __init__(self, stage: Stage, form: CompiledMap, names: Sequence[str], key: str) -> None:
        self._stage, self._form, self._names = stage, form, names
        self.base: Bytes = stage.rows.view(np.uint8)
        place = form.places[names.index(key)]
        self.addresses, self.sizes = (stage.words(place, part, stage.capacity) for part in (0, 1))

    @property
    def rows(self) -> int:
        """Rows that fit."""
        return self._stage.capacity

    def numbers(self, name: str) -> NDArray[Any] | None:
        """The values of a column of int64 or float64; None if it is of another kind or may have nulls."""
        number = self._names.index(name)
        kind, nullable, constant = self._form.outputs[number]
        if nullable or kind not in ("int64", "float64"):
            return None
        if constant is not None:
            return np.full(self.rows, constant, np.int64)
        return self._stage.words(self._form.places[number], 0, self.rows).view(kind)


class Draining:
    """What a map's driver calls to drain its stage. One for a map in a task.

    `to` is said by whoever owns the table, `begin` before each call of the driver.
    """

    def __init__(self) -> None:
        self._drain: Drain | None = None
        self._form: Any = None
        self._called: Call | Folding | None = None
        self._staged: StagedWords | None = None  # the frames have addresses of its arrays

    def to(self, drain: Drain, form: CompiledMap) -> None:
        """From now on what `form` stages may be drained so."""
        self._drain, self._form = drain, form

    def begin(self, stage: Stage, form: CompiledMap, names: Sequence[str], key: str) -> None:
        """Tell the driver of `form`, which stages columns of these names, what to call."""
        if self._drain is None or form is not self._form:
            return
        self._staged = StagedWords(stage, form, names, key)
        called = self._called = self._drain(self._staged)
        first = called.numbering if isinstance(called, Folding) else called
        _put(stage, usermaps.DRAIN, first)
        _put(stage, usermaps.FOLD, called.fold if isinstance(called, Folding) else None)
        rows = COUNT_ROWS
        if isinstance(called, Folding):
            rows, stage.state[usermaps.FOLD_LAST] = FOLD_ROWS, called.last
        stage.state[usermaps.FULL_AT] = stage.capacity if first is None else min(stage.capacity, rows)

    def taken(self, stage: Stage) -> tuple[int, Groups]:
        """How many of the staged rows the driver has drained, and the groups of some after them, which it numbered."""
        numbered = int(stage.state[usermaps.DRAINED])
        if not isinstance(self._called, Folding) or not numbered:
            return numbered, NO_GROUPS
        folded = int(stage.state[usermaps.FOLDED])
        if folded < 0:
            folded = int(self._called.state[ROW])
        return folded, self._called.groups[folded:numbered]


def _put(stage: Stage, place: int, call: Call | None) -> None:
    stage.state[place], stage.state[place + 1] = (0, 0) if call is None else (call[0], call[1].ctypes.data)
