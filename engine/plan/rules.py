"""Rewrites of plans. Each is pure: it takes a node, and gives it back, or one with the same schema and the same rows.

`optimizer.optimize` applies them from the bottom up until none changes anything; `prune_columns` takes whole plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from kernelmill.engine.functions import FUNCTIONS
from kernelmill.engine.nodes import Call, Cast, Column, Literal, Node, Tokenize
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.logical import (
    Aggregate,
    CountTokens,
    Explode,
    Filter,
    Limit,
    LogicalPlan,
    Project,
    ScanParquet,
    ScanText,
    Sort,
    TokenizeExplode,
    with_input,
    with_inputs,
)
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.typing import DEPTH_MAX, columns_of, depth_of, substitute, type_of, walk

Rule = Callable[[LogicalPlan], LogicalPlan]

_WHITESPACE = frozenset(b"\t\n\x0b\x0c\r ")
_WORD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") | frozenset(range(128, 256))


# Projects ------------------------------------------------------------------------------------------------------------


def merge_projects(plan: LogicalPlan) -> LogicalPlan:
    """Two Projects in a row become one, unless that would compute something twice, or nest too deeply."""
    if not (isinstance(plan, Project) and isinstance(plan.input, Project)):
        return plan
    below = {column.name: unaliased(column.node) for column in plan.input.columns}
    uses = [name for column in plan.columns for name in _mentions(column.node)]
    if any(uses.count(name) > 1 and not isinstance(below[name], Column | Literal) for name in below):
        return plan
    depth = max(map(depth_of, below.values())) + max(depth_of(column.node) for column in plan.columns)
    if depth > DEPTH_MAX:
        return plan
    columns = tuple(NamedNode(column.name, substitute(column.node, below)) for column in plan.columns)
    return Project(plan.input.input, columns, origin=plan.origin)


def remove_identity_project(plan: LogicalPlan) -> LogicalPlan:
    """A Project that passes every column through under its own name, in order, is nothing."""
    if isinstance(plan, Project):
        passed = all(unaliased(column.node) == Column(column.name) for column in plan.columns)
        if passed and [column.name for column in plan.columns] == plan.input.schema.names:
            return plan.input
    return plan


# Filters -------------------------------------------------------------------------------------------------------------


def merge_filters(plan: LogicalPlan) -> LogicalPlan:
    """Two Filters in a row become one, if the upper cannot fail on rows that the lower would have kept from it."""
    if isinstance(plan, Filter) and isinstance(plan.input, Filter) and not may_fail(plan.predicate):
        both = Call("and", (plan.input.predicate, plan.predicate))
        if depth_of(both) > DEPTH_MAX:
            return plan
        return Filter(plan.input.input, both, origin=plan.input.origin)
    return plan


def push_filter_through_project(plan: LogicalPlan) -> LogicalPlan:
    """Test before computing what the test does not need."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, Project)):
        return plan
    project = plan.input
    below = {column.name: unaliased(column.node) for column in project.columns}
    passed = {name for name, node in below.items() if isinstance(node, Column)}

    def pushed(predicate: Node) -> LogicalPlan:
        lower = Filter(project.input, substitute(predicate, below), origin=plan.origin)
        return with_input(project, lower)

    return split_filter(plan, lambda node: columns_of(node) <= passed, pushed)


def push_filter_through_explode(plan: LogicalPlan) -> LogicalPlan:
    """Test a row once before it is repeated, where the test is about other columns."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, Explode)):
        return plan
    explode = plan.input

    def movable(node: Node) -> bool:
        return explode.column not in columns_of(node) and not may_fail(node)

    def pushed(predicate: Node) -> LogicalPlan:
        return with_input(explode, Filter(explode.input, predicate, origin=plan.origin))

    return split_filter(plan, movable, pushed)


def push_filter_through_tokens(plan: LogicalPlan) -> LogicalPlan:
    """The same for tokenize and explode in one."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, TokenizeExplode)):
        return plan
    explode = plan.input
    below = {other.name: unaliased(other.node) for other in explode.others}
    passed = {name for name, node in below.items() if isinstance(node, Column)}

    def pushed(predicate: Node) -> LogicalPlan:
        return with_input(explode, Filter(explode.input, substitute(predicate, below), origin=plan.origin))

    return split_filter(plan, lambda node: columns_of(node) <= passed and not may_fail(node), pushed)


