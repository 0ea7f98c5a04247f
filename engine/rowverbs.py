"""The verbs of LazyFrame that keep, pair, number, or turn rows as they are: join, unique, tail, sample, unpivot..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kernelmill.engine.columns import Columns, asof_keys, expand, join_keys
from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.describing import described
from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Call, Column, Node
from kernelmill.engine.options import column_name, flag, one_of, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.joins import JOINS, STRATEGIES, VALIDATIONS, lower_join, lower_join_asof
from kernelmill.engine.plan.logical import Filter, Limit, LogicalPlan, Project
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.rowlogical import EveryRow, LastRows, RowIndex, SampleRows, Unique, Unpivot
from kernelmill.engine.schema import dtype_text, find

if TYPE_CHECKING:  # frame imports this module at its head
    from kernelmill.engine.frame import LazyFrame

_FAR = 1 << 62  # an offset and any number of rows stay within 64 bits


class RowVerbs:
    """What `LazyFrame` takes its verbs over whole rows from."""

    __slots__ = ()
    _plan: LogicalPlan

    if TYPE_CHECKING:

        def _over(self, plan: LogicalPlan) -> LazyFrame:
            """The frame of a plan."""

    def join(
        self,
        other: LazyFrame,
        on: Columns = None,
        how: str = "inner",
        *,
        left_on: Columns = None,
        right_on: Columns = None,
        suffix: str = "_right",
        validate: str = "m:m",
        nulls_equal: bool = False,
    ) -> LazyFrame:
        """Put rows with equal keys side by side: `join(other, on="id")`, or `left_on=`, `right_on=`; lists for several.

        how: inner left right full semi anti cross. Null keys match nothing unless `nulls_equal`; NaN equals NaN.
        Right columns named as left ones get `suffix`. validate: "1:m", "m:1", "1:1": else KM0210.
        KM0102 for keys of types that are not compared, KM0103 for a name twice.
        """
        origin = users_line()
        with located(origin):
            _check_frame("join", other)
            one_of("how", how, JOINS)
            one_of("validate", validate, VALIDATIONS)
            keys = join_keys(on, left_on, right_on, how)
            settings = column_name(suffix), validate, flag("nulls_equal", nulls_equal)
            return self._over(lower_join(self._plan, other._plan, how, keys, *settings, origin))

    def join_asof(
        self,
        other: LazyFrame,
        *,
        on: Columns = None,
        left_on: Columns = None,
        right_on: Columns = None,
        by: Columns = None,
        strategy: str = "backward",
        tolerance: Any = None,
        suffix: str = "_right",
    ) -> LazyFrame:
        """Put beside each row the row of `other` whose `on`, a number, date or time, is nearest; none need be sorted.

        strategy: backward, the last that is not later; forward, the first that is not earlier; nearest. by: columns
        that must be equal. tolerance: how far off it may be, a number or a timedelta. Rows without one stand beside
        nulls, as those without a value do. KM0102 for types that are not compared, KM0401 where the rows of `other`
        that belong together do not fit the memory.
        """
        origin = users_line()
        with located(origin):
            _check_frame("join_asof", other)
            one_of("strategy", strategy, STRATEGIES)
            keys = [] if by is None else expand((by,))
            options = strategy, tolerance, column_name(suffix)
            plans = self._plan, other._plan
            return self._over(lower_join_asof(*plans, asof_keys(on, left_on, right_on), keys, *options, origin))

    def drop_nulls(self, subset: Columns = None) -> LazyFrame:
        """Leave out the rows with a null in one of the columns `subset`, by default in any. NaN is not null."""
        origin = users_line()
        with located(origin):
            names = plain_names(self._plan, subset, "drop_nulls")
            schema = self._plan.schema
            tests: list[Node] = [
                Call("is_not_null", (Column(name),)) for name in dict.fromkeys(names) if schema.field(name).nullable
            ]
            return self._over(Filter(self._plan, _all_of(tests), origin=origin) if tests else self._plan)

    def unique(self, subset: Columns = None, *, keep: str = "any") -> LazyFrame:
        """Keep one of the rows that agree in the columns `subset`, by default in all. Null equals null, NaN NaN.

        keep: any and first keep the first in the frame's order, last the last, none keeps only what has no double.
        KM0102 for columns whose values are not compared: lists and structs.
        """
        origin = users_line()
        with located(origin):
            kept = one_of("keep", keep, ("any", "first", "last", "none"))
            names = tuple(dict.fromkeys(plain_names(self._plan, subset, "unique")))
            return self._over(Unique(self._plan, names, "first" if kept == "any" else kept, origin=origin))

    def head(self, n: int = 5) -> LazyFrame:
        """The first `n` rows of the frame's order; a scan stops reading early."""
        return self._over(Limit(self._plan, whole_number("n", n, 0), origin=users_line()))

    def limit(self, n: int = 5) -> LazyFrame:
        """The first `n` rows: another name of `head`."""
        return self.head(n)

    def tail(self, n: int = 5) -> LazyFrame:
        """The last `n` rows of the frame's order; the rows before are computed, counted and left out."""
        return self._over(LastRows(self._plan, whole_number("n", n, 0), origin=users_line()))

    def gather_every(self, n: int, offset: int = 0) -> LazyFrame:
        """Every `n`th row of the frame's order, the first being row `offset`."""
        each, first = whole_number("n", n, 1), whole_number("offset", offset, 0)
        return self._over(EveryRow(self._plan, each, first, origin=users_line()))

    def with_row_index(self, name: str = "index", offset: int = 0) -> LazyFrame:
        """Put a first column `name` before the others: int64, the number of the row in the frame's order.

        Rows of files are numbered by file name, then by position. KM0103 if there is a column `name`.
        """
        origin = users_line()
        with located(origin):
            first = whole_number("offset", offset, -_FAR, _FAR)
            return self._over(RowIndex(self._plan, column_name(name), first, origin=origin))

    def sample(self, n: int | None = None, *, fraction: float | None = None, seed: int = 0) -> LazyFrame:
        """Draw `n` rows, or a `fraction` of all, each at most once, in the frame's order; all if `n` is more.

        The same rows for the same `seed`, whatever threads or split_size are. KM0107 if both or none is given.
        """
        origin = users_line()
        with located(origin):
            if (n is None) == (fraction is None):
                hint = "give one of them: sample(1000), sample(fraction=0.1)"
                raise error(Code.BAD_SETTING, "sample takes either n or fraction", hint=hint)
            rows = None if n is None else whole_number("n", n, 0)
            drawn = whole_number("seed", seed, 0)
            return self._over(SampleRows(self._plan, rows, _fraction(fraction), drawn, origin=origin))

    def unpivot(
        self,
        on: Columns = None,
        *,
        index: Columns = (),
        variable_name: str = "variable",
        value_name: str = "value",
    ) -> LazyFrame:
        """Give each of the columns `on`, by default all but `index`, a row: `index`, the column's name, its value.

        The rows of one row stand side by side, in the order of `on`. KM0102 if the values have no common type.
        """
        origin = users_line()
        with located(origin):
            kept = tuple(plain_names(self._plan, index, "unpivot"))
            turned = plain_names(self._plan, on, "unpivot")
            if on is None:
                turned = [name for name in turned if name not in kept]
            names = column_name(variable_name), column_name(value_name)
            return self._over(Unpivot(self._plan, tuple(dict.fromkeys(turned)), kept, *names, origin=origin))

    def unnest(self, columns: Columns) -> LazyFrame:
        """Put the fields of the struct columns `columns` in their place, under their own names.

        KM0102 for a column that holds no structs, KM0103 for a name that is there already.
        """
        origin = users_line()
        with located(origin):
            names = plain_names(self._plan, columns, "unnest")
            made: list[NamedNode] = []
            for field in self._plan.schema:
                made += _fields(field) if field.name in names else [NamedNode(field.name, Column(field.name))]
            return self._over(Project(self._plan, tuple(made), origin=origin))

    def describe(self) -> DataFrame:
        """Run, and give count, null_count, mean, std, min, 25%, 50%, 75% and max of each column, a row for each.

        Numbers and booleans give float64, other types text; what values of a type do not have is null.
        """
        return DataFrame(described(self._over(self._plan)))


