import io
import threading

import msgspec
import pytest

from kernelmill.engine.events import (
    AnyEvent,
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
    TaskStarted,
    fan_out,
)
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.progress import JobView, ProgressSink, progress_sink
from kernelmill.engine.settings import Settings

MAP_0, MAP_1, REDUCE_0 = AttemptId(TaskId(0, 0), 1), AttemptId(TaskId(0, 1), 2), AttemptId(TaskId(1, 0), 3)
STARTED = JobStarted("job", (StageInfo(0, "map", 2, 1_000_000_000), StageInfo(1, "reduce", 3)), 2, 1 << 32)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def view_after(*events, now=0.0):
    view = JobView()
    for event in events:
        view.apply(event, now)
    return view


def test_reading_shows_bytes_rate_and_time_left():
    view = view_after(STARTED, StageStarted(0), TaskStarted(MAP_0), TaskProgress(MAP_0, 250_000_000))
    assert view.text(1.0) == "map  250 MB of 1.0 GB  250 MB/s  3.0 s left"


def test_no_time_left_before_a_twentieth_is_read():
    view = view_after(STARTED, StageStarted(0), TaskProgress(MAP_0, 49_000_000))
    assert view.text(1.0) == "map  49.0 MB of 1.0 GB  49.0 MB/s"


def test_finished_and_running_attempts_both_count():
    view = view_after(
        STARTED,
        StageStarted(0),
        TaskProgress(MAP_0, 500_000_000),
        TaskFinished(MAP_0),
        TaskProgress(MAP_1, 100_000_000),
    )
    assert view.text(2.0).startswith("map  600 MB of 1.0 GB  300 MB/s")


def test_a_failed_attempt_takes_its_bytes_back_and_its_retry_is_told():
    failed = TaskFailed(MAP_0, "KM0402", "disk full", will_retry=True)
    view = view_after(STARTED, StageStarted(0), TaskProgress(MAP_0, 500_000_000), failed)
    assert view.text(1.0) == "map  0 B of 1.0 GB  0 B/s · 1 task tried again"


def test_the_reduce_phase_counts_tasks_and_spills_show():
    view = view_after(STARTED, StageStarted(0), TaskFinished(MAP_0), TaskFinished(MAP_1), StageStarted(1))
    assert view.text(1.0) == "reduce  0 of 3 tasks"
    view.apply(TaskFinished(REDUCE_0), 1.0)
    view.apply(SpillWritten(3_000_000), 1.0)
    assert view.text(1.0) == "reduce  1 of 3 tasks · spilled 3.0 MB"


def test_a_compile_is_shown_by_name_until_it_ends():
    view = view_after(PhaseStarted("compile kernels", "tokenize.count_words"))
    assert view.text(0.0) == "compile kernels  tokenize.count_words"
    view.apply(PhaseStarted("compile kernels", "table.add"), 0.5)
    assert view.text(0.5) == "compile kernels  table.add"
    view.apply(PhaseEnded("compile kernels", 2.4), 1.0)
    assert view.text(1.0) == ""


def test_events_of_unknown_stages_change_nothing():
    assert view_after(TaskFinished(MAP_0), TaskProgress(MAP_0, 5), StageStarted(0)).text(0.0) == ""


def sink_with_clock(stream, **given):
    now = [0.0]
    return ProgressSink(stream, clock=lambda: now[0], **given), now


def test_the_line_waits_for_its_delay_is_redrawn_and_erased():
    stream = Terminal()
    sink, now = sink_with_clock(stream, delay_s=1.0)
    for event in (STARTED, StageStarted(0), TaskProgress(MAP_0, 1_000_000)):
        sink(event)
    sink.draw()
    assert stream.getvalue() == ""
    now[0] = 1.5
    sink.draw()
    assert stream.getvalue().startswith("\r\x1b[2Kmap  1.0 MB of 1.0 GB")
    sink(JobFinished("done"))
    assert stream.getvalue().endswith("\r\x1b[2K")
    sink.close()


def test_the_line_is_never_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    sink, now = sink_with_clock(stream, delay_s=0.0)
    sink(PhaseStarted("compile kernels", "a" * 200))
    now[0] = 1.0
    sink.draw()
    sink.close()
    assert max(len(line) for line in stream.getvalue().split("\r\x1b[2K")) == 19


def test_off_a_terminal_a_line_is_logged_each_half_minute():
    lines = []
    sink, now = sink_with_clock(io.StringIO(), log=lines.append)
    sink(PhaseStarted("write", "out"))
    for second in (1.0, 29.0, 30.0, 31.0, 59.0, 60.5):
        now[0] = second
        sink.draw()
    sink.close()
    assert lines == ["write  out", "write  out"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_stream_that_cannot_be_written_does_not_fail_the_job(monkeypatch, is_terminal):
    class Gone(io.StringIO):
        tries = 0

        def isatty(self):
            return is_terminal

        def write(self, text):
            Gone.tries += 1
            raise OSError(5, "Input/output error")

    monkeypatch.setenv("TERM", "xterm")
    sink = progress_sink(Settings(progress="on"), stream=Gone())
    sink._clock = lambda: sink._next_s + 1.0
    sink(PhaseStarted("write"))
    sink.draw()
    sink(JobFinished("done"))
    assert Gone.tries > 0


def test_a_closed_standard_error_leaves_the_log(monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr", None)
    caplog.set_level("INFO", logger="kernelmill.progress")
    sink = progress_sink(Settings())
    sink._clock = lambda: sink._next_s + 1.0
    sink(PhaseStarted("write", "out"))
    sink.draw()
    sink.close()
    assert "write  out" in caplog.messages


def test_the_drawing_thread_ends_with_the_job():
    sink = ProgressSink(Terminal(), delay_s=0.0)
    sink(STARTED)
    assert any(thread.name == "kernelmill-progress" for thread in threading.enumerate())
    sink(JobFinished("done"))
    assert not any(thread.name == "kernelmill-progress" for thread in threading.enumerate())


def test_the_setting_chooses_line_log_or_nothing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert progress_sink(Settings(progress="off"), stream=Terminal()) is None
    stream = io.StringIO()
    for settings, given, logs in (
        (Settings(), {"stream": Terminal()}, False),
        (Settings(), {"stream": stream}, True),
        (Settings(progress="on"), {"stream": stream}, True),
        (Settings(), {"stream": stream, "logs_to_stream": True}, True),
    ):
        sink = progress_sink(settings, **given)
        assert sink is not None
        assert (sink._log is not None) is logs
        sink.close()
    monkeypatch.setenv("TERM", "dumb")
    assert progress_sink(Settings(), stream=Terminal())._log is not None


@pytest.mark.parametrize(
    "event",
    [
        STARTED,
        PhaseStarted("a", "b"),
        TaskStarted(MAP_0, "w"),
        TaskFailed(MAP_0, "KM0301", "no", True),
        JobFinished("done", 1, 2, 0.5),
    ],
)
def test_events_survive_json(event):
    assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event


def test_fan_out_reaches_every_sink_in_order():
    seen = []
    fan_out(lambda e: seen.append(("a", e)), lambda e: seen.append(("b", e)))(STARTED)
    assert seen == [("a", STARTED), ("b", STARTED)]
