"""The log of a cluster's processes: one line a record, whatever others have put into it, and not more than can be read.

Texts of clients and workers get into it: names of outputs, what failed. So all of a line is made printable and short,
and lines of one kind that come fast are counted, and left out.
"""

from __future__ import annotations

import logging
from typing import Final

from kernelmill.engine.printable import printable

CHARACTERS_MAX: Final = 2000
LINES_MAX: Final = 20
"""Lines of one kind within PERIOD_S; then only how many there were."""
PERIOD_S: Final = 60.0
_KINDS_MAX: Final = 256
_NAME: Final = "kernelmill.cluster"


class _Kind:
    def __init__(self, now: float) -> None:
        self.since_s, self.lines, self.left_out = now, 0, 0


class OneLineEach(logging.Filter):
    """Make records printable, cut them, and let few of each kind pass; a kind is a message before its values."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record, or keep it back."""
        now, key = record.created, (record.levelno, str(record.msg)[:CHARACTERS_MAX])
        kind = self._kinds.get(key)
        if kind is None or not 0 <= now - kind.since_s < PERIOD_S:
            left_out = kind.left_out if kind is not None else 0
            if len(self._kinds) >= _KINDS_MAX:
                self._kinds.clear()
            kind = self._kinds[key] = _Kind(now)
            kind.left_out = left_out
        if kind.lines >= LINES_MAX:
            kind.left_out += 1
            return False
        kind.lines += 1
        text = printable(record.getMessage())
        if len(text) > CHARACTERS_MAX:
            text = f"{text[:CHARACTERS_MAX]}... ({len(text)} characters)"
        if kind.left_out:
            text = f"{text} ({kind.left_out} such lines before it were left out)"
            kind.left_out = 0
        record.msg, record.args = text, None
        return True


def cluster_log() -> logging.Logger:
    """The logger of all that a cluster's processes say; its records are lines."""
    log = logging.getLogger(_NAME)
    if not any(isinstance(one, OneLineEach) for one in log.filters):
        log.addFilter(OneLineEach())
    return log
