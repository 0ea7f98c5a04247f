"""What is kept between processes: code that needs numba's runtime, helpers of texts; and what is let go of."""

import json
import os
import subprocess
import sys

import pytest

from kernelmill.kernels import _jit
from kernelmill.kernels._cache import Cache, Code

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

PROGRAM = """
import json, resource, sys
import numpy as np
from kernelmill.kernels import staged, usercode, usermaps
from kernelmill.kernels.usercode import Input

TEXTS = ["the quick  brown fox", "", "b a c", "ü é x", "one"]

def listed(line, emit):
    words = [word for word in line.split() if word != "fox"]
    for i, word in enumerate(words):
        emit(word + str(i), len(words))

def counted(line, emit):
    emit(line, line.count("o"))

def upper(line, emit):
    emit(line.upper(), 1.5)

function = {"listed": listed, "counted": counted, "upper": upper}[sys.argv[1]]
compiled = []
made = usermaps.compiled_map(function, [Input("line", "text", False)], {}, on_compile=compiled.append)

data = "".join(TEXTS).encode()
sizes = [len(text.encode()) for text in TEXTS]
offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
text = np.frombuffer(data + bytes(usercode.TEXT_SLACK_BYTES), np.uint8)
columns = text, offsets[:-1], offsets[1:], np.empty(0, np.uint8), False
capacity, scratch = 256, np.zeros(1 << 16, np.uint8)
rows, state = np.zeros(4 * capacity, np.int64), np.zeros(usermaps.STATE_SIZE, np.int64)
arena = np.array([scratch.ctypes.data, scratch.size, 0, 0], np.int64)

def drive():
    state[:] = 0
    state[usermaps.CAPACITY] = state[usermaps.FULL_AT] = capacity
    arena[usermaps.ARENA_USED] = 0
    assert made.drive(*columns, 0, len(TEXTS), arena, rows, state) == len(TEXTS)

def staged_rows():
    count = state[usermaps.COUNT]
    addresses, sizes, numbers = rows[:count], rows[capacity : capacity + count], rows[2 * capacity :][:count]
    out_offsets, validity = np.empty(count + 1, np.int32), np.empty(count, np.uint8)
    staged.staged_offsets(sizes, out_offsets, validity)
    out = np.empty(int(out_offsets[-1]) + staged.SLACK_BYTES, np.uint8)
    staged.copy_staged(scratch, scratch.ctypes.data, addresses, sizes, out_offsets, out)
    texts = [out[a:b].tobytes().decode() for a, b in zip(out_offsets, out_offsets[1:])]
    return list(zip(texts, numbers.tolist()))

drive()
found = staged_rows()
grown = 0
if len(sys.argv) > 2:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(int(sys.argv[2]) // len(TEXTS)):
        drive()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert staged_rows() == found
wanted = []
for text in TEXTS:
    function(text, lambda *row: wanted.append(row))
print(json.dumps({
    "compiled": compiled, "numba": "numba" in sys.modules, "grown_kib": grown,
    "equal": found == wanted or sys.argv[1] == "upper",
}))
"""


def run(cache, *arguments):
    environment = os.environ | {"KERNELMILL_CACHE_DIR": str(cache)}
    words = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def helpers_in(cache):
    return {path.name for path in cache.rglob("text-*")}


def test_a_map_that_makes_lists_is_loaded_without_numba_and_gives_its_memory_back(tmp_path):
    first = run(tmp_path, "listed")
    assert (first["compiled"], first["numba"], first["equal"]) == (["listed"], True, True)
    second = run(tmp_path, "listed", "1000000")
    assert (second["compiled"], second["numba"], second["equal"]) == ([], False, True)
    assert second["grown_kib"] < 8 << 10  # a list of three words takes 300 bytes: a leak would be 100 MB and more


def test_helpers_of_texts_are_compiled_once_for_all_functions(tmp_path):
    run(tmp_path, "counted")
    before = helpers_in(tmp_path)
    assert len(before) > 3
    run(tmp_path, "upper")
    added = helpers_in(tmp_path) - before
    assert added
    for path in tmp_path.rglob("map-*"):
        path.unlink()
    assert run(tmp_path, "upper")["compiled"] == ["upper"]
    assert helpers_in(tmp_path) == before | added


def test_a_damaged_helper_is_compiled_again(tmp_path):
    run(tmp_path, "counted")
    for path in [*tmp_path.rglob("text-*"), *tmp_path.rglob("map-*")]:
        path.write_bytes(path.read_bytes()[:-9])
    again = run(tmp_path, "counted")
    assert (again["compiled"], again["equal"]) == (["counted"], True)


def test_numba_works_after_its_runtime_was_loaded_for_cached_code(tmp_path):
    lists = "import numba; assert numba.njit(lambda n: sum([i for i in range(n)]))(5) == 10"
    run(tmp_path, "listed")
    environment = os.environ | {"KERNELMILL_CACHE_DIR": str(tmp_path)}
    words = [sys.executable, "-c", f"{PROGRAM}\n{lists}\ndrive()\nassert staged_rows() == found", "listed"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_of_too_many_files_the_oldest_are_removed(tmp_path):
    cache = Cache(tmp_path)
    for number in range(12):
        cache.write(f"map-{number}", Code(b"code", []))
        os.utime(tmp_path / f"map-{number}", (number, number))
    cache.write("kernel", Code(b"code", []))
    cache.trim("map-*", 12)
    assert len(list(tmp_path.glob("map-*"))) == 12
    cache.trim("map-*", 10)
    assert {path.name for path in tmp_path.iterdir()} == {"kernel", *(f"map-{number}" for number in range(4, 12))}
