"""The kernel cache: shared by processes, distrusted where bytes changed, and done without where it cannot be."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kernelmill.kernels import _cache, _jit, _loader, combining
from kernelmill.kernels._cache import Cache, Code, KernelCacheWarning

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED, reason="nothing is compiled without the JIT")

TINY = """
from kernelmill.kernels._jit import helper, i64, i64_in, kernel

@helper
def twice(x):
    return x * 2

@kernel(i64(i64_in))
def total(values):
    sum = 0
    for i in range(values.size):
        sum += values[i]
    return sum

@kernel(i64(i64))
def doubled(value):
    return twice(value)
"""
RUN = """
import json, sys, warnings
import numpy as np
sys.path.insert(0, sys.argv[1])
compiled = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import tiny_kernels
    from kernelmill.kernels import _jit
    seconds = _jit.load([tiny_kernels.total, tiny_kernels.doubled], compiled.append)
    answers = [tiny_kernels.total(np.arange(10)), tiny_kernels.doubled(21)]
said = [w.category.__name__ for w in caught]
place = _jit.cache_directory()
print(json.dumps([compiled, answers, said, place and str(place), seconds > 0, "numba" in sys.modules]))
"""
BOTH = ["tiny_kernels.total", "tiny_kernels.doubled"]
ANSWERS = [45, 42]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "tiny_kernels.py").write_text(TINY)
    return folder


def start(source, cache, **more):
    environment = {**os.environ, "KERNELMILL_CACHE_DIR": str(cache), **more}
    command = [sys.executable, "-c", RUN, str(source)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def result_of(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out)


def run(source, cache, **more):
    """(kernels compiled, answers, warnings, cache directory, did compiling take time, was numba imported)."""
    return result_of(start(source, cache, **more))


@pytest.fixture(scope="module")
def first_cache(source, tmp_path_factory):
    """The directory of a cache that a first process filled with both kernels; for `warmed` to copy."""
    root = tmp_path_factory.mktemp("first") / "cache"
    compiled, answers, said, place, took_time, numba_came = run(source, root)
    assert (sorted(compiled), answers, said, took_time, numba_came) == (sorted(BOTH), ANSWERS, [], True, True)
    assert Path(place).parent == root  # KERNELMILL_CACHE_DIR counts
    return Path(place)


@pytest.fixture
def warmed(first_cache, tmp_path):
    """A cache of this test's own that holds both kernels: (root, its one directory)."""
    root = tmp_path / "cache"
    shutil.copytree(first_cache.parent, root)
    return root, root / first_cache.name


def file_of(place, kernel):
    (file,) = place.glob(f"{kernel}-*")
    return file


def test_a_second_process_compiles_nothing_and_does_not_import_numba(source, warmed):
    root, place = warmed
    assert run(source, root) == [[], ANSWERS, [], str(place), False, False]


