"""How a process of a cluster starts others of its kind."""

from __future__ import annotations

import sys
from typing import Final

SAFE_PATH: Final = "-P"
"""Keeps Python from looking for modules in the working folder, as it does with `-m`: jobs may write there."""


def module_command(module: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that runs a module of ours: by this interpreter, from where it is installed or PYTHONPATH has it."""
    return [sys.executable, SAFE_PATH, *options, "-m", module, *arguments]
