"""What to ask of whom, and when to give up: the fetching of streams from other hosts. Pure; a shell sends and writes.

    fetches.want(key, source, now, bytes_max)    a stream is wanted of a source; key and source are the caller's
    fetches.answered(...)        where the bytes of a Chunk belong, None if nobody waits for them
    fetches.written(key)         those bytes are in the file
    fetches.checked(key, ok)     after Completed: whether the stream is what it should be
    fetches.pass_time(now)       then take(): orders in the order in which they are to be done

Of all streams the beginning is asked for first: it says what is in them. Asking is the credit: at most REQUESTS_MAX
requests of a source are open, and REQUESTS_ALL_MAX in all. A source that is silent for ANSWER_S while it owes answers
is asked again over a new connection, three times; then what is wanted of it is missed. A stream that arrives damaged is
fetched once more; if it is damaged again its holder is asked to look at its own copy: a bad one is CORRUPT_BLOCK, a
good one means that the way between is bad. Nothing is taken of a stream whose source says that it is longer than
`bytes_max`: no source can fill this side's disk. One that is busy for BUSY_S_MAX, with no other answer in between, is
given up.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import NamedTuple

import msgspec

from kernelmill.cluster.messages import FETCH_BYTES_MAX

REQUESTS_MAX = 8
REQUESTS_ALL_MAX = 64
ANSWER_S = 1.0
TRIES_MAX = 3
BUSY_S = 0.1
BUSY_S_MAX = 30.0
IDLE_S = 30.0
"""How long a connection is kept over which nothing is wanted."""

UNREACHABLE, CORRUPT = "FETCH_UNREACHABLE", "CORRUPT_BLOCK"

Key = Hashable


class Ask(NamedTuple):
    """Send a Fetch of these bytes of a stream; length 0: let the holder check its copy."""

    source: str
    request: int
    key: Key
    offset: int
    length: int


class Reconnect(NamedTuple):
    """Close the socket to this source, with all that waits in it; the next Ask opens a new one."""

    source: str


class Restart(NamedTuple):
    """Throw away what was written of this stream: it comes again."""

    key: Key


class Completed(NamedTuple):
    """All bytes of the stream are written: check them, then call `checked`."""

    key: Key


class Missed(NamedTuple):
    """The stream cannot be had; it is forgotten."""

    key: Key
    code: str


Order = Ask | Reconnect | Restart | Completed | Missed


class _Stream(msgspec.Struct, eq=False):
    key: Key
    source: str
    bytes_max: int
    next_offset: int = 0
    total: int | None = None
    received: int = 0
    open: int = 0
    is_again: bool = False
    is_checking: bool = False


class _Request(NamedTuple):
    stream: _Stream
    offset: int
    length: int


class _Source(msgspec.Struct, eq=False):
    again: deque[_Request]  # asked before, and not answered
    fresh: OrderedDict[Key, _Stream]  # streams of which nothing is known: asked for before more of the others
    waiting: OrderedDict[Key, _Stream]  # streams with bytes that were not asked for yet
    open: set[int]
    silent_since_s: float = 0.0
    tries: int = 0
    not_before_s: float = 0.0
    busy_since_s: float | None = None

    @property
    def has_more(self) -> bool:
        """Whether anything is to be asked."""
        return bool(self.again or self.fresh or self.waiting)


class Fetches:
    """The streams that are wanted, and the requests that are open for them."""

    def __init__(self) -> None:
        self._streams: dict[Key, _Stream] = {}
        self._sources: dict[str, _Source] = {}
        self._requests: dict[int, _Request] = {}
        self._count = 0
        self._orders: list[Order] = []

    def want(self, key: Key, source: str, now: float, bytes_max: int) -> None:
        """Fetch a stream of at most `bytes_max` bytes from a source; nothing happens if it is being fetched."""
        if key in self._streams:
            return
        stream = self._streams[key] = _Stream(key, source, bytes_max)
        home = self._sources.setdefault(source, _Source(deque(), OrderedDict(), OrderedDict(), set()))
        home.fresh[key] = stream
        self._ask(source, home, now)

    def forget(self, key: Key) -> None:
        """Nobody wants this stream any more; its answers go nowhere, yet keep their credit until they come."""
        stream = self._streams.pop(key, None)
        if stream is not None:
            home = self._sources[stream.source]
            home.waiting.pop(key, None)
            home.fresh.pop(key, None)
            home.again = deque(request for request in home.again if request.stream is not stream)

    def answered(
        self, source: str, request: int, status: str, length: int, total: int, now: float
    ) -> tuple[Key, int] | None:
        """Take a source's answer to a request; returns stream and offset of its bytes if there are any to write.

        An answer to what was asked of somebody else is none.
        """
        found = self._requests.get(request)
        if found is None or found.stream.source != source:
            return None
        del self._requests[request]
        stream = found.stream
        home = self._sources[stream.source]
        home.open.discard(request)
        home.silent_since_s, home.tries = now, 0
        since_s = home.busy_since_s if home.busy_since_s is not None else now
        home.busy_since_s = since_s if status == "BUSY" else None
        place = None
        if self._streams.get(stream.key) is stream:
            stream.open -= 1
            if status == "BUSY" and now >= since_s + BUSY_S_MAX:
                self._miss(stream, UNREACHABLE)
            elif status == "BUSY":
                home.again.append(found)
                home.not_before_s = now + BUSY_S
            elif stream.is_checking:
                self._miss(stream, UNREACHABLE if status in ("OK", "DENIED") else CORRUPT)
            elif status == "OK":
                place = self._take(home, found, length, total)
            else:  # GONE and CORRUPT: the holder says so itself; DENIED: a ticket of other times
                self._miss(stream, UNREACHABLE if status == "DENIED" else CORRUPT)
        self._ask_all(now)
        return place

    def written(self, key: Key) -> None:
        """The bytes that `answered` placed are in the file: the stream may be complete now."""
        stream = self._streams.get(key)
        if stream is not None and stream.received == stream.total:
            self._orders.append(Completed(key))

    def checked(self, key: Key, is_intact: bool, now: float) -> None:
        """Take the verdict on a complete stream: forget it, or fetch it once more, or have its holder look at it."""
        stream = self._streams.get(key)
        if stream is None:
            return
        if is_intact:
            self.forget(key)
            return
        stream.next_offset, stream.total, stream.received = 0, None, 0
        stream.is_checking, stream.is_again = stream.is_again, True
        if not stream.is_checking:
            self._orders.append(Restart(key))
        home = self._sources[stream.source]
        home.fresh[key] = stream
        self._ask(stream.source, home, now)

    def fail(self, key: Key, code: str) -> None:
        """Give a stream up for a reason of this side, such as a full disk."""
        stream = self._streams.get(key)
        if stream is not None:
            self._miss(stream, code)

    def pass_time(self, now: float) -> None:
        """Ask again, or give up, where a source has been silent for too long."""
        wanted = {stream.source for stream in self._streams.values()}
        for name, home in list(self._sources.items()):
            if home.open and now >= home.silent_since_s + ANSWER_S:
                self._retry(name, home, now)
            if not home.open and name not in wanted and now >= home.silent_since_s + IDLE_S:
                del self._sources[name]
                self._orders.append(Reconnect(name))  # nothing is wanted there: the connection is given back
        self._ask_all(now)

    def next_deadline(self) -> float | None:
        """When `pass_time` has something to do; None if nothing is wanted."""
        due = [home.silent_since_s + ANSWER_S for home in self._sources.values() if home.open]
        due += [home.not_before_s for home in self._sources.values() if home.has_more and not home.open]
        return min(due, default=None)

    def take(self) -> list[Order]:
        """The orders since the last time."""
        orders, self._orders = self._orders, []
        return orders

    def check(self) -> None:
        """Assert what must hold; for tests."""
        assert len(self._requests) <= REQUESTS_ALL_MAX
        assert sum(len(home.open) for home in self._sources.values()) == len(self._requests)
        assert all(len(home.open) <= REQUESTS_MAX for home in self._sources.values())
        for stream in self._streams.values():
            assert stream.source in self._sources and stream.open >= 0
            assert stream.total is None or stream.received <= stream.total

    def _ask_all(self, now: float) -> None:
        for name, home in self._sources.items():
            if home.has_more:
                self._ask(name, home, now)

    def _ask(self, source: str, home: _Source, now: float) -> None:
        while home.has_more and now >= home.not_before_s:
            if len(home.open) >= REQUESTS_MAX or len(self._requests) >= REQUESTS_ALL_MAX:
                return
            request = home.again.popleft() if home.again else self._next_range(home)
            stream = request.stream
            if not home.open:
                home.silent_since_s = now
            self._count += 1
            home.open.add(self._count)
            stream.open += 1
            self._requests[self._count] = request
            self._orders.append(Ask(source, self._count, stream.key, request.offset, request.length))

    def _next_range(self, home: _Source) -> _Request:
        if home.fresh:  # the first answer says how long the stream is: nothing more is asked for before that
            _, stream = home.fresh.popitem(last=False)
            stream.next_offset = length = 0 if stream.is_checking else FETCH_BYTES_MAX
            return _Request(stream, 0, length)
        key, stream = next(iter(home.waiting.items()))
        assert stream.total is not None
        offset = stream.next_offset
        length = min(FETCH_BYTES_MAX, stream.total - offset)
        stream.next_offset += length
        if stream.next_offset >= stream.total:
            del home.waiting[key]
        return _Request(stream, offset, length)

    def _take(self, home: _Source, request: _Request, length: int, total: int) -> tuple[Key, int] | None:
        """Where the bytes go; answers that do not fit one another are damage like bytes that are wrong."""
        stream = request.stream
        if (
            total > stream.bytes_max
            or stream.total not in (None, total)
            or length != max(0, min(request.length, total - request.offset))
        ):
            self._miss(stream, CORRUPT)
            return None
        if stream.total is None:
            stream.total = total
            if stream.next_offset < total:
                home.waiting[stream.key] = stream
        stream.received += length
        return stream.key, request.offset

    def _miss(self, stream: _Stream, code: str) -> None:
        self.forget(stream.key)
        self._orders.append(Missed(stream.key, code))

    def _retry(self, source: str, home: _Source, now: float) -> None:
        """The source owes answers: ask for all of them again over a new connection, or give it up."""
        self._orders.append(Reconnect(source))
        lost = [self._requests.pop(request) for request in sorted(home.open)]
        home.open.clear()
        home.tries += 1
        for request in lost:
            if self._streams.get(request.stream.key) is request.stream:
                request.stream.open -= 1
                home.again.append(request)
        if home.tries >= TRIES_MAX:
            home.tries = 0
            for stream in [stream for stream in self._streams.values() if stream.source == source]:
                self._miss(stream, UNREACHABLE)
