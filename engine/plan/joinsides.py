"""Which side of a join streams past the other, and how they come together: from plan and input sizes alone (I1)."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from kernelmill.engine.nodes import Call, Column
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.estimates import estimate
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.logical import LogicalPlan, keep
from kernelmill.engine.plan.pipes import Pipe

SHARE_RATIO, SHARES_MAX = 4, 8
"""Copies of build rows add at most a quarter of the probe side's bytes to what moves."""


class Side(NamedTuple):
    """One side: its keys, the columns of it that come out, and whether rows with null keys can be left out at once."""

    plan: LogicalPlan
    keys: tuple[str, ...]
    taken: frozenset[str]
    drops_nulls: bool
    is_unique: bool
    name: str

    def narrowed(self, pipe: Pipe, *, moves: bool) -> Pipe:
        """Its rows with no other columns than the join takes; before they move, without those that match nothing."""
        if self.drops_nulls and moves:
            for key in self.keys:
                if pipe.schema.field(key).nullable:
                    pipe = pipe.then(physical.Filter(Call("is_not_null", (Column(key),))), pipe.schema)
        names = [name for name in pipe.schema.names if name in self.taken or name in self.keys]
        if not names or len(names) == len(pipe.schema):
            return pipe
        columns = keep(pipe.schema, names)
        return pipe.then(physical.Project(columns), pa.schema([pipe.schema.field(name) for name in names]))


class Sides(NamedTuple):
    """Probe rows stream past the build rows; is_broadcast: every task of the probe side's stage has all of these."""

    how: str
    probe: Side
    build: Side
    is_broadcast: bool

    def shares(self, probe_tasks: int, partitions: int) -> int:
        """How many tasks join a partition: several where the probe side is so much larger that copies cost little.

        Then probe rows of one key, however many, are spread over that many tasks. Not where one task must see all probe
        rows of a key.
        """
        if self.how == "full" or self.probe.is_unique:
            return 1
        ratio = estimate(self.probe.plan).bytes // max(1, estimate(self.build.plan).bytes)
        return max(1, min(ratio // SHARE_RATIO, SHARES_MAX, probe_tasks, partitions))

    def step(self, plan: Join, number: int, shares: int = 1) -> physical.Join:
        """The step that joins probe rows with the task's input `number`."""
        build_is_right = self.build.name == "right"
        columns = tuple(
            physical.JoinColumn(column.name, column.column, column.from_right == build_is_right)
            for column in plan.columns
        )
        return physical.Join(
            self.how,
            number,
            self.probe.keys,
            self.build.keys,
            columns,
            plan.schema,
            plan.nulls_equal,
            self.probe.is_unique,
            self.build.is_unique,
            self.probe.name,
            self.build.name,
            shares,
            plan.asof,
        )


def sides_of(plan: Join) -> Sides:
    """The right side builds, unless it is a right join, or an inner one whose left side is the smaller.

    Small build sides are broadcast; not in full joins, whose unmatched build rows only one task may give, nor where
    the probe side's keys must be unique, which one task for each key can tell.
    """
    swaps = plan.how == "right"
    if plan.how in ("inner", "cross"):
        swaps = estimate(plan.left).bytes < estimate(plan.right).bytes
    how = {"right": "left", "cross": "inner"}.get(plan.how, plan.how)
    left, right = _side(plan, how, False, swaps), _side(plan, how, True, not swaps)
    probe, build = (right, left) if swaps else (left, right)
    is_broadcast = plan.how == "cross" or (how != "full" and not probe.is_unique and estimate(build.plan).is_small)
    return Sides(how, probe, build, is_broadcast)


def _side(plan: Join, how: str, is_right: bool, is_build: bool) -> Side:
    keys = plan.right_on if is_right else plan.left_on
    taken = frozenset(column.column for column in plan.columns if column.from_right == is_right)
    if plan.asof is not None:
        taken |= {plan.asof.build_on if is_right else plan.asof.probe_on}
    drops = not plan.nulls_equal and how != "full" and (is_build or how in ("inner", "semi"))
    is_unique = plan.validate[2 if is_right else 0] == "1"
    return Side(plan.right if is_right else plan.left, keys, taken, drops, is_unique, "right" if is_right else "left")
