"""Progress for people: one line on a terminal, else a log line now and then, both from the event stream.

`JobView` knows what to say and takes the time as an argument; `ProgressSink` knows terminals, threads and the clock.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from kernelmill.engine.events import (
    Event,
    JobFinished,
    JobStarted,
    PhaseEnded,
    PhaseStarted,
    SpillWritten,
    StageInfo,
    StageStarted,
    TaskFailed,
    TaskFinished,
    TaskProgress,
)
from kernelmill.engine.ids import AttemptId
from kernelmill.engine.settings import Settings
from kernelmill.engine.sizes import format_bytes, format_count, format_duration, format_rate, format_things

_DRAW_EVERY_S = 0.2
_LOG_EVERY_S = 30.0
_LEFT_FROM = 0.05  # no time left is told before this part is done: the first blocks say little about the rest
_ERASE_LINE = "\r\x1b[2K"


class _StageView:
    """What is known of one stage: tasks done, bytes read by them and by attempts that still run."""

    def __init__(self, info: StageInfo) -> None:
        self.info = info
        self.started_s: float | None = None
        self.tasks_done = 0
        self._bytes_done = 0
        self._running: dict[AttemptId, int] = {}

    @property
    def is_active(self) -> bool:
        return self.started_s is not None and self.tasks_done < self.info.tasks

    @property
    def bytes_done(self) -> int:
        return min(self._bytes_done + sum(self._running.values()), self.info.input_bytes)

    def progress(self, attempt: AttemptId, bytes_done: int) -> None:
        self._running[attempt] = bytes_done

    def finish(self, attempt: AttemptId) -> None:
        self.tasks_done += 1
        self._bytes_done += self._running.pop(attempt, 0)

    def fail(self, attempt: AttemptId) -> None:
        self._running.pop(attempt, None)

    def text(self, now: float) -> str:
        info, elapsed_s = self.info, max(1e-3, now - (self.started_s or 0.0))
        if not info.input_bytes:
            return f"{info.label}  {format_count(self.tasks_done)} of {format_count(info.tasks)} tasks"
        done, total = self.bytes_done, info.input_bytes
        parts = [info.label, f"{format_bytes(done)} of {format_bytes(total)}", format_rate(done / elapsed_s)]
        if done >= total * _LEFT_FROM and done > 0:
            parts.append(f"{format_duration(elapsed_s * (total - done) / done)} left")
        return "  ".join(parts)


class JobView:
    """A job as its events tell it: feed `apply`, ask `text`. `now` is seconds on any steady clock."""

    def __init__(self) -> None:
        self._stages: dict[int, _StageView] = {}
        self._phase: PhaseStarted | None = None
        self._spill_bytes = 0
        self._retries = 0
        self.is_over = False

    def apply(self, event: Event, now: float) -> None:
        """Take one event in."""
        match event:
            case JobStarted():
                self._stages = {info.number: _StageView(info) for info in event.stages}
            case PhaseStarted():
                self._phase = event
            case PhaseEnded():
                self._phase = None
            case StageStarted() if event.stage in self._stages:
                self._stages[event.stage].started_s = now
            case TaskProgress() if stage := self._stage_of(event.attempt):
                stage.progress(event.attempt, event.bytes_done)
            case TaskFinished() if stage := self._stage_of(event.attempt):
                stage.finish(event.attempt)
            case TaskFailed():
                self._retries += event.will_retry
                if stage := self._stage_of(event.attempt):
                    stage.fail(event.attempt)
            case SpillWritten():
                self._spill_bytes += event.bytes
            case JobFinished():
                self.is_over = True

    def _stage_of(self, attempt: AttemptId) -> _StageView | None:
        return self._stages.get(attempt.task.stage)

    def text(self, now: float) -> str:
        """Say in one line what the job does now; empty before it does anything."""
        parts = []
        if self._phase is not None:
            parts.append(f"{self._phase.name}  {self._phase.detail}".rstrip())
        parts += [stage.text(now) for stage in self._stages.values() if stage.is_active][:1]
        if parts and self._spill_bytes:
            parts.append(f"spilled {format_bytes(self._spill_bytes)}")
        if parts and self._retries:
            parts.append(f"{format_things(self._retries, 'task')} tried again")
        return " · ".join(parts)


class ProgressSink:
    """A sink that shows the job: on a terminal one line that is redrawn, else a call of `log` each 30 seconds.

    It stays silent for `delay_s`. A thread of its own draws, so that a long compile shows too; it ends with the job,
    or by `close`, which erases the line.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        delay_s: float = 1.0,
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._log, self._clock = stream, log, clock
        self._view = JobView()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_s = clock() + (delay_s if log is None else _LOG_EVERY_S)
        self._is_drawn = False

    def __call__(self, event: Event) -> None:
        """Take one event; the first one starts the drawing thread."""
        with self._lock:
            self._view.apply(event, self._clock())
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._draw_until_stopped, name="kernelmill-progress", daemon=True
                )
                self._thread.start()
        if self._view.is_over:
            self.close()

    def close(self) -> None:
        """Stop drawing and erase the line. May be called twice."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            if self._is_drawn:
                self._write(_ERASE_LINE)
            self._is_drawn = False

    def draw(self) -> None:
        """Show the job's state if it is time for it."""
        with self._lock:
            now = self._clock()
            text = self._view.text(now) if now >= self._next_s else ""
            if not text:
                return
            if self._log is not None:
                self._next_s = now + _LOG_EVERY_S
                self._log(text)
                return
            width = shutil.get_terminal_size().columns
            self._write(_ERASE_LINE + text[: max(1, width - 1)])
            self._is_drawn = True

    def _draw_until_stopped(self) -> None:
        while not self._stop.wait(_DRAW_EVERY_S):
            self.draw()

    def _write(self, text: str) -> None:
        if not _write(self._stream, text):
            self._stop.set()


def _write(stream: TextIO, text: str) -> bool:
    """Tell whether it could be written: a terminal that went away (EIO, closed file) must not fail a watched job."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _write_line(stream: TextIO, text: str) -> None:
    _write(stream, f"kernelmill: {text}\n")


def progress_sink(
    settings: Settings, *, stream: TextIO | None = None, logs_to_stream: bool = False
) -> ProgressSink | None:
    """Make the sink that `settings.progress` asks for, or None for "off".

    Off a terminal, lines go to the logger "kernelmill.progress", or to `stream` if the mode is "on" or a command says
    so by `logs_to_stream`. `stream` is standard error unless given.
    """
    if settings.progress == "off":
        return None
    # Standard error is None if it was closed before Python began; then lines are still logged.
    out: TextIO = stream or sys.stderr or io.StringIO()
    if out.isatty() and os.environ.get("TERM") != "dumb":
        return ProgressSink(out, delay_s=settings.progress_delay_s)
    if logs_to_stream or settings.progress == "on":
        return ProgressSink(out, log=lambda text: _write_line(out, text))
    return ProgressSink(out, log=logging.getLogger("kernelmill.progress").info)
