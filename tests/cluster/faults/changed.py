"""A program of the cluster that is not what it should be: `python changed.py CHANGE,CHANGE kernelmill's words...`.

Each change replaces one function of ours before the command runs; a change whose name begins with "slot-" is made in
the worker's slots. What a change needs to know is in the environment: CHANGED_FILE names a file, whose meaning is said
with each change.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
from changes import SLOTS, struck, the_file, wrong_clock

TROUBLE = 0.3
"""The share of a talkative worker's messages that are doubled, and of those that come late and out of order."""


# The master -----------------------------------------------------------------------------------------------------------


def impatient() -> None:
    """Canaries are sent, and given up, after a second."""
    from kernelmill.cluster import canary
    from kernelmill.cluster.master import canaries

    canary.PATIENCE_S = canaries.EVERY_S = 1.0


def door_silent() -> None:
    """Nobody answers handshakes as soon as CHANGED_FILE is there."""
    from kernelmill.cluster.sockets import Door

    answer = Door.answer

    def maybe(self: Door) -> None:
        if the_file().exists():
            struck()
            time.sleep(0.01)  # the request stays there, so the poller does not wait
        else:
            answer(self)

    Door.answer = maybe


def door_raises() -> None:
    """Judging a key fails as soon as CHANGED_FILE is there."""
    from kernelmill.cluster.master.gate import Gate

    decide = Gate.decide

    def maybe(self: Gate, domain: str, key: str, address: str) -> str | None:
        if the_file().exists():
            struck()
            raise RuntimeError("the lists are on fire")
        return decide(self, domain, key, address)

    Gate.decide = maybe


def door_open() -> None:
    """Every key comes in as soon as CHANGED_FILE is there."""
    from kernelmill.cluster.master.gate import Gate

    decide = Gate.decide

    def maybe(self: Gate, domain: str, key: str, address: str) -> str | None:
        if the_file().exists():
            struck()
            return key
        return decide(self, domain, key, address)

    Gate.decide = maybe


def swaps_code() -> None:
    """Workers are told that CHANGED_FILE is the code of each job, and may fetch it."""
    from kernelmill.cluster.fields import JobPart
    from kernelmill.cluster.master.partsfolder import PartsFolder
    from kernelmill.cluster.master.posts import Post
    from kernelmill.cluster.master.workerdesk import WorkerDesk
    from kernelmill.cluster.messages import Spec

    data = the_file().read_bytes()
    chosen = JobPart("code", hashlib.sha256(data).digest(), len(data))
    begin, post, grant_parts = PartsFolder.__init__, Post.post, WorkerDesk._grant_parts

    def lying(self: Post, route: bytes, body: object, **more: object) -> None:
        if isinstance(body, Spec):
            parts = tuple(chosen if part.role == "code" else part for part in body.parts)
            body = msgspec.structs.replace(body, parts=parts)
            struck()
        post(self, route, body, **more)

    def noted(self: PartsFolder, folder: Path, wake: object) -> None:
        begin(self, folder, wake)
        (folder / chosen.sha256.hex()).write_bytes(data)

    def generous(self: WorkerDesk, letter: object) -> None:
        grant_parts(self, letter)
        self._rights[letter.worker] |= {chosen.sha256}

    PartsFolder.__init__, Post.post, WorkerDesk._grant_parts = noted, lying, generous


# A worker -------------------------------------------------------------------------------------------------------------


