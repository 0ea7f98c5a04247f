"""A cluster of real processes that tests may break: each is started by its command, and ended by its number.

    FOLDER/keys, state, files and rows (the roots of all; rows are what `collect` reads), scratch-NAME of each worker,
    NAME.log of each process, tokens

The folder is short enough for ipc sockets. A process's environment says at which failpoint it fails; the tokens say
which of them were spent.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import changes as changes_module
import history
import known

import kernelmill as km
from kernelmill.cluster.failpoints import TOKENS_VARIABLE, VARIABLE
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.bundle import Bundle, read_bundle
from kernelmill.cluster.roots import SCRATCH

ROOT = "files"
CHANGED = Path(__file__).with_name("changed.py")
_COMMAND = [sys.executable, "-m", "kernelmill"]
_END_S = 15.0

Launch = Callable[..., "subprocess.Popen[Any]"]
"""Starts argv for a member of this name: as subprocess.Popen, or on a host of its own."""


def until(seen: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    """Wait until `seen()` is true and return that; fail with `what` after so many seconds."""
    deadline = time.monotonic() + within_s
    while not (found := seen()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)
    return found


def signal_if_there(pid: int, number: int) -> None:
    """Send a signal to a process, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _environ_of(changed_file: object) -> dict[str, str]:
    return {changes_module.FILE: str(changed_file)} if changed_file else {}


