"""Lets the kernels' tests import `oracle`, and lets the twins' integers wrap as machine words do."""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from kernelmill.kernels._jit import JIT_DISABLED

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("kernels", deadline=None)  # a first call compiles
settings.load_profile("kernels")


def pytest_collection_modifyitems(items):
    if JIT_DISABLED:  # numpy warns of what is meant here: 64-bit arithmetic modulo 2**64
        for item in items:
            item.add_marker(pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"))