def test_processes_that_find_the_cache_empty_at_once_all_succeed_and_one_compiles(source, tmp_path):
    racing = [start(source, tmp_path / "cache") for _ in range(3)]
    results = [result_of(process) for process in racing]
    assert all(answers == ANSWERS and said == [] for _, answers, said, *_ in results)
    assert sorted(name for compiled, *_ in results for name in compiled) == sorted(BOTH)


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "garbage":
        data[:] = b"\xff\xfe\n" * 20
    else:
        data[{"flip": len(data) // 2, "flip in the names": 34}[how]] ^= 8
    file.write_bytes(data)


@pytest.mark.parametrize("how", ["cut", "flip", "flip in the names", "empty", "garbage"])
def test_a_damaged_file_is_compiled_anew_and_the_answers_stay_right(source, warmed, how):
    root, place = warmed
    damage(file_of(place, "tiny_kernels.total"), how)
    assert run(source, root)[:3] == [["tiny_kernels.total"], ANSWERS, []]
    assert run(source, root)[0] == []  # mended


def test_a_missing_file_is_compiled_anew(source, warmed):
    root, place = warmed
    file_of(place, "tiny_kernels.doubled").unlink()
    assert run(source, root)[:3] == [["tiny_kernels.doubled"], ANSWERS, []]


def test_no_other_file_stays_behind(warmed):
    _, place = warmed
    assert sorted(file.name.partition("-")[0] for file in place.iterdir()) == sorted(["lock", *BOTH])


def test_a_source_counts_by_its_content_and_not_by_its_time(tmp_path):
    file, cache = tmp_path / "tiny_kernels.py", tmp_path / "cache"
    file.write_text(TINY)
    assert sorted(run(tmp_path, cache)[0]) == sorted(BOTH)
    os.utime(file, (1e9, 1e9))
    assert run(tmp_path, cache)[:3] == [[], ANSWERS, []]
    file.write_text(TINY.replace("x * 2", "x * 3"))  # of a helper: what calls it changes
    assert run(tmp_path, cache)[1:3] == [[45, 63], []]


def test_code_that_calls_what_nobody_defines_is_left_to_numba(source, warmed):
    """LLVM would end the process at a name it cannot resolve."""
    root, place = warmed
    cache, name = Cache(place), file_of(place, "tiny_kernels.total").name
    found = cache.read(name)
    cache.write(name, Code(found.object_file, ["kernelmill_no_such_function"]))
    for _ in range(2):
        compiled, answers, said, *_, numba_came = run(source, root)
        assert (compiled, answers, said, numba_came) == (["tiny_kernels.total"], ANSWERS, [], True)


def test_code_that_calls_what_numba_defines_is_loaded_without_it(tmp_path):
    (tmp_path / "tiny_kernels.py").write_text(
        "import math\n"
        "from kernelmill.kernels._jit import f64, i64, i64_in, kernel\n"
        "@kernel(f64(i64_in))\ndef total(values):\n    return math.frexp(values[3])[0]\n"
        "@kernel(i64(i64))\ndef doubled(value):\n    return 2 * value\n"
    )
    for expected in (BOTH, []):
        compiled, answers, said, *_, numba_came = run(tmp_path, tmp_path / "cache")
        assert (compiled, answers, said, numba_came) == (expected, [0.75, 42], [], bool(expected))


@pytest.mark.parametrize("obstacle", ["file", "below a file", "read-only"])
def test_without_a_place_to_write_kernels_run_after_one_warning(source, tmp_path, obstacle):
    cache = tmp_path / "cache"
    if obstacle == "read-only":
        if os.geteuid() == 0:
            cache = Path("/proc/kernelmill")  # root may write anywhere but here
        else:
            cache.mkdir(mode=0o500)
    else:
        cache.write_text("in the way")
        cache = cache / "deeper" if obstacle == "below a file" else cache
    compiled, answers, said, place, *_ = run(source, cache)
    assert (sorted(compiled), answers, said, place) == (sorted(BOTH), ANSWERS, ["KernelCacheWarning"], None)


@pytest.mark.parametrize("writers", [0o020, 0o002])
def test_a_folder_that_others_may_write_to_is_no_cache(tmp_path, monkeypatch, writers):
    monkeypatch.setattr(_cache, "_GIVEN_ROOT", [str(tmp_path)])
    opened = Cache.open()
    assert opened is not None
    for place in (tmp_path, opened.directory):
        place.chmod(0o700 | writers)
        with pytest.warns(KernelCacheWarning, match=f"write to {place}: chmod go-w"):
            assert Cache.open() is None
        place.chmod(0o700)
    assert Cache.open() is not None


def test_a_folder_of_another_users_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_GIVEN_ROOT", [str(tmp_path)])
    assert Cache.open() is not None
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.warns(KernelCacheWarning, match="belongs to another user"):
        assert Cache.open() is None


def test_a_linked_folder_is_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_GIVEN_ROOT", [str(tmp_path)])
    opened = Cache.open()
    other = tmp_path / "other"
    opened.directory.rename(other)
    opened.directory.symlink_to(other)
    with pytest.warns(KernelCacheWarning, match="is a link"):
        assert Cache.open() is None


@pytest.fixture
def cached(tmp_path):
    """A cache with the file `kernel`, written under a umask that lets all write."""
    cache, before = Cache(tmp_path), os.umask(0)
    try:
        cache.write("kernel", Code(b"code", ["name"]))
    finally:
        os.umask(before)
    assert cache.read("kernel") == Code(b"code", ["name"])
    return cache


def test_files_that_others_may_write_or_own_are_not_read(cached, monkeypatch):
    file = cached.directory / "kernel"
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert cached.read("kernel") is None
    file.chmod(0o600)
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
    assert cached.read("kernel") is None


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_read_and_nobody_waits_for_it(cached):
    file = cached.directory / "kernel"
    file.rename(cached.directory / "other")
    file.symlink_to(cached.directory / "other")
    assert cached.read("kernel") is None
    file.unlink()
    os.mkfifo(file, 0o600)
    assert cached.read("kernel") is None
    cached.write("kernel", Code(b"code", []))
    assert cached.read("kernel") == Code(b"code", [])


def test_another_kernels_code_or_another_machines_is_compiled_anew(source, warmed, tmp_path):
    root, place = warmed
    total, doubled = file_of(place, "tiny_kernels.total"), file_of(place, "tiny_kernels.doubled")
    total.write_bytes(doubled.read_bytes())
    assert run(source, root)[:3] == [["tiny_kernels.total"], ANSWERS, []]
    assert run(source, root)[0] == []  # mended
    elsewhere = _cache.Cache(tmp_path / "kernels-of-another")
    elsewhere.directory.mkdir()
    (elsewhere.directory / doubled.name).write_bytes(doubled.read_bytes())
    assert _cache.Cache(place).read(doubled.name) is not None
    assert elsewhere.read(doubled.name) is None


def test_code_without_the_kernels_entry_point_is_not_called(source, warmed):
    root, place = warmed
    cache = _cache.Cache(place)
    cache.write(file_of(place, "tiny_kernels.total").name, cache.read(file_of(place, "tiny_kernels.doubled").name))
    assert run(source, root)[:3] == [["tiny_kernels.total"], ANSWERS, []]


def test_with_bounds_checked_numba_itself_raises(tmp_path):
    code = (
        "import numpy as np\nfrom kernelmill.kernels import combining\n"
        "try:\n    combining.count_rows(np.array([5], np.int32), np.empty(0, np.uint8), np.zeros(1, np.int64))\n"
        "except IndexError:\n    print('refused')"
    )
    environment = {**os.environ, "KERNELMILL_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_BOUNDSCHECK": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert not (tmp_path / "cache").exists()


# In this process -----------------------------------------------------------------------------------------------------


@_jit.kernel(_jit.i64(_jit.u64_2d_in, _jit.boolean, _jit.f64, _jit.u32))
def weighed(table, negate, factor, shift):
    total = 0
    for row in range(table.shape[0]):
        for column in range(table.shape[1]):
            total += np.int64(table[row, column]) * (row + 1)
    total = np.int64(total * factor) << shift
    return -total if negate else total


@_jit.kernel(_jit.boolean(_jit.f64))
def is_small(value):
    return value < 1.0


@_jit.kernel(_jit.i64(_jit.i64))
def refusing(value):
    if value > 3:
        raise ValueError("too much")
    return value


TABLE = np.arange(8, dtype=np.uint64).reshape(2, 4)


def test_numbers_and_tables_arrive_as_they_are():
    assert weighed(TABLE, False, 1.0, 0) == 6 + 2 * 22
    assert weighed(TABLE, True, 1.5, 1) == -150
    assert weighed(TABLE[:, :0].copy(), np.bool_(True), np.float32(2), np.uint8(3)) == 0
    assert is_small(0.5) is True and is_small(1) is False


def test_arrays_of_a_subclass_and_types_of_another_name_are_taken():
    groups, counts = np.zeros(2, np.int32), np.zeros(1, np.longlong)
    combining.count_rows(groups.view(np.recarray), np.empty(0, np.uint8), counts)
    assert counts.tolist() == [2]


@pytest.mark.parametrize(
    ("number", "given"),
    [
        (1, np.zeros(1, np.int64)),
        (1, np.zeros(1, ">i4")),
        (1, np.zeros(3, np.int32)[::2]),
        (1, np.zeros((1, 1), np.int32)),
        (1, np.zeros(8, np.uint8)[1:5].view(np.int32)),
        (1, [0]),
        (1, None),
        (3, np.zeros(1, np.float64)),
        (3, np.zeros((2, 2), np.int64)[:, 0]),
        (3, np.broadcast_to(np.int64(0), 1)),
    ],
    ids=["wide", "swapped", "strided", "flat no more", "unaligned", "list", "none", "float", "column", "read-only"],
)
def test_an_array_that_is_not_as_declared_is_a_type_error_and_nothing_runs(number, given):
    counts = np.zeros(1, np.int64)
    arguments = [np.zeros(1, np.int32), np.empty(0, np.uint8), counts]
    arguments[number - 1] = given
    with pytest.raises(TypeError, match=f"count_rows, argument {number}: want "):
        combining.count_rows(*arguments)
    assert counts.tolist() == [0]


@pytest.mark.parametrize(
    ("number", "given"), [(2, TABLE), (3, "1"), (3, None), (4, 1.5), (4, -1), (4, 1 << 32)], ids=str
)
def test_a_number_that_is_not_as_declared_is_a_type_error(number, given):
    arguments = [TABLE, False, 1.0, 0]
    arguments[number - 1] = given
    with pytest.raises(TypeError, match=f"weighed, argument {number}: want "):
        weighed(*arguments)


@pytest.mark.parametrize("count", [2, 4])
def test_more_or_fewer_arguments_are_a_type_error(count):
    with pytest.raises(TypeError, match=f"takes 3 arguments, not {count}"):
        combining.count_rows(*[np.zeros(1, np.int32)] * count)


def test_inputs_may_be_read_only():
    groups, counts = np.zeros(1, np.int32), np.zeros(1, np.int64)
    groups.flags.writeable = False
    combining.count_rows(groups, np.empty(0, np.uint8), counts)
    assert counts.tolist() == [1]


def test_code_that_reports_failure_raises():
    assert refusing(2) == 2
    with pytest.raises(RuntimeError, match=r"refusing failed"):
        refusing(5)


def test_a_kernel_runs_beside_others_in_threads():
    values = np.ones(1 << 20, np.float64)
    groups, sums = np.zeros(values.size, np.int32), [np.zeros(1) for _ in range(4)]
    combining.add_floats(groups[:1], values[:1], np.empty(0, np.uint8), np.zeros(1))
    work = [
        threading.Thread(target=lambda out=out: combining.add_floats(groups, values, np.empty(0, np.uint8), out))
        for out in sums
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [out[0] for out in sums] == [values.size] * 4


def test_numpys_arrays_are_laid_out_as_entry_points_read_them():
    assert _loader.headers_are_known()


def test_the_packages_code_leaves_no_name_to_numba():
    """So a process that finds it in the cache need not import numba; only what is in the cache is looked at."""
    combining.count_rows.load()
    cache = _cache.Cache(_jit.cache_directory())
    found = {kernel.name: cache.read(kernel.symbol) for kernel in _jit.all_kernels()}
    assert found["combining.count_rows"] is not None
    assert {name: code.calls for name, code in found.items() if code is not None and code.calls} == {}


def test_machine_code_can_be_read():
    assert combining.count_rows.symbol in combining.count_rows.assembly()


def test_equal_sources_have_equal_keys_and_others_another(monkeypatch, tmp_path):
    for name, text in (("_cache.py", "a"), ("other.py", "b")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_cache, "__file__", str(tmp_path / "_cache.py"))
    first = _jit.cache_key()
    (tmp_path / "notes.txt").write_text("not a source")
    assert _jit.cache_key() == first
    (tmp_path / "other.py").write_text("c")
    second = _jit.cache_key()
    (tmp_path / "new.py").write_text("")
    third = _jit.cache_key()
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert len({first, second, third, _jit.cache_key()}) == 4


def test_the_cache_root_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setattr(_cache, "_GIVEN_ROOT", [])  # an earlier job of this process has said where
    monkeypatch.setenv("KERNELMILL_CACHE_DIR", str(tmp_path / "given"))
    assert _jit.cache_root() == tmp_path / "given"
    monkeypatch.delenv("KERNELMILL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _jit.cache_root() == tmp_path / "kernelmill"


def test_every_kernel_is_registered_under_its_own_name():
    tests = Path(__file__).resolve().parent
    kernels = [k for k in _jit.all_kernels() if Path(k.function.__code__.co_filename).resolve().parent != tests]
    names = [kernel.name for kernel in kernels]
    assert names == sorted(set(names))
    assert {"keytable.group_words", "counting.count_tokens", "combining.add_floats"} <= set(names)
    assert all(kernel.__doc__ for kernel in kernels)
