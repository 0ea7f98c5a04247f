"""Which worker is near a task: the one that holds so much of what the task reads that running there spares the network.

With w workers an average one holds 1/w of a task's input. A worker is near that holds GAIN_MIN more than that; if none
does, the worker that holds most on a host whose workers together do so. Where rows are spread evenly nobody is near.

It is a hint: of very many blocks those of one map task in n are added up, and of very many holders nobody is near.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import repeat
from operator import add
from typing import Final

from kernelmill.cluster.master.facts import VECTOR_BYTES
from kernelmill.cluster.master.ledger import JobLedger, Ledger
from kernelmill.engine.plan.stages import EdgeKind

GAIN_MIN: Final = 0.2
BLOCKS_MAX: Final = 1 << 18
"""Blocks that are added up for one stage: 20 ms of the master's time."""
_PRIME: Final = 104_729  # one of n, not always the first: workers that took turns all have their part in it
_OWN: Final = (EdgeKind.HASH, EdgeKind.RANGE)


def workers_near(ledger: Ledger, job: JobLedger, stage: int, hosts: Mapping[str, str]) -> list[str]:
    """Name the worker near each task of a stage whose inputs are complete, "" where none is; empty if none is at all.

    hosts: the workers that are here, and where; an empty name is a host of its own.
    """
    tasks = job.sheet.stages[stage].tasks
    held = {ledger.worker_names[number]: sizes for number, sizes in _bytes_by_holder(job, stage).items()}
    sizes = {worker: each for worker, each in held.items() if worker in hosts}
    if len(hosts) < 2 or not sizes or len(sizes) * tasks > BLOCKS_MAX:
        return []
    totals = [sum(each) for each in zip(*held.values(), strict=True)]
    near = _beyond(sizes, totals, 1 / len(hosts))
    places = {worker: host or f"{worker} alone" for worker, host in hosts.items()}
    by_host: dict[str, list[int]] = {}
    for worker, each in sizes.items():
        host = places[worker]
        by_host[host] = list(map(add, by_host[host], each)) if host in by_host else each
    if len(by_host) < len(sizes):  # some host has several
        for task, host in enumerate(_beyond(by_host, totals, 1 / len(set(places.values())))):
            if host and not near[task]:
                mates = [worker for worker in sizes if places[worker] == host]
                near[task] = max(mates, key=lambda worker: sizes[worker][task])
    return near if any(near) else []


def _beyond(sizes: Mapping[str, list[int]], totals: list[int], even: float) -> list[str]:
    """Of each task, who holds most of its bytes, if that is GAIN_MIN more than an even share of them; else ""."""
    best, most = [""] * len(totals), [0] * len(totals)
    for name, each in sizes.items():
        for task, size in enumerate(each):
            if size > most[task]:
                best[task], most[task] = name, size
    enough = even + GAIN_MIN
    return [name if size >= enough * total else "" for name, size, total in zip(best, most, totals, strict=True)]


def _bytes_by_holder(job: JobLedger, stage: int) -> dict[int, list[int]]:
    """What each worker holds of what each task reads, in bytes, over all edges."""
    tasks = job.sheet.stages[stage].tasks
    found: dict[int, list[int]] = {}
    for edge in job.sheet.stages[stage].inputs:
        source = job.stages[edge.source]
        first = sum(source.sheet.partitions[: edge.output])
        width = tasks if edge.kind in _OWN else source.sheet.partitions[edge.output]
        step = max(1, len(source.vectors) * width // BLOCKS_MAX)
        for first_of_n in range(0, len(source.vectors), step):
            index = min(first_of_n + first_of_n // step * _PRIME % step, len(source.vectors) - 1)
            part = source.vectors[index][first * VECTOR_BYTES : (first + width) * VECTOR_BYTES]
            holder = source.holders[index]
            if part and holder >= 0:
                sizes = struct.unpack(f"<{len(part) // 8}Q", part)[::4]
                read = sizes if edge.kind in _OWN else repeat(sum(sizes), tasks)
                before = found.get(holder)
                found[holder] = list(read) if before is None else list(map(add, before, read))
    return found
