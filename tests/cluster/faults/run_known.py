"""A client as a process of its own: BUNDLE ROOT=PLACE JOB GATE SOURCE TARGET. Prints what the job gave as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import known

import kernelmill as km


def main(bundle: str, root: str, name: str, gate: str, source: str, target: str) -> None:
    """Run the known job."""
    job = known.identity(gate=gate, gate_at=known.ROWS // 2) if gate else known.ALL[name]()
    root_name, _, place = root.partition("=")
    with km.connect(bundle, roots={root_name: place}):
        result = job.run(Path(source), Path(target))
    print(json.dumps({"rows": result.rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
