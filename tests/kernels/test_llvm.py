"""Linking by llvmlite's library alone does what its package does."""

import subprocess
import sys

import llvmlite
import pytest

from kernelmill.kernels import _jit, _llvm
from kernelmill.kernels._compile import Compiler
from kernelmill.kernels._jit import i64, i64_in
from kernelmill.kernels._signature import Signature

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED, reason="nothing is compiled without the JIT")

WAYS = [_llvm._Library, _llvm._Package]
SUM = Signature(i64, (i64_in,))


def total(values):
    found = 0
    for value in values:
        found += value
    return found


@pytest.fixture(scope="module")
def code():
    object_file, _ = Compiler({}).object_code(total, SUM, "total-of-a-test")
    return object_file


def test_this_version_of_llvmlite_is_one_whose_functions_are_known():
    assert llvmlite.__version__.startswith(_llvm._KNOWN)
    assert isinstance(_llvm.llvm(), _llvm._Library)


def test_another_version_is_used_by_its_package(monkeypatch):
    monkeypatch.setattr(llvmlite, "__version__", "0.99.0")
    assert isinstance(_llvm.llvm.__wrapped__(), _llvm._Package)


def test_both_ways_see_the_same_machine():
    library, package = (way().machine() for way in WAYS)
    assert library == package
    assert all(library)


@pytest.mark.parametrize("way", WAYS)
def test_linked_code_lies_where_it_says_and_what_is_not_in_it_lies_nowhere(way, code):
    linker = way()
    assert linker.link(code, "total-of-a-test") > 0
    assert linker.link(code, "total-of-another-test") == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_was_made_known_is_found(way, code):
    linker = way()
    linker.link(code, "total-of-a-test")
    name = f"kernelmill_test_{way.__name__}"
    assert linker.address_of_symbol(name) is None
    linker.add_symbol(name, 4096)
    assert [one().address_of_symbol(name) for one in WAYS] == [4096, 4096]


def test_linked_code_runs_before_and_after_the_package_is_imported():
    """Both use one library: what one has declared must not disturb the other."""
    script = """
import sys
import numpy as np
from kernelmill.kernels import combining
def add():
    sums = np.zeros(2)
    combining.add_floats(np.zeros(3, np.int32), np.ones(3), np.empty(0, np.uint8), sums)
    return sums.tolist()
first = add()
was = "llvmlite.binding" in sys.modules
import llvmlite.binding
combining.count_rows.load()
counts = np.zeros(2, np.int64)
combining.count_rows(np.zeros(3, np.int32), np.empty(0, np.uint8), counts)
print(was, first, add(), counts.tolist())
"""
    cached = "from kernelmill.kernels import combining; combining.add_floats.load(), combining.count_rows.load()"
    for text in (cached, script):  # the first may compile, by llvmlite's package
        done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    assert done.stdout == "False [3.0, 0.0] [3.0, 0.0] [3, 0]\n"
