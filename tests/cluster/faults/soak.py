"""A cluster of real processes under chance, as long as one likes: `python tests/cluster/faults/soak.py --minutes 30`.

Jobs with known answers run one after the other, two at a time, while something breaks every second or two: workers,
slots and the master are killed or stand still, connections are reset, delayed or swallowed, bits of blocks flip, blocks
go. After each job its rows, its manifest and its bytes are compared with the local run's; in the end the journal is
read. Each minute a line says what each process holds in memory and files: these must not rise. The seed decides which
fault comes when, as far as the machine's own timing lets it. Ends with 1 at the first wrong answer, or if nothing
struck.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import known
import rig as rigs
import tcpproxy

from kernelmill.engine.errors import Code, KernelmillError

WORKERS = ("w1", "w2", "w3")
JOBS_AT_ONCE = 2
JOB_S_MAX = 240.0
PAUSE_S = (0.3, 2.5)
STAND_STILL_S = (0.5, 8.0)
PORTS = 3
RSS_GROWTH_MAX = 1.5
"""How much larger a master or supervisor may be in the second half of a run than in the first; see `Trends`."""
RSS_SLACK_BYTES, FDS_SLACK = 48 << 20, 64


def free_ports(chance: random.Random) -> int:
    """The first of some neighbouring ports of this host that nobody has."""
    for _ in range(1000):
        first = chance.randrange(20_000, 32_000)
        try:
            for port in range(first, first + PORTS):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise SystemExit("no free ports")


class Relays:
    """A relay before each of the master's sockets: workers and clients come through them."""

    def __init__(self, chance: random.Random) -> None:
        self.master_port, self.port = free_ports(chance), free_ports(chance)
        self.proxies = [
            tcpproxy.Proxy(("127.0.0.1", self.master_port + number), port=self.port + number) for number in range(PORTS)
        ]

    @property
    def address(self) -> str:
        """Where peers find the master."""
        return f"tcp://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End the relays."""
        for proxy in self.proxies:
            proxy.close()


