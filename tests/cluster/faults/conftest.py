"""Fixtures of the fault matrix: a cluster to break, which tells what its processes said if the test fails."""

from __future__ import annotations

import pytest
import rig as rigs


@pytest.fixture
def rig():
    """A cluster of one-slot workers over ipc, nothing started yet."""
    made = rigs.Rig()
    yield made
    made.close()
    print(made.said)  # pytest shows it for a test that failed


@pytest.fixture
def small_truth(rig):
    """The identity job below the rig's root: 7 maps and 4 reduces."""
    import known

    return rig.truth(known.identity())
