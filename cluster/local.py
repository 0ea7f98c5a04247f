"""`km.LocalCluster`: a whole cluster on this machine, over ipc, for tests, notebooks, and functions that may crash.

All that it makes lies in one folder of mode 0700 below spill_dir: keys for the occasion, sockets, journal, scratch,
logs. Its processes end with this one, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kernelmill.cluster.children import module_command
from kernelmill.cluster.client.connecting import Connection, connect
from kernelmill.cluster.client.handle import Job
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.messages import OUTPUT_CHARACTERS_MAX, JobRow, LogRow
from kernelmill.cluster.roots import SCRATCH, WHOLE_DISK
from kernelmill.cluster.storage.publishing import remove_staging
from kernelmill.engine.errors import Code, KernelmillError, RefusedError, error
from kernelmill.engine.machine import usable_memory_bytes
from kernelmill.engine.options import whole_number
from kernelmill.engine.settings import resolve
from kernelmill.engine.sizes import parse_bytes

_WORKERS_MAX = 64
_SOCKET_FOLDER_BYTES_MAX = 80  # a socket's path has 107
_START_S = 30.0
_LEAVING_S = 8.0
_LOG_LINES = 12
_POLL_S = 0.02
_BROOM = """
import os, shutil, sys, time
pipe, folders, sweeping = sys.argv[1], sys.argv[2:4], sys.argv[4:]
os.read(int(pipe), 1)
os.spawnv(os.P_WAIT, sweeping[0], sweeping)
for _ in range(100):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if not any(map(os.path.lexists, folders)):
        break
    time.sleep(0.2)