class Trends:
    """Resident bytes and open files of the lasting processes, a sample now and then."""

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[float, int, int]]] = {}

    def sample(self, name: str, pid: int, now: float) -> None:
        """Note what a process holds, if it is there."""
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            files = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return
        self.samples.setdefault(name, []).append((now, pages * os.sysconf("SC_PAGE_SIZE"), files))

    def line(self) -> str:
        """The last sample of each."""
        told = ((name, own[-1]) for name, own in sorted(self.samples.items()))
        return "; ".join(f"{name} {rss / 1e6:.0f} MB, {files} files" for name, (_, rss, files) in told)

    def problems(self) -> list[str]:
        """Who holds much more in the last quarter than in the second one: medians, for each life begins small."""
        found = []
        for name, own in self.samples.items():
            quarter = len(own) // 4
            if quarter < 3:
                continue
            early, late = own[quarter : 2 * quarter], own[-quarter:]
            for what, at, slack in (("bytes", 1, RSS_SLACK_BYTES), ("files", 2, FDS_SLACK)):
                before, after = (sorted(one[at] for one in some)[len(some) // 2] for some in (early, late))
                if after > RSS_GROWTH_MAX * before + slack:
                    found.append(f"{name} holds {after:,} {what}, before {before:,}")
        return found


class Soak:
    """The cluster, its jobs and its troubles."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.relays = Relays(self.chance)
        self.rig = rigs.Rig(slots=2, address=self.relays.address)
        self.rig.bundle("client", "ann", is_admin=True)
        self.listen = f"tcp://127.0.0.1:{self.relays.master_port}"
        self.struck: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.trends = Trends()
        self.stopped: list[tuple[float, list[int]]] = []
        self.troubled_until_s = 0.0
        self.truths = [self.rig.truth(make()) for make in (known.identity, known.group_sums, known.skewed_sums)]
        self.restless = self.rig.truth(known.restless())
        self.running: list[tuple[object, known.Truth, str, float]] = []
        self.count = 0

    def start(self) -> None:
        """Start all processes."""
        self.rig.start_master(listen=self.listen)
        for name in WORKERS:
            self.rig.start_worker(name)
        self.rig.wait_workers(*WORKERS)

    # Jobs.

    def keep_busy(self) -> None:
        """Have so many jobs run, and look at those that have ended."""
        for one in list(self.running):
            future, truth, name, began_s = one
            if future.done():
                self.running.remove(one)
                self.check(future, truth, name)
            elif time.monotonic() > began_s + JOB_S_MAX:
                raise AssertionError(f"job {name} is not over after {JOB_S_MAX:.0f} s")
        while len(self.running) < JOBS_AT_ONCE:
            self.count += 1
            truth = self.restless if self.chance.random() < 0.15 else self.chance.choice(self.truths)
            name = f"out-{self.count}"
            self.running.append((self.rig.begin(truth, name), truth, name, time.monotonic()))

    def check(self, future: object, truth: known.Truth, name: str) -> None:
        """Assert that a job's output is right."""
        target = self.rig.files / name
        try:
            future.result()
        except KernelmillError as problem:
            differs = problem.code is Code.NONDETERMINISTIC and not truth.job.is_repeatable
            if not differs and problem.code is not Code.UNREACHABLE:  # a client that heard no master for too long
                raise
            self.done[f"ended by {problem.code}"] += 1
            assert not (differs and target.exists())
        else:
            self.done[truth.job.name] += 1
        if target.exists():
            truth.check(target)

    # Faults.

    def worker(self) -> str:
        """One of the workers."""
        return self.chance.choice(WORKERS)

    def kill_worker(self) -> None:
        """kill -9, and start it again with its disk or without."""
        name = self.worker()
        self.rig.kill(name)
        if self.chance.random() < 0.4:
            shutil.rmtree(self.rig.scratch(name))
        self.rig.start_worker(name)

    def kill_master(self) -> None:
        """kill -9, and start it again on its journal."""
        self.rig.kill("master")
        self.rig.start_master(listen=self.listen)

    def kill_slot(self) -> None:
        """One slot crashes."""
        slots = self.rig.slots_of(self.worker())
        if slots:
            rigs.signal_if_there(self.chance.choice(slots), self.chance.choice([signal.SIGKILL, signal.SIGSEGV]))

    def stop(self) -> None:
        """A worker, one of its slots, or the master stands still for a while."""
        name = self.chance.choice([*WORKERS, "master"])
        pids = [self.rig.members[name].pid]
        if name != "master" and self.chance.random() < 0.7:
            slots = self.rig.slots_of(name)
            pids = [*pids, *slots] if self.chance.random() < 0.5 else slots[:1]
        for pid in pids:
            rigs.signal_if_there(pid, signal.SIGSTOP)
        self.stopped.append((time.monotonic() + self.chance.uniform(*STAND_STILL_S), pids))

    def trouble_relay(self) -> None:
        """Connections to the master are reset, late, or lead nowhere."""
        proxy = self.chance.choice(self.relays.proxies)
        way = self.chance.choice(["up", "down", "both"])
        match self.chance.randrange(4):
            case 0:
                proxy.reset()
            case 1:
                proxy.delay(self.chance.uniform(0.01, 0.5), way)
            case 2:
                proxy.stall(way)
            case _:
                proxy.swallow(way)
        self.troubled_until_s = time.monotonic() + self.chance.uniform(*STAND_STILL_S)

    def damage(self) -> None:
        """A bit of a block flips, or the block goes."""
        kind = self.chance.choice([".data", ".pack"])
        walk = os.walk(self.rig.scratch(self.worker()))  # rglob does not bear folders that go meanwhile
        files = [Path(folder, name) for folder, _, names in walk for name in names if name.endswith(kind)]
        if not files:
            return
        path = self.chance.choice(files)
        try:
            if self.chance.random() < 0.3:
                path.unlink()
            else:
                with open(path, "r+b") as file:
                    at = self.chance.randrange(max(1, path.stat().st_size))
                    file.seek(at)
                    byte = file.read(1) or b"\0"
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 1 << self.chance.randrange(8)]))
        except FileNotFoundError:
            pass  # its job is over

    def heal(self, *, everything: bool = False) -> None:
        """Let those go on whose time is over."""
        now = time.monotonic()
        for one in list(self.stopped):
            if everything or one[0] <= now:
                self.stopped.remove(one)
                for pid in one[1]:
                    rigs.signal_if_there(pid, signal.SIGCONT)
        if self.troubled_until_s and (everything or self.troubled_until_s <= now):
            self.troubled_until_s = 0.0
            for proxy in self.relays.proxies:
                proxy.pass_on()
                proxy.reset()  # what was swallowed is missing for ever: no stream may go on behind it

    def break_something(self) -> None:
        """One fault of all that there are."""
        faults: list[Callable[[], None]] = [self.kill_worker, self.kill_slot, self.kill_slot, self.stop]
        faults += [self.trouble_relay, self.damage, self.damage, self.kill_master]
        fault = self.chance.choice(faults)
        self.struck[fault.__name__] += 1
        fault()

    def watch(self) -> None:
        """Note what processes hold; one that ended by itself is a bug."""
        now = time.monotonic()
        for name in ("master", *WORKERS):
            process = self.rig.members[name]
            assert process.poll() is None, f"{name} has ended with {process.returncode}"
            self.trends.sample(name, process.pid, now)

    def run(self, minutes: float) -> None:
        """Break things for so long, then let all jobs end and look at the journal."""
        until_s = time.monotonic() + 60 * minutes
        fault_s = sample_s = line_s = time.monotonic()
        while (now := time.monotonic()) < until_s:
            self.heal()
            self.keep_busy()
            if now >= fault_s:
                self.break_something()
                fault_s = now + self.chance.uniform(*PAUSE_S)
            if now >= sample_s:
                self.watch()
                sample_s = now + 60 * minutes / 200
            if now >= line_s + 60:
                line_s = now
                self.say()
            time.sleep(0.05)
        self.heal(everything=True)
        for future, truth, name, _ in self.running:
            rigs.until(future.done, f"job {name} ends", JOB_S_MAX)
            self.check(future, truth, name)
        assert self.rig.history().problems == []
        rigs.until(lambda: not [name for name in os.listdir(self.rig.files) if ".km-" in name], "staging goes", 30)

    def say(self) -> None:
        """Print how it goes."""
        print(f"jobs {dict(self.done)}; struck {dict(self.struck)}; {self.trends.line()}", flush=True)

    def close(self) -> None:
        """End all processes."""
        self.heal(everything=True)
        self.rig.close()
        self.relays.close()


def main() -> int:
    """Run, and say what struck."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    print(f"soak: {given.minutes:g} minutes, seed {given.seed}", flush=True)
    soak = Soak(given.seed)
    try:
        soak.start()
        soak.run(given.minutes)
        problems = soak.trends.problems()
    except BaseException:
        soak.say()
        print(f"soak: failed; seed {given.seed}\n{soak.rig.logs()}", flush=True)
        raise
    finally:
        soak.close()
    soak.say()
    for problem in problems:
        print(f"soak: {problem}")
    is_good = not problems and soak.struck.total() > 0 and soak.done.total() > 0
    print(f"soak: {'good' if is_good else 'failed'}, seed {given.seed}", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
