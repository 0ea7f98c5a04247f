"""Rows that a combine follows: a compiled map's driver has them numbered and folded itself, with the same states."""

import random
from functools import reduce

import pytest

import kernelmill as km
from kernelmill.engine.exec import aggregate, draining, folds, stages
from kernelmill.engine.exec.dense import Dense
from kernelmill.engine.io import lines as reading
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")


@pytest.fixture(autouse=True)
def small_stages(monkeypatch):
    """A driver has its stage, of few hundred rows, folded at 100."""
    monkeypatch.setattr(stages, "STAGE_WORDS", 1 << 12)
    monkeypatch.setattr(draining, "FOLD_ROWS", 100)


@pytest.fixture
def by_python(monkeypatch):
    """How many rows Python had folded, or folded itself."""
    rows, add = [], folds._Fold.add

    def counted(fold, groups, used, columns):
        rows.append(groups.size if fold._part == "step" else 0)
        add(fold, groups, used, columns)

    monkeypatch.setattr(folds._Fold, "add", counted)
    return rows


def numbered(line, emit):
    for part in line.split():
        key, value = part.split("=")
        emit(key, int(value))


def measured(line, emit):
    for part in line.split():
        key, value = part.split("=")
        emit(key, (float(value) / 3, 1, int(value)))


def add(a, b):
    return a + b


def summed_up(a, b):
    return a[0] + b[0], a[1] + b[1], max(a[2], b[2])


def least(a, b):
    """Machine code does not shift by 64 bits and more, Python does: there it is as any other row."""
    return min(a, b) + (0 << (max(a, b) % 66))


def none_above(a, b):
    """Nothing, from the first sum above 300 on."""
    return None if a is None or b is None or a + b > 300 else a + b


def largest_two():
    def step(state, value):
        first, second = state
        if value > first:
            return value, first
        return first, max(second, value)

    def merge(a, b):
        return step(step(a, b[0]), b[1])

    return km.Combiner(lambda: (-1, -1), step, merge, lambda state: state[0] * 1000 + state[1])


def lines_of(distinct, rows=3_000):
    chance = random.Random(distinct)
    keys = [f"k{n}" if n % 9 else f"a-longer-key-of-number-{n}" for n in range(distinct)]
    lines = (range(chance.choice([0, 1, 3, 12])) for _ in range(rows))
    return [" ".join(f"{chance.choice(keys)}={chance.randrange(1, 100)}" for _ in line) for line in lines]


def values_of(lines):
    found = {}
    for part in " ".join(lines).split():
        key, value = part.split("=")
        found.setdefault(key, []).append(int(value))
    return found


def states_of(tmp_path, lines, map_, combine, value="v", settings=None):
    path = tmp_path / "t.txt"
    path.write_text("\n".join(lines))
    job = km.MapReduce(map_, combine=combine, key="k", value=value, order=None, compile="require")
    rows = job(km.scan_text(path)).collect(progress=False, **(settings or {"threads": 1})).to_arrow().to_pylist()
    return {row.pop("k"): tuple(row.values()) if len(row) > 1 else row.popitem()[1] for row in rows}


@pytest.mark.parametrize("distinct", [40, 9_000])
@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 2, "split_size": "60KiB", "partitions": 3}])
def test_drivers_fold_what_they_stage(tmp_path, by_python, distinct, settings):
    lines = lines_of(distinct)
    expected = {key: sum(values) for key, values in values_of(lines).items()}
    assert states_of(tmp_path, lines, numbered, add, settings=settings) == expected
    assert sum(by_python) < sum(map(len, values_of(lines).values())) // 2


def test_the_last_rows_of_a_batch_are_folded_by_the_driver_too(tmp_path, monkeypatch, by_python):
    monkeypatch.setattr(reading, "BATCH_ROWS", 400)
    lines = lines_of(40)
    expected = {key: sum(values) for key, values in values_of(lines).items()}
    assert states_of(tmp_path, lines, numbered, add) == expected
    assert len([rows for rows in by_python if rows]) == 1  # the first that were staged: drivers are told by them


def test_floats_are_added_in_the_order_of_rows_beside_whole_numbers(tmp_path, by_python):
    lines = lines_of(300)
    expected = {
        key: (reduce(add, (value / 3 for value in values)), len(values), max(values))
        for key, values in values_of(lines).items()
    }
    assert states_of(tmp_path, lines, measured, summed_up, value=("s", "n", "m")) == expected
    assert sum(by_python) < sum(map(len, values_of(lines).values())) // 2


def test_states_begin_and_end_as_a_combiner_says(tmp_path, by_python):
    lines = lines_of(200)
    expected = {}
    for key, values in values_of(lines).items():
        second, first = ([-1, -1, *sorted(values)])[-2:]
        expected[key] = first * 1000 + second
    assert states_of(tmp_path, lines, numbered, largest_two()) == expected
    assert sum(by_python) < sum(map(len, values_of(lines).values())) // 2


def test_a_table_that_is_flushed_at_its_size_loses_no_row(tmp_path, monkeypatch, by_python):
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", 500)
    lines = lines_of(4_000)
    expected = {key: sum(values) for key, values in values_of(lines).items()}
    assert states_of(tmp_path, lines, numbered, add) == expected
    assert sum(by_python) < sum(map(len, values_of(lines).values()))


@pytest.mark.parametrize("flush", [70, 1 << 20])
def test_rows_that_machine_code_refuses_are_folded_by_python_before_any_flush(tmp_path, monkeypatch, flush):
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", flush)
    lines = lines_of(2_000)
    expected = {key: min(values) for key, values in values_of(lines).items()}
    assert states_of(tmp_path, lines, numbered, least) == expected


def test_a_state_that_becomes_none_stays_so(tmp_path):
    lines = lines_of(150)
    sums = {key: sum(values) for key, values in values_of(lines).items()}
    expected = {key: n if n <= 300 or len(values_of(lines)[key]) == 1 else None for key, n in sums.items()}
    assert None in expected.values()
    assert states_of(tmp_path, lines, numbered, none_above) == expected


def test_records_that_fail_leave_none_of_their_rows_and_the_others_all(tmp_path):
    def checked(line, emit):
        for part in line.split():
            key, value = part.split("=")
            emit(key, int(value))
        if len(line) % 10 == 3:
            emit.reject("an odd length")

    lines = [f"{line} k1={'x' if n % 83 == 0 else n}" for n, line in enumerate(lines_of(500))]
    kept = [line for line in lines if not line.endswith("x") and len(line) % 10 != 3]
    expected = {key: sum(values) for key, values in values_of(kept).items()}
    settings = {"threads": 1, "on_bad": "reject", "max_rejects": 5_000}
    assert states_of(tmp_path, lines, checked, add, settings=settings) == expected


def test_a_driver_comes_back_where_states_have_no_room(tmp_path, monkeypatch):
    covered, cover = [], Dense.cover
    monkeypatch.setattr(folds, "_SPARE_GROUPS", folds.CHUNK_ROWS + 50)
    monkeypatch.setattr(Dense, "cover", lambda one, groups: covered.append(groups) or cover(one, groups))
    lines = lines_of(9_000)
    expected = {key: sum(values) for key, values in values_of(lines).items()}
    assert states_of(tmp_path, lines, numbered, add) == expected
    assert max(covered) > 9_000
