"""Fixtures of the partition tests: a cluster whose members are on hosts of their own."""

from __future__ import annotations

import harness
import pytest
import rig as rigs


@pytest.fixture
def net():
    """Four hosts on a switch."""
    with harness.network() as made:
        yield made


@pytest.fixture
def spread(net):
    """A cluster with master and clients on m, workers w1, w2, w3 on the hosts of their names; nothing started yet."""
    made = rigs.Rig(
        address=f"tcp://{net.address('m')}:7440",
        launch=lambda name, argv, **options: net.run(name if name in harness.HOSTS else "m", argv, **options),
    )
    yield made
    made.close()
    print(made.said)