def parent_of(pid: int) -> int:
    """The process that started this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """The processes that this one started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Rig:
    """A master, workers and clients in processes. Nothing of it is left when it is closed."""

    def __init__(
        self, *, slots: int = 1, memory: str = "512MiB", address: str = "", launch: Launch | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kmf-", dir="/tmp"))
        self.files = self.folder / ROOT
        self.tokens = self.folder / "tokens"
        self.rows = self.folder / "rows"
        for one in (self.files, self.tokens, self.rows):
            one.mkdir()
        self.address = address or f"ipc://{self.folder}/s/m"
        if not address:
            (self.folder / "s").mkdir(mode=0o700)
        self.members: dict[str, subprocess.Popen[Any]] = {}
        self._slots, self._memory = slots, memory
        self._launch = launch or (lambda name, argv, **options: subprocess.Popen(argv, **options))
        self.said = ""
        self._threads = concurrent.futures.ThreadPoolExecutor(4)
        self._connections: list[Any] = []
        self._keys = self.folder / "keys"
        keys_folder.init(self._keys, self.address)

    # Processes -------------------------------------------------------------------------------------------------------

    def start_master(
        self,
        *,
        name: str = "master",
        failpoints: str = "",
        state: str = "state",
        listen: str = "",
        wrap: Callable[[list[str]], list[str]] | None = None,
        changes: str = "",
        changed_file: object = "",
        lost_s: float | None = None,
    ) -> subprocess.Popen[Any]:
        """Start the master, or start it again on the same state, at the address of the bundles or at `listen`.

        `changes` and `changed_file`: see `changed.py`. lost_s: after what silence workers are lost.
        """
        words: list[object] = ["master", "--state", self.folder / state, "--keys", self._keys / "master"]
        words += ["--listen", listen or self.address, *self._root_words]
        words += ["--lost-after", lost_s] if lost_s is not None else []
        return self._start(name, words, failpoints, wrap, _environ_of(changed_file), changes)

    def start_worker(
        self,
        name: str,
        *,
        failpoints: str = "",
        slots: int | None = None,
        wrap: Callable[[list[str]], list[str]] | None = None,
        tokens: str = "",
        changes: str = "",
        changed_file: object = "",
        hung_s: float | None = None,
    ) -> subprocess.Popen[Any]:
        """Start a worker, or start it again with the disk that it has. `wrap` changes its command line.

        A failpoint strikes once in all processes; once in those that have the same `tokens`, if it is given.
        `changes` and `changed_file`: see `changed.py`. hung_s: after what silence a task is held up.
        """
        words: list[object] = ["worker", "--bundle", self.bundle("worker", name), "--slots", slots or self._slots]
        words += ["--memory", self._memory, "--scratch", self.scratch(name), *self._root_words]
        words += ["--hung-after", hung_s] if hung_s is not None else []
        environ = _environ_of(changed_file)
        if tokens:
            (self.tokens / tokens).mkdir(exist_ok=True)
            environ[TOKENS_VARIABLE] = str(self.tokens / tokens)
        return self._start(name, words, failpoints, wrap, environ, changes)

    def start_workers(self, *names: str) -> None:
        """Start several workers."""
        for name in names:
            self.start_worker(name)

    def _start(
        self,
        name: str,
        words: Sequence[object],
        failpoints: str,
        wrap: Callable[[list[str]], list[str]] | None = None,
        environ: Mapping[str, str] | None = None,
        changes: str = "",
    ) -> subprocess.Popen[Any]:
        command = [sys.executable, str(CHANGED), changes] if changes else _COMMAND
        argv = [*command, *(str(word) for word in words)]
        return self._start_words(name, wrap(argv) if wrap else argv, failpoints, environ)

    def _start_words(
        self, name: str, argv: list[str], failpoints: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[Any]:
        env = {**os.environ, TOKENS_VARIABLE: str(self.tokens), **(environ or {}), VARIABLE: failpoints}
        with open(self.folder / f"{name}.log", "ab") as log:
            process = self._launch(name, argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.members[name] = process
        return process

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process; after SIGKILL wait until it has ended."""
        process = self.members[name]
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(_END_S)

    def wait_killed(self, name: str, within_s: float = 30.0) -> None:
        """Wait until a process has been killed by its failpoint."""
        found = until(lambda: self.members[name].poll() is not None, f"{name} ends", within_s)
        assert found and self.members[name].returncode == -signal.SIGKILL, self.log(name)

    def wait_token(self, name: str, within_s: float = 30.0) -> None:
        """Wait until a failpoint was struck, in whichever process."""
        until(lambda: (self.tokens / name).exists(), f"{name} strikes", within_s)

    def wait_workers(self, *names: str, within_s: float = 30.0) -> None:
        """Wait until just these workers are here."""
        until(lambda: self.workers() == sorted(names), f"workers {names} are here", within_s)

    def workers(self) -> list[str]:
        """The workers that the master takes for alive, by name."""
        return sorted(row["name"] for row in self.command_json("workers"))

    def command(self, *words: object, client: str = "root") -> subprocess.CompletedProcess[str]:
        """Run `kernelmill WORDS --bundle FILE` as an administrator."""
        bundle = self.bundle("client", client, is_admin=True)
        argv = [*_COMMAND, *(str(word) for word in words), "--bundle", str(bundle)]
        process = self._launch("command", argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said, complained = process.communicate(timeout=30)
        return subprocess.CompletedProcess(argv, process.returncode, said, complained)

    def command_json(self, *words: object) -> Any:
        """The JSON that a command prints."""
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, as the command lists them."""
        found: list[dict[str, Any]] = self.command_json("jobs", "--all")
        return found

    def only_job(self) -> bytes:
        """The id of the one job that there is."""
        (row,) = self.jobs()
        return bytes.fromhex(row["job"])

    def gated(self, gate: str, within_s: float = 30.0) -> int:
        """Wait until a task waits at its gate; the number of its process."""
        return int(until(lambda: os.path.exists(f"{gate}.pid") and Path(f"{gate}.pid").read_text(), gate, within_s))

    def worker_of(self, pid: int) -> str:
        """The worker whose slot this process is."""
        grandparent = parent_of(parent_of(pid))  # its parent is the worker's nursery
        return next(name for name, process in self.members.items() if process.pid == grandparent)

    def slots_of(self, name: str) -> list[int]:
        """The processes of a worker's slots, warm ones too."""
        return [slot for child in children_of(self.members[name].pid) for slot in children_of(child)]

    def storage(self) -> int:
        """The master's storage process."""
        own = children_of(self.members["master"].pid)
        return next(pid for pid in own if b"cluster.storage" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        """What all have said, the ends of it."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in self.folder.glob("*.log")
        )

    # Keys and places -------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> Path:
        """The folder of keys."""
        return self._keys

    def bundle(self, role: keys_folder.Role, name: str, *, is_admin: bool = False) -> Path:
        """The bundle of a peer, made at the first call."""
        path = keys_folder.bundle_of(self._keys, role, name)
        if not path.exists():
            keys_folder.add(self._keys, role, name, is_admin=is_admin)
        return path

    def read_bundle(self, role: keys_folder.Role, name: str, *, is_admin: bool = False) -> Bundle:
        """The keys of a peer."""
        return read_bundle(self.bundle(role, name, is_admin=is_admin), role)

    def scratch(self, name: str) -> Path:
        """A worker's own scratch root: no two are on one host, so blocks travel."""
        folder = self.folder / f"scratch-{name}"
        folder.mkdir(exist_ok=True)
        return folder

    # Jobs ------------------------------------------------------------------------------------------------------------

    @property
    def _root_words(self) -> list[str]:
        return ["--root", f"{ROOT}={self.files}", "--root", f"{SCRATCH}={self.rows}"]

    def connect(self, client: str = "ann", **options: Any) -> Any:
        """A connection of this client: what runs within its `with` runs on the cluster. `options` as km.connect's."""
        roots = {ROOT: str(self.files), SCRATCH: str(self.rows)}
        made = km.connect(str(self.bundle("client", client, is_admin=True)), roots=roots, **options)
        self._connections.append(made)
        return made

    def history(self) -> history.History:
        """What the journal says; of a master that is at rest, or has ended."""
        return history.read(self.folder / "state")

    def truth(self, job: known.KnownJob) -> known.Truth:
        """The job's input below the root, and what the local runner makes of it."""
        return known.Truth(job, self.files)

    def run(self, truth: known.Truth, name: str = "out", **options: Any) -> Any:
        """Run a job on the cluster; its result. The output is `files/NAME`."""
        with self.connect():
            return truth.job.run(truth.source, self.files / name, **options)

    def submit(self, work: Callable[[], Any]) -> concurrent.futures.Future[Any]:
        """Do something in a thread; its future result."""
        return self._threads.submit(work)

    def begin(self, truth: known.Truth, name: str = "out", **options: Any) -> concurrent.futures.Future[Any]:
        """Run a job in a thread; its future result."""
        return self._threads.submit(self.run, truth, name, **options)

    def start_client(
        self, job: str, truth: known.Truth, output: str, *, rows: int = known.ROWS, gate_at: int = known.ROWS // 2
    ) -> subprocess.Popen[Any]:
        """Run a known job in a process of its own, which ends with 0 if the job does."""
        words = [sys.executable, Path(__file__).with_name("run_known.py"), self.bundle("client", "ann", is_admin=True)]
        words += [f"{ROOT}={self.files}", job, truth.job.gate, gate_at, rows, truth.source, self.files / output]
        return self._start_words("client", [str(word) for word in words], "")

    def done(self, future: concurrent.futures.Future[Any], within_s: float = 40.0) -> Any:
        """The result of a job that was begun."""
        return future.result(within_s)

    def no_staging(self, name: str = "out") -> None:
        """Wait until what a job had beside its output is removed: the storage process does it when all is said."""
        until(lambda: known.leftovers_beside(self.files / name) == [], "staging is removed", 10)

    # End -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End all processes and remove the folder."""
        for each in self._connections:  # a job that waits for a master which is gone keeps its own open
            each.close()
        for process in self.members.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
        for process in self.members.values():
            process.wait(_END_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.said = self.logs()
        shutil.rmtree(self.folder, ignore_errors=True)
