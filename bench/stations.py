"""Temperatures as lines of text, `Name;12.3`: the input of the public One Billion Row Challenge, at any size.

Names are made up, 413 as there, 2 to 26 bytes long, some with letters beyond ASCII. A line draws its station uniformly
and its temperature from a normal distribution round the station's mean, deviation 10, one decimal, -99.9 to 99.9.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STATIONS = 413
BLOCK_LINES = 500_000
TENTHS_MAX = 999
_CONSONANTS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "ch", "st", "ñ", "ç"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ou", "é", "ö"]
_WEIGHTS = np.array([3, 8, 5, 1]) / 17  # of one to four syllables
Bytes = NDArray[np.uint8]


def station_names(stations: int, seed: int) -> list[str]:
    """`stations` different names, a function of the seed; one in eight has two words."""
    random = np.random.default_rng(seed)

    def word() -> str:
        syllables = int(random.choice(4, p=_WEIGHTS)) + 1
        parts = (_CONSONANTS[random.integers(18)] + _VOWELS[random.integers(9)] for _ in range(syllables))
        return "".join(parts).capitalize()

    names: dict[str, None] = {}
    while len(names) < stations:
        names.setdefault(f"{word()} {word()}" if random.integers(8) == 0 else word())
    return list(names)


def digest_of_stations(rows: Iterable[tuple[str, int, int, int, int]]) -> str:
    """Digest (name, count, least, greatest, sum) of stations, in tenths of a degree, whatever their order."""
    lines = sorted(f"{name};{count};{least};{most};{total}\n" for name, count, least, most, total in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def write_measurements(target: Path, *, lines: int, stations: int, seed: int) -> dict[str, Any]:
    """Write `lines` lines, in blocks made by numpy; returns their facts, with the answer's digest."""
    random = np.random.default_rng(seed)
    names = station_names(stations, seed)
    heads, tails = _padded([f"{name};" for name in names]), _padded([f"{_decimal(t)}\n" for t in _all_tenths()])
    means = random.uniform(-5, 30, stations)
    count, total = np.zeros(stations, np.int64), np.zeros(stations, np.int64)
    least, most = np.full(stations, TENTHS_MAX + 1), np.full(stations, -TENTHS_MAX - 1)
    hashed = hashlib.sha256()
    with target.open("wb") as out:
        for start in range(0, lines, BLOCK_LINES):
            rows = min(BLOCK_LINES, lines - start)
            station = random.integers(0, stations, rows)
            drawn = random.normal(means[station], 10.0)
            tenths = np.clip(np.rint(drawn * 10), -TENTHS_MAX, TENTHS_MAX).astype(np.int64)
            text = np.concatenate([heads[station], tails[tenths + TENTHS_MAX]], axis=1)
            block = text[text != 0].tobytes()
            out.write(block)
            hashed.update(block)
            count += np.bincount(station, minlength=stations)
            np.add.at(total, station, tenths)
            np.minimum.at(least, station, tenths)
            np.maximum.at(most, station, tenths)
    seen = [(names[i], *map(int, (count[i], least[i], most[i], total[i]))) for i in range(stations) if count[i]]
    return {
        "name": target.stem,
        "bytes": target.stat().st_size,
        "lines": lines,
        "stations": len(seen),
        "digest": digest_of_stations(seen),
        "sha256": hashed.hexdigest(),
        "seed": seed,
        "numpy": np.__version__,
    }


def _all_tenths() -> range:
    return range(-TENTHS_MAX, TENTHS_MAX + 1)


def _decimal(tenths: int) -> str:
    return f"{'-' if tenths < 0 else ''}{abs(tenths) // 10}.{abs(tenths) % 10}"


def _padded(texts: list[str]) -> Bytes:
    """Texts as rows of bytes, filled up with zeros, which no text holds."""
    encoded = [text.encode() for text in texts]
    rows: Bytes = np.zeros((len(texts), max(map(len, encoded))), np.uint8)
    for row, text in zip(rows, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return rows
