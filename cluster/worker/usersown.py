"""What of a user's the tasks of a stage call: what else is silent or crashes is our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernelmill.cluster.jobspec.tables import SentRows
from kernelmill.engine.plan import physical
from kernelmill.engine.sources import HeldSource


def users_own(pipeline: physical.Pipeline, sources: Mapping[str, HeldSource]) -> list[str]:
    """Name what a pipeline calls, as messages do, in the order of the rows; empty if it calls kernelmill's own alone.

    sources: those of the job, of which a stage may read any.
    """
    found = []
    if isinstance(pipeline.source, physical.ReadSource):
        found += [f"read of {held.label}" for held in sources.values() if not isinstance(held, SentRows)]
    found += [f"the {call.role} function {call.name!r} [{call.where}]" for call in _calls(pipeline)]
    if isinstance(pipeline.end, physical.ToSink):
        found.append("write of the sink")
    return list(dict.fromkeys(found))


def _calls(pipeline: physical.Pipeline) -> Iterator[physical.UserCall]:
    ends = [pipeline.end, *(branch.end for branch in pipeline.branches)]
    steps = [*pipeline.steps, *(step for branch in pipeline.branches for step in branch.steps)]
    for step in steps:
        called = step.combined.call if isinstance(step, physical.MergeCombined) else getattr(step, "call", None)
        if isinstance(called, physical.UserCall):
            yield called
    for end in ends:
        if isinstance(end, physical.ToBlocks) and end.partition is not None:
            yield end.partition
