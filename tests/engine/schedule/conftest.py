"""A factory of schedulers whose invariants are all checked when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import Policy, StageShape


@pytest.fixture
def make() -> Iterator[Callable[..., Scheduler]]:
    made: list[Scheduler] = []

    def make_one(*shapes: StageShape, policy: Policy | None = None, **options: object) -> Scheduler:
        made.append(Scheduler(shapes, policy, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    for scheduler in made:
        scheduler.check()


@pytest.fixture
def map_reduce() -> tuple[StageShape, StageShape]:
    """Three map tasks, and two reduce tasks that read all of them and write files."""
    return StageShape(3), StageShape(2, (Edge(0, EdgeKind.HASH),), durable=True)
