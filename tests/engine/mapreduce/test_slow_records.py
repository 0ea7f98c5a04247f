"""Many slow records in one batch: each is a sign of life, and a cancelled job does not wait for those that follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import lifesigns
from kernelmill.engine.exec.context import TaskContext

ROWS = 8000  # one batch, and far more than a minute if each is slow
SIGNS = 4
ENOUGH_S = 20.0

_NEVER = threading.Event()


def slow() -> None:
    _NEVER.wait(0.02)


def spin(seed: int) -> int:
    state = seed
    for _ in range(5_000_000):  # 10 ms and more; each step needs the one before
        state = (state * 1103515245 + 12345) % 2147483648
    return state


def slow_map(n: int, emit: Any) -> None:
    slow()
    emit(n % 7, 1)


def slow_map_of_rows(row: Any, emit: Any) -> None:
    slow()
    emit(row.n % 7, row.m)


def by_one(n: int, emit: Any) -> None:
    emit(0, n)


def by_itself(n: int, emit: Any) -> None:
    emit(n, n)


def slow_values(key: int, values: Any, emit: Any) -> None:
    total = 0
    for value in values:
        slow()
        total += value
    emit(total)


def slow_groups(key: int, values: Any, emit: Any) -> None:
    slow()
    emit(sum(values))


def spinning_map(n: int, emit: Any) -> None:
    emit(spin(n) % 7, 1)


def spinning_values(key: int, values: Any, emit: Any) -> None:
    total = 0
    for value in values:
        total += spin(value)
    emit(total)


def slow_combine(a: int, b: int) -> int:
    slow()
    return a + b


SCHEMA = {"k": "int64", "n": "int64"}


def python(map_: Any, reduce: Any = "sum", **more: Any) -> Any:
    return km.MapReduce(map_, reduce, key="k", value="n", schema=SCHEMA, compile="never", **more)


def compiled(map_: Any, reduce: Any = "sum") -> Any:
    return km.MapReduce(map_, reduce, key="k", value="n", schema=SCHEMA, compile="require")


def frame() -> Any:
    return km.from_arrow(pa.table({"n": pa.array(range(ROWS), pa.int64())}))


def frame_of_two() -> Any:
    return km.from_arrow(pa.table({"n": pa.array(range(ROWS)), "m": pa.array(range(ROWS))}))


CASES: dict[str, Callable[[], Any]] = {
    "map": lambda: frame().pipe(python(slow_map)),
    "map of rows": lambda: frame_of_two().pipe(python(slow_map_of_rows)),
    "values of one key": lambda: frame().pipe(python(by_one, slow_values)),
    "values of a key in many batches": lambda: km.concat([frame()] * 20).pipe(python(by_one, slow_values)),
    "groups": lambda: frame().pipe(python(by_itself, slow_groups)),
    "combine": lambda: frame().pipe(python(by_one, combine=slow_combine)),
    "compiled map": lambda: frame().pipe(compiled(spinning_map)),
    "compiled groups": lambda: frame().pipe(compiled(by_itself, spinning_values)),
}


@pytest.mark.parametrize("case", CASES)
def test_slow_records_show_life_and_a_cancelled_job_ends_between_two_of_them(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs = 0
    is_alive = threading.Event()

    def live(_: TaskContext) -> None:
        nonlocal signs
        signs += 1
        if signs == SIGNS:
            is_alive.set()

    monkeypatch.setattr(lifesigns, "LOOK_S", 0.05)
    monkeypatch.setattr(TaskContext, "live", live)
    job = CASES[case]()
    running = km.start(job.collect)
    assert is_alive.wait(ENOUGH_S)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(KernelmillError) as failed:
        running.result()
    assert failed.value.code is Code.CANCELLED
    assert time.monotonic() < began + ENOUGH_S


def test_values_of_one_group_show_life_in_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[None] = []
    monkeypatch.setattr(lifesigns, "LOOK_S", 0.01)
    monkeypatch.setattr(TaskContext, "live", lambda _: signs.append(None))
    frame().head(200).pipe(compiled(by_one, spinning_values)).collect()
    assert len(signs) >= SIGNS


def test_a_loop_that_stands_still_shows_no_life() -> None:
    signs: list[int] = []
    at = [1, 1, 1, 2, 2]
    watched = lifesigns.Watched(lambda: at[0], at.clear, lambda: signs.append(at[0]), lambda: False)
    while at:
        watched.look()
        del at[0]
    assert signs == [1, 2]


def test_a_loop_that_is_not_wanted_is_stopped_again_and_again_and_shows_no_life() -> None:
    stops: list[None] = []
    watched = lifesigns.Watched(lambda: 1, lambda: stops.append(None), lambda: pytest.fail("it lives"), lambda: True)
    watched.look()
    watched.look()
    assert len(stops) == 2
