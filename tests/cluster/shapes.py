"""Hypothesis strategies for any msgspec type, made from its description: what a decoder allows and no more."""

import functools

import msgspec.inspect as kinds
from hypothesis import strategies as st


@functools.cache
def values_of(kind):
    """A strategy for the values of a type, such as a message's class."""
    return _strategy(kinds.type_info(kind))


def _strategy(kind):
    match kind:
        case kinds.StructType():
            fields = {field.name: _strategy(field.type) for field in kind.fields}
            return st.builds(kind.cls, **fields)
        case kinds.UnionType():
            return st.one_of([_strategy(one) for one in kind.types])
        case kinds.LiteralType():
            return st.sampled_from(kind.values)
        case kinds.IntType():
            lowest = kind.ge if kind.ge is not None else -(2**63)
            highest = kind.le if kind.le is not None else (2**63 - 1 if kind.lt is None else kind.lt - 1)
            return st.integers(lowest, highest)
        case kinds.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=_few(kind))
        case kinds.StrType() if kind.pattern:
            return st.from_regex(kind.pattern)
        case kinds.StrType():
            # a lone surrogate has no UTF-8, so no peer can send one
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=_few(kind))
        case kinds.VarTupleType():
            return st.lists(
                _strategy(kind.item_type), min_size=kind.min_length or 0, max_size=min(3, kind.max_length)
            ).map(tuple)
        case kinds.TupleType():
            return st.tuples(*[_strategy(one) for one in kind.item_types])
        case kinds.BoolType():
            return st.booleans()
        case kinds.NoneType():
            return st.none()
    raise AssertionError(f"unbounded or unknown: {kind}")


def _few(kind):
    return max(kind.min_length or 0, min(kind.max_length, 40))


def parts_of(kind):
    """All types that a type is made of, itself included."""
    yield kind
    match kind:
        case kinds.StructType():
            inside = [field.type for field in kind.fields]
        case kinds.UnionType():
            inside = kind.types
        case kinds.VarTupleType():
            inside = [kind.item_type]
        case kinds.TupleType():
            inside = kind.item_types
        case _:
            inside = []
    for one in inside:
        yield from parts_of(one)
