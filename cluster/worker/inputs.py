"""What a worker was told of where the blocks of stages lie: INPUTS by the page, and pairs one by one."""

from __future__ import annotations

from collections.abc import Iterator

from kernelmill.cluster.fields import AttemptKey, JobId
from kernelmill.cluster.messages import Inputs, Pair
from kernelmill.cluster.worker.slotframes import HELD_MAX, MapHeld, SourceInputs

Place = tuple[AttemptKey, str]
"""An attempt of a map task, and the worker that holds its blocks."""


class _Stage:
    """The newest whole version of a stage's inputs, and the pages of a newer one that have come so far."""

    __slots__ = ("coming", "gen", "pages", "places", "sizes", "version")

    def __init__(self) -> None:
        self.gen = self.version = -1
        self.pages: tuple[Inputs, ...] = ()
        self.coming: dict[int, Inputs] = {}
        self.places: dict[int, Place] = {}
        self.sizes: dict[int, int] = {}


class InputBook:
    """By job and stage; a session begins with an empty book."""

    def __init__(self) -> None:
        self._stages: dict[tuple[JobId, int], _Stage] = {}
        self._pairs: dict[tuple[JobId, int, int], Pair] = {}

    def take(self, page: Inputs) -> bool:
        """Take a page; tell whether it made a newer version whole."""
        known = self._stages.setdefault((page.job, page.stage), _Stage())
        if page.version <= known.version:
            return False
        if any(each.version != page.version or each.pages != page.pages for each in known.coming.values()):
            known.coming.clear()  # a newer version replaces one that never became whole
        known.coming[page.page] = page
        if len(known.coming) < page.pages:
            return False
        known.pages = tuple(known.coming[number] for number in sorted(known.coming))
        known.version, known.gen, known.coming = page.version, page.gen, {}
        known.places = {
            held.task: (held.attempt, each.holders[held.holder])
            for each in known.pages
            for held in each.held
            if held.holder < len(each.holders)
        }
        known.sizes = {held.task: held.block_bytes for each in known.pages for held in each.held}
        return True

    def take_pair(self, pair: Pair) -> None:
        """Take what only one task reads."""
        self._pairs[pair.job, pair.stage, pair.held.task] = pair

    def version_of(self, job: JobId, stage: int) -> int:
        """The version that is whole; -1 if there is none."""
        known = self._stages.get((job, stage))
        return known.version if known is not None else -1

    def pair_of(self, job: JobId, stage: int, task: int) -> Pair | None:
        """What was told of one map task of a stage that is read pair by pair."""
        return self._pairs.get((job, stage, task))

    def place_of(self, job: JobId, stage: int, task: int) -> Place | None:
        """Where a map task's blocks lie, as far as is known."""
        pair = self._pairs.get((job, stage, task))
        if pair is not None:
            return pair.held.attempt, pair.holder
        known = self._stages.get((job, stage))
        return known.places.get(task) if known is not None else None

    def block_bytes_of(self, job: JobId, stage: int, task: int) -> int:
        """The length of a map task's largest block; 0 if nothing was told of it."""
        pair = self._pairs.get((job, stage, task))
        if pair is not None:
            return pair.held.block_bytes
        known = self._stages.get((job, stage))
        return known.sizes.get(task, 0) if known is not None else 0

    def frames(self, job: JobId, stage: int) -> Iterator[SourceInputs]:
        """The frames that tell a slot of a stage's inputs."""
        for page in self._stages[job, stage].pages:
            held = tuple(MapHeld(each.task, each.attempt, each.holder) for each in page.held)
            for start in range(0, max(1, len(held)), HELD_MAX):
                bits = None if page.page or start else page.without_rows
                yield SourceInputs(stage, page.gen, page.holders, held[start : start + HELD_MAX], bits)

    def forget(self, job: JobId) -> None:
        """Forget a job."""
        for book in (self._stages, self._pairs):
            for key in [key for key in book if key[0] == job]:
                del book[key]  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget all: the next session tells again."""
        self._stages.clear()
        self._pairs.clear()


def pair_frame(pair: Pair) -> SourceInputs:
    """The frame that tells a slot of one pair."""
    return SourceInputs(pair.stage, pair.gen, (pair.holder,), (MapHeld(pair.held.task, pair.held.attempt, 0),))
