"""Expressions over a record batch: `evaluate(node, batch)` gives one array as long as the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from kernelmill.engine import compute
from kernelmill.engine.compute import Datum, pc
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.functions import FUNCTIONS, VALUE_TESTS, Function
from kernelmill.engine.node_text import node_text
from kernelmill.engine.nodes import Aggregate, Alias, Call, Cast, Column, Literal, MapValues, Node, Tokenize
from kernelmill.engine.promotion import arg_of, is_bytes, is_number, is_text, plain_type
from kernelmill.engine.pyvalues import python_value
from kernelmill.engine.rules import Signature
from kernelmill.engine.schema import dtype_text, find

Tokenizer = Callable[[Any, Tokenize], Any]
"""Takes an array of string or binary and the node; gives a ListArray of the same type, as long as the array."""

Rows = TypeVar("Rows")
_VALUE_CHARACTERS_MAX = 80
_KNOWN_MAX = 256


class _KnownCall(NamedTuple):
    """What a call does with arguments of these types; is_as_it_comes: none of them is cast."""

    node: Call
    types: list[pa.DataType]
    signature: Signature
    is_as_it_comes: bool


_KNOWN: dict[int, _KnownCall] = {}
"""Of a plan's calls, by the number of their node, which is held there: batches seldom bring other types."""


def evaluate(node: Node, batch: pa.RecordBatch, tokenize: Tokenizer | None = None) -> Any:
    """The values of `node` for each row of `batch`, as one pa.Array of the type that `type_of` told.

    KM0207 and KM0208 name the expression, the first value that has no result, and its row in the batch.
    `tokenize` does the work of Tokenize nodes; the kernels that do it are not for this module to import.
    """
    result = _values(node, batch, tokenize)
    return _repeated(result, batch.num_rows) if isinstance(result, pa.Scalar) else result


def split_bad_rows(
    batch: pa.RecordBatch, work: Callable[[pa.RecordBatch], Rows]
) -> Iterator[tuple[int, Rows | KernelmillError]]:
    """Do `work` on `batch` and, if a value in it is bad, on halves until the bad rows stand alone.

    Yields in row order, each with its first row's number, the results of the parts that went well, and the error of
    each bad row. What is bad is what raises KM0207 or KM0208; any other error is raised. `work` must be row-wise.
    """

    return _attempt(batch, work, 0, batch.num_rows)


