"""Repeat a job inside one process, for warm measurements."""

from __future__ import annotations

import json
import time
from collections.abc import Callable


def print_runs(job: Callable[[], object], runs: int) -> None:
    """Run `job` `runs` times and print the seconds of each as a JSON list."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds))
