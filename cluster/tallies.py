"""Sums by name as messages carry them: so many names, of so many bytes, and one sum of all the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmill.cluster.fields import COUNT_MAX, COUNT_NAMES_BYTES_MAX, COUNTS_MAX, Count, names_bytes

OTHERS = "(others)"
"""The name of the sum of what a message has no room for."""
_NAME_BYTES_MAX = 1024  # of a Word, as UTF-8


def folded(counts: Mapping[str, int]) -> tuple[Count, ...]:
    """By name; what is more than a message holds is one sum at the end, together with what was folded before."""
    names = sorted(name for name in counts if name != OTHERS)
    shown = names[: COUNTS_MAX - 1]
    while (excess := names_bytes(shown) - COUNT_NAMES_BYTES_MAX) > 0:
        del shown[-max(1, excess // _NAME_BYTES_MAX) :]
    rest = names[len(shown) :]
    told = [(name, counts[name]) for name in shown]
    if len(rest) == 1 and OTHERS not in counts:
        told.append((rest[0], counts[rest[0]]))
    elif rest or OTHERS in counts:
        told.append((OTHERS, counts.get(OTHERS, 0) + sum(counts[name] for name in rest)))
    return tuple(Count(name, max(-COUNT_MAX, min(count, COUNT_MAX))) for name, count in told)
