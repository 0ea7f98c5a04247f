"""Makes `traveling` importable: jobs run task by task, in this process."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "jobspec"))
