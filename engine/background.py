"""Jobs in a thread of their own, to be waited for or cancelled; and how a job hears that it is to end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

from kernelmill.engine.errors import CancelledError, Code, KernelmillError, article, error
from kernelmill.engine.origin import located, users_line

P = ParamSpec("P")
T = TypeVar("T")

_thread = threading.local()


class Cancelling:
    """Whether what a thread runs is to end. Whoever waits there is woken; safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []
        self.is_asked = False

    def ask(self) -> None:
        """It is to end: wake all who wait. Does nothing the second time."""
        with self._lock:
            self.is_asked = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """In this block, call `wake` from the thread that asks: at once if it has."""
        with self._lock:
            is_late = self.is_asked
            if not is_late:
                self._wakers.append(wake)
        if is_late:
            wake()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._wakers.remove(wake)

    def check(self) -> None:
        """Raise KM0701 if the job is to end."""
        if self.is_asked:
            raise cancelled()


def cancelling() -> Cancelling:
    """That of this thread's job; one that nobody asks where no `start` began the thread."""
    found: Cancelling | None = getattr(_thread, "cancelling", None)
    return found or Cancelling()


def cancelled() -> KernelmillError:
    """What a cancelled job ends by."""
    return error(Code.CANCELLED, "the job was cancelled")


class Running(Generic[T]):
    """A call in a thread of its own, as `km.start` gives it."""

    def __init__(self, call: Callable[[], T], name: str, where: str) -> None:
        self._call, self._name, self._where = call, name, where
        self._cancelling = Cancelling()
        self._result: list[T] = []
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"kernelmill-{name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """The state now: RUNNING, or an end: COMMITTED, FAILED, CANCELLED."""
        if self._thread.is_alive():
            return "RUNNING"
        if self._problem is None:
            return "COMMITTED"
        return "CANCELLED" if isinstance(self._problem, CancelledError) else "FAILED"

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait for the end, or for so many seconds, and tell the state. Ctrl-C ends the waiting, not the job."""
        self._thread.join(timeout_s)
        return self.state

    def result(self) -> T:
        """Wait for the end, and return what the call returned; raises what it raised, KM0701 if it was cancelled."""
        self.wait()
        if self._problem is not None:
            raise self._problem
        return self._result[0]

    def cancel(self) -> None:
        """Ask for the end of the job: within one batch, without output. One that is publishing, or over, stays."""
        self._cancelling.ask()

    def __repr__(self) -> str:
        return f"<kernelmill job {self._name}: {self.state}>"

    def _run(self) -> None:
        _thread.cancelling = self._cancelling
        try:
            with located(self._where):
                self._result.append(self._call())
        except BaseException as problem:  # whoever asks for the result gets it
            self._problem = problem


def start(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Running[T]:
    """Run `call(*args, **kwargs)` in a thread of its own, and go on: `job = km.start(frame.sink_parquet, "out/")`.

    The jobs that it runs, here or on a cluster, end when `job.cancel()` asks; `job.wait()` and `job.result()` wait for
    it. The process does not: one that ends takes the job with it. Raises KM0107 for what cannot be called.
    """
    given: object = call  # which no type checker may have seen
    if not callable(given):
        what = f"start cannot call {article(given)}"
        hint = 'give the method, and then what it takes: km.start(frame.sink_parquet, "out/")'
        raise error(Code.BAD_SETTING, what, where=users_line(), hint=hint)

    def run() -> Any:
        return call(*args, **kwargs)

    return Running(run, getattr(call, "__name__", type(call).__name__), users_line())
