"""Lets the tests of simulated clusters import `cluster_world`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