def _attempt(
    batch: pa.RecordBatch, work: Callable[[pa.RecordBatch], Rows], start: int, rows: int
) -> Iterator[tuple[int, Rows | KernelmillError]]:
    # Not a function in a function: one that calls itself there holds itself, and the batch, until a garbage collection.
    try:
        made: Rows | KernelmillError = work(batch if rows == batch.num_rows else batch.slice(start, rows))
    except KernelmillError as exc:
        if exc.code not in (Code.CAST, Code.OVERFLOW):
            raise
        made = exc
    if isinstance(made, KernelmillError) and rows > 1:
        yield from _attempt(batch, work, start, rows // 2)
        yield from _attempt(batch, work, start + rows // 2, rows - rows // 2)
    else:
        yield start, made


def _values(node: Node, batch: pa.RecordBatch, tokenize: Tokenizer | None) -> Datum:
    match node:
        case Column(name=name):
            place = batch.schema.get_field_index(name)
            if place < 0:
                find(batch.schema, name)  # which says why there is none
            return batch.column(place)
        case Literal(value=value):
            return value
        case Alias(input=below):
            return _values(below, batch, tokenize)
        case Call(args=args):
            return _call(node, [_values(arg, batch, tokenize) for arg in args])
        case Cast(input=below, dtype=dtype, strict=strict):
            values = opened_values(_values(below, batch, tokenize))

            def turn(args: Sequence[Datum]) -> Datum:
                return compute.cast(args[0], dtype, strict=strict)

            return _checked(node, [values], turn, Code.CAST)
        case Tokenize(input=below):
            if tokenize is None:
                raise error(Code.INTERNAL, f"{node_text(node)} was to be computed without a tokenizer")
            return _tokenized(node, _values(below, batch, tokenize), batch.num_rows, tokenize)
        case MapValues():
            raise error(Code.INTERNAL, f"{node_text(node)} is for a step of its own")
        case Aggregate():
            raise error(Code.INTERNAL, f"{node_text(node)} has no value for a row")


def _tokenized(node: Tokenize, values: Datum, rows: int, tokenize: Tokenizer) -> Any:
    if isinstance(values, pa.Scalar):
        values = _repeated(values, rows)
    plain = opened_values(values)
    if not (is_text(plain.type) or is_bytes(plain.type)):
        raise error(Code.INTERNAL, f"{node_text(node)} over values of type {dtype_text(plain.type)}")
    return tokenize(_as(plain, pa.string() if is_text(plain.type) else pa.binary()), node)


def _call(node: Call, args: list[Datum]) -> Datum:
    if node.function in VALUE_TESTS and (coded := _dictionary_of(args)) is not None:
        told = _call(node, [coded.dictionary if isinstance(arg, pa.Array) else arg for arg in args])
        return told.take(coded.indices)
    function = FUNCTIONS[node.function]
    options = dict(node.options)
    types = [arg.type for arg in args]
    known = _KNOWN.get(id(node))
    if known is None or known.node is not node or known.types != types:
        known = _learned(node, function, types, options)
    signature = known.signature
    if not known.is_as_it_comes:
        args = [_as(opened_values(arg), dtype) for arg, dtype in zip(args, signature.args, strict=True)]

    def work(some: Sequence[Datum]) -> Datum:
        return _as(function.apply(list(some), options), signature.result)

    return _checked(node, args, work, function.fails)


def _dictionary_of(args: Sequence[Datum]) -> Any:
    """The one column among `args`, if it is a dictionary of fewer values than rows; None otherwise."""
    columns = [arg for arg in args if isinstance(arg, pa.Array)]
    if len(columns) != 1 or not isinstance(columns[0], pa.DictionaryArray):
        return None
    return columns[0] if len(columns[0].dictionary) <= len(columns[0]) else None


def _learned(node: Call, function: Function, types: list[pa.DataType], options: dict[str, Any]) -> _KnownCall:
    """What a call does with arguments of these types, noted for the batches that come."""
    plain = [plain_type(dtype) for dtype in types]
    described = [arg_of(below, dtype, True) for below, dtype in zip(node.args, plain, strict=True)]
    signature = function.rule(node.function, described, options)
    if len(_KNOWN) >= _KNOWN_MAX:
        _KNOWN.clear()
    known = _KNOWN[id(node)] = _KnownCall(node, types, signature, types == list(signature.args))
    return known


def _checked(node: Node, args: list[Datum], work: Callable[[Sequence[Datum]], Datum], fails: Code | None) -> Datum:
    try:
        result = work(args)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowCapacityError) as exc:
        if fails is None or not isinstance(exc, pa.ArrowInvalid):
            raise error(Code.INTERNAL, f"{node_text(node)}: {exc}", hint="report this as a bug") from exc
        raise _bad_value(node, args, work, fails) from exc
    return result.combine_chunks() if isinstance(result, pa.ChunkedArray) else result


def _bad_value(node: Node, args: list[Datum], work: Callable[[Sequence[Datum]], Datum], fails: Code) -> KernelmillError:
    """The error for the first row that fails: found by halving, for pyarrow does not tell which it was."""
    rows = max((len(arg) for arg in args if isinstance(arg, pa.Array)), default=1)
    start, stop = 0, rows  # the first bad row is in this range
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            work([arg.slice(start, middle - start) if isinstance(arg, pa.Array) else arg for arg in args])
        except pa.ArrowInvalid:
            stop = middle
        else:
            start = middle
    values = [_shown(arg[start] if isinstance(arg, pa.Array) else arg) for arg in args]
    where = f"row {start} of its batch"
    if fails is Code.CAST:
        return _bad_cast(node, values[0], where)
    dtype = dtype_text(args[0].type)
    reason = f"{node_text(node)} has no {dtype} result"
    wider = "float64" if dtype == "int64" else "int64"
    hint = f'cast to "{wider}" before, if that is wide enough'
    return error(fails, f"{reason} for {' and '.join(values)}", where=where, hint=hint, reason=reason)


def _bad_cast(node: Node, value: str, where: str) -> KernelmillError:
    if isinstance(node, Cast):
        reason = f"{node_text(node.input)} is no {dtype_text(node.dtype)}"
        what = f"{node_text(node.input)} is {value}, which is no {dtype_text(node.dtype)}"
    else:
        reason = f"{node_text(node)} cannot read a value"
        what = f"{node_text(node)} cannot read {value}"
    is_lenient = isinstance(node, Cast) or "strict" in dict(node.options if isinstance(node, Call) else ())
    hint = ("strict=False gives null instead; " if is_lenient else "") + "on_bad='reject' sets rows aside"
    return error(Code.CAST, what, where=where, hint=hint, reason=reason)


def _repeated(value: Any, rows: int) -> Any:
    return pa.repeat(value, rows) if value.is_valid else pa.nulls(rows, value.type)


def _shown(value: Any) -> str:
    plain = python_value(value)
    text = str(plain) if pa.types.is_temporal(value.type) else repr(plain)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else f"{text[: _VALUE_CHARACTERS_MAX - 3]}..."


def opened_values(values: Any) -> Any:
    """Values in the type in which functions see them: dictionaries and views are opened."""
    if pa.types.is_dictionary(values.type):
        return opened_values(pc.dictionary_decode(values) if isinstance(values, pa.Array) else values.value)
    plain = plain_type(values.type)
    return values if plain == values.type else pc.cast(values, plain)


def _as(values: Datum, dtype: pa.DataType) -> Datum:
    """Values in a type that holds them all: never fails, but rounds integers that become floats."""
    if values.type == dtype:
        return values
    if pa.types.is_decimal(dtype) and isinstance(values, pa.Scalar) and is_number(values.type):
        # a bare 0.1 beside decimals is one tenth; and pyarrow casts integers only to what holds all of their type
        return pa.scalar(Decimal(str(values.as_py())), dtype)
    return pc.cast(values, dtype, safe=not pa.types.is_floating(dtype))