"""
_CANCEL_S = 20.0
_OVER = ("COMMITTED", "FAILED", "CANCELLED")


class LocalCluster:
    """A master and `workers` of `slots` tasks each, as processes of this machine; use it in a `with`, or `close` it.

    All frames and jobs run there until then, as after `km.connect`. memory: of each worker, by default its share of
    half of what there is. registered: functions, "module:function", that alone are run, as workers may be told to.
    hung_after: seconds that one record may take before its task counts as held up.
    Raises KM0601 with the last lines of a log if the processes do not come up.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        slots: int = 1,
        memory: int | str | None = None,
        registered: Sequence[str] | None = None,
        hung_after: float = 30.0,
    ) -> None:
        whole_number("workers", workers, 1)
        whole_number("slots", slots, 1)
        if registered is not None and not registered:
            raise error(Code.BAD_SETTING, "registered= lists no function", hint="name some, or leave it away")
        if workers > _WORKERS_MAX:
            raise error(Code.BAD_SETTING, f"workers={workers} is too many for one machine", hint="up to 64")
        if not 2 <= hung_after <= 86_400:
            what = f"hung_after={hung_after}: how many seconds one record may take"
            raise error(Code.BAD_SETTING, what, hint="from 2 to 86,400")
        share = usable_memory_bytes() // 2 // workers
        self._memory_bytes = share if memory is None else parse_bytes(memory, name="memory", where="LocalCluster")
        self.folder = Path(tempfile.mkdtemp(prefix="km-", dir=resolve().spill_dir))
        is_short = len(bytes(self.folder)) <= _SOCKET_FOLDER_BYTES_MAX
        self._sockets = self.folder if is_short else Path(tempfile.mkdtemp(prefix="km-", dir="/tmp"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._connection: Connection | None = None
        self._read_end, self._write_end = os.pipe()
        self._slots, self._hung_s = slots, float(hung_after)
        self._registered = None if registered is None else tuple(registered)
        self._start_broom()
        try:
            self._start(workers)
        except BaseException:
            self.close()
            raise

    def _start_broom(self) -> None:
        """Start what removes the folder if this process is killed: it waits for the pipe's end as the others do.

        It imports nothing before that, so that it costs little while it waits.
        """
        command = [sys.executable, "-ISc", _BROOM, str(self._read_end), str(self.folder), str(self._sockets)]
        command += module_command("kernelmill.cluster.sweeping", str(self.folder))
        self._broom = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # not this program's: who reads that must not wait for this one's end
            stderr=subprocess.DEVNULL,
            pass_fds=[self._read_end],
            env=_environment(),
            start_new_session=True,
        )

    def _start(self, workers: int) -> None:
        keys = self.folder / "keys"
        keys_folder.init(keys, f"ipc://{self._sockets}/s")
        bundle = keys_folder.add(keys, "client", "here", is_admin=True)
        for name in ("state", "scratch", SCRATCH + "-rows", "log"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        self.start_master()
        for number in range(1, workers + 1):
            keys_folder.add(keys, "worker", f"w{number}")
            self.start_worker(f"w{number}")
        self._await(bundle, workers)

    def workers(self) -> list[str]:
        """The names of the workers that are there now."""
        return self._connected.workers()

    def jobs(self) -> list[JobRow]:
        """The jobs that were run there, the newest first."""
        return self._connected.jobs()

    def job(self, job_id: str) -> Job:
        """A job that was run there, by its `job_id=` or its id; as `Connection.job`."""
        return self._connected.job(job_id)

    def log(self, job: bytes) -> list[LogRow]:
        """The lines that a job's tasks wrote to standard output and error."""
        return self._connected.log(job)

    @property
    def _connected(self) -> Connection:
        if self._connection is None:
            raise error(Code.BAD_SETTING, "this cluster is closed")
        return self._connection

    def start_master(self) -> None:
        """Start the master, or start it again after it was killed: it goes on with its journal."""
        keys = self.folder / "keys"
        told = ["--state", str(self.folder / "state"), "--keys", str(keys / "master")]
        self._run(
            "master", ["master", *told, "--no-status", "--listen", f"ipc://{self._sockets}/s", *self._root_options()]
        )

    def start_worker(self, name: str) -> None:
        """Start a worker, or start it again after it was killed: it offers what it still has."""
        bundle = keys_folder.bundle_of(self.folder / "keys", "worker", name)
        told = ["--bundle", str(bundle), "--slots", str(self._slots), "--memory", str(self._memory_bytes)]
        told += ["--hung-after", str(self._hung_s)]
        told += [f"--registered={function}" for function in self._registered or ()]
        self._run(name, ["worker", *told, "--scratch", str(self.folder / "scratch"), *self._root_options()])

    def close(self) -> None:
        """Cancel what runs, end all processes and remove all files of the cluster; more than once is fine."""
        connection, self._connection = self._connection, None
        jobs = []
        if connection is not None:
            jobs = self._ended_jobs(connection)
            connection.close()
        # Workers first: without them the master has nothing to do, and without a master they would look for it.
        for name in sorted(self.processes, reverse=True):
            self._signal(name, signal.SIGINT)
        until_s = time.monotonic() + _LEAVING_S
        for process in self.processes.values():
            try:
                process.wait(timeout=max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()
        _remove_stagings(jobs)
        for handle in (self._read_end, self._write_end):
            if handle >= 0:
                os.close(handle)
        self._read_end = self._write_end = -1
        self._broom.kill()
        self._broom.wait()
        for folder in {self.folder, self._sockets}:
            shutil.rmtree(folder, ignore_errors=True)

    def _ended_jobs(self, connection: Connection) -> list[JobRow]:
        """All jobs, after those that ran were cancelled; none if the master is not there to be asked."""
        if self.processes["master"].poll() is not None:
            return []
        until_s = time.monotonic() + _CANCEL_S
        jobs: list[JobRow] = []
        with contextlib.suppress(KernelmillError):
            jobs = connection.jobs()
            live = {row.job for row in jobs if row.state not in _OVER}
            for job in live:
                with contextlib.suppress(RefusedError):  # it has just ended
                    connection.cancel(job)
            while live and time.monotonic() < until_s:
                live = {row.job for row in connection.jobs() if row.job in live and row.state not in _OVER}
                time.sleep(_POLL_S)
        return jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        running = sum(process.poll() is None for process in self.processes.values())
        return f"<kernelmill LocalCluster in {self.folder}, {running} processes>"

    def _root_options(self) -> list[str]:
        return ["--root", f"{WHOLE_DISK}=/", "--root", f"{SCRATCH}={self.folder / SCRATCH}-rows"]

    def _run(self, name: str, arguments: Sequence[str]) -> None:
        command = module_command("kernelmill.cluster.leash", str(self._read_end), *arguments)
        with open(self.folder / "log" / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._read_end],
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for this process, which then cancels and closes
            )

    def _await(self, bundle: Path, workers: int) -> None:
        """Wait until the master answers and all workers are there."""
        roots: dict[str, Any] = {WHOLE_DISK: "/", SCRATCH: f"{self.folder / SCRATCH}-rows"}
        until_s = time.monotonic() + _START_S
        while not os.path.exists(f"{self._sockets}/s"):
            self._check(until_s, "no master")
        policy = "signed" if self._registered is None else "registered"
        self._connection = connect(bundle, roots=roots, code_policy=policy)
        while len(self.workers()) < workers:
            self._check(until_s, f"fewer than {workers} workers")

    def _check(self, until_s: float, awaited: str) -> None:
        """Wait a moment. Raises KM0601 if a process has ended, or the time is over."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                what = f"the {name} of the local cluster ended with code {process.returncode}"
                raise error(Code.UNREACHABLE, what, where=self._last_lines(name))
        if time.monotonic() > until_s:
            what = f"{awaited} came up within {_START_S:.0f} s"
            raise error(Code.UNREACHABLE, what, where=self._last_lines("master"), hint="is the machine very busy?")
        time.sleep(_POLL_S)

    def _last_lines(self, name: str) -> str:
        path = self.folder / "log" / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:] if path.is_file() else []
        return "\n    ".join(["the end of its log:", *lines])

    def _signal(self, name: str, number: int) -> None:
        process = self.processes[name]
        if process.poll() is None:
            process.send_signal(number)


def _remove_stagings(jobs: Sequence[JobRow]) -> None:
    """Leave nothing beside outputs: no other master will know of what these jobs have there.

    The process that removes it after the end of a job ended with the master.
    """
    for row in jobs:
        root, _, path = row.output.partition(":")
        if root == WHOLE_DISK and len(row.output) < OUTPUT_CHARACTERS_MAX:  # whole, and not in its own folder
            with contextlib.suppress(OSError, KernelmillError):
                remove_staging(path, row.job)


def _environment() -> dict[str, str]:
    """All of it is the user's own: modules are found where this program finds them, "" being where it is."""
    paths = dict.fromkeys(os.path.abspath(path) for path in sys.path)
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
