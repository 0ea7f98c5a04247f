"""Whole clusters in virtual time: whatever breaks, each row is in the output once, and nobody was told too early."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from cluster_world import World

from kernelmill.cluster.master.facts import EpochBegun, TaskCommitted

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "100"))
"""`make test-faults` takes more, `make soak` many more."""

SOMETIMES = [  # a campaign that never sees one of these is void
    "two DONEs raced",
    "DONE accepted by a new epoch",
    "zombie discarded",
    "backup started",
    "COMMITTING resumed",
    "block healed by a map re-run",
    "reader made room",
    "roll-back",
    "poison isolated",
    "output re-adopted",
    "output taken back while it was made again",
    "attempt adopted",
    "file bad before publishing",
    "paused",
    "resumed",
    "disk full",
    "forged seal",
    "submitted twice",
    "refused: JOB_EXISTS",
    "refused: NO_JOB",
    "name taken",
    "session lost: silent",
    "session lost: displaced",
    "session lost: unreachable",
    "message lost",
    "message for the next master",
    "order of an old session",
    "master killed",
    "worker killed",
    "all workers killed",
    "journal filled",
    "block fetched",
    "output without rows not looked for",
    "reader sent elsewhere",
    "fetched again",
    "ticket refused",
    "tasks sent ahead",
    "task taken back",
    "attempt in line",
    "attempt taken back from a line",
    "attempt ended in a line",
    "slot hung",
    "HELLO unanswered",
    "DONE doubled",
]


@pytest.fixture(scope="module")
def campaign():
    """What all seeds saw, and how their jobs ended."""
    seen, ends = Counter(), Counter()
    for seed in range(SEEDS):
        try:
            world = World(seed, poison=seed % 5 == 1, fickle=seed % 5 == 2, brisk=seed % 5 == 3).run()
        except BaseException:
            print(f"seed {seed}")
            raise
        seen += world.seen
        for state, code in world.results.values():
            ends[state, code, bool(world.fickle)] += 1
    return seen, ends


def test_every_job_ends_with_each_row_once_whatever_breaks(campaign):
    _, ends = campaign
    # A map that gives other rows whenever it runs may end its job, and nothing else may.
    assert set(ends) <= {("COMMITTED", "", True), ("COMMITTED", "", False), ("FAILED", "NONDETERMINISTIC", True)}
    assert ends["COMMITTED", "", False] >= SEEDS * 0.8


def test_every_fault_was_seen_in_some_seed(campaign):
    seen, _ = campaign
    print({name: seen[name] for name in SOMETIMES})
    missing = [name for name in SOMETIMES if not seen[name]]
    assert not missing, f"no seed saw {missing}: the simulation tests less than it says"


def test_a_job_without_faults_runs_each_task_once():
    for seed in range(10):
        world = World(seed, faults=0).run()
        tasks = sum(stage.tasks for sheet in world.sheets.values() for stage in sheet.stages)
        backups = world.seen["backup started"]  # some are cancelled before a slot had them
        assert tasks <= len(world.started) <= tasks + backups, f"seed {seed} (L4)"


@pytest.mark.parametrize("seed", [3, 4])
def test_a_master_killed_at_any_effect_loses_and_doubles_nothing(seed):
    effects = World(seed, faults=0, jobs=1).run().effects
    seen = Counter()
    for crash_at in range(1, effects + 1):
        try:
            world = World(seed, faults=0, jobs=1, crash_at=crash_at).run()
            assert {state for state, _ in world.results.values()} == {"COMMITTED"}
            facts = [fact for _, facts in world.journal for fact in facts]
            commits = Counter((fact.stage, fact.task) for fact in facts if isinstance(fact, TaskCommitted))
            assert set(commits.values()) == {1}, "a committed task was run again (L4)"
            epochs = [fact.epoch for fact in facts if isinstance(fact, EpochBegun)]
            assert epochs in ([1], [2], [1, 2]), "epochs rise (S10); the first may not have been written"
        except BaseException:
            print(f"seed {seed}, killed at effect {crash_at} of {effects}")
            raise
        seen += world.seen
    print(f"{effects} effects", dict(seen))
    assert seen["master killed"] == effects
    assert seen["attempt adopted"] and seen["output re-adopted"] and seen["COMMITTING resumed"]


def test_a_worker_killed_at_any_effect_and_restarted_with_its_disk_makes_nothing_again():
    quiet = World(4, faults=0, jobs=1).run()
    effects, seen = quiet.worker_effects, Counter()
    for crash_at in range(1, effects + 1):
        try:
            world = World(4, faults=0, jobs=1, crash_worker_at=crash_at).run()
            assert {state for state, _ in world.results.values()} == {"COMMITTED"}
            facts = [fact for _, facts in world.journal for fact in facts]
            commits = Counter((fact.stage, fact.task) for fact in facts if isinstance(fact, TaskCommitted))
            assert set(commits.values()) == {1}, "a committed task was run again (L4)"
        except BaseException:
            print(f"killed at effect {crash_at} of {effects}")
            raise
        seen += world.seen
    print(f"{effects} effects", dict(seen))
    assert seen["worker killed"] == effects
    assert seen["output re-adopted"], "outputs come back with their disk"


def test_the_same_seed_gives_the_same_run():
    for seed in range(5):
        first, second = World(seed).run(), World(seed).run()
        assert first.journal == second.journal and first.events == second.events, f"seed {seed}"
