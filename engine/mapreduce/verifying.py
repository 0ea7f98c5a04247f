"""verify: a job on the beginning of its input, by the engine and as plain Python; and tests of its functions."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.records import row_maker
from kernelmill.engine.execute import in_this_process
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.job import JobResult
from kernelmill.engine.mapreduce.naive import NaiveRun, Recipe, emits_of, identity, run_naively, sort_key
from kernelmill.engine.scan import from_arrow, scan_parquet
from kernelmill.engine.sizes import format_bytes, format_things, parse_bytes
from kernelmill.engine.userfunctions import UserFunction, shown

_REJECTS_MAX = 1 << 30
_SPLITS, _PARTITIONS = 5, 3
_KEYS_COMBINED_MAX, _VALUES_COMBINED_MAX = 1000, 6
_TOLERANCE = 1e-9


class Verified(msgspec.Struct, frozen=True):
    """What was compared: records and bytes of the sample, rows that came out, records that were rejected."""

    records: int
    sample_bytes: int
    rows: int
    rejected: int

    def __str__(self) -> str:
        tail = f", {format_things(self.rejected, 'record')} rejected" if self.rejected else ""
        size = f"{format_things(self.records, 'record')}, {format_bytes(self.sample_bytes)}"
        return f"the same as plain Python: {format_things(self.rows, 'row')} from {size}{tail}"


def verify_job(
    job: Callable[[LazyFrame], LazyFrame],
    run: Callable[..., JobResult],
    recipe: Recipe,
    frame: LazyFrame,
    sample: str | int,
) -> Verified:
    """See `MapReduce.verify`; `run` is its run. Runs in this process, whatever cluster is connected."""
    with in_this_process():
        return _verified(job, run, recipe, frame, sample)


def _verified(
    job: Callable[[LazyFrame], LazyFrame],
    run: Callable[..., JobResult],
    recipe: Recipe,
    frame: LazyFrame,
    sample: str | int,
) -> Verified:
    table = _sample_of(frame, parse_bytes(sample, name="sample"))
    _check_map(recipe, table)
    naive = run_naively(recipe, _records(table), rejecting=True)
    _check_combine(recipe, table)
    split_bytes = max(1, table.nbytes // _SPLITS)
    small = pa.Table.from_batches(table.combine_chunks().to_batches(max_chunksize=max(1, table.num_rows // _SPLITS)))
    settings: dict[str, Any] = {
        "on_bad": "reject",
        "max_rejects": _REJECTS_MAX,
        "progress": False,
        "split_size": split_bytes,
        "partitions": _PARTITIONS,
    }
    if recipe.named:
        rows = _compare_outputs(naive, lambda output: run(from_arrow(small), output=output, **settings))
    else:
        result = job(from_arrow(small)).collect(**settings)
        rejected = 0 if result.rejects is None else result.rejects.height
        rows = _compare_rows(naive, result.rows(), wraps=rejected < _rejected(naive))
        _compare_counts(naive, dict(result.counters), rejected)
    return Verified(table.num_rows, table.nbytes, rows, len(naive.rejects))


def _compare_outputs(naive: NaiveRun, run: Callable[[str], JobResult]) -> int:
    """Compare all outputs of a job that has several, which are files; how many rows they have."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-verify-") as folder:
        place = os.path.join(folder, "output")
        result = run(place)
        rejected = sum(result.rejects.values())
        wraps = rejected < _rejected(naive)
        rows = _compare_rows(naive, scan_parquet(place).collect(progress=False).rows(), wraps=wraps)
        for name, one in naive.named.items():
            made = scan_parquet(os.path.join(place, name)).collect(progress=False)
            rows += _compare_rows(one, made.rows(), f" of output {name!r}", wraps=wraps)
    _compare_counts(naive, dict(result.counters), rejected)
    return rows


def _sample_of(frame: LazyFrame, size_max: int) -> pa.Table:
    """The first rows, of some `size_max` bytes."""
    batches: list[pa.RecordBatch] = []
    size = 0
    source = frame.collect_batches(progress=False)
    for batch in source:
        rows = max(1, int(batch.num_rows * (size_max - size) / max(1, batch.nbytes)))
        batches.append(batch.slice(0, rows))
        size += batches[-1].nbytes
        if rows < batch.num_rows or size >= size_max:
            break
    close = getattr(source, "close", None)
    if close is not None:
        close()
    return pa.Table.from_batches(batches, schema=frame.schema.to_arrow())


