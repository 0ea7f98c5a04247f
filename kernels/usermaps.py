"""A user's map as machine code: what it is called with, what it stages, and its place in the kernel cache.

    drive(columns..., row, last, arena, stage, state) -> the first row not done

calls the map for the records of a batch. It stops before `last` when a record was rejected or the stage is nearly full.
A record that raises makes it fail, with state[ROW] and state[MARK] naming the record and the rows staged before it;
state[OVERFULL], and the arena's WANTED, tell whether it only lacked room.

A row is staged in 8-byte words: column c of row r lies in stage[(2 c + k) * capacity + r], k = 0, 1:

    text     its address, its bytes; bytes -1 for None
    number   int64, float64 or bool as its bits; the second word, in a column that has None, is 1 for None, else 0

A column whose every row is the same whole number (`emit(word, 1)`) is not staged: c counts the others.

What is emitted to a named output lies in a stage of its own in the same form. Its address, room, count and mark are in
the state; it is undone with the record. Room for -1 rows means that the record is left to Python, as if rejected.

Where keys need only be counted, a stage that is full is drained by a call of the table's own kernel (`DRAIN`), and the
driver goes on; where a combine of the user's follows, by a call that numbers the keys and one that folds the rows
(`FOLD`). What that leaves, and the last rows, are for the caller.

Staged texts point into the input and the arena. Where the code comes from: `usercode`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernelmill.kernels import _jit
from kernelmill.kernels._signature import Signature
from kernelmill.kernels.sidetables import SideTables
from kernelmill.kernels.sidevalues import Bound, bind
from kernelmill.kernels.usercode import Input, Output, column_parameters, fingerprint, loaded

COUNT, CAPACITY, ROW, MARK, REJECTED, OVERFULL, COUNTERS_END, SIDE = 0, 1, 2, 3, 4, 5, 6, 7
FULL_AT, DRAIN, DRAIN_FRAME, DRAINED, FOLD, FOLD_FRAME, FOLD_LAST, FOLDED, COUNTERS = 8, 9, 10, 11, 12, 13, 14, 15, 16
"""Places in the state: rows staged, room for them, the record at work, rows staged before it, 1 if it was rejected,
where it emitted more than fits (1: the main output, 2 + n: the nth named one), where the counters end, the address of
side data (sidetables). With how many rows the stage counts as full; the address and the frame of a call that counts, or
numbers, the staged keys then, 0: none; how many rows the last one took before it wanted something of Python. The same
of a call that folds the rows whose keys were numbered, and the place of `last` in its frame; how many it folded, -1 if
it failed. From COUNTERS on each counter's (kept, pending) pair."""

COUNTERS_MAX = 32
NAMED = COUNTERS + 2 * COUNTERS_MAX
"""Where the state's words about named outputs begin, NAMED_WORDS for each: the address of its stage, room for rows,
rows staged, rows staged before the record at work."""
TO_ADDRESS, TO_CAPACITY, TO_COUNT, TO_MARK = 0, 1, 2, 3
NAMED_WORDS, NAMED_MAX = 4, 32
STATE_SIZE = NAMED + NAMED_WORDS * NAMED_MAX
STAGE_SPARE_ROWS = 64
"""With less room than this the driver stops after a record, so that few records are begun in vain."""

ARENA_USED, ARENA_WANTED = 2, 3


class _Staged:
    """Columns that are staged, but those that are constants."""

    outputs: tuple[Output, ...]

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """The place of each output among the staged columns; that of a constant means nothing."""
        staged = [output.constant is None for output in self.outputs]
        return tuple(sum(staged[:number]) for number in range(len(staged)))

    @property
    def staged(self) -> int:
        """How many columns are staged."""
        return sum(output.constant is None for output in self.outputs)


@dataclass(frozen=True)
class NamedRows(_Staged):
    """What is staged for a named output. Without `outputs` no columns serve all calls: Python is to decide."""

    name: str
    outputs: tuple[Output, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class CompiledMap(_Staged):
    """`drive` as above; the columns that it stages; the counters' names by their numbers in the state.

    shape: for the key, and for the value where there is one, the length of the tuple that is emitted, -1 for a scalar;
    () where emit is never called. side: what the map reads beside its records. named: the named outputs by their
    numbers in the state; `names_all`: there are no others to which it emits. columns: what it reads of the records.
    """

    drive: Callable[..., int]
    outputs: tuple[Output, ...]
    shape: tuple[int, ...]
    counters: tuple[str, ...]
    side: SideTables
    named: tuple[NamedRows, ...] = ()
    names_all: bool = True
    columns: tuple[str, ...] = ()


def compiled_map(
    function: Callable[..., Any] | Bound,
    inputs: Sequence[Input],
    keywords: Mapping[str, Any],
    on_compile: Any = None,
    is_row: bool | None = None,
) -> CompiledMap:
    """The map as machine code, from the cache or compiled now. Raises CannotCompileError.

    `on_compile(name)` is called before it is compiled. A Bound has its keywords. `is_row`: the record is a row of the
    inputs, not the value of the only one; None: if there are several.
    """
    is_row = len(inputs) != 1 if is_row is None else is_row
    bound = function if isinstance(function, Bound) else bind([(function, 2)], keywords)

    def compile_(symbol: str) -> Any:
        compiler = importlib.import_module("kernelmill.kernels.functions.maps")
        return compiler.compile_map(bound.function, inputs, bound.keywords, symbol, is_row=is_row)

    name, title = map_name(bound.function, inputs, bound.keywords, is_row=is_row), bound.function.__name__
    drive, about = loaded(name, title, compile_, lambda _: map_signature(inputs), on_compile)
    outputs, named = _outputs(about["outputs"]), about["named"]
    to = tuple(NamedRows(name, _outputs(columns), tuple(shape)) for name, columns, shape in named)
    counters = tuple(about["counters"])
    columns = tuple(one.name for one in inputs)
    return CompiledMap(drive, outputs, tuple(about["shape"]), counters, bound.side, to, about["names_all"], columns)


def _outputs(about: Sequence[Sequence[Any]]) -> tuple[Output, ...]:
    return tuple(Output(*one) for one in about)


def map_name(
    function: Callable[..., Any], inputs: Sequence[Input], keywords: Mapping[str, Any], *, is_row: bool = False
) -> str | None:
    """The name of a map's code; None where what decides it cannot be told."""
    return fingerprint("map", function, tuple(inputs), tuple(sorted(keywords.items())), is_row)


def map_signature(inputs: Sequence[Input]) -> Signature:
    """The driver's: the columns, then row, last, arena, stage and state."""
    signature: Signature = _jit.i64(
        *column_parameters(inputs), _jit.i64, _jit.i64, _jit.i64_out, _jit.i64_out, _jit.i64_out
    )
    return signature
