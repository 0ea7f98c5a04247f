"""What a LocalCluster's jobs left beside their outputs is removed when its program was killed, or got a SIGTERM.

    python -m kernelmill.cluster.sweeping FOLDER

Its journal tells which jobs there were. It goes with the cluster's folder, so no other master will ever know of them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kernelmill.cluster.fields import Place
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.roots import WHOLE_DISK
from kernelmill.cluster.storage.publishing import remove_staging
from kernelmill.cluster.versions import versions_here
from kernelmill.engine.errors import Code, KernelmillError

_WAIT_S: Final = 15.0
_POLL_S: Final = 0.1


def sweep(folder: Path, wait_s: float = _WAIT_S) -> None:
    """Wait for the master's end, then remove the staging of all jobs; what was not published whole is undone first.

    Raises KM0613 if the master does not end, what `open_journal` raises if its journal does not open.
    """
    until_s = time.monotonic() + wait_s
    while True:
        try:
            journal = open_journal(folder / "state", versions_here(), lambda: None)
            break
        except KernelmillError as problem:
            if problem.code is not Code.JOURNAL_BUSY or time.monotonic() > until_s:
                raise
            time.sleep(_POLL_S)
    live = [(job, one.sheet.accepted.sheet.output) for job, one in journal.ledger.jobs.items() if one.sheet.accepted]
    ended = [(job, one.output) for job, one in journal.ledger.ended.items()]
    journal.close()
    remove_stagings((bytes.fromhex(job), output) for job, output in [*live, *ended])


def remove_stagings(jobs: Iterable[tuple[bytes, Place]]) -> None:
    """Leave nothing beside outputs, as far as that can be; those in the cluster's own folder go with it."""
    for job, output in jobs:
        if output.root == WHOLE_DISK:
            with contextlib.suppress(OSError, KernelmillError):
                remove_staging("/" + "/".join(output.parts), job)


if __name__ == "__main__":
    with contextlib.suppress(OSError, KernelmillError):  # nobody is there any more to be told
        sweep(Path(sys.argv[1]))
