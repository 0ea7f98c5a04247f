"""partition(key, n) as machine code: every key goes where plain Python sends it, and errors are Python's."""

import math
from contextlib import nullcontext

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.compiling import compiled_partition
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.context import Scratch
from kernelmill.engine.exec.placing import user_placing
from kernelmill.engine.plan.physical import ToBlocks, UserCall
from kernelmill.engine.userfunctions import user_function
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

TEXTS = st.none() | st.text(max_size=12) | st.sampled_from(["", "a", "Zoë", "x" * 40])
NUMBERS = st.none() | st.integers(-(2**62), 2**62)
FLOATS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, math.nan, math.inf])


def by_hash(key, n):
    return hash(key) % n


def by_first_letter(key, n):
    if key is None or key == "":
        return 0
    return ord_of(key.lower()[0]) % n


def ord_of(letter):
    return ord(letter) * 7


def by_sign(key, n):
    return 0 if key is None or key < 0 else n - 1


def by_flag(key, n):
    return n - 1 if key else 0


def by_both(key, n):
    text, number = key
    return 0 if text is None or number is None else (len(text) + number) % n


class Surroundings:
    scratch = Scratch()

    def watched(self, at, stop):
        return nullcontext()

    def check_cancelled(self):
        """Nobody cancels."""


def placed(function, columns, partitions, *, is_tuple, compile_):
    made = user_function(function, "partition", positional=2, compile=compile_)
    batch = pa.RecordBatch.from_arrays(columns, names=[f"k{n}" for n in range(len(columns))])
    end = ToBlocks(tuple(batch.schema.names), UserCall(0, "partition", made.name, made.where), is_tuple)
    parts = user_placing(end, [made], Surroundings())(batch, partitions).tolist()
    if compile_ == "require":
        assert made.is_compiled
    return parts


@pytest.mark.parametrize(
    ("function", "values", "dtype"),
    [
        (by_hash, TEXTS, pa.string()),
        (by_hash, NUMBERS, pa.int64()),
        (by_hash, FLOATS, pa.float64()),
        (by_first_letter, TEXTS, pa.string()),
        (by_sign, FLOATS, pa.float64()),
        (by_sign, st.integers(-100, 100), pa.int16()),
        (by_flag, st.none() | st.booleans(), pa.bool_()),
    ],
)
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(data=st.data())
def test_compiled_and_plain_python_place_alike(function, values, dtype, data):
    column = pa.array(data.draw(st.lists(values, max_size=30)), dtype)
    n = data.draw(st.integers(1, 7))
    made = [placed(function, [column], n, is_tuple=False, compile_=how) for how in ("require", "never")]
    assert made[0] == made[1]


@pytest.mark.parametrize("function", [by_hash, by_both])
@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(rows=st.lists(st.tuples(TEXTS, st.none() | st.integers(-(2**60), 2**60)), max_size=20), n=st.integers(1, 5))
def test_tuples_are_placed_alike(function, rows, n):
    columns = [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.int64())]
    made = [placed(function, columns, n, is_tuple=True, compile_=how) for how in ("require", "never")]
    assert made[0] == made[1]


def test_texts_made_for_a_key_take_no_room_from_the_next():
    column = pa.array(["ab" * 100_000] * 30)
    parts = placed(lambda key, n: len(key.upper() + key) % n, [column], 7, is_tuple=False, compile_="require")
    assert parts == [400_000 % 7] * 30


@pytest.mark.parametrize(
    "wrong", [lambda key, n: n, lambda key, n: -1, lambda key, n: 1 // (len(key) - len(key)), lambda key, n: int(key)]
)
@pytest.mark.parametrize("compile_", ["require", "never"])
def test_what_is_no_partition_is_said_as_python_says_it(wrong, compile_):
    def key_itself(line, emit):
        emit(line, 1)

    schema = {"key": "string", "value": "int64"}
    job = km.MapReduce(key_itself, "sum", partition=wrong, schema=schema, partitions=3, compile=compile_)
    with pytest.raises(KernelmillError) as caught:
        job(km.from_arrow(pa.table({"line": ["ab", "c"]}))).collect()
    assert caught.value.code is Code.FUNCTION_FAILED
    assert "'ab'" in str(caught.value)


def test_a_partitioner_of_files_compiles_and_its_files_are_those_of_python(tmp_path):
    def words(line, emit):
        for word in line.split():
            emit(word, 1)

    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    made = []
    for compile_ in ("require", "never"):
        schema = {"key": "string", "value": "int64"}
        job = km.MapReduce(words, "sum", partition=by_first_letter, partitions=3, schema=schema, compile=compile_)
        job.run(tmp_path / "a.txt", output=tmp_path / compile_, progress=False)
        made.append([file.read_bytes() for file in sorted((tmp_path / compile_).glob("*.parquet"))])
    assert made[0] == made[1] and len(made[0]) == 3


def test_what_cannot_be_compiled_warns_once_or_is_an_error():
    def stranger(key, n):
        return len(repr(key)) % n

    def returns_float(key, n):
        return 1.0

    keys = pa.schema([pa.field("key", pa.string())])
    for function in (stranger, returns_float):
        asked = user_function(function, "partition", positional=2)
        with pytest.warns(km.InterpretedFunctionWarning, match=r"test_compiled_partition\.py:\d+"):
            assert compiled_partition(asked, keys, False, nullable=False) is None
        assert compiled_partition(asked, keys, False, nullable=False) is None
        refused = user_function(function, "partition", positional=2, compile="require")
        with pytest.raises(KernelmillError) as caught:
            compiled_partition(refused, keys, False, nullable=False)
        assert caught.value.code is Code.INTERPRETED
