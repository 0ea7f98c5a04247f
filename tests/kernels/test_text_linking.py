"""Whatever functions of texts a user's function calls, in whatever order: its machine code has all that it needs."""

import itertools
import random

import pytest

from kernelmill.kernels import _jit

if _jit.JIT_DISABLED or _jit.BOUNDS_CHECKED:
    pytest.skip("nothing is linked then", allow_module_level=True)

from numba.core import types
from numba.core.compiler_lock import global_compiler_lock

from kernelmill.kernels import _compile
from kernelmill.kernels._jit import boolean, i64, i64_out, u8_in
from kernelmill.kernels.functions import driving
from kernelmill.kernels.functions.helpers import compiled_helpers
from kernelmill.kernels.text.library import TEXT, text_of
from kernelmill.kernels.usercode import CannotCompileError

PAIRS = 40

USES = [
    lambda a: len(a.split()[0]),
    lambda a: int(a.split()[1]),
    lambda a: len(a.split(",")[1]),
    lambda a: int(a),
    lambda a: int(float(a) > 1),
    lambda a: len(a.strip()),
    lambda a: len(a.title()),
    lambda a: len(" ".join(a.split())),
    lambda a: sum([len(word) for word in a.split()]),
    lambda a: a.find("x") + a.count("a"),
    lambda a: len(f"{a}-{len(a)}"),
    lambda a: int(any(word.isdigit() for word in a.splitlines())),
]


def driver_of(function):
    """A driver that calls `function` with one text."""

    def drive(data, size, is_ascii, arena):
        return user(text_of(data, 0, size, is_ascii, arena))

    user = function
    return drive


SIGNATURE = i64(u8_in, i64, boolean, i64_out)


def both(first, second):
    def user(text):
        return first(text) + second(text)

    made = compiled_helpers(user, {})
    driving.result_type(made, (TEXT,))
    return made


@pytest.fixture(scope="module")
def used():
    """Each of USES, compiled once for all pairs."""
    made = [compiled_helpers(use, {}) for use in USES]
    for one in made:
        assert isinstance(driving.result_type(one, (TEXT,)), types.Integer)
    return made


def test_code_that_uses_any_two_of_them_lacks_nothing(used, monkeypatch):
    monkeypatch.setattr(_compile._Optimized, "_optimize_final_module", lambda self: None)  # which takes a second
    lacking = {}
    for first, second in random.Random(7).sample(list(itertools.permutations(range(len(USES)), 2)), PAIRS):
        driver = driver_of(both(used[first], used[second]))
        with global_compiler_lock:
            module = _compile.Compiler({})._module(driver, SIGNATURE, f"linked-{first}-{second}")
        calls = [one.name for one in module.functions if one.is_declaration and "kernelmill" in one.name]
        if calls:
            lacking[first, second] = calls
    assert not lacking


def test_code_that_lacks_a_name_is_refused_and_not_linked(used, monkeypatch):
    monkeypatch.setattr(_compile.Compiler, "object_code", lambda *_: (b"", ["nothing_of_that_name"]))
    monkeypatch.setattr(_compile.Compiler, "dispatcher", lambda *_: pytest.fail("the linker would end the process"))
    with pytest.raises(CannotCompileError, match="nothing_of_that_name"):
        driving.entry_point(driver_of(used[0]), SIGNATURE, "lacking")
