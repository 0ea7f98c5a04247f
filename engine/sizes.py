"""Sizes, rates, counts and durations: read from what people type, written for people to read."""

from __future__ import annotations

import re

from kernelmill.engine.errors import Code, error

# A bare letter means the binary unit, as for systemd, Docker and the JVM; "GB" is the decimal one, as on a disk's box.
_FACTOR_OF_UNIT = {"": 1, "b": 1} | {
    spelling: factor
    for power, letter in enumerate("kmgt", start=1)
    for spelling, factor in ((letter, 1024**power), (f"{letter}ib", 1024**power), (f"{letter}b", 1000**power))
}
_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB")
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_bytes(text: str | int, *, name: str = "size", where: str = "") -> int:
    """Read a number of bytes from "512MB", "4GiB", "1.5G" or an integer; KM0107 names `name` if it is none of these.

    KB MB GB TB are powers of 1000; KiB MiB GiB TiB and the bare letters K M G T are powers of 1024.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return _checked(text, text, name, where)
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    factor = _FACTOR_OF_UNIT.get(match[2].lower()) if match else None
    if match is None or factor is None:
        hint = "write bytes, or a number and a unit: 512MB, 4GiB, 1.5G"
        raise error(Code.BAD_SETTING, f"{name} is not a size: {text!r}", where=where, hint=hint)
    whole, _, fraction = match[1].replace("_", "").partition(".")
    # In integers: float(whole) * factor would change what somebody wrote above 2**53 bytes.
    value = int(whole) * factor + int(fraction or 0) * factor // 10 ** len(fraction)
    return _checked(value, text, name, where)


def _checked(value: int, text: str | int, name: str, where: str) -> int:
    if not 0 <= value < 1 << 63:
        what = f"{name} is out of range: {text!r}"
        raise error(Code.BAD_SETTING, what, where=where, hint="a size is at least 0 and below 8 EiB")
    return value


def format_bytes(count: float, *, binary: bool = False) -> str:
    """Write a number of bytes with three digits at most: 4.1 MB; with `binary`, 4.0 GiB."""
    base, units = (1024, _BINARY_UNITS) if binary else (1000, _DECIMAL_UNITS)
    value = float(count)
    for unit in units[:-1]:
        # The bound is where the rounded text would need a fourth digit, so that 999,999 is 1.0 MB and not 1000 kB.
        if abs(value) < base - 0.5:
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 99.95 else f"{value:.1f} {unit}"
        value /= base
    return f"{value:,.1f} {units[-1]}"


def format_rate(bytes_per_s: float) -> str:
    """Write a rate: 812 MB/s."""
    return f"{format_bytes(bytes_per_s)}/s"


def format_count(count: int) -> str:
    """Write an integer with thousands separated: 12,544."""
    return f"{count:,}"


def format_things(count: int, noun: str) -> str:
    """Write a number of things: 1 file, 1,200 files."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(seconds: float) -> str:
    """Write a duration: 0.09 s, 41 s, 3 min 20 s, 2 h 05 min; below 10 s with the digits that still say something."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
