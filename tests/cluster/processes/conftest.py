"""Tests with real processes of a cluster: `slots`, jobspec's `traveling` and the faults' `rig` are importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / name) for name in ("jobspec", "faults"))]