def _records(table: pa.Table) -> Iterator[Any]:
    if table.num_columns == 1:
        for chunk in table.column(0).chunks:
            yield from chunk.to_pylist()
        return
    make = row_maker(table.column_names)
    for batch in table.to_batches(max_chunksize=8192):
        yield from map(make, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _emitted(recipe: Recipe, record: Any) -> Any:
    try:
        return emits_of(recipe, record)
    except Exception as problem:
        return type(problem)


def _check_map(recipe: Recipe, table: pa.Table) -> None:
    """Run map twice on each record; KM0304 for the first that differs."""
    for number, record in enumerate(_records(table)):
        first, second = _emitted(recipe, record), _emitted(recipe, record)
        if first != second and repr(first) != repr(second):  # NaN is not equal to itself
            before, after = _told_apart(first, second)
            what = f"{recipe.map.title} did two things with one record: it {before}, then it {after}"
            hint = "it must depend on the record alone: not on time, chance, or what it saw before"
            raise error(Code.NONDETERMINISTIC, what, where=f"record {number}: {shown(record)}", hint=hint)


def _told_apart(first: Any, second: Any) -> tuple[str, str]:
    """What differs in two results of `_emitted`, in words."""
    if isinstance(first, type) or isinstance(second, type):
        told = [f"raised {one.__name__}" if isinstance(one, type) else "raised nothing" for one in (first, second)]
        return told[0], told[1]
    for name in first[0]:
        one, other = first[0][name], second[0].get(name)
        if repr(one) != repr(other):
            to = f" to {name!r}" if name else ""
            return f"emitted {shown(one)}{to}", f"emitted {shown(other)}{to}"
    if first[1] != second[1]:
        return f"counted {shown(first[1])}", f"counted {shown(second[1])}"
    return f"rejected it for {shown(first[2])}", f"rejected it for {shown(second[2])}"


def _check_combine(recipe: Recipe, table: pa.Table) -> None:
    """Try combine on values that meet: KM0303 where their order or grouping matters."""
    if not isinstance(recipe.combine, UserFunction):
        return
    plain = Recipe(recipe.map, "list", None, recipe.key, (recipe.value[0], False), None, None, None, recipe.named)
    values_of_key: dict[Any, tuple[Any, list[Any]]] = {}
    for record in _records(table):
        found = _emitted(plain, record)
        if not isinstance(found, tuple) or found[2] is not None:
            continue
        for key, value in found[0][""]:
            held = values_of_key.setdefault(identity(key), (key, []))[1]
            if len(held) < 2 or (len(held) < _VALUES_COMBINED_MAX and value not in held):
                held.append(value)
    several = [group for group in values_of_key.values() if len(group[1]) > 1]
    for key, values in several[:_KEYS_COMBINED_MAX]:
        for three in _triples(values):
            _try_combine(recipe.combine, key, three)


def _triples(values: list[Any]) -> list[list[Any]]:
    """Three of the values in several orders, different ones as far as there are: `(a + b) / 2` is right for a, b, a."""
    different = [value for number, value in enumerate(values) if value not in values[:number]]
    three = [*different[-3:], *values[:2]][:3]
    return [three, [*three[1:], three[0]], [three[2], *three[:2]]]


def _try_combine(combine: UserFunction, key: Any, values: list[Any]) -> None:
    if combine.parts:
        _try_combiner(combine, key, values)
        return
    call = combine.call
    a, b, c = values
    _same_combined(combine, key, ("combine(a, b)", call(a, b)), ("combine(b, a)", call(b, a)), values)
    names = "combine(combine(a, b), c)", "combine(a, combine(b, c))"
    left, right = call(call(a, b), c), call(a, call(b, c))
    _same_combined(combine, key, (names[0], left), (names[1], right), values)


def _try_combiner(combine: UserFunction, key: Any, values: list[Any]) -> None:
    """Compare results, not states: a step may leave one changed, so each is made anew."""
    init, step, merge, finish = combine.folding

    def state(*numbers: int) -> Any:
        made = init()
        for number in numbers:
            made = step(made, values[number])
        return made

    def result(made: Any) -> Any:
        return made if finish is None else finish(made)

    whole = result(state(0, 1))
    _same_combined(combine, key, ("of one state", whole), ("merge(a, b)", result(merge(state(0), state(1)))), values)
    _same_combined(combine, key, ("of one state", whole), ("merge(b, a)", result(merge(state(1), state(0)))), values)
    left = result(merge(merge(state(0), state(1)), state(2)))
    right = result(merge(state(0), merge(state(1), state(2))))
    names = "merge(merge(a, b), c)", "merge(a, merge(b, c))"
    _same_combined(combine, key, (names[0], left), (names[1], right), values)


def _same_combined(
    combine: UserFunction, key: Any, first: tuple[str, Any], second: tuple[str, Any], values: list[Any]
) -> None:
    if is_near(first[1], second[1]):
        return
    named = ", ".join(f"{name}={shown(value)}" for name, value in zip("abc", values, strict=False))
    what = f"{combine.title}: {first[0]} is {shown(first[1])}, {second[0]} is {shown(second[1])}, for {named}"
    hint = "values meet in any order and grouping: combine must be associative and commutative"
    raise error(Code.COMBINER_CONTRACT, what, where=f"{combine.where}, key {shown(key)}", hint=hint)


def is_near(first: Any, second: Any) -> bool:
    """Equal, floats but for their last digits, for these depend on the order of additions."""
    if isinstance(first, float) and isinstance(second, float):
        both_nan = math.isnan(first) and math.isnan(second)
        return both_nan or math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=1e-300)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(is_near, first, second))
    return bool(first == second)


