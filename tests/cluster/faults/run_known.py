"""A client as a process of its own: BUNDLE ROOT=PLACE JOB GATE GATE_AT ROWS SOURCE TARGET.

Prints what the job gave as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import known

import kernelmill as km


def main(bundle: str, root: str, name: str, gate: str, gate_at: str, rows: str, source: str, target: str) -> None:
    """Run the known job."""
    job = known.identity(int(rows), gate, int(gate_at)) if gate else known.ALL[name](int(rows))
    root_name, _, place = root.partition("=")
    with km.connect(bundle, roots={root_name: place}):
        result = job.run(Path(source), Path(target))
    print(json.dumps({"rows": result.rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
