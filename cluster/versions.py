"""The versions that output bytes depend on, told without loading the packages themselves."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version

import kernelmill
from kernelmill.cluster.fields import Versions
from kernelmill.engine.errors import Code, error


@functools.cache
def versions_here() -> Versions:
    """The versions of this process. Raises KM0603 where a package is not installed."""
    try:
        found = [version(name) for name in ("pyarrow", "numba", "numpy")]
    except PackageNotFoundError as problem:
        what = f"{problem.name} is not installed here, and jobs cannot run without it"
        raise error(Code.VERSION, what, hint=f"pip install {problem.name}") from problem
    return Versions(kernelmill.__version__, platform.python_version(), *found)
