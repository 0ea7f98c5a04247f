"""What a function reads of modules: helpers and tables are compiled so, too, and an edit of them counts."""

import os.path
import string
import subprocess
import sys
import types

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit
from kernelmill.kernels.modulenames import with_module_names

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

HELPERS = """
import inner

STOP = {"a", "b"}
SEPARATOR, LIMIT = " ", 2


def cut(line):
    return [word for word in line.split(SEPARATOR) if word not in STOP]


def measured(line):
    return sum(len(word) * inner.FACTOR for word in cut(line))
"""
USER = """
import os.path
import string

import helpers


def mapped(line, emit):
    for word in helpers.cut(line):
        emit(word, helpers.LIMIT + helpers.measured(line))
    if "a" in helpers.STOP:
        emit(helpers.SEPARATOR + os.path.sep, (lambda text: helpers.measured(text))(line))
    emit(line.strip(string.ascii_lowercase), sum(helpers.LIMIT for word in helpers.cut(line)))
    emit(line[helpers.inner.FACTOR :], helpers.inner.FACTOR)
"""
LINES = ["abc a d", "x y b", "", "é b abc"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Modules in a folder of their own; write(name, text) writes one and imports it anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(text, str(path), "exec"), vars(module))
        return module

    write("inner", "FACTOR = 3\n")
    write("helpers", HELPERS)
    return write


def rows(function, how="require"):
    job = km.MapReduce(function, schema={"key": "string", "value": "int64"}, order=None, compile=how)
    return km.from_arrow(pa.table({"line": LINES})).pipe(job).collect(progress=False).rows()


def naive(function):
    found = []
    for line in LINES:
        function(line, lambda *row: found.append(row))
    return found


def test_helpers_and_tables_are_compiled_by_the_names_of_their_modules(written):
    mapped = written("user", USER).mapped
    assert rows(mapped) == naive(mapped)


def test_an_edit_of_a_module_counts_at_the_next_run(written):
    mapped = written("user", USER).mapped
    job = km.MapReduce(mapped, order=None, compile="require")
    frame = km.from_arrow(pa.table({"line": LINES}))
    assert frame.pipe(job).collect(progress=False).rows() == naive(mapped)
    sys.modules["helpers"].LIMIT, sys.modules["inner"].FACTOR = 50, 2
    assert frame.pipe(job).collect(progress=False).rows() == naive(mapped)


def test_a_constant_of_a_module_counts_in_the_next_process(tmp_path):
    (tmp_path / "user.py").write_text(
        "import kernelmill as km, pyarrow as pa, consts\n"
        "def mapped(line, emit):\n    emit(line, consts.LIMIT)\n"
        "job = km.MapReduce(mapped, order=None, compile='require')\n"
        "print(km.from_arrow(pa.table({'line': ['x']})).pipe(job).collect(progress=False).rows())\n"
    )
    for limit in (3, 7):
        (tmp_path / "consts.py").write_text(f"LIMIT = {limit}\n")
        done = subprocess.run(
            [sys.executable, "-B", "user.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"[('x', {limit})]"


def test_a_module_that_was_edited_and_loaded_again_keeps_its_generator_expressions(written):
    assert rows(written("user", USER).mapped)
    edited = written("user", "\n\n" + USER.replace("(line)", "(line.upper())")).mapped
    assert rows(edited) == naive(edited)


def test_what_numba_knows_and_what_is_no_data_of_python_s_own_modules_stays():
    def mapped(line, emit):
        emit(os.path.basename(line), string.capwords(line))

    assert with_module_names(mapped) is mapped
    with pytest.raises(UserCodeError) as raised:
        rows(mapped)
    assert raised.value.code == Code.INTERPRETED
    assert "os.path is not supported" in str(raised.value)
