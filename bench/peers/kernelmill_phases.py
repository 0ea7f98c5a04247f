"""Count words with kernelmill: FILE OUT CODEC THREADS. Prints as JSON the seconds of each stage, by its number.

A stage lasts from the start of its first task to the end of its last, on the events that `progress=` hands out.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import kernelmill as km
from kernelmill.engine.events import Event, TaskFinished, TaskStarted


class StageClock:
    """A sink of events that keeps the first start and the last end of each stage's tasks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.began: dict[int, float] = {}
        self.ended: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        """Take one event, from any thread."""
        now = time.perf_counter()
        with self._lock:
            if isinstance(event, TaskStarted):
                self.began.setdefault(event.attempt.task.stage, now)
            elif isinstance(event, TaskFinished):
                self.ended[event.attempt.task.stage] = now

    def seconds(self) -> dict[int, float]:
        """Seconds of each stage that ended."""
        return {stage: end - self.began[stage] for stage, end in sorted(self.ended.items())}


def main(path: str, target: str, codec: str, threads: str) -> None:
    """Run the count."""
    clock = StageClock()
    words = km.scan_text(path).select(word=km.col("line").str.tokenize())
    counts = words.explode("word").group_by("word").agg(km.len())
    counts.sink_parquet(target, compression=codec, mode="overwrite", progress=clock, threads=int(threads))
    print(json.dumps(clock.seconds()))


if __name__ == "__main__":
    main(*sys.argv[1:])
