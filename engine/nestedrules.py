"""Type rules of functions of lists and structs, as those of `rules`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from kernelmill.engine.compute import pc
from kernelmill.engine.errors import Code, error
from kernelmill.engine.node_text import node_text
from kernelmill.engine.promotion import Arg, can_cast, is_number
from kernelmill.engine.rules import Options, Signature, any_null, mismatch


def ordered_list(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A list of values that have an order in; one like it out for sort, else an element or null."""
    item = _item(function, args)
    if not _can_sort(item):
        raise mismatch(function, args, "the elements have no order")
    lists = pa.list_(item)
    return Signature((lists,), lists, any_null(args)) if function == "list.sort" else Signature((lists,), item, True)


def unique_list(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A list of values that can be compared in, one like it out."""
    item = _item(function, args)
    if not _can_encode(item):
        raise mismatch(function, args, "the elements are not compared here")
    return Signature((pa.list_(item),), pa.list_(item), any_null(args))


def summed_list(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A list of numbers or booleans in; int64, uint64 or float64 out, for mean always float64."""
    item = _item(function, args)
    if pa.types.is_null(item) or pa.types.is_floating(item) or function == "list.mean":
        wanted: pa.DataType = pa.float64()
    else:
        wanted = pa.uint64() if pa.types.is_unsigned_integer(item) else pa.int64()
    is_summed = is_number(item) or pa.types.is_boolean(item) or pa.types.is_null(item)
    if not is_summed or not can_cast(pa.list_(item), pa.list_(wanted)):
        raise mismatch(function, args, "only lists of numbers are added up")
    return Signature((pa.list_(wanted),), wanted, function == "list.mean" or any_null(args))


def field_of_struct(function: str, args: Sequence[Arg], options: Options) -> Signature:
    """A struct in, the field of the options out; KM0101 if there is none."""
    dtype: Any = args[0].type
    if not pa.types.is_struct(dtype):
        raise mismatch(function, args, "only columns of structs have fields")
    name, names = options["name"], [dtype.field(at).name for at in range(dtype.num_fields)]
    if names.count(name) != 1:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        what = f"{node_text(args[0].node)} has {names.count(name) or 'no'} field{'s' * (name in names)} {name!r}"
        raise error(Code.COLUMN_NOT_FOUND, what, hint=hint)
    field = dtype.field(name)
    return Signature((dtype,), field.type, field.nullable or args[0].nullable)


def _item(function: str, args: Sequence[Arg]) -> pa.DataType:
    dtype: Any = args[0].type
    if not (pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)):
        raise mismatch(function, args, "only columns of lists have .list")
    item: pa.DataType = dtype.value_type
    return item


@lru_cache(maxsize=256)
def _can_sort(dtype: pa.DataType) -> bool:
    some: Any = pa.nulls(1, dtype)  # type: ignore[call-overload]  # its stubs want to know which type
    try:
        pc.sort_indices(pa.table({"a": some, "b": some}), sort_keys=[("a", "ascending"), ("b", "ascending")])
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


@lru_cache(maxsize=256)
def _can_encode(dtype: pa.DataType) -> bool:
    some: Any = pa.nulls(1, dtype)  # type: ignore[call-overload]  # its stubs want to know which type
    try:
        some.dictionary_encode()
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return not pa.types.is_dictionary(dtype)
