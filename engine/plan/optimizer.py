"""The optimizer: named rewrites, applied from the bottom up until none changes anything, a bounded number of times."""

from __future__ import annotations

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import rules
from kernelmill.engine.plan.logical import LogicalPlan, with_input
from kernelmill.engine.plan.pruning import prune_columns

PASSES_MAX = 50

# Tokens are fused before filters move: a filter pushed below a group_by would test every token, not every group.
FUSING: tuple[rules.Rule, ...] = (
    rules.merge_projects,
    rules.remove_identity_project,
    rules.push_limit,
    rules.tokenize_explode,
    rules.count_tokens,
)
MOVING: tuple[rules.Rule, ...] = (
    rules.push_filter_through_project,
    rules.push_filter_through_explode,
    rules.push_filter_through_tokens,
    rules.push_filter_through_aggregate,
    rules.push_filter_through_sort,
    rules.merge_filters,
    rules.merge_projects,
    rules.remove_identity_project,
    rules.push_limit,
    rules.tokenize_explode,
)
LAST: tuple[rules.Rule, ...] = (rules.prune_row_groups,)


def optimize(plan: LogicalPlan) -> LogicalPlan:
    """A plan with the same schema and rows that does less: fewer columns, earlier filters, fused tokenizing."""
    for phase in (FUSING, MOVING, LAST):
        plan = _settle(prune_columns(plan), phase)
    return _settle(prune_columns(plan), FUSING)


def apply(plan: LogicalPlan, rule: rules.Rule) -> LogicalPlan:
    """`rule` at every node, from the bottom up; KM0901 if it would change a schema."""
    below = plan.inputs
    if below:
        plan = with_input(plan, apply(below[0], rule))
    changed = rule(plan)
    if changed is not plan and not changed.schema.equals(plan.schema):
        what = f"rule {rule.__name__} changed the schema of {type(plan).__name__}"
        raise error(Code.INTERNAL, what, hint="please report the plan: print(frame.explain(optimized=False))")
    return changed


def _settle(plan: LogicalPlan, phase: tuple[rules.Rule, ...]) -> LogicalPlan:
    for _ in range(PASSES_MAX):
        before = plan
        for rule in phase:
            plan = apply(plan, rule)
        if plan is before:
            return plan
    return plan  # every plan on the way was right; the last one is just not the best