def _rejected(naive: NaiveRun) -> int:
    """Records that plain Python rejects. Those that only it rejects give numbers beyond 64 bits, which wrap in code."""
    return len(naive.rejects) + sum(len(one.rejects) for one in naive.named.values())


def _compare_rows(naive: NaiveRun, rows: list[tuple[Any, ...]], which: str = "", *, wraps: bool) -> int:
    expected = sorted(zip(*(column.to_pylist() for column in naive.table().columns), strict=True), key=_order)
    found = sorted(rows, key=_order)
    for wanted, got in zip(expected, found, strict=False):
        if not is_near(wanted, got):
            in_int = wraps or any(map(_differs_in_int, wanted, got))
            raise _differs(f"the row {shown(got)}{which}", f"the row {shown(wanted)}", in_int=in_int)
    if len(expected) != len(found):
        longer, shorter = (expected, found) if len(expected) > len(found) else (found, expected)
        extra = f"and {shown(longer[len(shorter)])}"
        raise _differs(
            f"{len(found):,} rows{which}", f"{len(expected):,} rows, {extra} in one of them alone", in_int=wraps
        )
    return len(found)


def _differs_in_int(wanted: Any, got: Any) -> bool:
    return isinstance(wanted, int) and isinstance(got, int) and wanted != got


def _compare_counts(naive: NaiveRun, counters: dict[str, int], rejected: int) -> None:
    wanted = _rejected(naive)
    if rejected != wanted:
        raise _differs(f"{rejected:,} rejects", f"{wanted:,} rejects", in_int=rejected < wanted)
    expected = naive.all_counters
    for name in sorted({*counters, *expected}):
        if counters.get(name, 0) != expected.get(name, 0):
            raise _differs(f"{name}={counters.get(name, 0):,}", f"{name}={expected.get(name, 0):,}")


def _order(row: tuple[Any, ...]) -> Any:
    return tuple(sort_key(tuple(item) if isinstance(item, list) else item) for item in row)


def _differs(got: str, wanted: str, *, in_int: bool = False) -> Exception:
    hint = 'compile="never" gives what plain Python does; a function must depend on its arguments alone'
    if in_int:
        hint = "compiled integers are 64 bits wide and wrap where Python's grow; " + hint
    return error(Code.VERIFY_DIFFERS, f"the engine gives {got}, plain Python {wanted}", hint=hint)