def _fields(field: pa.Field[Any]) -> list[NamedNode]:
    kind: Any = field.type
    if not pa.types.is_struct(kind):
        what = f"unnest({field.name!r}) needs a column of structs, this is {dtype_text(kind)}"
        raise error(Code.TYPE_MISMATCH, what, hint="a list has explode")
    fields = [kind.field(at).name for at in range(kind.num_fields)]
    return [NamedNode(name, Call("struct.field", (Column(field.name),), (("name", name),))) for name in fields]


def plain_names(plan: LogicalPlan, columns: Columns, verb: str) -> Sequence[str]:
    """The names that a verb was given, all if None; KM0101 for one that is not there, KM0107 for an expression."""
    if columns is None:
        return list(plan.schema.names)
    nodes = expand((columns,))
    for node in nodes:
        if node.node != Column(node.name):
            raise error(Code.BAD_SETTING, f"{verb} takes names of columns", hint=f'{verb}("name")')
        find(plan.schema, node.name, where="")
    return [node.name for node in nodes]


def _all_of(tests: Sequence[Node]) -> Node:
    """All tests in one, nested as little as can be: a frame may have ten thousand columns."""
    if len(tests) == 1:
        return tests[0]
    half = len(tests) // 2
    return Call("and", (_all_of(tests[:half]), _all_of(tests[half:])))


def _fraction(value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise error(Code.BAD_SETTING, f"fraction cannot be {value!r}", hint="give a number from 0 to 1")


def _check_frame(verb: str, other: object) -> None:
    if not isinstance(other, RowVerbs):
        what = f"{verb} takes a LazyFrame, this is {type(other).__name__}"
        raise error(Code.TYPE_MISMATCH, what, hint="a DataFrame has .lazy(), other tables km.from_arrow(...)")
