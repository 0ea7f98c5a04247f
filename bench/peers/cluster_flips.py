"""Flip bits of shuffle blocks: how many are found, and whether running jobs heal them. Prints JSON.

found, flips    10,000 bits of an output's data and index files, each flipped alone, then its block is read: the loop of
                tests/cluster/faults/test_block_damage.py
healed, struck  blocks of a job of real processes with one bit flipped, all maps done and no reduce begun, and how many
                of their maps ran again; half of the jobs read the blocks where they lie, half on another host. Each
                job's output is compared with the local run's, byte for byte
"""

from __future__ import annotations

import json
import random
import signal
import sys
import tempfile
from pathlib import Path

from bench.engines import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "tests" / "cluster" / "faults")]

import known  # noqa: E402 -- found by the line above
import rig as rigs  # noqa: E402
import test_block_damage as damage  # noqa: E402

JOBS = 8
MAPS = known.maps_of(known.ROWS)


def found(flips: int) -> int:
    """How many of so many flips are found."""
    with tempfile.TemporaryDirectory() as folder:
        return int(damage.flips_found(damage.write(Path(folder), 0), flips))


def healed(seed: int) -> tuple[int, int]:
    """Run a job whose blocks are damaged between map and reduce: how many maps were struck, how many ran again."""
    rig, chance = rigs.Rig(), random.Random(seed)
    try:
        truth = rig.truth(known.identity())
        rig.start_master()
        rig.start_worker("w1", failpoints=f"slot.task.begun=stop@{MAPS + 1}")
        future = rig.begin(truth)
        rig.wait_token("slot.task.begun")
        files = sorted(rig.scratch("w1").rglob("*.data"))
        for file in files:
            data = bytearray(file.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            file.write_bytes(data)
        if seed % 2:
            rig.start_worker("w2")  # its slot gets the reduces that stand in line, and asks w1 for their blocks
            rigs.until(lambda: rig.history().lost, "a block is found damaged")
        for pid in rig.slots_of("w1"):
            rigs.signal_if_there(pid, signal.SIGCONT)
        rig.done(future)
        truth.check(rig.files / "out")
        history = rig.history()
        if history.problems:
            raise SystemExit(f"the journal does not add up: {history.problems}")
        return len(files), history.commits_again
    finally:
        rig.close()


def main() -> None:
    """Do both."""
    jobs = [healed(seed) for seed in range(JOBS)]
    struck, again = (sum(column) for column in zip(*jobs, strict=True))
    flips = damage.FLIPS
    counts = {"found": found(flips), "flips": flips, "healed": again, "struck": struck}
    print(json.dumps({**counts, "healed_share": again / struck}))


if __name__ == "__main__":
    main()
