"""Figures against their goals, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number, the goal it must reach and the aim beyond; `at_most`: the smaller the better.

    Without a goal it is only reported. found is by wall clock and decides; cpu is the same number by processor seconds,
    which other programs disturb less.
    """

    what: str
    found: float
    cpu: float
    unit: str
    goal: float | None = None
    aim: float | None = None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """`aim`, `goal`, or `missed`: what was reached; `reported` where nothing was to be."""
        if self.goal is None:
            return "reported"
        if self.aim is not None and self._reaches(self.aim):
            return "aim"
        return "goal" if self._reaches(self.goal) else "missed"

    def as_json(self) -> dict[str, Any]:
        """All fields and the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    def _reaches(self, bound: float) -> bool:
        return self.found <= bound if self.at_most else self.found >= bound


def goals_table(figures: Sequence[Figure]) -> list[str]:
    """Lines of a table, one a figure: what, goal, aim, found, the same by processor seconds, verdict."""
    width = max((len(figure.what) for figure in figures), default=0)
    lines = [f"{'':{width}}{'goal':>10}{'aim':>10}{'found':>10}{'by cpu':>10}  reached"]
    for figure in figures:
        sign = "<=" if figure.at_most else ">="
        bounds = [f"{sign} {bound:g}" if bound is not None else "" for bound in (figure.goal, figure.aim)]
        found = [f"{number:.2f} {figure.unit}" for number in (figure.found, figure.cpu)]
        cells = "".join(f"{cell:>10}" for cell in (*bounds, *found))
        lines.append(f"{figure.what:{width}}{cells}  {figure.verdict}")
    return lines
