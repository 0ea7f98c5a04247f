"""A master as a process of its own, over ipc, with keys in a folder that is short enough for sockets."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raw import client_session, worker_session

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import JobPart, Place, Policy, Sheet, SheetEdge, SheetStage
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.bundle import read_bundle
from kernelmill.cluster.versions import versions_here


class MasterProcess:
    """Start it, kill it, start it again on the same state."""

    def __init__(self, address=""):
        self.folder = Path(tempfile.mkdtemp(prefix="km-"))
        self.keys, self.address = self.folder / "keys", address or f"ipc://{self.folder}/m"
        keys_folder.init(self.keys, self.address)
        (self.folder / "data").mkdir()
        self.process = None
        self._sessions = []

    def add(self, role, name, **more):
        return read_bundle(keys_folder.add(self.keys, role, name, **more), role)

    def start(self, files_max=0, **environment):
        """Start the process, with no more files than this if it is given."""
        command = [sys.executable, "-m", "kernelmill", "master", "--state", str(self.folder / "state")]
        command += ["--keys", str(self.keys / "master"), "--root", f"data={self.folder / 'data'}"]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with open(self.folder / "log", "ab") as log:
            limit = ["sh", "-c", f'ulimit -n {files_max} && exec "$@"', "sh"] if files_max else []
            environment = os.environ | path | environment
            self.process = subprocess.Popen([*limit, *command], env=environment, stdout=log, stderr=log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def ended(self, wait_s=10.0):
        """The exit code, once the process has ended."""
        return self.process.wait(wait_s)

    def said(self):
        return (self.folder / "log").read_text()

    def close(self):
        for session in self._sessions:
            session.peer.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, bundle):
        return self._let_in(lambda: client_session(self.address, bundle))

    def worker(self, bundle):
        return self._let_in(lambda: worker_session(self.address, bundle))

    def _let_in(self, connect):
        """A session whose handshake succeeded: the master may be starting, or not have read its lists again."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            session = connect()
            if session.peer.handshake(1.0) == "succeeded":
                self._sessions.append(session)
                return session
            session.peer.close()
            time.sleep(0.05)  # bounded by the deadline
        raise AssertionError("the master let nobody in")


def until(found, wait_s=10.0):
    """Ask again until the answer is true; return it."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if answer := found():
            return answer
        time.sleep(0.02)  # between two looks at a condition; the deadline above bounds them
    raise AssertionError("it never came")


def free_address():
    """Three ports in a row that nobody has at this moment."""
    for port in range(21_000 + os.getpid() % 20_000, 60_000, 3):
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            try:
                for number, each in enumerate((first, second, third)):
                    each.bind(("127.0.0.1", port + number))
            except OSError:
                continue
            return f"tcp://127.0.0.1:{port}"
    raise AssertionError("no three free ports in a row")


PLAN = b"a plan that nobody here reads"
OUTPUT = Place("data", ("out",))


def sheet(maps=2, reduces=1):
    stages = (
        SheetStage("map", maps, (reduces,), ()),
        SheetStage("reduce", reduces, (), (SheetEdge(0, "hash", 0),)),
    )
    return Sheet(stages, OUTPUT, Policy("error", 0, "error", "signed", "tail", 4, False), versions_here())


def submission(job, **more):
    parts = (JobPart("plan", hashlib.sha256(PLAN).digest(), len(PLAN)),)
    return m.Submit(job, sheet(**more), parts, b"S" * 32, 1_900_000_000)


def submit(client, body):
    """Say Submit and all parts that are needed; the answer."""
    client.say(body)
    while isinstance(answer := client.hear(m.Need, m.Accepted, m.Refused), m.Need):
        client.say(m.PutPart(body.job, answer.sha256, answer.offset, PLAN[answer.offset :]))
    return answer
