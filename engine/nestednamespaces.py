"""The methods behind `.list` and `.struct`. Each makes one node; its arguments are checked here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelmill.engine.namespaces import Namespace, checked_text
from kernelmill.engine.options import column_name, flag, whole_number

if TYPE_CHECKING:
    from kernelmill.engine.expr import Expr  # it imports this module


class ListNamespace(Namespace):
    """Work on columns of lists."""

    __slots__ = ()
    _what = ".list"

    def len(self) -> Expr:
        """Count the elements, nulls too: int64."""
        return self._expr._call("list.len")

    def get(self, index: int) -> Expr:
        """Give element `index`, from the end if negative; null where there is none."""
        return self._expr._call("list.get", index=whole_number("index", index))

    def first(self) -> Expr:
        """Give the first element; null of an empty list."""
        return self._expr._call("list.get", index=0)

    def last(self) -> Expr:
        """Give the last element; null of an empty list."""
        return self._expr._call("list.get", index=-1)

    def contains(self, item: object) -> Expr:
        """Tell where `item`, a literal or an expression, is an element; null where the list or the item is null."""
        return self._expr._call("list.contains", item)

    def join(self, separator: str) -> Expr:
        """Put the texts of a list into one, `separator` between them; null elements are left out."""
        return self._expr._call("list.join", separator=checked_text("join", "separator", separator))

    def sort(self, *, descending: bool = False, nulls_last: bool = False) -> Expr:
        """Order the elements; nulls come first unless `nulls_last`, NaN is greater than all numbers."""
        down, last = flag("descending", descending), flag("nulls_last", nulls_last)
        return self._expr._call("list.sort", descending=down, nulls_last=last)

    def unique(self) -> Expr:
        """Keep the first of equal elements, in the list's order; null is a value, NaN equals NaN."""
        return self._expr._call("list.unique")

    def sum(self) -> Expr:
        """Add up the numbers of a list: int64, uint64 or float64; nulls are left out, 0 of none; KM0208 beyond."""
        return self._expr._call("list.sum")

    def min(self) -> Expr:
        """Take the least element, nulls and NaN left out; null of none, NaN of nothing but NaN."""
        return self._expr._call("list.min")

    def max(self) -> Expr:
        """Take the greatest element, nulls and NaN left out; null of none, NaN of nothing but NaN."""
        return self._expr._call("list.max")

    def mean(self) -> Expr:
        """Average the numbers of a list, nulls left out: float64; null of none."""
        return self._expr._call("list.mean")


class StructNamespace(Namespace):
    """Work on columns of structs."""

    __slots__ = ()
    _what = ".struct"

    def field(self, name: str) -> Expr:
        """Take the field `name`; null where the struct is null. KM0101 if there is no such field."""
        return self._expr._call("struct.field", name=column_name(name)).alias(name)
