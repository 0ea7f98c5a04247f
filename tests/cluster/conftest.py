"""Tests of the cluster: `shapes` and the helpers of fault tests are importable; each fault test says what struck."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from kernelmill.engine import origin

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE / "faults"), str(_HERE / "netns")]

_PASSED = pytest.StashKey[bool]()


class Strikes:
    """How often a test's faults really struck. A test that asked for it and struck nothing has proven nothing."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, fault: str, times: int = 1) -> None:
        """Count a fault that was seen to strike."""
        self.counts[fault] += times

    def from_tokens(self, folder: Path) -> None:
        """Count the failpoints that were spent: each left a file of its name."""
        for token in sorted(folder.iterdir()):
            self.add(token.name)


@pytest.fixture(autouse=True)
def lines_are_named_as_before():
    """Opening a job makes a process speak of lines as the job's client does: a slot for ever, a test for itself."""
    yield
    origin.speak_from("")


@pytest.fixture
def strikes(request):
    """Counts the faults of this test; the test fails if none struck."""
    found = Strikes()
    yield found
    if not request.node.stash.get(_PASSED, False):
        return  # what did not strike is not what is wrong
    assert found.counts.total() > 0, "no fault struck: nothing was tested"
    told = ", ".join(f"{fault} x{count}" for fault, count in sorted(found.counts.items()))
    request.node.user_properties.append(("struck", told))  # for the summary, which another process may print


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Let fixtures know whether their test has passed."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report
