"""Rows that a plan asks for several times are made once: a frame that the user built and then used twice.

Such a frame is one node that several others read. It is taken out and optimized by itself, with the columns that any
reader needs; its readers see a leaf, `Common`. What is left where it is: rows that are cheap to read again and many to
hold (a scan, a filter of one); those that explodes or functions may have made many of; and those of which every
reader takes a part only, by a filter or a limit, for such a part may be much cheaper to make than the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import logical, rowlogical, userlogical
from kernelmill.engine.plan.common import Common
from kernelmill.engine.plan.estimates import estimate
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.logical import LogicalPlan, keep, with_inputs
from kernelmill.engine.plan.pruning import prune_columns

COMMON_BYTES_MAX = 1 << 30
"""Joined rows are held for their readers where they are estimated at no more, which may be spilled and read again."""


def optimize_sharing(plan: LogicalPlan, optimize: Callable[[LogicalPlan], LogicalPlan]) -> LogicalPlan:
    """`plan` optimized by `optimize`, what several of its nodes read being made once where that pays."""
    apart: set[int] = set()
    while True:
        cut = _Cut(plan, apart)
        if not cut.made:
            return optimize(plan)
        plans = [optimize(cut.plan)]
        made: dict[int, LogicalPlan] = {}
        unwanted: set[int] = set()
        for number in reversed(range(len(cut.made))):  # a later one may read an earlier one, never the other way
            uses = [use for one in plans for use in _uses(one) if use.leaf.number == number]
            whole, below = cut.made[number]
            if len(uses) < 2 or all(use.is_part for use in uses) or not _is_held(_of_columns(whole, uses)):
                unwanted.add(id(whole))
                continue
            made[number] = optimize(_of_columns(below, uses))
            plans.append(made[number])
        if not unwanted:
            return _filled(plans[0], made, {})
        apart |= unwanted


class _Cut:
    """A plan with a leaf in the place of each node that is to be made once: `made` has these, as they were and cut.

    `apart` are the nodes, by their ids, that are not to be taken out.
    """

    def __init__(self, plan: LogicalPlan, apart: set[int]) -> None:
        self._readers, self._apart = _readers_of(plan), apart
        self._done: dict[int, LogicalPlan] = {}
        self.made: list[tuple[LogicalPlan, LogicalPlan]] = []
        self.plan = self._cut(plan)

    def _cut(self, node: LogicalPlan) -> LogicalPlan:
        if id(node) not in self._done:
            below = with_inputs(node, tuple(map(self._cut, node.inputs)))
            if self._readers[id(node)] > 1 and id(node) not in self._apart and _maker_of(node) is not None:
                self.made.append((node, below))
                below = Common(len(self.made) - 1, node.schema, origin=node.origin)
            self._done[id(node)] = below
        return self._done[id(node)]


class _Use:
    """A leaf as it stands in a plan; is_part: the node above it takes only some of its rows."""

    def __init__(self, leaf: Common, is_part: bool) -> None:
        self.leaf, self.is_part = leaf, is_part


def _uses(plan: LogicalPlan, is_part: bool = False) -> Iterator[_Use]:
    if isinstance(plan, Common):
        yield _Use(plan, is_part)
    takes_part = isinstance(plan, logical.Filter | logical.Limit) or (is_part and isinstance(plan, logical.Project))
    for below in plan.inputs:
        yield from _uses(below, takes_part)


def _readers_of(plan: LogicalPlan) -> Counter[int]:
    """How many nodes read each node, by its id: a node that reads another twice counts twice."""
    readers: Counter[int] = Counter()
    seen: set[int] = set()
    waiting = [plan]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        readers.update(map(id, node.inputs))
        waiting += node.inputs
    return readers


def _maker_of(node: LogicalPlan) -> LogicalPlan | None:
    """What does most of the work for the rows of `node`, below its Projects and Filters; None if it is not shared."""
    below, is_filtered = node, False
    while isinstance(below, logical.Project | logical.Filter):
        is_filtered |= isinstance(below, logical.Filter)
        below = below.input
    match below:
        case logical.Aggregate() | rowlogical.Unique() | logical.CountTokens() | userlogical.ReduceGroups():
            return below
        case logical.Limit() | logical.Sort(limit=int()):
            return below
        case Join():
            return None if below.how == "cross" else below
        case logical.ScanParquet() | logical.ScanFiles() | logical.ScanTable():
            return below if is_filtered else None
        case _:
            return None


def _is_held(plan: LogicalPlan) -> bool:
    """Whether rows of `plan`, which has a maker, may be held for their readers."""
    match _maker_of(plan):
        case Join():
            return estimate(prune_columns(plan)).bytes <= COMMON_BYTES_MAX
        case logical.ScanParquet() | logical.ScanFiles() | logical.ScanTable():
            return estimate(prune_columns(plan)).is_small
        case _:
            return True


def _of_columns(plan: LogicalPlan, uses: list[_Use]) -> LogicalPlan:
    """`plan` with the columns that are used, in its order."""
    used = {name for use in uses for name in use.leaf.columns.names}
    names = [name for name in plan.schema.names if name in used]
    return plan if len(names) == len(plan.schema) else logical.Project(plan, keep(plan.schema, names))


def _filled(plan: LogicalPlan, made: dict[int, LogicalPlan], filled: dict[int, LogicalPlan]) -> LogicalPlan:
    """`plan` with what makes the rows of each leaf; of one number it is the same object."""
    if not isinstance(plan, Common):
        return with_inputs(plan, tuple(_filled(below, made, filled) for below in plan.inputs))
    number = plan.number
    if number not in filled:
        filled[number] = _filled(made[number], made, filled)
    have = filled[number].schema
    if not all(have.field(field.name).equals(field) for field in plan.columns):
        raise error(Code.INTERNAL, f"the columns of common rows {number} are not those that their readers expect")
    return replace(plan, made=filled[number])
