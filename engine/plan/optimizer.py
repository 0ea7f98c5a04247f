"""The optimizer: named rewrites, applied from the bottom up until none changes anything, a bounded number of times."""

from __future__ import annotations

from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import rowrules, rules
from kernelmill.engine.plan.callingfirst import call_first
from kernelmill.engine.plan.distinct import group_values_first
from kernelmill.engine.plan.logical import LogicalPlan, SinkParquet, with_input, with_inputs
from kernelmill.engine.plan.pruning import prune_columns
from kernelmill.engine.plan.sharing import optimize_sharing
from kernelmill.engine.plan.userlogical import MapOutput, MapRecords

PASSES_MAX = 50

# Tokens are fused before filters move: a filter pushed below a group_by would test every token, not every group.
FUSING: tuple[rules.Rule, ...] = (
    rules.merge_projects,
    rules.remove_identity_project,
    rules.push_limit,
    rowrules.merge_concats,
    rules.tokenize_explode,
    rules.count_tokens,
)
MOVING: tuple[rules.Rule, ...] = (
    rules.push_filter_through_project,
    rules.push_filter_through_explode,
    rules.push_filter_through_tokens,
    rules.push_filter_through_aggregate,
    rules.push_filter_through_sort,
    rules.push_filter_through_join,
    rowrules.push_filter_through_unique,
    rowrules.push_filter_through_unpivot,
    rowrules.push_into_concat,
    rowrules.push_limit_into_concat,
    rowrules.push_limit_below_index,
    rules.merge_filters,
    rules.merge_projects,
    rules.remove_identity_project,
    rules.push_limit,
    rules.tokenize_explode,
)
LAST: tuple[rules.Rule, ...] = (rules.prune_row_groups, group_values_first)


def optimize(plan: LogicalPlan) -> LogicalPlan:
    """A plan with the same schema and rows that does less: fewer columns, earlier filters, rows made once."""
    if isinstance(plan, SinkParquet) and plan.named:
        return _optimize_below_map(plan)
    return optimize_sharing(plan, _optimize_tree)


def _optimize_tree(plan: LogicalPlan) -> LogicalPlan:
    plan = apply(plan, call_first)
    for phase in (FUSING, MOVING, LAST):
        plan = _settle(prune_columns(plan), phase)
    return _settle(prune_columns(plan), FUSING)


def _optimize_below_map(sink: SinkParquet) -> LogicalPlan:
    """Optimize what a map with several outputs reads, once: its outputs go on sharing it, their steps are the job's."""
    shared = map_of(sink.input)
    optimized = with_input(shared, optimize(shared.input))

    def grafted(plan: LogicalPlan) -> LogicalPlan:
        below = optimized if isinstance(plan, MapOutput) else grafted(plan.inputs[0])
        return with_input(plan, below)

    named = tuple((name, grafted(plan)) for name, plan in sink.named)
    return replace(sink, input=grafted(sink.input), named=named)


def map_of(plan: LogicalPlan) -> MapRecords:
    """The map whose output `plan` is made of."""
    while not isinstance(plan, MapOutput):
        plan = plan.inputs[0]
    return plan.input


def apply(plan: LogicalPlan, rule: rules.Rule, settled: dict[int, LogicalPlan] | None = None) -> LogicalPlan:
    """`rule` at every node, from the bottom up; KM0901 if it would change a schema.

    `settled` are nodes, by their ids, below which the rule changes nothing, as was seen before; more are added.
    """
    if settled is not None and id(plan) in settled:
        return plan
    before = plan
    if plan.inputs:
        plan = with_inputs(plan, tuple(apply(below, rule, settled) for below in plan.inputs))
    changed = rule(plan)
    if changed is not plan and not changed.schema.equals(plan.schema):
        what = f"rule {rule.__name__} changed the schema of {type(plan).__name__}"
        raise error(Code.INTERNAL, what, hint="please report the plan: print(frame.explain(optimized=False))")
    if settled is not None and changed is before:
        settled[id(before)] = before  # held, for the id of a node that is gone may be given to another
    return changed


def _settle(plan: LogicalPlan, phase: tuple[rules.Rule, ...]) -> LogicalPlan:
    settled: list[dict[int, LogicalPlan]] = [{} for _ in phase]
    for _ in range(PASSES_MAX):
        before = plan
        for rule, done in zip(phase, settled, strict=True):
            plan = apply(plan, rule, done)
        if plan is before:
            return plan
    return plan  # every plan on the way was right; the last one is just not the best
