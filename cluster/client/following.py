"""Following a job over a connection until it is over: the loop around `Talk`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.talk import OVER, Talk
from kernelmill.cluster.messages import Status

_CANCEL_PATIENCE_S = 10.0


def follow(talk: Talk, link: Link, on_status: Callable[[Status], None], until_s: float = float("inf")) -> None:
    """Talk until the job is over, or until `until_s` of the monotonic clock. Raises as `Talk` does."""
    while talk.state != OVER and (now := time.monotonic()) < until_s:
        heard = link.hear(max(0.0, min(talk.next_deadline(), until_s) - now))
        now = time.monotonic()
        if heard is not None:
            talk.hear(heard, now)
            if talk.status is not None:
                on_status(talk.status)
        if talk.tick(now):
            link.reconnect()


def cancel(talk: Talk, link: Link) -> None:
    """Ask for the job's end, and wait for it a while: a second interrupt leaves at once."""
    with contextlib.suppress(Exception):  # there is an error already, which says more
        talk.cancel(time.monotonic())
        follow(talk, link, lambda status: None, time.monotonic() + _CANCEL_PATIENCE_S)
