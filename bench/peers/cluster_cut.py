"""How soon the master gives up a host that is cut off from it. Prints JSON.

Four hosts on a switch in a private network, tests/cluster/netns/harness.py: master on m, workers on w1, w2, w3. Each
worker's host is cut off in turn by a queue that drops all it is given: both ways, only what it would receive, only what
it sends. Nothing is refused or reset, so only silence tells. A client on m asks for the list of workers all the time.

cut_seen_s         seconds from a cut both ways until the list is without the host
one_way_seen_s     the longer of both one-way cuts: a host that only hears nothing is heard for a while yet
told_cut_seen_s    of a cut both ways with a master that was told `--lost-after 3`
skipped            instead of these: why this machine cannot make such a network
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.engines import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster" / part) for part in ("faults", "netns")]

import harness  # noqa: E402 -- found by the line above
import raw  # noqa: E402
import rig as rigs  # noqa: E402

from kernelmill.cluster.keys.bundle import read_bundle  # noqa: E402

CUTS: dict[str, harness.Direction] = {"w1": "both", "w2": "in", "w3": "out"}
ASK_S, WATCH_S_MAX = 0.01, 100.0


def watch(address: str, bundle: str) -> None:
    """On m: print when the list of workers changes, on the clock that all processes of this machine share."""
    known: list[str] | None = None
    until = time.monotonic() + WATCH_S_MAX  # whoever waits for a change that does not come hears the end
    with raw.client_session(address, read_bundle(Path(bundle), "client")) as session:
        while time.monotonic() < until:
            if (found := session.workers()) != known:
                known = found
                print(json.dumps([time.monotonic(), found]), flush=True)
            time.sleep(ASK_S)


def seen_at(watcher: subprocess.Popen[Any], workers: set[str]) -> float:
    """Read the watcher's lines until just these workers are listed; when that was seen."""
    assert watcher.stdout is not None
    for line in watcher.stdout:
        at, found = json.loads(line)
        if set(found) == workers:
            return float(at)
    raise SystemExit(f"the workers were not {sorted(workers)} within {WATCH_S_MAX:.0f} s")


def measure(net: harness.Network, hosts: Sequence[str], lost_s: float | None) -> dict[str, float]:
    """Cut these hosts off and heal them; the seconds until each was given up."""
    rig = rigs.Rig(
        address=f"tcp://{net.address('m')}:7440",
        launch=lambda name, argv, **options: net.run(name if name in harness.HOSTS else "m", argv, **options),
    )
    found = {}
    try:
        rig.start_master(lost_s=lost_s)
        rig.start_workers(*CUTS)
        rig.wait_workers(*CUTS)
        words = [sys.executable, "-m", "bench.peers.cluster_cut", "watch", rig.address, rig.bundle("client", "root")]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))  # a host has no folder of ours
        watcher = net.run("m", words, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
        seen_at(watcher, set(CUTS))
        for host in hosts:
            direction = CUTS[host]
            began = time.monotonic()
            net.cut(host, direction)
            found[direction] = seen_at(watcher, set(CUTS) - {host}) - began
            if not net.dropped(host):
                raise SystemExit(f"the cut of {host} dropped nothing: nothing was measured")
            net.heal(host)
            seen_at(watcher, set(CUTS))
        watcher.kill()
    finally:
        rig.close()
    return found


def main() -> None:
    """Measure, where the kernel allows it."""
    if reason := harness.why_not():
        print(json.dumps({"skipped": reason}))
        return
    net = harness.Network()
    try:
        cuts, told = measure(net, ["w1", "w2", "w3"], None), measure(net, ["w1"], 3.0)
    finally:
        net.close()
    found = {
        "cut_seen_s": cuts["both"],
        "one_way_seen_s": max(cuts["in"], cuts["out"]),
        "told_cut_seen_s": told["both"],
    }
    print(json.dumps({**found, "cuts": cuts}))


if __name__ == "__main__":
    watch(*sys.argv[2:]) if sys.argv[1:2] == ["watch"] else main()
