"""A slot's process for tests: does what the first bytes of a job's id say."""

import os
import random
import signal
import socket
import subprocess
import sys

import numpy as np

from kernelmill.cluster.worker import slotframes
from kernelmill.cluster.worker.progresspage import ProgressPage, SlotPlace
from kernelmill.cluster.worker.strays import adopt_orphans

DAEMON = """
import subprocess, sys
daemon = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(daemon, start_new_session=True, stdout=subprocess.DEVNULL).pid, flush=True)
"""


def main(link_handle, page_handle):
    adopt_orphans()
    connection = socket.socket(fileno=link_handle)
    page = ProgressPage(page_handle)
    connection.sendall(slotframes.frame_bytes(slotframes.SlotReady(os.getpid())))
    reader = slotframes.from_supervisor()
    while data := connection.recv(1 << 16):
        for frame in reader.feed(data):
            if isinstance(frame, slotframes.EndSlot):
                os._exit(3)
            if isinstance(frame, slotframes.RunTask):
                run(frame, connection, page)


def run(frame, connection, page):
    key = frame.attempt
    page.write(SlotPlace(key.epoch, key.number, "run", 7, 70, 10, 1234, 5))
    word = frame.task.job.rstrip(b"\0").decode()
    if word == "segv":
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print(child.pid, flush=True)
    elif word == "daemon":
        subprocess.run([sys.executable, "-c", DAEMON], check=True)
    elif word == "random":
        print(random.random(), np.random.random(), flush=True)
    elif word == "garbage":
        connection.sendall(b"\xff" * 64)
    else:
        print("one\ntwo", flush=True)
