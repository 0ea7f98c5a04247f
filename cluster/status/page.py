"""The status page as HTML: one document without scripts, in light or dark, that loads itself again. Pure.

Every text that is not written here is escaped: labels, outputs, names of hosts and clients are chosen by others.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from kernelmill.cluster.status.snapshot import JobView, Snapshot, StageView, WorkerView
from kernelmill.engine.sizes import format_bytes, format_count

REFRESH_S: Final = 2
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --dim: #7778; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .2rem .6rem .2rem 0; }
th { font-weight: 500; color: GrayText; } tr { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } progress { width: 8rem; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; } .dim { color: GrayText; }
.bad { color: light-dark(#b00020, #ff8a80); } .good { color: light-dark(#0a6b2d, #7ddc9a); }
"""
STYLE_SUM: Final = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
"""What the page's Content-Security-Policy says of its style: no other is applied."""
_BAD: Final = ("FAILED", "CANCELLED", "PAUSED", "SUSPECT")
_GOOD: Final = ("COMMITTED",)


def page_of(snapshot: Snapshot, token: str) -> bytes:
    """The document; `token` for the link to the same as JSON."""
    body = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_S}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>kernelmill cluster</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>kernelmill cluster at <code>{_text(snapshot.address)}</code></h1>",
        f'<p>{_summary(snapshot)} <a href="/state.json?token={escape(token)}">The same as JSON</a></p>',
        "<h2>Jobs</h2>",
        *map(_job, snapshot.jobs),
        _more(snapshot.jobs_more, "job") if snapshot.jobs else '<p class="dim">None yet.</p>',
        "<h2>Workers</h2>",
        _workers(snapshot.workers) if snapshot.workers else '<p class="dim">None is here.</p>',
        _more(snapshot.workers_more, "worker"),
        "<h2>Out of the ordinary</h2>",
        _faults(snapshot) if snapshot.faults else '<p class="dim">Nothing since this master started.</p>',
        "</body></html>\n",
    ]
    return "\n".join(body).encode("utf-8", "backslashreplace")


def _summary(snapshot: Snapshot) -> str:
    at = datetime.fromtimestamp(snapshot.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    workers = _count(len(snapshot.workers) + snapshot.workers_more, "worker")
    tasks = f"{_count(snapshot.slots_running, 'task')} on {_count(snapshot.slots, 'slot')}"
    master = f"Master of epoch {snapshot.epoch}, cluster {_text(snapshot.cluster[:12])}, {at}."
    return f'{workers}, {tasks}. <span class="dim">{master}</span>'


def _job(job: JobView) -> str:
    why = f", {job.code}" + (f": {job.text}" if job.text else "") if job.code else ""
    head = (
        f"<h3><code>{_text(job.id[:12])}</code> {_state(job.state)}{_text(why)}"
        f' <span class="dim">of {_text(job.client)}, to {_text(job.output)}</span></h3>'
    )
    if not job.stages:
        return head
    rows = [_stage(number, stage) for number, stage in enumerate(job.stages)]
    return head + _table(
        ["stage", "", "committed", "running", "failed", "rows read", "bytes read"], rows, first_number=2
    )


def _stage(number: int, stage: StageView) -> list[str]:
    bar = f'<progress max="{max(stage.tasks, 1)}" value="{stage.committed}"></progress>'
    return [
        f"{number} {_text(stage.label)}",
        bar,
        f"{format_count(stage.committed)} of {format_count(stage.tasks)}",
        format_count(stage.running),
        f'<span class="bad">{format_count(stage.failed)}</span>' if stage.failed else "0",
        format_count(stage.rows),
        format_bytes(stage.size_bytes, binary=True),
    ]


def _workers(workers: Sequence[WorkerView]) -> str:
    rows = [
        [
            _text(one.name),
            _state(one.state),
            _text(one.host),
            f"{format_count(one.running)} of {format_count(one.slots)}",
            f"{format_bytes(one.rss_bytes, binary=True)} of {format_bytes(one.memory_bytes, binary=True)}",
            format_bytes(one.disk_free_bytes, binary=True),
            f"{one.silent_s:.1f} s ago",
        ]
        for one in workers
    ]
    head = ["worker", "state", "host", "running", "memory", "disk free", "heard"]
    return _table(head, rows, first_number=3)


def _faults(snapshot: Snapshot) -> str:
    rows = [
        [
            datetime.fromtimestamp(fault.at_s, UTC).strftime("%H:%M:%S"),
            _text(fault.what),
            format_count(fault.times),
        ]
        for fault in snapshot.faults
    ]
    return _table(["at", "what", "times"], rows, first_number=2)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], first_number: int) -> str:
    """A table of cells that are HTML; from column `first_number` on they are numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(_cell(tag, cell, place >= first_number) for place, cell in enumerate(cells)) + "</tr>"

    return "<table>" + "\n".join([line("th", head), *(line("td", row) for row in rows)]) + "</table>"


def _cell(tag: str, cell: str, is_number: bool) -> str:
    kind = ' class="n"' if is_number else ""
    return f"<{tag}{kind}>{cell}</{tag}>"


def _state(state: str) -> str:
    kind = "bad" if state in _BAD else "good" if state in _GOOD else ""
    return f'<span class="{kind}">{_text(state)}</span>' if kind else _text(state)


def _text(text: str) -> str:
    """A text as HTML, without letters that show as nothing or turn what follows around."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))


def _count(count: int, thing: str) -> str:
    return f"{format_count(count)} {thing}{'s' * (count != 1)}"


def _more(count: int, thing: str) -> str:
    return f'<p class="dim">And {_count(count, thing)} more.</p>' if count > 0 else ""
