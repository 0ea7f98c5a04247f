"""GroupBy: what `LazyFrame.group_by` gives; each of its verbs makes a frame again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from kernelmill.engine.columns import Columns, expand_named
from kernelmill.engine.nodes import Aggregate as AggregateNode
from kernelmill.engine.nodes import Column
from kernelmill.engine.options import column_name, unknown_name
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import LogicalPlan, Project
from kernelmill.engine.plan.lowering import lower_group_by
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.userlogical import GatherGroups, MapGroups, Partition
from kernelmill.engine.schema import columns_given
from kernelmill.engine.userfunctions import Partitioning, user_function

if TYPE_CHECKING:  # frame imports this module at its head
    from kernelmill.engine.frame import LazyFrame


class GroupBy:
    """Rows grouped by keys, waiting for what is to be made of each group. `frame_of` makes the frame of a plan."""

    __slots__ = ("_frame_of", "_keys", "_origin", "_plan")

    def __init__(
        self,
        plan: LogicalPlan,
        keys: tuple[NamedNode, ...],
        origin: str,
        frame_of: Callable[[LogicalPlan], LazyFrame],
    ) -> None:
        self._plan, self._keys, self._origin, self._frame_of = plan, keys, origin, frame_of
        lower_group_by(plan, keys, (), origin)  # a wrong key is an error of group_by, not of agg

    def agg(self, *aggs: Columns, **named: Any) -> LazyFrame:
        """One row a group: the keys, then `aggs`: `agg(km.len(), km.col("x").sum(), top=km.col("x").max())`.

        KM0102 for an expression that is not one value a group.
        """
        origin = users_line()
        with located(origin):
            return self._frame_of(lower_group_by(self._plan, self._keys, expand_named(aggs, named), origin))

    def len(self, name: str = "len") -> LazyFrame:
        """One row a group: the keys, then the number of rows under `name`."""
        origin = users_line()
        counted = NamedNode(column_name(name), AggregateNode("len", None))
        return self._frame_of(lower_group_by(self._plan, self._keys, (counted,), origin))

    def map_groups(self, function: Callable[[pa.Table], Any], *, schema: Any = None) -> LazyFrame:
        """Call `function` with a pyarrow.Table of each group's rows, keys among them: it returns rows of `schema`.

        schema and errors as `map_batches`. A group's rows are held in memory: KM0401 names it if they do not fit.
        Groups come in first-seen order of their partition, a group's rows in input order.
        """
        origin = users_line()
        with located(origin):
            called = user_function(function, "map_groups", positional=1)
            keys = tuple(key.name for key in self._keys)
            added = {key.name: key for key in self._keys}
            old = [added.pop(name, NamedNode(name, Column(name))) for name in self._plan.schema.names]
            below = Project(self._plan, (*old, *added.values()), origin=origin)
            placed = GatherGroups(Partition(below, keys, Partitioning(), origin=origin), keys, origin=origin)
            columns = columns_given(schema, below.schema)
            return self._frame_of(MapGroups(placed, called, keys, columns, origin=origin))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        foreign = {"count": "it is called 'len'", "size": "it is called 'len'", "aggregate": "it is called 'agg'"}
        for kind in (
            "sum",
            "product",
            "mean",
            "min",
            "max",
            "first",
            "last",
            "median",
            "std",
            "var",
            "n_unique",
            "any",
            "all",
        ):
            foreign[kind] = f'name the column: agg(km.col("x").{kind}())'
        raise unknown_name("GroupBy", name, ("agg", "len", "map_groups"), foreign)

    def __repr__(self) -> str:
        return f"GroupBy({', '.join(key.name for key in self._keys)})"
