"""The lock of the kernel cache: it saves work, and nobody hangs on it."""

import errno
import fcntl
import logging
import os

import pytest

from kernelmill.kernels import _cache, _jit


def test_a_cache_that_turns_read_only_costs_one_warning_when_something_is_to_be_written(tmp_path):
    (tmp_path / "lock").mkdir()  # what root may not write either
    cache = _cache.Cache(tmp_path)
    with pytest.warns(_jit.KernelCacheWarning) as said:
        for _ in range(2):
            with cache.locked("a.b"):
                pass
    assert len(said) == 1


def test_a_file_system_without_locks_costs_one_warning(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    cache, passed = _cache.Cache(tmp_path), 0
    with pytest.warns(_jit.KernelCacheWarning, match="no lock in") as said:
        for _ in range(2):
            with cache.locked("a.b"):
                passed += 1
    assert (len(said), passed) == (1, 2)


@pytest.fixture
def busy(monkeypatch, tmp_path):
    """A cache whose lock somebody else has, who is called "process 5 on there"."""
    monkeypatch.setattr(_cache, "_SAY_AFTER_S", 0.0)
    with open(tmp_path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("process 5 on there")
        file.flush()
        yield _cache.Cache(tmp_path)


def test_whoever_waits_for_a_stopped_process_says_so_once_and_goes_on_alone(busy, monkeypatch, caplog):
    monkeypatch.setattr(_cache, "_WAIT_S_MAX", 0.1)
    with pytest.warns(_jit.KernelCacheWarning, match="process 5 on there") as said:
        for _ in range(2):
            with busy.locked("a.b"):
                pass
    assert len(said) == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "process 5 on there" in record.getMessage()


def test_waiting_ends_when_the_other_process_has_written_the_kernel(busy, monkeypatch):
    class OtherProcess(logging.Handler):
        def emit(self, _):
            busy.write("a.b", _cache.Code(b"code", []))

    other = OtherProcess()
    logging.getLogger("kernelmill.kernels").addHandler(other)
    try:
        with busy.locked("a.b"):
            assert busy.read("a.b") == _cache.Code(b"code", [])
    finally:
        logging.getLogger("kernelmill.kernels").removeHandler(other)


def test_the_lock_names_who_has_it_and_is_free_again_afterwards(tmp_path):
    cache = _cache.Cache(tmp_path)
    for _ in range(2):
        with cache.locked("a.b"):
            assert (tmp_path / "lock").read_text().startswith(f"process {os.getpid()} on ")
            with open(tmp_path / "lock") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
