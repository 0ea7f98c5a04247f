"""The nodes and steps of `rowlogical` and `rowsteps` as text, a line each."""

from __future__ import annotations

from kernelmill.engine.plan import rowlogical, rowsteps


def node_of_rows(plan: rowlogical.RowNode) -> str:
    """One node of a plan on one line."""
    match plan:
        case rowlogical.Concat(frames=frames):
            return f"Concat {len(frames)} frames"
        case rowlogical.Unique(keys=keys):
            return f"Unique by {', '.join(keys)}: {plan.keep}"
        case rowlogical.RowIndex():
            return f"RowIndex {plan.name} from {plan.offset}"
        case rowlogical.EveryRow():
            return f"EveryRow {plan.each} from {plan.offset}"
        case rowlogical.LastRows(rows=rows):
            return f"LastRows {rows}"
        case rowlogical.SampleRows():
            return f"SampleRows {_amount(plan.rows, plan.fraction)}, seed {plan.seed}"
        case rowlogical.Unpivot():
            return f"Unpivot {', '.join(plan.on)}: {plan.variable_name}, {plan.value_name}"


def step_of_rows(step: rowsteps.RowStep) -> str:
    """One step of a stage on one line."""
    match step:
        case rowsteps.ThinRows(keys=keys):
            return f"ThinRows by {', '.join(keys)}"
        case rowsteps.UniqueRows(keys=keys):
            return f"UniqueRows by {', '.join(keys)}: {step.keep}"
        case rowsteps.CountRows() | rowsteps.GatherCounts() | rowsteps.AsSchema():
            return type(step).__name__
        case rowsteps.ReadInputs(count=count):
            return f"ReadInputs {count}"
        case rowsteps.RowIndex():
            return f"RowIndex {step.name} from {step.offset}"
        case rowsteps.EveryRow():
            return f"EveryRow {step.each} from {step.offset}"
        case rowsteps.LastRows(rows=rows):
            return f"LastRows {rows}"
        case rowsteps.SampleRows():
            return f"SampleRows {_amount(step.rows, step.fraction)}, seed {step.seed}"
        case rowsteps.Unpivot(on=on):
            return f"Unpivot {', '.join(on)}"


def _amount(rows: int | None, fraction: float) -> str:
    return f"{fraction:g} of all" if rows is None else f"{rows}"