def talkative() -> None:
    """What it says comes twice, late, in another order, and now and then in the envelope of an epoch that is over."""
    from kernelmill.cluster.worker.link import Link

    chance, late = random.Random(10), deque(maxlen=200)
    flush = Link.flush

    def shuffled(self: Link) -> None:
        frames, self._posted = self._posted, []
        for frame in frames:
            if chance.random() < TROUBLE:
                late.append(frame)
                struck()
            if chance.random() < TROUBLE:
                frames_again = [frame] if chance.random() < 0.5 else [_of_old_epoch(frame)]
                self._posted += frames_again
            self._posted.append(frame)
        for _ in range(min(len(late), chance.randrange(4))):
            self._posted.append(late[chance.randrange(len(late))])
        chance.shuffle(self._posted)
        flush(self)

    def _of_old_epoch(frame: bytes) -> bytes:
        content = msgspec.msgpack.decode(frame)
        content[2:4] = [max(content[2] - 1, 0), b"oldlife!"]
        return msgspec.msgpack.encode(content)

    Link.flush = shuffled


def pickling() -> None:
    """Before a message to a worker, or an answer over a data or parts socket, come copies of it with a pickle in each
    field, which makes CHANGED_FILE when somebody loads it: once for each kind of message.
    """
    import raw

    from kernelmill.cluster import wire
    from kernelmill.cluster.data.answering import Answering
    from kernelmill.cluster.master.posts import Post

    blob, sent = raw.pickle_that_marks(the_file()), set()

    def spoiled(link: wire.Link[object], frame: bytes) -> list[bytes]:
        kind = type(link.decode(frame).body).__name__
        if kind in sent:
            return []
        sent.add(kind)
        struck(f"pickled {kind}")
        return list(raw.with_pickle_in_each_field(frame, blob))

    def with_pickles(self: Post, route: bytes, frames: list[bytes]) -> bool:
        if self._domain == "workers":
            for frame in frames:
                for one in spoiled(wire.MASTER_TO_WORKER, frame):
                    send_all(self, route, [one])
        return send_all(self, route, frames)

    class Spoiling:
        """A ROUTER that sends what it should, after that what it should not."""

        def __init__(self, router: object) -> None:
            self._router = router

        def __getattr__(self, name: str) -> object:
            return getattr(self._router, name)

        def send_multipart(self, frames: list[bytes], *more: object, **options: object) -> None:
            route, frame, *body = frames
            for one in spoiled(wire.HOLDER_TO_READER, frame):
                self._router.send_multipart([route, one, *body])
            if body and "body" not in sent:
                sent.add("body")
                self._router.send_multipart([route, frame, blob.ljust(len(body[0]))[: len(body[0])]])
            self._router.send_multipart(frames, *more, **options)

    def spoiling(self: Answering, router: object, *more: object) -> None:
        begin(self, Spoiling(router), *more)

    send_all, begin = Post._send_all, Answering.__init__
    Post._send_all, Answering.__init__ = with_pickles, spoiling


def endless() -> None:
    """Whoever asks for a block of it is sent zeros: 256 MiB of them, if he takes them."""
    from kernelmill.cluster.data.serving import BlockFiles, Served

    def endlessly(self: BlockFiles, fetch: object, reader: str) -> Served:
        struck()
        one = fetch.ranges[0]
        return Served("OK", 256 << 20, bytes(min(one.length, (256 << 20) - one.offset)))

    BlockFiles.answer = endlessly


CHANGES: dict[str, Callable[[], None]] = {
    one.__name__.replace("_", "-"): one
    for one in (wrong_clock, impatient, door_silent, door_raises, door_open, swaps_code, talkative, endless, pickling)
}


def _change_slots(names: list[str]) -> None:
    """Let the supervisor of this process start slots with these changes."""
    from kernelmill.cluster.worker import supervisor

    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    os.environ[SLOTS] = ",".join(names)
    supervisor.Nursery = functools.partial(supervisor.Nursery, module="changed_slots")


def main(names: str, words: list[str]) -> None:
    """Make the changes, and be the command."""
    found = names.split(",")
    in_slots = [name for name in found if name.startswith("slot-")]
    if in_slots:
        _change_slots(in_slots)
    for name in found:
        if name not in in_slots:
            CHANGES[name]()
    sys.argv = ["kernelmill", *words]
    from kernelmill.__main__ import main as kernelmill

    kernelmill()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