def push_filter_through_aggregate(plan: LogicalPlan) -> LogicalPlan:
    """Tests of keys alone go before the grouping; a group is kept or dropped whole."""
    if not (isinstance(plan, Filter) and isinstance(plan.input, Aggregate)):
        return plan
    aggregate = plan.input
    keys = set(aggregate.keys)

    def pushed(predicate: Node) -> LogicalPlan:
        return with_input(aggregate, Filter(aggregate.input, predicate, origin=plan.origin))

    return split_filter(plan, lambda node: bool(columns_of(node)) and columns_of(node) <= keys, pushed)


def push_filter_through_join(plan: LogicalPlan) -> LogicalPlan:
    """Tests of columns of one side go before the join, where that side's rows without a match come out nowhere else.

    Of a left join only the left side's: a right row that fails would leave its left row, beside nulls. Of an inner join
    a test of keys alone goes to both sides.
    """
    if not (isinstance(plan, Filter) and isinstance(plan.input, Join)):
        return plan
    for is_right in (False, True):
        if plan.input.keeps_unmatched(not is_right):  # rows of the other side stand beside nulls of this one's
            continue
        moved = _push_to_side(plan, plan.input, is_right)
        if moved is not plan:
            return moved
    return plan


def _push_to_side(plan: Filter, join: Join, is_right: bool) -> LogicalPlan:
    below: dict[str, Node] = {c.name: Column(c.column) for c in join.columns if c.from_right == is_right}
    own, others = (join.right_on, join.left_on) if is_right else (join.left_on, join.right_on)
    keys = dict(zip(own, others, strict=True))

    def movable(node: Node) -> bool:
        return bool(columns_of(node)) and columns_of(node) <= below.keys() and not may_fail(node)

    def pushed(predicate: Node) -> LogicalPlan:
        sides = [join.left, join.right]
        here = substitute(predicate, below)
        sides[is_right] = Filter(sides[is_right], here, origin=plan.origin)
        if join.how == "inner":
            of_keys = [part for part in conjuncts(here) if columns_of(part) <= keys.keys()]
            same = [part for part in of_keys if join.key_types_are_equal(columns_of(part), is_right)]
            if same:
                renamed: dict[str, Node] = {own: Column(other) for own, other in keys.items()}
                there = substitute(_all_of(same), renamed)
                sides[not is_right] = Filter(sides[not is_right], there, origin=plan.origin)
        return with_inputs(join, (sides[0], sides[1]))

    return split_filter(plan, movable, pushed)


def push_filter_through_sort(plan: LogicalPlan) -> LogicalPlan:
    """Sort fewer rows; not where only the first of them are asked for."""
    if isinstance(plan, Filter) and isinstance(plan.input, Sort) and plan.input.limit is None:
        below = Filter(plan.input.input, plan.predicate, origin=plan.origin)
        return with_input(plan.input, below)
    return plan


def prune_row_groups(plan: LogicalPlan) -> LogicalPlan:
    """Tell a Parquet scan what is tested above it, so that row groups without a match are not read."""
    if isinstance(plan, Filter) and isinstance(plan.input, ScanParquet) and plan.input.predicate is None:
        return with_input(plan, replace(plan.input, predicate=plan.predicate))
    return plan


# Limits --------------------------------------------------------------------------------------------------------------


def push_limit(plan: LogicalPlan) -> LogicalPlan:
    """Two Limits are the smaller one; a Limit goes below a Project, and into a Sort, which then keeps fewer rows."""
    if not isinstance(plan, Limit):
        return plan
    match plan.input:
        case Limit() as below:
            return below if below.rows <= plan.rows else with_input(plan, below.input)
        case Project() as below:
            return with_input(below, with_input(plan, below.input))
        case Sort(limit=limit) as below:
            rows = plan.rows if limit is None else min(limit, plan.rows)
            return Sort(below.input, below.keys, rows, origin=below.origin)
        case _:
            return plan


# Tokens --------------------------------------------------------------------------------------------------------------


