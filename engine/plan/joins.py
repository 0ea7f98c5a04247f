"""Joins as plan nodes, and how a user's join becomes one: which columns come out, and under which names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.batch import is_word_like
from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Column
from kernelmill.engine.origin import located
from kernelmill.engine.plan.logical import LogicalPlan, Project, keep
from kernelmill.engine.plan.physical import Asof, NamedNode
from kernelmill.engine.plan.valuekinds import may_be_grouped
from kernelmill.engine.promotion import is_bytes, is_text, mixes_signs, plain_type
from kernelmill.engine.schema import dtype_text, find

JOINS = ("inner", "left", "right", "full", "semi", "anti", "cross")
STRATEGIES = ("backward", "forward", "nearest")
VALIDATIONS = ("m:m", "1:m", "m:1", "1:1")


_NANOSECONDS = {"d": 86_400 * 10**9, "s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """A column `name` of joined rows: column `column` of the right side, or of the left."""

    name: str
    column: str
    from_right: bool


class Join(LogicalPlan, frozen=True, eq=False):
    """Rows of both sides whose keys are equal, side by side: `columns` of them, in this order.

    how: inner left right full semi anti, cross, which has no keys, or asof: left rows as `asof` says. validate: 1:m,
    m:1, 1:1 say on which side keys are unique. A null key equals nothing, or nulls if nulls_equal.
    """

    left: LogicalPlan
    right: LogicalPlan
    how: str
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    columns: tuple[Taken, ...]
    validate: str = "m:m"
    nulls_equal: bool = False
    asof: Asof | None = None

    @property
    def inputs(self) -> tuple[LogicalPlan, ...]:
        """The left side, then the right."""
        return self.left, self.right

    def over(self, inputs: tuple[LogicalPlan, ...]) -> Join:
        """The same join of other sides."""
        return replace(self, left=inputs[0], right=inputs[1])

    def keeps_unmatched(self, right: bool) -> bool:
        """Whether rows of the left, or `right`, side come out where nothing on the other side matches them."""
        return self.how in ("full", "right") if right else self.how in ("full", "left", "asof")

    def key_types_are_equal(self, names: Collection[str], right: bool) -> bool:
        """Whether these keys of the left, or `right`, side have the types of those that they are compared with."""
        pairs = zip(self.left_on, self.right_on, strict=True)
        types = {
            pair[right]: self.left.schema.field(pair[0]).type == self.right.schema.field(pair[1]).type for pair in pairs
        }
        return all(types[name] for name in names)

    def _derive(self) -> pa.Schema:
        left, right = self.left.schema, self.right.schema
        for left_key, right_key in zip(self.left_on, self.right_on, strict=True):
            _check_keys(find(left, left_key, where=self.origin), find(right, right_key, where=self.origin))
        if self.asof is not None:
            _check_moments(find(left, self.asof.probe_on), find(right, self.asof.build_on))
        fields: dict[str, pa.Field[Any]] = {}
        for column in self.columns:
            if column.name in fields:
                what = f"two columns of the join would be called {column.name!r}"
                raise error(Code.DUPLICATE_COLUMN, what, hint="give another suffix=, or rename one before the join")
            field = find(right if column.from_right else left, column.column)
            nullable = field.nullable or self.keeps_unmatched(not column.from_right)
            fields[column.name] = pa.field(column.name, field.type, nullable=nullable)
        return pa.schema(list(fields.values()))


def lower_join(
    left: LogicalPlan,
    right: LogicalPlan,
    how: str,
    keys: tuple[Sequence[NamedNode], Sequence[NamedNode]],
    suffix: str,
    validate: str,
    nulls_equal: bool,
    origin: str,
) -> LogicalPlan:
    """Plan a join by expressions of each side, `keys`.

    Columns: the left side's, then the right's but its keys, with `suffix` where the left has the name; of a right join
    the left side's without its keys, then the right's; of a full join all. Keys that are computed do not come out.
    """
    with located(origin):
        left_keys, right_keys = keys
        if len(left_keys) != len(right_keys):
            what = f"a join by {len(left_keys)} keys on the left and {len(right_keys)} on the right"
            raise error(Code.BAD_SETTING, what, hint="give as many of each: left_on=[...], right_on=[...]")
        names = left.schema.names, right.schema.names
        left, left_on = _with_keys(left, left_keys, origin)
        right, right_on = _with_keys(right, right_keys, origin)
        columns = _columns(how, names, (left_on, right_on), suffix)
        if not columns:
            what = "no column would come out of this join"
            raise error(Code.BAD_SETTING, what, hint="a frame needs one: join other columns")
        settings = validate, nulls_equal
        return Join(left, right, how, tuple(left_on), tuple(right_on), columns, *settings, origin=origin)


def lower_join_asof(
    left: LogicalPlan,
    right: LogicalPlan,
    on: tuple[NamedNode, NamedNode],
    by: Sequence[NamedNode],
    strategy: str,
    tolerance: Any,
    suffix: str,
    origin: str,
) -> LogicalPlan:
    """Plan a join of each left row with the nearest right one of equal keys `by`.

    Columns: the left side's, then the right's without its keys, and without `on` where both have one name.
    """
    with located(origin):
        names = left.schema.names, right.schema.names
        left, left_names = _with_keys(left, [*by, on[0]], origin)
        right, right_names = _with_keys(right, [*by, on[1]], origin)
        left_on, right_on = left_names.pop(), right_names.pop()
        dropped = [*right_names, *([right_on] if right_on == left_on else [])]
        columns = _columns("left", names, (left_names, dropped), suffix)
        kind = plain_type(find(left.schema, left_on).type)
        asof = Asof(left_on, right_on, strategy, _tolerance(tolerance, kind))
        keys = tuple(left_names), tuple(right_names)
        return Join(left, right, "asof", *keys, columns, asof=asof, origin=origin)


def _tolerance(given: Any, kind: pa.DataType) -> int | float | None:
    """A distance in units of a type: a number for numbers, a timedelta for dates and times; KM0107 for others."""
    if given is None:
        return None
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if pa.types.is_integer(kind) and isinstance(given, int) and is_number and given >= 0:
        return given
    if pa.types.is_floating(kind) and is_number and given >= 0:
        return float(given)
    if pa.types.is_temporal(kind) and isinstance(given, dt.timedelta) and given >= dt.timedelta(0):
        unit = "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "d")
        return given // dt.timedelta(microseconds=1) * 1000 // _NANOSECONDS[unit]
    what = f"tolerance={given!r} is no distance of values of type {dtype_text(kind)}"
    raise error(Code.BAD_SETTING, what, hint="give a number of at least 0, of dates and times a datetime.timedelta")


def _with_keys(plan: LogicalPlan, keys: Sequence[NamedNode], origin: str) -> tuple[LogicalPlan, list[str]]:
    """The plan with columns for keys that are computed, and the names of all keys."""
    names: list[str] = []
    computed: list[NamedNode] = []
    for key in keys:
        if isinstance(key.node, Column):
            names.append(find(plan.schema, key.node.name, where=origin).name)
            continue
        name = f"join key {len(computed)}"
        while name in plan.schema.names:
            name += "'"
        computed.append(NamedNode(name, key.node))
        names.append(name)
    if computed:
        plan = Project(plan, (*keep(plan.schema, plan.schema.names), *computed), origin=origin)
    return plan, names


def _columns(
    how: str, names: tuple[list[str], list[str]], keys: tuple[list[str], list[str]], suffix: str
) -> tuple[Taken, ...]:
    left = [name for name in names[0] if how != "right" or name not in keys[0]]
    if how in ("semi", "anti"):
        return tuple(Taken(name, name, False) for name in left)
    dropped = keys[1] if how in ("inner", "left") else []
    right = [name for name in names[1] if name not in dropped]
    taken = [Taken(name, name, False) for name in left]
    taken += [Taken(name + suffix if name in left else name, name, True) for name in right]
    return tuple(taken)


def _check_keys(left: pa.Field[Any], right: pa.Field[Any]) -> None:
    for field in (left, right):
        if not may_be_grouped(plain_type(field.type)):
            what = f"join by {field.name!r}: values of type {dtype_text(field.type)} cannot be a key"
            raise error(Code.TYPE_MISMATCH, what, hint="join by its parts, or cast it")
    _check_compared("join", left, right)


def _check_moments(left: pa.Field[Any], right: pa.Field[Any]) -> None:
    for field in (left, right):
        kind = plain_type(field.type)
        if not is_word_like(kind) or pa.types.is_boolean(kind):
            what = f"join_asof by {field.name!r}: values of type {dtype_text(field.type)} have no distance"
            raise error(Code.TYPE_MISMATCH, what, hint="join by numbers, dates or times")
    _check_compared("join_asof", left, right)


def _check_compared(verb: str, left: pa.Field[Any], right: pa.Field[Any]) -> None:
    if not _meet(plain_type(left.type), plain_type(right.type)):
        kinds = f"{dtype_text(left.type)} and {dtype_text(right.type)}"
        what = f"{verb} of {left.name!r} with {right.name!r}: {kinds} are not compared"
        hint = f'cast one: km.col("{right.name}").cast("{dtype_text(plain_type(left.type))}")'
        raise error(Code.TYPE_MISMATCH, what, hint=hint)


def _meet(left: pa.DataType, right: pa.DataType) -> bool:
    """Whether equal values of both types have equal key words, or bytes: see `kernels/hashing`."""
    if pa.types.is_integer(left) and pa.types.is_integer(right):
        return not mixes_signs(left, right)
    if pa.types.is_floating(left) and pa.types.is_floating(right):
        return True
    return bool(left == right or (is_text(left) and is_text(right)) or (is_bytes(left) and is_bytes(right)))
