"""Constants with methods of their own, as members of enums are: Python runs, and uses what they are."""

import enum
from collections import namedtuple

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")


class Level(enum.IntEnum):
    HIGH = 2


class Word(str):
    def upper(self):
        return "custom"


class Money(int):
    def __add__(self, other):
        return 100


class Share(float):
    def __mul__(self, other):
        return 9.0


class Flipped(tuple):
    def __getitem__(self, at):
        return 42


Point = namedtuple("Point", "x y")
HIGH, WORD, MONEY, SHARE, FLIPPED, NESTED, POINT = (
    Level.HIGH, Word("abc"), Money(2), Share(2.0), Flipped((1, 2)), (1, Money(2)), Point(1, 2)
)  # fmt: skip


def of_member(line, emit):
    emit(f"{HIGH} {line}", HIGH)


def of_enum(line, emit):
    emit(str(Level.HIGH), 1)


def of_word(line, emit):
    emit(WORD.upper(), 1)


def of_money(line, emit):
    emit(line, MONEY + 1)


def of_share(line, emit):
    emit(line, int(SHARE * 2.0))


def of_tuple(line, emit):
    emit(line, FLIPPED[0])


def of_nested(line, emit):
    emit(line, NESTED[1] + 1)


def of_default(line, emit, money=MONEY):
    emit(line, money + 1)


def of_side(line, emit, *, given):
    emit(f"{given}", given + 1)


def helped(n, money=MONEY):
    return money + n


def of_helper(line, emit):
    emit(line, helped(len(line)))


CASES = [(one, {}) for one in (of_member, of_enum, of_word, of_money, of_share, of_tuple, of_nested, of_default)]
CASES += [(of_helper, {}), (of_side, {"given": Level.HIGH}), (of_side, {"given": Money(2)})]


@pytest.mark.parametrize(("function", "side"), CASES)
def test_a_constant_with_methods_of_its_own_is_python_s(function, side):
    frame = km.from_arrow(pa.table({"line": ["abc", "x"]}))

    def rows(how):
        schema = {"key": "string", "value": "int64"}
        job = km.MapReduce(function, schema=schema, side=side or None, order=None, compile=how)
        return frame.pipe(job).collect(progress=False).rows()

    found = []
    for line in ("abc", "x"):
        function(line, lambda *row: found.append(row), **side)
    with pytest.warns(km.InterpretedFunctionWarning):
        assert rows("auto") == found
    with pytest.raises(UserCodeError) as raised:
        rows("require")
    assert raised.value.code == Code.INTERPRETED


def test_named_tuples_and_plain_values_are_compiled():
    job = km.MapReduce(lambda line, emit: emit(line, POINT.x + POINT[1]), order=None, compile="require")
    assert km.from_arrow(pa.table({"line": ["a"]})).pipe(job).collect(progress=False).rows() == [("a", 3)]
