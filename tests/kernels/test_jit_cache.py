"""The kernel cache: shared by processes, distrusted where bytes changed, and done without where it cannot be."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kernelmill.kernels import _jit, combining

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
print(json.dumps([compiled, answers, said, place and str(place), seconds > 0]))
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
    """(kernels compiled, answers, warnings, cache directory, whether compiling took time) of a new process."""
    return result_of(start(source, cache, **more))


@pytest.fixture
def warmed(source, tmp_path):
    """A cache that holds both kernels: (root, its one directory)."""
    root = tmp_path / "cache"
    compiled, answers, said, place, took_time = run(source, root)
    assert (sorted(compiled), answers, said, took_time) == (sorted(BOTH), ANSWERS, [], True)
    assert Path(place).parent == root  # KERNELMILL_CACHE_DIR counts
    return root, Path(place)


def test_a_second_process_compiles_nothing(source, warmed):
    root, place = warmed
    assert run(source, root) == [[], ANSWERS, [], str(place), False]


def test_processes_that_find_the_cache_empty_at_once_all_succeed_and_one_compiles(source, tmp_path):
    racing = [start(source, tmp_path / "cache") for _ in range(3)]
    results = [result_of(process) for process in racing]
    assert all(answers == ANSWERS and said == [] for _, answers, said, _, _ in results)
    assert sorted(name for compiled, *_ in results for name in compiled) == sorted(BOTH)


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "empty":
        data.clear()
    elif how == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2] ^= 8
    file.write_bytes(data)


@pytest.mark.parametrize(("suffix", "how"), [("nbc", "cut"), ("nbi", "cut"), ("nbc", "flip"), ("nbi", "empty")])
def test_a_damaged_file_is_compiled_anew_and_the_answers_stay_right(source, warmed, suffix, how):
    root, place = warmed
    (file,) = place.glob(f"*/tiny_kernels.total-*.{suffix}")
    damage(file, how)
    assert run(source, root)[:3] == [["tiny_kernels.total"], ANSWERS, []]
    assert run(source, root)[0] == []  # mended


def test_a_missing_half_is_compiled_anew(source, warmed):
    root, place = warmed
    (file,) = place.glob("*/tiny_kernels.doubled-*.nbc")
    file.unlink()
    assert run(source, root)[:3] == [["tiny_kernels.doubled"], ANSWERS, []]


@pytest.mark.parametrize("garbage", [b"{", b"[1]", b"\xff\xfe"])
def test_sums_that_are_garbage_mean_that_nothing_is_believed(source, warmed, garbage):
    root, place = warmed
    (place / "sums.json").write_bytes(garbage)
    compiled, answers, said, *_ = run(source, root)
    assert (sorted(compiled), answers, said) == (sorted(BOTH), ANSWERS, [])


def test_files_whose_time_changed_are_compiled_and_sealed_again(tmp_path):
    """numba goes by a source's time, our key by its content: a reinstalled package has equal keys and a stale index."""
    (tmp_path / "tiny_kernels.py").write_text(TINY)
    cache = tmp_path / "cache"
    assert sorted(run(tmp_path, cache)[0]) == sorted(BOTH)
    later = time.time() + 100
    os.utime(tmp_path / "tiny_kernels.py", (later, later))
    assert run(tmp_path, cache)[1:3] == [ANSWERS, []]
    assert run(tmp_path, cache)[:3] == [[], ANSWERS, []]


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
    compiled, answers, said, place, _ = run(source, cache)
    assert (sorted(compiled), answers, said, place) == (sorted(BOTH), ANSWERS, ["KernelCacheWarning"], None)


# In this process -----------------------------------------------------------------------------------------------------


def test_arguments_of_other_types_are_a_type_error():
    groups, counts = np.zeros(1, np.int32), np.zeros(1, np.int64)
    combining.count_rows(groups, np.empty(0, np.uint8), counts)
    with pytest.raises(TypeError):
        combining.count_rows(groups.astype(np.int64), np.empty(0, np.uint8), counts)
    with pytest.raises(TypeError):
        combining.count_rows(groups[::2].repeat(2)[::2], np.empty(0, np.uint8), counts.astype(np.float64))
    assert counts.tolist() == [1]


def test_inputs_may_be_read_only_and_outputs_may_not():
    groups, counts = np.zeros(1, np.int32), np.zeros(1, np.int64)
    groups.flags.writeable = False
    combining.count_rows(groups, np.empty(0, np.uint8), counts)
    counts.flags.writeable = False
    with pytest.raises(TypeError):
        combining.count_rows(groups, np.empty(0, np.uint8), counts)


def test_equal_sources_have_equal_keys_and_others_another(monkeypatch, tmp_path):
    for name, text in (("_jit.py", "a"), ("other.py", "b")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_jit, "__file__", str(tmp_path / "_jit.py"))
    first = _jit.cache_key()
    (tmp_path / "notes.txt").write_text("not a source")
    assert _jit.cache_key() == first
    (tmp_path / "other.py").write_text("c")
    second = _jit.cache_key()
    (tmp_path / "new.py").write_text("")
    third = _jit.cache_key()
    monkeypatch.setattr(_jit, "BOUNDS_CHECKED", not _jit.BOUNDS_CHECKED)
    assert len({first, second, third, _jit.cache_key()}) == 4


def test_the_cache_root_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setattr(_jit, "_GIVEN_ROOT", [])  # an earlier job of this process has said where
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
