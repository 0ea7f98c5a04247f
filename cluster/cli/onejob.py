"""One job of a cluster as text and as JSON: how far it is, or what it left. Texts of others are made printable."""

from __future__ import annotations

from typing import Any

import msgspec

from kernelmill.cluster.client.talk import error_of_result
from kernelmill.cluster.fields import Counts
from kernelmill.cluster.messages import Result, Status
from kernelmill.engine.cli.console import table_text
from kernelmill.engine.printable import printable
from kernelmill.engine.sizes import format_bytes, format_count


def job_fields(found: Status | Result) -> dict[str, Any]:
    """All that the master says, for JSON: bytes as hexadecimal digits."""
    return {name: _plain(value) for name, value in msgspec.structs.asdict(found).items()}


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [_plain(each) for each in value]
        case msgspec.Struct():
            return {name: _plain(each) for name, each in msgspec.structs.asdict(value).items()}
        case _:
            return value


def job_text(found: Status | Result) -> str:
    """What people want to know."""
    return _running(found) if isinstance(found, Status) else _ended(found)


def _running(status: Status) -> str:
    head = f"job {status.job.hex()} of {status.client}: {status.state}"
    if status.code:
        head += f", {printable(status.code)}: {printable(status.text)}"
    cells = [
        (
            f"{number} {printable(one.label)}",
            f"{format_count(one.committed)} of {format_count(one.tasks)}",
            format_count(one.running),
            format_count(one.failed),
            format_count(one.rows),
            format_bytes(one.size_bytes, binary=True),
        )
        for number, one in enumerate(status.stages)
    ]
    names = ["stage", "committed", "running", "failed", "rows read", "bytes read"]
    return "\n\n".join([head, table_text(names, cells, right=[1, 2, 3, 4, 5])])


def _ended(result: Result) -> str:
    lines = [f"job {result.job.hex()}: {result.state}"]
    if result.state == "COMMITTED":
        place = f"{result.output.root}:/{'/'.join(result.output.parts)}"
        lines.append(f"wrote {printable(place)}: {format_count(result.rows)} rows, {format_bytes(result.size_bytes)}")
    else:
        lines += [printable(line) for line in str(error_of_result(result)).splitlines()]
    return "\n".join([*lines, *_counts("counter", result.counters), *_counts("rejected", result.rejects)])


def _counts(what: str, counts: Counts) -> list[str]:
    return [f"{what} {printable(one.name)}: {format_count(one.count)}" for one in counts]