def count_tokens(plan: LogicalPlan) -> LogicalPlan:
    """tokenize, explode and group_by that only counts become one kernel over the bytes of a text scan.

    It follows `tokenize_explode`. Tests of the token alone that stand between go above: they then look at each
    distinct token once.
    """
    if not (isinstance(plan, Aggregate) and len(plan.keys) == 1 and plan.aggs):
        return plan
    key = plan.keys[0]
    if any((agg.kind != "len" and (agg.kind, agg.column) != ("count", key)) or agg.where for agg in plan.aggs):
        return plan
    below, filters = plan.input, []
    while isinstance(below, Filter) and columns_of(below.predicate) == {key}:
        filters.append(below)
        below = below.input
    tokens, scan = _tokens_of(below, key)
    if tokens is None or not isinstance(scan, ScanText) or not _covers_lines(tokens, scan):
        return plan
    key_field = plan.schema.field(key)
    if tokens.min_len != 1 or tokens.input != Column(scan.text_column):
        return plan
    name = plan.aggs[0].name
    counted: LogicalPlan = CountTokens(scan, tokens, key_field, name, origin=plan.origin)
    for test in reversed(filters):
        counted = Filter(counted, test.predicate, origin=test.origin)
    if len(plan.aggs) > 1:  # all are the same number
        columns = (NamedNode(key, Column(key)), *(NamedNode(agg.name, Column(name)) for agg in plan.aggs))
        counted = Project(counted, columns, origin=plan.origin)
    return counted


def tokenize_explode(plan: LogicalPlan) -> LogicalPlan:
    """tokenize followed by explode gives each token its row at once; no column of lists is made."""
    if not (isinstance(plan, Explode) and isinstance(plan.input, Project)) or plan.empty_as_null:
        return plan
    project = plan.input
    tokens = next(unaliased(c.node) for c in project.columns if c.name == plan.column)
    if not isinstance(tokens, Tokenize):
        return plan
    if not plan.keep_nulls and type_of(tokens, project.input.schema).nullable:
        return plan  # TokenizeExplode keeps them: a null text gives one null row
    others = tuple(column for column in project.columns if column.name != plan.column)
    names = tuple(column.name for column in project.columns)
    return TokenizeExplode(project.input, plan.column, tokens, others, names, origin=plan.origin)


# Helpers -------------------------------------------------------------------------------------------------------------


def may_fail(node: Node) -> bool:
    """Whether evaluating `node` may raise for some row: strict casts, integer overflow, parsing."""
    return any(
        (isinstance(below, Cast) and below.strict)
        or (isinstance(below, Call) and FUNCTIONS[below.function].fails is not None)
        for below, _ in walk(node)
    )


def conjuncts(predicate: Node) -> Iterator[Node]:
    """The parts of `a & b & c`."""
    if isinstance(predicate, Call) and predicate.function == "and":
        for arg in predicate.args:
            yield from conjuncts(arg)
    else:
        yield predicate


def _all_of(parts: list[Node]) -> Node:
    whole = parts[0]
    for part in parts[1:]:
        whole = Call("and", (whole, part))
    return whole


def split_filter(plan: Filter, movable: Callable[[Node], bool], pushed: Callable[[Node], LogicalPlan]) -> LogicalPlan:
    """Move the movable parts of a filter below its input by `pushed`, keep the others where they are.

    Where some stay, those that may fail would have been tested on rows that are now gone: that only drops errors.
    """
    parts = list(conjuncts(plan.predicate))
    down = [part for part in parts if movable(part)]
    stay = [part for part in parts if not movable(part)]
    if not down:
        return plan
    moved = pushed(_all_of(down))
    return Filter(moved, _all_of(stay), origin=plan.origin) if stay else moved


def _mentions(node: Node) -> list[str]:
    """The columns that `node` mentions, as often as it does."""
    return [below.name for below, _ in walk(node) if isinstance(below, Column)]


def _tokens_of(plan: LogicalPlan, key: str) -> tuple[Tokenize | None, LogicalPlan]:
    """The tokens that become `key` in each row of `plan`, and what they are read from."""
    if isinstance(plan, TokenizeExplode) and plan.name == key:
        return plan.tokens, plan.input
    if isinstance(plan, Project):  # one that only drops the other columns
        below = {column.name: unaliased(column.node) for column in plan.columns}
        source = below[key]
        if isinstance(source, Column):
            return _tokens_of(plan.input, source.name)
    return None, plan


def _covers_lines(tokens: Tokenize, scan: ScanText) -> bool:
    """Whether no token can reach over a line's end: all bytes that end lines separate tokens too."""
    ends = set(scan.options.separator) | {ord("\r")}
    if scan.options.whole_file:
        return True
    match tokens.mode:
        case "whitespace":
            return ends <= _WHITESPACE
        case "separators":
            return ends | {ord("\n")} <= set(tokens.separators)
        case _:
            return not ends & _WORD
