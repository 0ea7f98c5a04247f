"""Rows of the table of the cluster that are a program of bench/peers each, which prints a JSON object of numbers.

A program is run once a round, and its figures are medians. One that says {"skipped": why} gives a line and no figure.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import Any

from bench.goals import Figure
from bench.harness import run
from bench.mapreduce import Row, Setup


@dataclass(frozen=True, slots=True)
class Asked:
    """A number of a program's and its goal. `by_cpu` names the same number by processor seconds, if there is one."""

    name: str
    what: str
    unit: str
    goal: float | None = None
    aim: float | None = None
    at_most: bool = True
    by_cpu: str = ""

    def figure(self, found: list[dict[str, Any]]) -> Figure:
        """The median over what the rounds found."""
        wall, cpu = (statistics.median(one[name] for one in found) for name in (self.name, self.by_cpu or self.name))
        return Figure(self.what, wall, cpu, self.unit, self.goal, self.aim, self.at_most)


def figures_of(program: str, setup: Setup, asked: list[Asked], rounds_max: int = 5) -> Row:
    """Run a program `rounds` times, at most `rounds_max`: those whose number does not change much from run to run."""
    found: list[dict[str, Any]] = []
    for _ in range(min(setup.rounds, rounds_max)):
        found.append(json.loads(run([sys.executable, "-m", f"bench.peers.{program}"]).output))
        if why := found[-1].get("skipped"):
            return Row([], [f"{program}: skipped: {why}"], {"skipped": why})
    lines = [f"{program}: {json.dumps(one)}" for one in found]
    return Row([one.figure(found) for one in asked], lines, {"runs": found})


def tasks(setup: Setup) -> Row:
    """Empty tasks through a master and two workers."""
    asked = [
        Asked("tasks_a_second", "empty tasks a second", "/s", 3000, 10000, at_most=False),
        Asked("local_tasks_a_second", "the same on two threads of one process", "/s"),
        Asked("counted_tasks_a_second", "tasks of a line that is counted, a second", "/s"),
        Asked("local_counted_tasks_a_second", "the same on two threads of one process", "/s"),
    ]
    return figures_of("cluster_tasks", setup, asked)


def decisions(setup: Setup) -> Row:
    """What the master's machine alone decides, and what it holds, with 10,000 simulated workers."""
    rate = "decisions a second, 10,000 workers and 10^6 tasks"
    asked = [
        Asked("decisions_a_second", rate, "/s", 20_000, 100_000, at_most=False, by_cpu="decisions_a_cpu_second"),
        Asked("bytes_a_task", "the master's memory a task of 8 partitions", "B", 1000),
    ]
    return figures_of("cluster_decisions", setup, asked, rounds_max=1)


def losses(setup: Setup) -> Row:
    """What is lost when workers and the master die or stand still in the middle of a job."""
    explained = "half-way: time / what lost capacity explains"
    asked = [
        Asked("death_seen_s", "a worker's death seen on the same host", "s", 1, 0.2),
        Asked("one_of_four_lost", f"one of 4 workers killed {explained}", "x", 1.15, 1.05),
        Asked("one_of_four_stopped", f"one of 4 stopped {explained}", "x", 1.3, 1.15),
        Asked("extra_work", "maps run in vain beside one that stood still, of all", "", 0.10),
        Asked("master_back_s", "master killed: to the first new assignment of the next", "s", 3, 1),
        Asked("tasks_run_again", "master killed: committed tasks that ran again", "", 0),
    ]
    return figures_of("cluster_losses", setup, asked)


def cut(setup: Setup) -> Row:
    """How soon a host that is cut off is given up: private networks, where the kernel allows them."""
    asked = [
        Asked("cut_seen_s", "a host that is cut off given up: both ways", "s", 5, 3),
        Asked("one_way_seen_s", "one that hears nothing, or is not heard", "s", 5, 3),
        Asked("told_cut_seen_s", "both ways, of a master with --lost-after 3", "s", 5, 3),
    ]
    return figures_of("cluster_cut", setup, asked, rounds_max=1)


def flips(setup: Setup) -> Row:
    """Bits flipped in shuffle blocks, found and healed."""
    asked = [
        Asked("found", "of 10,000 bits flipped in shuffle blocks, found", "", 10_000, at_most=False),
        Asked("healed_share", "blocks damaged under running jobs, healed", "x", 1, at_most=False),
    ]
    return figures_of("cluster_flips", setup, asked, rounds_max=1)


def checks(setup: Setup) -> Row:
    """What the journal and all checksums take of a job that is bound by its shuffle."""
    what = "journal, block and row checksums, of a job's time"
    return figures_of("cluster_checks", setup, [Asked("share", what, "", 0.05, 0.03, by_cpu="cpu_share")], rounds_max=3)


def shuffle(setup: Setup) -> Row:
    """How fast blocks go from one worker to another, and from a worker to one of its host; what it costs."""
    fetched, placed = "blocks fetched by another host's worker, CURVE", "blocks read in place by one of this host"
    asked = [
        Asked("fetched_gb_s", fetched, "GB/s"),
        Asked("fetched_cpu_s_a_gb", f"{fetched}: CPU of both", "s/GB"),
        Asked("placed_gb_s", placed, "GB/s"),
        Asked("placed_cpu_s_a_gb", f"{placed}: CPU", "s/GB"),
    ]
    return figures_of("cluster_shuffle", setup, asked, rounds_max=3)


def overlap(setup: Setup) -> Row:
    """What it saves to merge the first blocks of another host while the rest is on its way."""
    what = "153 MB fetched and merged at 50 MB/s each"
    asked = [
        Asked("gain", f"{what}: one after the other / at once", "x"),
        Asked("overlapped_s", f"{what}, at once", "s", by_cpu="overlapped_cpu_s"),
    ]
    return figures_of("cluster_overlap", setup, asked, rounds_max=1)


ROWS = {each.__name__: each for each in (tasks, decisions, losses, cut, flips, checks, shuffle, overlap)}
