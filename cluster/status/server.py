"""The thread that serves the status page, on 127.0.0.1 only. It knows no more than the last snapshot that it was given.

It asks for one by `wake`, when somebody wants to see it and the last is older than FRESH_S; the master's thread makes
it and hands it over with `put`, through a queue of one. So the master does nothing for the page while nobody looks, and
two snapshots a second however many look. Connections are bounded, in number, time and bytes; one that is slow, says
nothing or says nonsense costs itself.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import msgspec

from kernelmill.cluster.status.page import page_of
from kernelmill.cluster.status.requests import HEAD_BYTES_MAX, JSON, PAGE, TYPES, Refusal, path_asked, refusal, response
from kernelmill.cluster.status.snapshot import Snapshot
from kernelmill.engine.errors import Code, error

CONNECTIONS_MAX: Final = 32
FRESH_S: Final = 0.5
HEAD_S: Final = 3.0
"""How long a request may take to come."""
ANSWER_S: Final = 5.0
"""How long the master has to make a snapshot, and after that the browser to take it."""
_LINGER_S: Final = 1.0
_LOOPBACK: Final = "127.0.0.1"
_READ_BYTES: Final = 4096


class _Connection:
    """One request and its answer."""

    def __init__(self, link: socket.socket, until_s: float) -> None:
        self.link, self.until_s = link, until_s
        self.head, self.unsent = bytearray(), b""
        self.path = ""  # once it is known, and waits for a snapshot
        self.is_answered = False  # all is sent: what still comes is thrown away until the other side ends


class StatusServer:
    """Serves from when it is made until `close`. port 0: any that is free. Raises KM0107 if the port is taken."""

    def __init__(self, port: int, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.token = secrets.token_urlsafe(24)
        self._listener = _bound(port)
        self.port = self._listener.getsockname()[1]
        self._hosts = frozenset(f"{name}:{self.port}".encode() for name in (_LOOPBACK, "localhost"))
        self._given: queue.Queue[Snapshot] = queue.Queue(1)
        self._is_asked, self._is_over = threading.Event(), threading.Event()
        self._ear, self._button = socket.socketpair()
        for end in (self._ear, self._button):
            end.setblocking(False)
        self._connections: dict[socket.socket, _Connection] = {}
        self._bodies: dict[str, bytes] = {}  # path -> what the last snapshot is there
        self._made_s = float("-inf")
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="status page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where a browser of this machine finds the page. Whoever knows it sees the page."""
        return f"http://{_LOOPBACK}:{self.port}/?token={self.token}"

    # For the master's thread.

    @property
    def is_asked(self) -> bool:
        """Whether a snapshot is wanted."""
        return self._is_asked.is_set()

    def put(self, snapshot: Snapshot) -> None:
        """Hand over the snapshot that was wanted."""
        self._is_asked.clear()
        with contextlib.suppress(queue.Full):  # the last one was not even taken
            self._given.put_nowait(snapshot)
        self._ring()

    def close(self) -> None:
        """End the thread and all connections."""
        self._is_over.set()
        self._ring()
        self._thread.join()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is ringing
            self._button.send(b"!")

    # The thread.

    def _run(self) -> None:
        try:
            while not self._is_over.is_set():
                due = min((each.until_s for each in self._connections.values()), default=None)
                wait_s = None if due is None else max(0.0, due - time.monotonic())
                for key, events in self._selector.select(wait_s):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._ear:
                        self._take_given()
                    elif (found := self._connections.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                        self._serve(found, events)
                self._end_overdue(time.monotonic())
        finally:
            for link in [*self._connections, self._listener, self._ear, self._button]:
                link.close()
            self._selector.close()

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except OSError:  # it left again, or there are no more files: the next one is tried when it comes
            return
        if len(self._connections) >= CONNECTIONS_MAX:
            link.close()
            return
        link.setblocking(False)
        self._connections[link] = _Connection(link, time.monotonic() + HEAD_S)
        self._selector.register(link, selectors.EVENT_READ)

    def _serve(self, one: _Connection, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read(one)
            if events & selectors.EVENT_WRITE and one.link in self._connections:
                self._write(one)
        except OSError:  # the other side has gone
            self._end(one)

    def _read(self, one: _Connection) -> None:
        data = one.link.recv(_READ_BYTES)
        if not data:
            self._end(one)
        elif not one.path and not one.unsent and not one.is_answered:
            one.head += data
            end = one.head.find(b"\r\n\r\n")
            if end > HEAD_BYTES_MAX or (end < 0 and len(one.head) > HEAD_BYTES_MAX):
                self._answer(one, refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            elif end >= 0:
                self._take_request(one, path_asked(bytes(one.head[:end]), self._hosts, self.token.encode()))

    def _take_request(self, one: _Connection, asked: str | Refusal) -> None:
        one.head.clear()
        if isinstance(asked, Refusal):
            self._answer(one, refusal(asked.status))
            return
        one.path, one.until_s = asked, time.monotonic() + ANSWER_S
        if time.monotonic() < self._made_s + FRESH_S:
            self._answer(one, self._body(asked))
        elif not self._is_asked.is_set():
            self._is_asked.set()
            self._wake()

    def _take_given(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(_READ_BYTES)
        try:
            snapshot = self._given.get_nowait()
        except queue.Empty:
            return
        page = page_of(snapshot, self.token)
        self._bodies = {PAGE: page, JSON: msgspec.json.encode(snapshot)}
        self._made_s = time.monotonic()
        for one in [each for each in self._connections.values() if each.path and not each.unsent]:
            try:
                self._answer(one, self._body(one.path))
            except OSError:
                self._end(one)

    def _body(self, path: str) -> bytes:
        return response(HTTPStatus.OK, self._bodies[path], TYPES[path])

    def _answer(self, one: _Connection, data: bytes) -> None:
        one.unsent, one.until_s = data, time.monotonic() + ANSWER_S
        self._selector.modify(one.link, selectors.EVENT_READ | selectors.EVENT_WRITE)
        self._write(one)

    def _write(self, one: _Connection) -> None:
        with contextlib.suppress(BlockingIOError):
            one.unsent = one.unsent[one.link.send(one.unsent) :]
        if not one.unsent and not one.is_answered:
            one.is_answered, one.until_s = True, time.monotonic() + _LINGER_S
            one.link.shutdown(socket.SHUT_WR)  # closed at once, what was not read would take the answer with it
            self._selector.modify(one.link, selectors.EVENT_READ)

    def _end_overdue(self, now: float) -> None:
        for one in [each for each in self._connections.values() if each.until_s <= now]:
            if one.path and not one.unsent and not one.is_answered:  # the master is busy
                with contextlib.suppress(OSError):
                    self._answer(one, refusal(HTTPStatus.SERVICE_UNAVAILABLE))
                    continue
            self._end(one)

    def _end(self, one: _Connection) -> None:
        del self._connections[one.link]
        self._selector.unregister(one.link)
        one.link.close()


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(CONNECTIONS_MAX)
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        hint = "give another --status-port, or 0 for any that is free"
        what = f"the status page cannot be served there: {problem.strerror}"
        raise error(Code.BAD_SETTING, what, where=f"{_LOOPBACK}:{port}", hint=hint) from problem
    return listener
