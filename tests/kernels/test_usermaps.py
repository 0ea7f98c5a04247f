"""A user's map compiled: what is staged equals what Python emits, and the cache knows one function from another."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

from kernelmill.kernels import _jit, staged, usercode, usermaps
from kernelmill.kernels.usercode import CannotCompileError, Input, Output
from kernelmill.kernels.usermaps import compiled_map, map_name

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINE = [Input("line", "text", nullable=False)]
TEXTS = ["the quick  brown", "", "fox-jumps over the lazy dog", "näive Ünïcode ß", "x" * 40 + " y"]
FACTOR = 3


def words_and_lengths(line, emit):
    for word in line.split():
        emit(word, len(word) * FACTOR)


def text_column(texts):
    data = "".join(texts).encode()
    lengths = [len(text.encode()) for text in texts]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    padded = np.frombuffer(data + bytes(usercode.TEXT_SLACK_BYTES), np.uint8)
    return padded, offsets[:-1], offsets[1:], np.empty(0, np.uint8), data.isascii()


class Staged:
    """A stage, its arena, and what a driver left in them."""

    def __init__(self, columns, rows=256, arena_bytes=1 << 16):
        self.rows, self.state = np.zeros(2 * rows * columns, np.int64), np.zeros(usermaps.STATE_SIZE, np.int64)
        self.state[usermaps.CAPACITY] = self.state[usermaps.FULL_AT] = self.capacity = rows
        self.state[usermaps.COUNTERS_END] = usermaps.STATE_SIZE
        self.bytes = np.zeros(arena_bytes, np.uint8)
        self.arena = np.array([self.bytes.ctypes.data, arena_bytes, 0, 0], np.int64)

    def words(self, column, part):
        start = (2 * column + part) * self.capacity
        return self.rows[start : start + self.state[usermaps.COUNT]]

    def texts(self, column):
        addresses, sizes = self.words(column, 0), self.words(column, 1)
        offsets, validity = np.empty(sizes.size + 1, np.int32), np.empty(sizes.size, np.uint8)
        staged.staged_offsets(sizes, offsets, validity)
        out = np.empty(int(offsets[-1]) + staged.SLACK_BYTES, np.uint8)
        staged.copy_staged(self.bytes, self.bytes.ctypes.data, addresses, sizes, offsets, out)
        pairs = zip(offsets, offsets[1:], validity, strict=False)
        return [out[a:b].tobytes().decode() if valid else None for a, b, valid in pairs]


def emitted(function, texts):
    found = []
    for text in texts:
        function(text, lambda *row: found.append(row))
    return found


def test_what_is_staged_is_what_python_emits():
    made = compiled_map(words_and_lengths, LINE, {})
    assert made.outputs == (Output("text", False), Output("int64", False))
    stage, columns = Staged(2), text_column(TEXTS)  # what is staged points into the columns
    assert made.drive(*columns, 0, len(TEXTS), stage.arena, stage.rows, stage.state) == len(TEXTS)
    rows = list(zip(stage.texts(0), stage.words(1, 0).tolist(), strict=True))
    assert rows == emitted(words_and_lengths, TEXTS)


def test_several_columns_nulls_tuples_floats_and_booleans():
    def rows(row, emit):
        if row.city is None:
            emit((row.n, None), row.ratio)
        else:
            emit((row.n, row.city.upper()), row.ratio / 2)

    inputs = [Input("city", "text", True), Input("n", "int64", False), Input("ratio", "float64", False)]
    made = compiled_map(rows, inputs, {})
    assert made.outputs == (Output("int64", False), Output("text", True), Output("float64", False))
    data, starts, ends, _, is_ascii = text_column(["oslo", "", "köln"])
    stage = Staged(3)
    columns = (data, starts, ends, np.array([1, 0, 1], np.uint8), is_ascii)
    numbers = (np.array([1, 2, 3]), np.empty(0, np.uint8), np.array([1.0, 2.0, 3.0]), np.empty(0, np.uint8))
    assert made.drive(*columns, *numbers, 0, 3, stage.arena, stage.rows, stage.state) == 3
    assert stage.words(0, 0).tolist() == [1, 2, 3]
    assert stage.texts(1) == ["OSLO", None, "KÖLN"]
    assert stage.words(2, 0).view(np.float64).tolist() == [0.5, 2.0, 1.5]


def test_a_record_that_raises_leaves_the_rows_before_it_marked():
    def numbers(line, emit):
        for word in line.split():
            emit(word, int(word))

    stage = Staged(2)
    made = compiled_map(numbers, LINE, {})
    with pytest.raises(RuntimeError):
        made.drive(*text_column(["1 2", "3 x", "4"]), 0, 3, stage.arena, stage.rows, stage.state)
    assert (stage.state[usermaps.ROW], stage.state[usermaps.MARK]) == (1, 2)
    assert not stage.state[usermaps.OVERFULL]


def test_too_many_rows_and_too_much_text_say_so():
    stage = Staged(2, rows=4)
    made = compiled_map(words_and_lengths, LINE, {})
    with pytest.raises(RuntimeError):
        made.drive(*text_column(["a b c d e"]), 0, 1, stage.arena, stage.rows, stage.state)
    assert stage.state[usermaps.OVERFULL] == 1

    def repeated(line, emit):
        emit(line * 1000)

    stage = Staged(1, arena_bytes=1024)
    with pytest.raises(RuntimeError):
        compiled_map(repeated, LINE, {}).drive(*text_column(["ab"]), 0, 1, stage.arena, stage.rows, stage.state)
    assert stage.arena[usermaps.ARENA_WANTED] > 0


def test_counts_are_kept_record_by_record_and_a_rejected_record_stops_the_driver():
    def counting(line, emit):
        emit.count("seen")
        emit.count("letters", len(line))
        if line == "bad":
            emit.reject("bad")
        emit(line, 1)

    stage = Staged(2)
    made = compiled_map(counting, LINE, {})
    assert made.counters == ("seen", "letters")
    assert made.drive(*text_column(["ab", "bad", "c"]), 0, 3, stage.arena, stage.rows, stage.state) == 1
    assert stage.state[usermaps.REJECTED]
    assert stage.state[usermaps.COUNTERS : usermaps.COUNTERS + 4 : 2].tolist() == [1, 2]


def test_what_goes_to_a_named_output_is_staged_by_itself_and_undone_with_its_record():
    def odd(line, emit):
        emit(line)
        emit.to("lengths", len(line), 1)
        emit.to("lengths", 2 * len(line), 1)
        emit.to("texts", line.upper())
        if line == "bad":
            emit.reject()

    made, stage, sides = compiled_map(odd, LINE, {}), Staged(1), [Staged(1), Staged(1)]
    assert [rows.name for rows in made.named] == ["lengths", "texts"] and made.names_all
    assert made.named[0].outputs == (Output("int64", False), Output("int64", False, 1))
    for number, side in enumerate(sides):
        place = usermaps.NAMED + usermaps.NAMED_WORDS * number
        stage.state[place : place + 2] = side.rows.ctypes.data, side.capacity
    columns = text_column(["ab", "c", "bad", "d"])
    stage.state[usermaps.COUNTERS_END] = usermaps.COUNTERS
    assert made.drive(*columns, 0, 4, stage.arena, stage.rows, stage.state) == 2 and stage.state[usermaps.REJECTED]
    words = stage.state[usermaps.NAMED :].reshape(-1, usermaps.NAMED_WORDS)
    assert words[:2, usermaps.TO_COUNT].tolist() == [6, 3] and words[:2, usermaps.TO_MARK].tolist() == [4, 2]
    assert sides[0].rows[:4].tolist() == [2, 4, 1, 2]
    sides[1].state[usermaps.COUNT] = 2
    assert sides[1].texts(0) == ["AB", "C"]


def test_without_room_a_named_output_says_which_it_is_or_leaves_the_record_to_python():
    def odd(line, emit):
        emit.to("lengths", len(line))
        emit.to("texts", line)

    made, stage, side = compiled_map(odd, LINE, {}), Staged(1), Staged(1)
    assert (made.outputs, made.shape) == ((), ())
    state = stage.state[usermaps.NAMED :].reshape(-1, usermaps.NAMED_WORDS)
    state[0, :2], state[1, usermaps.TO_CAPACITY] = (side.rows.ctypes.data, side.capacity), 0
    with pytest.raises(RuntimeError):
        made.drive(*text_column(["a"]), 0, 1, stage.arena, stage.rows, stage.state)
    assert stage.state[usermaps.OVERFULL] == 3
    state[1, usermaps.TO_CAPACITY], stage.state[usermaps.OVERFULL] = -1, 0
    assert made.drive(*text_column(["a"]), 0, 1, stage.arena, stage.rows, stage.state) == 0
    assert stage.state[usermaps.REJECTED] == 1 and stage.state[usermaps.OVERFULL] == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda line, emit: emit(line.encode(), 1),
        lambda line, emit: emit(open(line), 1),  # noqa: SIM115
        lambda line, emit: emit(None),
        lambda line, emit: emit(line) if line else emit(line, 1),
        lambda line, emit: emit(line, 1) if line else emit(1, line),
    ],
)
def test_what_cannot_be_compiled_is_said(function):
    with pytest.raises(CannotCompileError):
        compiled_map(function, LINE, {})


def test_equal_functions_have_one_fingerprint_and_any_change_another(monkeypatch):
    before = map_name(words_and_lengths, LINE, {})
    assert before == map_name(words_and_lengths, LINE, {})
    others = {
        map_name(words_and_lengths, [Input("line", "text", True)], {}),
        map_name(words_and_lengths, LINE, {"n": 1}),
        map_name(closure_of(1), LINE, {}),
        map_name(closure_of(2), LINE, {}),
        map_name(closure_of(helper_of(1)), LINE, {}),
        map_name(closure_of(helper_of(2)), LINE, {}),
    }
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 4)
    others.add(map_name(words_and_lengths, LINE, {}))
    assert len(others | {before}) == 8
    assert map_name(closure_of(object()), LINE, {}) is None


def closure_of(used):
    def function(line, emit):
        emit(line, used)

    return function


def helper_of(n):
    def helper(x):
        return x + n

    return helper


def test_functions_that_no_fingerprint_tells_apart_keep_their_own_code():
    found = []
    for number in (5, 7):
        function = closure_of(np.int64(number))
        assert map_name(function, LINE, {}) is None
        stage, columns = Staged(2), text_column(["a"])
        compiled_map(function, LINE, {}).drive(*columns, 0, 1, stage.arena, stage.rows, stage.state)
        found += stage.words(1, 0).tolist()
    assert found == [5, 7]


SECOND_PROCESS = """
import sys
from kernelmill.kernels.usercode import Input
from kernelmill.kernels.usermaps import compiled_map
def words(line, emit):
    for word in line.split():
        emit(word, 1)
made = compiled_map(words, [Input("line", "text", False)], {}, on_compile=print)
print(len(made.outputs), "numba" in sys.modules)
"""


def test_a_second_process_neither_compiles_nor_imports_numba(tmp_path):
    def run():
        environment = os.environ | {"KERNELMILL_CACHE_DIR": str(tmp_path)}
        words = [sys.executable, "-c", SECOND_PROCESS]
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout

    assert run().split() == ["words", "2", "True"]
    assert run().split() == ["2", "False"]


def test_functions_of_a_notebook_compile_without_source():
    module = types.ModuleType("__main__")
    exec("def words(line, emit):\n    for word in line.split():\n        emit(word, 1)\n", module.__dict__)
    assert compiled_map(module.words, LINE, {}).outputs == (Output("text", False), Output("int64", False, 1))
