"""Statuses of a cluster's job become the events of a local run, each told once."""

import logging

import pytest

from kernelmill.cluster.client.watching import Watching
from kernelmill.cluster.messages import StageCounts, Status
from kernelmill.engine.events import JobFinished, JobStarted, StageStarted, TaskFailed, TaskFinished, TaskProgress
from kernelmill.engine.plan.stages import Stage, StageGraph
from kernelmill.engine.progress import JobView
from kernelmill.engine.splits import TableSplit

JOB = b"j" * 16
GRAPH = StageGraph(
    (
        Stage(0, "read", b"", 3, 1, splits=(TableSplit("t", 0, 1, 100),) * 3),
        Stage(1, "merge", b"", 1, 0),
    )
)


@pytest.fixture
def heard():
    return []


@pytest.fixture
def watching(heard):
    return Watching(JOB, GRAPH, heard.append)


def status(*counts, state="RUNNING", code="", text=""):
    stages = tuple(
        StageCounts("x", 3, committed, running, failed, 0, size) for committed, running, failed, size in counts
    )
    return Status(JOB, "me", state, stages, 2, code, text)


def kinds(heard, kind):
    return [event for event in heard if isinstance(event, kind)]


def test_stages_and_tasks_are_told_once(watching, heard):
    watching.take(status((0, 2, 0, 10), (0, 0, 0, 0)))
    watching.take(status((2, 1, 0, 250), (0, 0, 0, 0)))
    watching.take(status((1, 1, 1, 250), (0, 0, 0, 0)))  # an output was lost, an attempt failed
    watching.take(status((3, 0, 1, 300), (0, 1, 0, 0)))
    watching.finish("done", 5, 50, 1.0)
    assert [event.threads for event in kinds(heard, JobStarted)] == [2]
    assert [event.stage for event in kinds(heard, StageStarted)] == [0, 1]
    assert [event.attempt.task.index for event in kinds(heard, TaskFinished)] == [0, 1, 2]
    assert len(kinds(heard, TaskFailed)) == 1
    assert kinds(heard, TaskProgress)[-2].bytes_done == 300
    assert heard[-1] == JobFinished("done", 5, 50, 1.0)


def test_the_progress_line_says_how_much_was_read(watching):
    view = JobView()
    told = Watching(JOB, GRAPH, lambda event: view.apply(event, 1.0))
    told.take(status((1, 2, 0, 150), (0, 0, 0, 0)))
    assert "150 B of 300 B" in view.text(2.0)


def test_a_job_that_waits_says_why(watching, caplog):
    with caplog.at_level(logging.WARNING, "kernelmill.cluster"):
        for _ in range(3):
            watching.take(status((0, 0, 0, 0), state="PAUSED", code="NO_WORKERS", text="no worker is here"))
        watching.take(status((0, 1, 0, 0)))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "NO_WORKERS: no worker is here" in said[0]
    assert said[1].endswith("goes on")


def test_a_job_that_was_over_at_once_was_begun(watching, heard):
    watching.finish("failed", 0, 0, 0.1)
    assert [type(event) for event in heard] == [JobStarted, JobFinished]
