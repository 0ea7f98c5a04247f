"""A TCP relay on 127.0.0.1 that delays, stalls, swallows or resets what passes: for faults without namespaces."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

Way = Literal["up", "down", "both"]
"""up: from who connected to the target; down: back."""

_READ_BYTES = 64 << 10
_WAITING_BYTES_MAX = 1 << 20
_CONNECTIONS_MAX = 400


@dataclass(eq=False)
class _End:
    """One of the two sockets of a relayed connection, and what is on its way to it."""

    socket: socket.socket
    way: Literal["up", "down"]  # of what is read from it
    other: _End | None = None
    waiting: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0


class Proxy:
    """Relays connections to `address`, until told otherwise. Counts what it did to them.

    `port` is where it listens, any free one if 0. What it is told holds for connections there are and for new ones.
    """

    def __init__(self, address: tuple[str, int], *, port: int = 0) -> None:
        self.address = address
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        self.connections = self.resets = 0
        self.bytes_passed, self.bytes_swallowed = {"up": 0, "down": 0}, {"up": 0, "down": 0}
        self._delay_s = {"up": 0.0, "down": 0.0}
        self._mode = {"up": "pass", "down": "pass"}
        self._ends: set[_End] = set()
        self._later: list[tuple[float, int, _End, bytes]] = []
        self._turn = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._told, self._tell = socket.socketpair()
        self._lock = threading.RLock()
        self._is_closed = False
        for one in (self._server, self._told):
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._relay, name="tcp proxy")
        self._thread.start()

    def pass_on(self, way: Way = "both") -> None:
        """Relay again, at once; what was stalled comes now, what was swallowed never."""
        self._set(way, "pass", 0.0)

    def delay(self, seconds: float, way: Way = "both") -> None:
        """Hand on what comes from now on this much later, in order."""
        self._set(way, "pass", seconds)

    def stall(self, way: Way = "both") -> None:
        """Read no more: the sender's buffers fill."""
        self._set(way, "stall", 0.0)

    def swallow(self, way: Way = "both") -> None:
        """Read and throw away, as if all was well."""
        self._set(way, "swallow", 0.0)

    def reset(self) -> int:
        """Break all connections with a RST to both sides; their number. New ones are relayed."""
        with self._lock:
            pairs = sum(end.way == "up" for end in self._ends)
            for end in list(self._ends):
                end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._drop(end)
            self.resets += pairs
        return pairs

    def close(self) -> None:
        """End all connections and the relay."""
        self._is_closed = True
        self._tell.send(b"x")
        self._thread.join()
        for one in (*(end.socket for end in self._ends), self._server, self._told, self._tell):
            one.close()
        self._selector.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _set(self, way: Way, mode: str, delay_s: float) -> None:
        with self._lock:
            for one in ("up", "down") if way == "both" else (way,):
                self._mode[one], self._delay_s[one] = mode, delay_s
            for end in list(self._ends):
                self._watch(end)
        self._tell.send(b"x")

    def _relay(self) -> None:
        while not self._is_closed:
            wait_s = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
            ready = self._selector.select(wait_s)
            with self._lock:
                while self._later and self._later[0][0] <= time.monotonic():
                    _, _, end, data = heapq.heappop(self._later)
                    self._hand_on(end, data)
                for key, events in ready:
                    self._serve(key, events)

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self._server:
            with contextlib.suppress(BlockingIOError):
                self._accept(self._server.accept()[0])
        elif key.fileobj is self._told:
            self._told.recv(_READ_BYTES)
        elif key.data in self._ends:
            if events & selectors.EVENT_WRITE:
                self._flush(key.data)
            if events & selectors.EVENT_READ and key.data in self._ends:
                self._read(key.data)

    def _accept(self, peer: socket.socket) -> None:
        target = None
        with contextlib.suppress(OSError):
            target = socket.create_connection(self.address, timeout=1.0)
        if target is None or len(self._ends) >= 2 * _CONNECTIONS_MAX:
            peer.close()
            return
        near, far = _End(peer, "up"), _End(target, "down")
        near.other, far.other = far, near
        self.connections += 1
        for end in (near, far):
            end.socket.setblocking(False)
            self._ends.add(end)
            self._watch(end)

    def _watch(self, end: _End) -> None:
        assert end.other is not None
        is_read = self._mode[end.way] != "stall" and end.other.waiting_bytes < _WAITING_BYTES_MAX
        events = selectors.EVENT_READ * is_read | selectors.EVENT_WRITE * bool(end.waiting)
        if end.socket in self._selector.get_map():
            self._selector.unregister(end.socket)
        if events:
            self._selector.register(end.socket, events, end)

    def _read(self, end: _End) -> None:
        assert end.other is not None
        try:
            data = end.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(end.other)
            self._drop(end)
        elif self._mode[end.way] == "swallow":
            self.bytes_swallowed[end.way] += len(data)
        elif self._delay_s[end.way]:
            at = time.monotonic() + self._delay_s[end.way]
            heapq.heappush(self._later, (at, next(self._turn), end.other, data))
        else:
            self._hand_on(end.other, data)

    def _hand_on(self, end: _End, data: bytes) -> None:
        if end not in self._ends:
            return
        assert end.other is not None
        self.bytes_passed[end.other.way] += len(data)
        end.waiting.append(data)
        end.waiting_bytes += len(data)
        self._flush(end)

    def _flush(self, end: _End) -> None:
        assert end.other is not None
        try:
            while end.waiting:
                sent = end.socket.send(end.waiting[0])
                end.waiting_bytes -= sent
                if sent == len(end.waiting[0]):
                    end.waiting.popleft()
                else:
                    end.waiting[0] = end.waiting[0][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(end.other)
            self._drop(end)
            return
        self._watch(end)
        self._watch(end.other)

    def _drop(self, end: _End) -> None:
        if end in self._ends:
            self._ends.remove(end)
            if end.socket in self._selector.get_map():
                self._selector.unregister(end.socket)
            end.socket.close()
