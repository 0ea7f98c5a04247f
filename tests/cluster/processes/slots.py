"""A supervisor for one slot: starts the process, talks frames, waits with a deadline."""

import os
import select
import socket
import subprocess
import sys
import time

from traveling import KEY, packed, written

from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.storage.layout import make_staging
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotframes import (
    BlockWanted,
    JobOpened,
    MapHeld,
    OpenJob,
    RunTask,
    SlotReady,
    SourceInputs,
    TaskDone,
    frame_bytes,
    from_slot,
)

DEADLINE_S = 60.0


class SlotProcess:
    """A slot of worker `worker`; use it in a `with`."""

    def __init__(self, worker="w1", environment=None):
        self.worker = worker
        self.link, theirs = socket.socketpair()
        page = new_page()
        self.page = ProgressPage(page)
        handles = theirs.fileno(), page
        command = [sys.executable, "-m", "kernelmill.cluster.worker.process", *map(str, handles)]
        self.process = subprocess.Popen(
            command,
            pass_fds=handles,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        theirs.close()
        os.close(page)
        self._reader, self._frames = from_slot(), []
        self.asked = []

    def __enter__(self):
        assert isinstance(self.frame(), SlotReady)
        return self

    def __exit__(self, *_):
        self.link.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def tell(self, frame):
        self.link.sendall(frame_bytes(frame))

    def frame(self):
        """The next frame of the slot; None when it has ended."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._frames:
            assert select.select([self.link], [], [], max(0, deadline - time.monotonic()))[0], "the slot says nothing"
            data = self.link.recv(1 << 16)
            if not data:
                return None
            self._frames += self._reader.feed(data)
        return self._frames.pop(0)

    def open(self, packed_job, parts, data, scratch, **changed):
        """Open a packed job; the slot's answer."""
        given = {
            "job": packed_job.job,
            "sheet": packed_job.sheet,
            "parts": packed_job.parts,
            "parts_folder": parts,
            "signature": packed_job.signature,
            "expires_s": packed_job.expires_s,
            "code_key": KEY,
            "roots": (("data", str(data)),),
            "memory_bytes": 1 << 30,
            "scratch": str(scratch),
            "worker": self.worker,
        }
        self.tell(OpenJob(**{**given, **changed}))
        return self.frame()

    def run(self, job, stage, index, number, answer=None):
        """Run a task; its TaskDone or TaskFailed. `answer` gives the BlockHere for what it asks."""
        self.tell(RunTask(AttemptKey(1, number), TaskKey(job.job, stage, 0, index), (), False))
        while isinstance(frame := self.frame(), BlockWanted):
            self.asked.append(frame)
            self.tell(answer(frame))
        return frame


def pack_here(frame, data, parts, **given):
    """Pack a frame's job so that it can run here: its parts are written, its staging made."""
    job = packed(frame, data, now_s=int(time.time()), **given)
    folder = written(job, parts)
    make_staging(os.path.join(str(data), *job.sheet.output.parts), job.job)
    return job, folder


def run_job(job, slots, scratches, parts, data, answer=None):
    """Run all tasks of a job, one slot after the other taking one; the TaskDone of each, by (stage, index)."""
    for slot, scratch in zip(slots, scratches, strict=True):
        assert isinstance(slot.open(job, parts, data, scratch), JobOpened)
    done, holders, number = {}, {}, 0
    for stage, sheet in enumerate(job.sheet.stages):
        for slot in slots:
            for source in {edge.source for edge in sheet.inputs}:
                names = tuple(sorted({one.worker for one in slots}))
                held = [
                    MapHeld(index, AttemptKey(1, at), names.index(worker))
                    for (of, index), (at, worker) in holders.items()
                    if of == source
                ]
                slot.tell(SourceInputs(source, 0, names, tuple(held)))
        for index in range(sheet.tasks):
            slot = slots[number % len(slots)]
            done[stage, index] = slot.run(job, stage, index, number, answer)
            assert isinstance(done[stage, index], TaskDone), done[stage, index]
            holders[stage, index] = number, slot.worker
            number += 1
    return done
