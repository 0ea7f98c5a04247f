"""The aggregates that an expression may be: what `Expr` takes them from."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from msgspec.structs import replace

from kernelmill.engine.aggregates import INTERPOLATIONS
from kernelmill.engine.errors import Code, error
from kernelmill.engine.node_text import node_text
from kernelmill.engine.nodes import Aggregate, Alias, Call, Column, Node, rebuild, walk
from kernelmill.engine.options import whole_number
from kernelmill.engine.origin import users_line

if TYPE_CHECKING:  # expr imports this module at its head
    from kernelmill.engine.expr import Expr


class Aggregations:
    """Values of a group made one: `km.col("n").sum()`."""

    __slots__ = ()
    node: Node

    if TYPE_CHECKING:

        def _of(self, node: Node) -> Expr:
            """The expression of a node."""

        def _operand(self, value: object) -> Node:
            """The node of another expression, a column's name or a Python value."""

    def len(self) -> Expr:
        """Count the rows of a group, nulls too: int64."""
        return self._of(Alias(Aggregate("len", None), _name_of(self.node)))

    def count(self) -> Expr:
        """Count the values of a group that are not null: int64."""
        return self._of(Aggregate("count", self.node))

    def sum(self) -> Expr:
        """Add up the values of a group: int64, uint64 or float64; 0 of none; KM0208 if integers overflow."""
        return self._of(Aggregate("sum", self.node))

    def product(self) -> Expr:
        """Multiply the values of a group: int64, uint64 or float64; 1 of none; KM0208 if integers overflow."""
        return self._of(Aggregate("product", self.node))

    def mean(self) -> Expr:
        """Average the values of a group: float64; null of none."""
        return self._of(Aggregate("mean", self.node))

    def min(self) -> Expr:
        """Take the least value of a group, NaN left out; null of none."""
        return self._of(Aggregate("min", self.node))

    def max(self) -> Expr:
        """Take the greatest value of a group, NaN left out; null of none."""
        return self._of(Aggregate("max", self.node))

    def first(self) -> Expr:
        """Take the value of a group's first row, null or not; null of none."""
        return self._of(Aggregate("first", self.node))

    def last(self) -> Expr:
        """Take the value of a group's last row, null or not; null of none."""
        return self._of(Aggregate("last", self.node))

    def any(self) -> Expr:
        """Tell whether a value of a group is true; nulls count for nothing, so false of none."""
        return self._of(Aggregate("any", self.node))

    def all(self) -> Expr:
        """Tell whether no value of a group is false; nulls count for nothing, so true of none."""
        return self._of(Aggregate("all", self.node))

    def n_unique(self) -> Expr:
        """Count the distinct values of a group, null as one of them, NaN as equal to NaN: int64."""
        return self._of(Aggregate("n_unique", self.node))

    def implode(self) -> Expr:
        """List the values of a group, nulls too, in the order of their rows."""
        return self._of(Aggregate("list", self.node))

    def var(self, ddof: int = 1) -> Expr:
        """Take the variance of a group's values: float64; null of `ddof` values or fewer."""
        return self._of(Aggregate("var", self.node, (), (("ddof", whole_number("ddof", ddof, 0)),)))

    def std(self, ddof: int = 1) -> Expr:
        """Take the standard deviation of a group's values: float64; null of `ddof` values or fewer."""
        return self._of(Aggregate("std", self.node, (), (("ddof", whole_number("ddof", ddof, 0)),)))

    def median(self) -> Expr:
        """Take the middle value of a group, or the mean of the two there: float64, exact; NaN is greatest."""
        return self._of(Aggregate("median", self.node))

    def quantile(self, quantile: float, interpolation: str = "nearest") -> Expr:
        """Take the value below which that share of a group's values lies: float64, exact; NaN is greatest.

        interpolation: nearest, lower, higher, midpoint, linear or equiprobable. KM0107 for a share outside 0 to 1.
        """
        if interpolation not in INTERPOLATIONS:
            raise _bad(f"interpolation={interpolation!r} is not known", f"one of {', '.join(INTERPOLATIONS)}")
        options = (("q", _share(quantile)), ("interpolation", interpolation))
        return self._of(Aggregate("quantile", self.node, (), options))

    def corr(self, other: object) -> Expr:
        """Correlate a group's values with those of `other` (Pearson): float64; rows with a null in either are left out.

        NaN of fewer than two rows, and where all values of a column are equal.
        """
        return self._of(Aggregate("corr", self.node, (self._operand(other),)))

    def min_by(self, by: object) -> Expr:
        """Take the value of the row where `by` is least, the first of equal ones; null where `by` has no value."""
        return self._of(Aggregate("min_by", self.node, (self._operand(by),)))

    def max_by(self, by: object) -> Expr:
        """Take the value of the row where `by` is greatest, the first of equal ones; null where `by` has no value."""
        return self._of(Aggregate("max_by", self.node, (self._operand(by),)))

    def top_k(self, k: int = 5) -> Expr:
        """List the `k` greatest values of a group, the greatest first; nulls are left out, NaN is greatest."""
        return self._of(Aggregate("top_k", self.node, (), (("k", whole_number("k", k, 1)),)))

    def bottom_k(self, k: int = 5) -> Expr:
        """List the `k` least values of a group, the least first; nulls are left out, NaN is greatest."""
        return self._of(Aggregate("bottom_k", self.node, (), (("k", whole_number("k", k, 1)),)))

    def filter(self, *predicates: object) -> Expr:
        """Let the aggregates of an expression take only rows for which all `predicates` are true.

        `km.col("v").sum().filter(km.col("w") > 0)`. KM0102 where there is no aggregate.
        """
        if not any(isinstance(below, Aggregate) for below, _ in walk(self.node)):
            hint = f"filter the frame, or aggregate: {node_text(self.node)}.sum().filter(...)"
            what = f"{node_text(self.node)}.filter(...): this is no aggregate"
            raise error(Code.TYPE_MISMATCH, what, where=users_line(), hint=hint)
        if not predicates:
            raise _bad("filter() needs a predicate", 'sum().filter(km.col("x") > 0)')
        tests = [self._operand(predicate) for predicate in predicates]
        return self._of(_where(self.node, reduce(lambda a, b: Call("and", (a, b)), tests)))


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _bad(f"quantile({value!r}) is no share from 0 to 1", "quantile(0.9)")
    return float(value)


def _where(node: Node, test: Node) -> Node:
    if isinstance(node, Aggregate):
        return replace(node, where=test if node.where is None else Call("and", (node.where, test)))
    return rebuild(node, lambda below: _where(below, test))


def _name_of(node: Node) -> str:
    match node:
        case Column(name=name) | Alias(name=name):
            return name
    return "len"


def _bad(what: str, hint: str) -> Exception:
    return error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
