"""The storage process: `python -m kernelmill.cluster.storage FD PARENT NAME=FOLDER ...`, FD being its end of a
socketpair, PARENT the number of its master's process. It has no keys and no other sockets, unpickles nothing, and ends
with its master, also while it is stopped: with it goes its lock on the staging, and the next one can publish.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from typing import Any

from kernelmill.cluster.fields import CodeName
from kernelmill.cluster.parent import die_with_parent
from kernelmill.cluster.roots import Roots, roots_given
from kernelmill.cluster.storage.frames import Answer, Cleaned, Order, Publish, PublishFailed, encode, orders
from kernelmill.cluster.storage.gathering import BadPartError
from kernelmill.cluster.storage.publishing import clean, publish
from kernelmill.engine.errors import Code, KernelmillError, error

_READ_BYTES = 1 << 20
_TEXT_MAX = 8000


def answer(order: Order, roots: Roots) -> Answer:
    """Do what the master ordered; failures are answers too.

    Whatever they are: one job's files, or what its tasks told of them, must not end the process for all jobs, nor leave
    an order that comes again for ever.
    """
    try:
        made: Answer = publish(order, roots) if isinstance(order, Publish) else clean(order, roots)
        encode(made)
        return made
    except BadPartError as bad:
        place = bad.winner.stage, bad.winner.task, bad.winner.attempt
        return _failed(order, "OUTPUT_LOST", error(Code.COMMIT, str(bad)), place)
    except KernelmillError as problem:
        return _failed(order, _wire_name(problem), problem, None)
    except OSError as problem:
        return _failed(order, Code.COMMIT.value.wire, error(Code.COMMIT, str(problem)), None)
    except Exception as problem:
        traceback.print_exception(problem)  # to the master's log: it is a bug, ours or a library's
        what = f"publishing ended with {type(problem).__name__}: {problem}"
        return _failed(order, Code.INTERNAL.value.wire, error(Code.INTERNAL, what), None)


def main(arguments: list[str]) -> None:
    """Serve the master's orders, one after the other, until it goes away."""
    sys.addaudithook(_refuse_to_unpickle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the master says when to end
    die_with_parent(int(arguments[1]))
    channel = socket.socket(fileno=int(arguments[0]))
    roots = roots_given(arguments[2:])
    reader = orders()
    while data := channel.recv(_READ_BYTES):
        for order in reader.feed(data):
            channel.sendall(encode(answer(order, roots)))


def _wire_name(problem: KernelmillError) -> CodeName:
    """The name of a failure for the master: a disk that is full may be tried again, and has a name of its own."""
    return "OUTPUT_FULL" if problem.code is Code.DISK_FULL else problem.code.value.wire


def _failed(order: Order, code: str, problem: KernelmillError, bad: Any) -> PublishFailed | Cleaned:
    what, where, hint = (
        text[:_TEXT_MAX].encode("utf-8", "replace").decode() for text in (problem.what, problem.where, problem.hint)
    )
    if not isinstance(order, Publish):
        return Cleaned(order.job, what)
    return PublishFailed(order.job, code, what, where, hint, bad)


def _refuse_to_unpickle(event: str, _arguments: tuple[object, ...]) -> None:
    """An audit hook: whoever makes this process unpickle a class or function ends it instead."""
    if event == "pickle.find_class":
        os._exit(70)
