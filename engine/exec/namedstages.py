"""What a compiled map stages for its named outputs, on the way to them."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from kernelmill.engine.compiling import emitted_types
from kernelmill.engine.exec.stages import Stage, staged_batch
from kernelmill.engine.plan.physical import MapRecords, NamedPairs
from kernelmill.kernels import usermaps
from kernelmill.kernels.usermaps import CompiledMap, NamedRows

ToSide = Callable[[int, pa.RecordBatch], None]
"""Takes rows emitted to the nth named output, n from 1 on."""


class NamedStages:
    """The stages of one map's named outputs: `begin` makes room, `drain` hands on what is staged, to `to_side` if any.

    With `only` that output's rows alone are handed on; the others are staged for nobody. An output that the step does
    not know, or whose columns differ from the step's, gets no room: its records are Python's.
    """

    def __init__(self, form: CompiledMap, step: MapRecords, to_side: ToSide | None, only: int = 0) -> None:
        self._to_side, self._only = to_side, only
        known = {pairs.name: (output, pairs) for output, pairs in enumerate(step.named, 1)}
        found = ((number, rows, *known[rows.name]) for number, rows in enumerate(form.named) if rows.name in known)
        self._fitting = [one for one in found if _fits(one[1], one[3])]

    def begin(self, stage: Stage) -> None:
        """Make room, after the stage's own `begin`."""
        for number, rows, _, _ in self._fitting:
            stage.begin_named(number, rows)

    def drain(self, stage: Stage, *, without_last: bool) -> int:
        """Hand on what is staged, `without_last`: but for what the record at work emitted. Returns how many rows.

        The stages are then to be cleared.
        """
        drained = 0
        for number, rows, output, pairs in self._fitting:
            place = usermaps.TO_MARK if without_last else usermaps.TO_COUNT
            count = int(stage.state[usermaps.NAMED + usermaps.NAMED_WORDS * number + place])
            if count and self._to_side is not None and self._only in (0, output):
                self._to_side(output, staged_batch(stage.named[number], rows, count, pairs.schema))
            drained += count
        return drained


def _fits(rows: NamedRows, pairs: NamedPairs) -> bool:
    """True if what is staged is, type by type, what the output's schema has."""
    sides = [(pairs.keys, pairs.key_is_tuple), (pairs.values, pairs.value_is_tuple)]
    shape = tuple(len(names) if is_tuple else -1 for names, is_tuple in sides if names)
    return rows.shape == shape and emitted_types(rows) == pairs.schema.types
