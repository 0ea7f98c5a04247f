"""The slot: a process that runs a job's tasks, one at a time, and may die of them.

    python -m kernelmill.cluster.worker.process SOCKET_FD PAGE_FD

It has no key but the code key, no ZeroMQ and no address: only its end of a socketpair, and a page that its supervisor
reads. A thread reads frames while the main thread works; when the supervisor is gone, so is the slot. After a job that
brought code of a user's it opens no other; one without leaves it as it was but for memory, which is bounded.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import queue
import socket
import sys
import threading
import time
import traceback

import pyarrow as pa

from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.store import ScratchPlace
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import AttemptKey, has_code
from kernelmill.cluster.jobspec.opening import open_job
from kernelmill.cluster.parent import die_with_parent
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.worker.copies import end_copies, end_with_function, flush_streams, let_go
from kernelmill.cluster.worker.isolation import Isolation
from kernelmill.cluster.worker.progresspage import ProgressPage
from kernelmill.cluster.worker.slotcontext import Whereabouts
from kernelmill.cluster.worker.slotframes import (
    BlockHere,
    CancelTask,
    CloseJob,
    EndSlot,
    JobOpened,
    JobRefused,
    OpenJob,
    RunTask,
    SlotReady,
    SourceInputs,
    TakeBack,
    TaskDone,
    TaskFailed,
    TaskReturned,
    ToSupervisor,
    frame_bytes,
    from_supervisor,
)
from kernelmill.cluster.worker.slottask import SlotJob, as_typed, told_as
from kernelmill.cluster.worker.strays import adopt_orphans
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.context import Scratch
from kernelmill.engine.machine import resident_bytes
from kernelmill.engine.settings import resolve
from kernelmill.engine.userfunctions import never_interrupted
from kernelmill.kernels import _jit

_RECEIVE_BYTES = 1 << 16
_COPIES_S = 1.0
"""How long copies that a function made are looked for and killed when its task is over."""
_KEPT_SHARE, _KEPT_BYTES_MAX = 4, 512 << 20
"""What a slot may keep between two jobs, of buffers that the next one need not touch for the first time: this part of
its memory, at most so much."""


class Slot:
    """The two threads of a slot and what they share."""

    def __init__(self, link: socket.socket, page: ProgressPage) -> None:
        self._link, self._whereabouts = link, Whereabouts(page)
        self._sending = threading.Lock()
        self._in_line: dict[AttemptKey, RunTask] = {}  # not begun; who takes one out, by `pop`, decides about it
        self._orders: queue.SimpleQueue[OpenJob | RunTask | CloseJob] = queue.SimpleQueue()
        self._desk = BlockDesk(self.send)
        self._opening: OpenJob | None = None
        self._job: SlotJob | None = None
        self._scratch = Scratch()
        self._bare_bytes = resident_bytes("self")
        self._has_code = False  # of a user's, unpickled here
        self._isolation: Isolation | None = None
        self._pid, self._has_forked = os.getpid(), False

    def serve(self) -> None:
        """Work until the supervisor ends this process, or is gone."""
        threading.Thread(target=self._read_or_end, name="frames", daemon=True).start()
        self.send(SlotReady(os.getpid()))
        while True:
            order = self._orders.get()
            if isinstance(order, OpenJob):
                self._open(order)
            elif isinstance(order, CloseJob):
                self._close()
            elif self._in_line.pop(order.attempt, None) is not None:
                self._run(order)

    def send(self, frame: ToSupervisor) -> None:
        """Send a frame, from either thread."""
        data = frame_bytes(frame)
        if os.getpid() != self._pid:
            os._exit(0)  # a copy of which Python knows nothing
        with self._sending:
            try:
                self._link.sendall(data)
            except OSError:
                os._exit(0)  # the supervisor is gone, and nobody else wants to hear of it

    def watch_forks(self) -> None:
        """Have copies that functions make by `os.fork` be copies, and nothing more."""
        os.register_at_fork(before=flush_streams, after_in_parent=self._note_fork, after_in_child=self._be_a_copy)

    def _note_fork(self) -> None:
        self._has_forked = True

    def _be_a_copy(self) -> None:
        self._whereabouts.is_copy = True
        let_go(self._link.fileno(), self._job.folders if self._job is not None else ())
        end_with_function()

    def _end_copies(self) -> None:
        self._has_forked = False
        if count := end_copies(_COPIES_S):
            sys.stderr.write(f"ended with their task: {count} processes that a function has made by os.fork()\n")

    def _read_or_end(self) -> None:
        try:
            self._read()
        finally:  # a slot that hears nothing any more is of no use, whatever happened
            traceback.print_exc()
            os._exit(70)

    def _read(self) -> None:
        reader = from_supervisor()
        while True:
            try:
                data = self._link.recv(_RECEIVE_BYTES)
            except OSError:
                data = b""
            if not data:
                os._exit(0)
            for frame in reader.feed(data):
                match frame:
                    case SourceInputs():
                        self._desk.take_inputs(frame)
                    case BlockHere():
                        isolation = self._isolation
                        if isolation is None or not isolation.forward(frame):
                            self._desk.take_answer(frame)
                    case CancelTask():
                        self._cancel(frame.attempt)
                    case TakeBack():
                        if self._in_line.pop(frame.attempt, None) is not None:
                            self.send(TaskReturned(frame.attempt))
                    case EndSlot():
                        os._exit(0)
                    case RunTask():
                        self._in_line[frame.attempt] = frame
                        self._orders.put(frame)
                    case _:
                        self._orders.put(frame)

    def _cancel(self, attempt: AttemptKey) -> None:
        if self._in_line.pop(attempt, None) is not None:
            self.send(TaskFailed(attempt, "CANCELLED", "", None, None, ()))
            return
        isolation = self._isolation
        if isolation is not None and isolation.attempt == attempt:
            isolation.cancel()
        elif self._job is not None:
            self._job.cancel(attempt)

    def _open(self, order: OpenJob) -> None:
        """Open the job: the only place of a cluster where code is unpickled, after its signature."""
        try:
            if self._job is not None or self._has_code:
                raise error(Code.INTERNAL, "a slot has one job at a time, and none after one with code")
            self._has_code = has_code(order.parts)
            opened = open_job(
                order.job,
                order.sheet,
                order.parts,
                order.signature,
                order.expires_s,
                folder=order.parts_folder,
                code_key=order.code_key,
                now_s=time.time(),
                roots=Roots(dict(order.roots), f"worker {order.worker}"),
                registered=order.registered,
            )
            place = ScratchPlace(order.scratch, order.worker)
            self._job = SlotJob(opened, place, order.memory_bytes, self._desk, self._whereabouts, self._scratch)
            self._opening = order
            gc.freeze()  # a plan has objects for each task: looking through them took a quarter of short ones
        except Exception as problem:
            self.send(JobRefused(order.job, told_as(_refusal(problem, order.worker))))
            os._exit(0)
        self.send(JobOpened(order.job))

    def _close(self) -> None:
        """Forget the job, and be ready for another if what it left is little."""
        kept_bytes_max = min(self._opening.memory_bytes // _KEPT_SHARE, _KEPT_BYTES_MAX) if self._opening else 0
        self._job = self._opening = None
        self._desk.forget()
        gc.unfreeze()
        if self._has_code or not shrinks_to(self._bare_bytes + kept_bytes_max, self._scratch):
            os._exit(0)
        self.send(SlotReady(os.getpid()))

    def _run(self, order: RunTask) -> None:
        failpoint("slot.task.begun")
        if self._job is None:
            raise error(Code.INTERNAL, "a task came before its job")
        done: TaskDone | TaskFailed
        if order.is_isolating:
            assert self._opening is not None
            self._isolation = Isolation(order, self._opening, self._job, self._desk, self._whereabouts, self.send)
            try:
                done = self._isolation.run()
            except Exception as problem:  # such as a limit that the function has set: its children cannot be started
                done = self._job.failure(order, problem)
            self._isolation = None
        else:
            done = self._job.run(order)
        if self._has_forked or order.is_isolating:
            self._end_copies()
        failpoint("slot.task.ended")
        self.send(done)


def shrinks_to(size_bytes_max: int, scratch: Scratch) -> bool:
    """Give memory back if this process holds more than so many bytes; tell whether that helped."""
    if resident_bytes("self") <= size_bytes_max:
        return True
    scratch.clear()
    gc.collect()
    pa.default_memory_pool().release_unused()
    return resident_bytes("self") <= size_bytes_max


def _refusal(problem: Exception, worker: str) -> KernelmillError:
    """What to tell of a job that cannot be opened, by this worker: another one may do better."""
    whose = f"worker {worker}"
    if isinstance(problem, ImportError):
        what = f"a function of the job needs a module that {whose} has not: {problem}"
        return error(Code.CODE_REFUSED, what, hint="install it on all workers, or put it below the script's folder")
    told = as_typed(problem)
    if whose in told.what:
        return told
    return error(told.code, f"{whose}: {told.what}", where=told.where, hint=told.hint)


def main(link_handle: int, page_handle: int) -> None:
    """Run a slot over these inherited file descriptors; does not return."""
    die_with_parent()
    adopt_orphans()
    for stream in (sys.stdout, sys.stderr):  # what users print goes to the job's log, and soon
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()  # what a crash leaves on stderr goes to the job's log
    link = socket.socket(fileno=link_handle)
    link.setblocking(True)
    for handle in (link_handle, page_handle):
        os.set_inheritable(handle, False)  # what users' code starts must not hold them
    never_interrupted()
    _jit.use_cache_root(resolve(progress="off").cache_dir)
    slot = Slot(link, ProgressPage(page_handle))
    slot.watch_forks()
    slot.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
