"""The versions that output bytes depend on, told without loading the packages themselves."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import kernelmill
from kernelmill.cluster.fields import Versions
from kernelmill.engine.errors import Code, error

VERSIONS_HINT: Final = "output bytes depend on them: install the same everywhere"


def listed(versions: Versions) -> str:
    """Versions as a text for people: kernelmill 0.1.0, python 3.11.7, and so on."""
    return ", ".join(f"{name} {getattr(versions, name)}" for name in versions.__struct_fields__)


@functools.cache
def versions_here() -> Versions:
    """The versions of this process. Raises KM0603 where a package is not installed."""
    try:
        found = [version(name) for name in ("pyarrow", "numba", "numpy")]
    except PackageNotFoundError as problem:
        what = f"{problem.name} is not installed here, and jobs cannot run without it"
        raise error(Code.VERSION, what, hint=f"pip install {problem.name}") from problem
    return Versions(kernelmill.__version__, platform.python_version(), *found)
