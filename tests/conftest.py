"""All tests: no deadline for generated examples (a first call may compile), no settings from outside."""

from __future__ import annotations

import os
import shutil
import signal

import hypothesis
import pytest

from kernelmill.kernels import _jit

hypothesis.settings.register_profile("kernelmill", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kernelmill")


def pytest_collection_modifyitems(items):
    """A test is called the same in every process, or no two of them can share out the tests, nor one be run again."""
    nameless = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if nameless:
        raise pytest.UsageError(f"ids= makes a name of a memory address: {nameless[0]}")


def pytest_terminal_summary(terminalreporter):
    """Print for each test of faults how often which fault struck."""
    struck = {
        report.nodeid.split("::", 1)[1]: told
        for report in terminalreporter.stats.get("", [])
        for name, told in report.user_properties
        if name == "struck"
    }
    if not struck:
        return
    terminalreporter.section("faults that struck")
    for name, told in sorted(struck.items()):
        terminalreporter.write_line(f"{name}: {told}")


@pytest.fixture(autouse=True, scope="session")
def _settings_of_the_user_do_not_count(tmp_path_factory):
    """KERNELMILL_* of the shell and the user's config.toml would change what tests see; the kernel cache may stay."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("KERNELMILL_") and name != "KERNELMILL_CACHE_DIR":
            patch.delenv(name)
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    yield
    patch.undo()


@pytest.fixture
def cache_without_functions(tmp_path):
    """A cache for processes of this test: what this one has, but no function of users."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    if (warm := _jit.cache_directory()) is not None:
        users = shutil.ignore_patterns("map-*", "reduce-*", "fold-*", "partition-*", "lock")
        shutil.copytree(warm, folder / warm.name, ignore=users)
    return folder


@pytest.fixture
def signals_reach_children():
    """A shell's background jobs ignore Ctrl-C, those of nohup a hang-up; a test and what it starts must not do so."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    ignored = [one for one in usual if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, usual[one])
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
