"""Tests with real processes of a cluster: `slots` and jobspec's `traveling` are importable."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "jobspec")]
