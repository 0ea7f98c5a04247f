"""Hosts with addresses of their own on one switch, in a private network that a test makes: nothing of this machine's
network is seen or touched. Works without root where the kernel lets users make namespaces; files are this machine's.

    m, w1, w2, w3, each with one interface e0, 10.213.1.1 and on; its other end is a port of the switch, a bridge

A host is cut off by a queue that drops all it is given (`tc ... blackhole`): at its own interface for what it sends,
at its port of the switch for what it would receive. Nothing is refused or reset, as with a cable that is pulled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest

HOSTS = ("m", "w1", "w2", "w3")
SWITCH = "switch"
Direction = Literal["in", "out", "both"]

_UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
_TIMEOUT_S = 20.0


def why_not() -> str | None:
    """Why this machine cannot make such a network; None if it can."""
    for program in ("unshare", "nsenter", "ip", "tc"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    tried = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add a && ip -n a link set lo up"
    tried += " && tc -n a qdisc add dev lo root blackhole"
    done = _run([*_UNSHARE, "sh", "-c", tried])
    return None if done.returncode == 0 else f"the kernel does not allow private networks: {done.stderr.strip()}"


def require() -> None:
    """Skip the test where there can be no network; where CI runs as root that is an error."""
    reason = why_not()
    if reason and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"tests with partitions must run in CI as root: {reason}")
    if reason:
        pytest.skip(reason)


class Network:
    """Four hosts on a switch. `run` starts a program on one, `cut` pulls its cable, `heal` puts it back."""

    def __init__(self) -> None:
        # The keeper of the namespaces ends when its input does, so when this process does, however that ends.
        self._keeper = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"
        self._enter = ["nsenter", "--target", str(self._keeper.pid), "--user", "--net", "--mount"]
        self._enter.append("--preserve-credentials")
        self._cuts: set[tuple[str, Literal["in", "out"]]] = set()
        self._started: list[subprocess.Popen[Any]] = []
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        lines = ["mount -t tmpfs tmpfs /run", "mkdir /run/netns", f"ip netns add {SWITCH}"]
        lines += [f"ip -n {SWITCH} link add br0 type bridge", f"ip -n {SWITCH} link set br0 up"]
        for host in HOSTS:
            lines += [
                f"ip netns add {host}",
                f"ip -n {host} link set lo up",
                f"ip link add port-{host} netns {SWITCH} type veth peer name e0 netns {host}",
                f"ip -n {SWITCH} link set port-{host} master br0 up",
                f"ip -n {host} addr add {self.address(host)}/24 dev e0",
                f"ip -n {host} link set e0 up",
            ]
        self._inside(" && ".join(lines))

    def _inside(self, script: str) -> None:
        done = _run([*self._enter, "sh", "-c", script])
        assert done.returncode == 0, f"{script}: {done.stderr}"

    @staticmethod
    def address(host: str) -> str:
        """The host's IP address."""
        return f"10.213.1.{HOSTS.index(host) + 1}"

    def run(self, host: str, argv: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host; options as Popen's. The process is the program's own: signals reach it."""
        words = [*self._enter, "ip", "netns", "exec", host, *(str(word) for word in argv)]
        process = subprocess.Popen(words, **options)
        self._started.append(process)
        return process

    def cut(self, host: str, direction: Direction = "both") -> None:
        """Drop all that the host would receive ("in"), that it sends ("out"), or both, until it is healed."""
        ways: tuple[Literal["in", "out"], ...] = ("in", "out") if direction == "both" else (direction,)
        for way in ways:
            if (host, way) not in self._cuts:
                self._inside(f"tc {_port(host, way)} root blackhole".replace("qdisc", "qdisc add"))
                self._cuts.add((host, way))

    def heal(self, host: str) -> None:
        """Let everything through again."""
        for one, way in sorted(self._cuts):
            if one == host:
                self._inside(f"tc {_port(host, way)} root".replace("qdisc", "qdisc del"))
                self._cuts.remove((host, way))

    def dropped_packets(self, host: str, direction: Literal["in", "out"]) -> int:
        """How many packets this cut has dropped: whether it struck."""
        done = _run([*self._enter, "tc", "-s", *_port(host, direction).replace("qdisc", "qdisc show").split()])
        words = done.stdout.replace(",", "").split()
        return int(words[words.index("(dropped") + 1])

    def dropped(self, host: str) -> int:
        """How many packets all cuts of this host have dropped."""
        return sum(self.dropped_packets(one, way) for one, way in self._cuts if one == host)

    def close(self) -> None:
        """End what was started and take the network down."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(_TIMEOUT_S)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(_TIMEOUT_S)
        self._keeper.stdout.close()


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network for a test; skips the test where there can be none."""
    require()
    made = Network()
    try:
        yield made
    finally:
        made.close()


def _port(host: str, way: str) -> str:
    return f"-n {SWITCH} qdisc dev port-{host}" if way == "in" else f"-n {host} qdisc dev e0"


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
