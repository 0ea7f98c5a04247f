"""Following a job over a connection until it is over: the loop around `Talk`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.talk import OVER, Talk
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.messages import Status

_log = cluster_log()
_CANCEL_PATIENCE_S = 10.0


def follow(
    talk: Talk,
    link: Link,
    on_status: Callable[[Status], None],
    until_s: float = float("inf"),
    *,
    on_wait: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Talk until the job is over, or until `until_s` of the monotonic clock. Raises as `Talk` does.

    on_wait: called with the reason when the job begins to wait for a place at the master. check: called
    between messages, each second or two; it may raise.
    """
    waits_for = ""
    while talk.state != OVER and (now := time.monotonic()) < until_s:
        check()
        heard = link.hear(max(0.0, min(talk.next_deadline(), until_s) - now))
        now = time.monotonic()
        if heard is not None:
            talk.hear(heard, now)
            if talk.status is not None:
                on_status(talk.status)
            if talk.waits_for and not waits_for:
                on_wait(talk.waits_for)
            waits_for = talk.waits_for
        if talk.tick(now):
            link.reconnect()


def cancel(talk: Talk, link: Link) -> None:
    """Ask for the job's end, and wait a while for it: a second interrupt leaves at once. Log if it is too late."""
    with contextlib.suppress(Exception):  # there is an error already, which says more
        talk.cancel(time.monotonic())
        follow(talk, link, lambda status: None, time.monotonic() + _CANCEL_PATIENCE_S)
    if talk.too_late and (talk.result is None or talk.result.state == "COMMITTED"):
        _log.warning("job %s is not cancelled: %s", talk.job.hex()[:12], talk.too_late)
