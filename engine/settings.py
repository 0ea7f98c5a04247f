"""Settings: one frozen value, read once for a job and passed down; each knows where it came from.

Order: argument > km.configure > KERNELMILL_* > ./kernelmill.toml > [tool.kernelmill] of ./pyproject.toml >
the user's config.toml > default. Only `split_size` and `partitions` change output bytes, only `on_bad` and
`max_rejects` change rows; all others change neither.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kernelmill.engine.errors import Code, error
from kernelmill.engine.machine import usable_cores, usable_memory_bytes
from kernelmill.engine.sizes import format_bytes, parse_bytes

_SPLIT_BYTES_MIN = 1
_MEMORY_BYTES_MIN = 32 << 20
PARTITIONS_MAX = 1 << 16
ENV_PREFIX = "KERNELMILL_"
# Not settings: where benchmarks keep their corpora; where tests make processes of a cluster fail (failpoints).
_ENV_OTHERS = frozenset({"KERNELMILL_BENCH_DATA", "KERNELMILL_FAILPOINTS", "KERNELMILL_FAILPOINT_TOKENS"})


def default_cache_dir() -> str:
    """Name the folder for compiled kernels of this user: $XDG_CACHE_HOME/kernelmill, or ~/.cache/kernelmill."""
    return str(_home("XDG_CACHE_HOME", ".cache") / "kernelmill")


def _home(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable, "")
    return Path(given) if os.path.isabs(given) else Path.home() / fallback


def _default_spill_limit() -> int:
    return _spill_limit_in(tempfile.gettempdir())


def _spill_limit_in(folder: str) -> int:
    """80 % of what is free where spills go; a folder that is not there yet counts as its nearest parent."""
    place = Path(folder).absolute()
    nearest = next((path for path in (place, *place.parents) if path.is_dir()), None)
    return shutil.disk_usage(nearest).free * 4 // 5 if nearest else 0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may use and how it behaves. Make it by `resolve()`; tests may call it with what they need.

    threads: workers of this process; memory_bytes: the one number for blocks, tables and buffers; spill_dir,
    spill_limit_bytes: where and how much may be spilled; max_attempts: tries at a task; progress: auto, on or off;
    progress_delay_s: silence before the first line; split_bytes: the least size of a split of input; partitions: of
    each exchange, None: from plan and input size; on_bad: error or reject; max_rejects: more of them fail the job
    (KM0503); cache_dir: compiled kernels.
    """

    threads: int = msgspec.field(default_factory=usable_cores)
    memory_bytes: int = msgspec.field(default_factory=lambda: usable_memory_bytes() // 2)
    spill_dir: str = msgspec.field(default_factory=tempfile.gettempdir)
    spill_limit_bytes: int = msgspec.field(default_factory=_default_spill_limit)
    max_attempts: int = 4
    progress: str = "auto"
    progress_delay_s: float = 1.0
    split_bytes: int = 64 << 20
    partitions: int | None = None
    on_bad: str = "error"
    max_rejects: int = 1000
    cache_dir: str = msgspec.field(default_factory=default_cache_dir)


class SettingInfo(NamedTuple):
    """A row of `kernelmill config`: the setting's name, its value as people write it, and where it was given."""

    name: str
    value: str
    origin: str


# Readers of single values: (value as given, setting's name, where it was given) -> value, or KM0107.
_Reader = Callable[[Any, str, str], Any]


def _wrong(name: str, value: object, where: str, hint: str) -> Exception:
    return error(Code.BAD_SETTING, f"{name} cannot be {value!r}", where=where, hint=hint)


def _integer(low: int, high: int = 1 << 31) -> _Reader:
    def read(value: Any, name: str, where: str) -> int:
        text = value.strip().replace("_", "") if isinstance(value, str) else value
        if isinstance(text, str) and text.isascii() and text.isdigit():
            text = int(text)
        if not isinstance(text, int) or isinstance(text, bool) or not low <= text <= high:
            raise _wrong(name, value, where, f"give an integer from {low:,} to {high:,}")
        return text

    return read


def _size(low: int) -> _Reader:
    def read(value: Any, name: str, where: str) -> int:
        size = parse_bytes(value, name=name, where=where)
        if size < low:
            raise _wrong(name, value, where, f"give at least {format_bytes(low, binary=True)}")
        return size

    return read


def _choice(*words: str, **others: str) -> _Reader:
    """One of `words`; `others` are further spellings."""

    def read(value: Any, name: str, where: str) -> str:
        word = str(value).strip().lower()
        word = others.get(word, word)
        if word not in words:
            raise _wrong(name, value, where, f"{_did_you_mean(word, words)}it is one of {', '.join(words)}")
        return word

    return read


def _seconds(value: Any, name: str, where: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds <= 1e6:
        raise _wrong(name, value, where, "give seconds, at least 0")
    return seconds


def _folder(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise _wrong(name, value, where, "give the path of a folder")
    try:
        return str(Path(value).expanduser().absolute())
    except (OSError, RuntimeError) as problem:  # the current directory is gone; there is no such user or home
        raise _wrong(name, value, where, f"give an absolute path: {problem}") from problem


class _Kind(NamedTuple):
    field: str
    read: _Reader
    show: Callable[[Any], str] = str


def _show_size(value: int) -> str:
    return format_bytes(value, binary=True)


def _show_partitions(value: int | None) -> str:
    return "from plan and input size" if value is None else str(value)


_KIND_OF_SETTING: dict[str, _Kind] = {
    "threads": _Kind("threads", _integer(1, 1024)),
    "memory": _Kind("memory_bytes", _size(_MEMORY_BYTES_MIN), _show_size),
    "spill_dir": _Kind("spill_dir", _folder),
    "spill_limit": _Kind("spill_limit_bytes", _size(0), _show_size),
    "max_attempts": _Kind("max_attempts", _integer(1, 100)),
    "progress": _Kind("progress", _choice("auto", "on", "off", true="on", false="off", **{"1": "on", "0": "off"})),
    "progress_delay": _Kind("progress_delay_s", _seconds, lambda seconds: f"{seconds:g} s"),
    "split_size": _Kind("split_bytes", _size(_SPLIT_BYTES_MIN), _show_size),
    "partitions": _Kind("partitions", _integer(1, PARTITIONS_MAX), _show_partitions),
    "on_bad": _Kind("on_bad", _choice("error", "reject")),
    "max_rejects": _Kind("max_rejects", _integer(0), lambda n: f"{n:,}"),
    "cache_dir": _Kind("cache_dir", _folder),
}
SETTING_NAMES = tuple(_KIND_OF_SETTING)
"""Names of all settings, as users write them in calls, files and (in capitals, after KERNELMILL_) the environment."""


class _Given(NamedTuple):
    value: Any
    origin: str


_session: dict[str, Any] = {}
_session_lock = threading.Lock()


def configure(**given: Any) -> None:
    """Set settings for all later jobs of this process: `configure(threads=4, memory="8GiB")`; None takes one back.

    Unknown names and bad values are KM0107; then nothing is changed.
    """
    values = {name: _read(name, value, "configure()") for name, value in given.items() if value is not None}
    _check_names(given, "configure()")
    with _session_lock:
        for name in given:
            _session.pop(name, None)
        _session.update(values)


def resolve(**given: Any) -> Settings:
    """Make the settings of one job from arguments and everything below them; an argument of None is not given.

    Unknown names and values outside what a setting allows are KM0107 and name the place where they were given.
    """
    fields = {_KIND_OF_SETTING[name].field: choice.value for name, choice in _choices(given).items()}
    if "spill_dir" in fields and "spill_limit_bytes" not in fields:
        fields["spill_limit_bytes"] = _spill_limit_in(fields["spill_dir"])
    return Settings(**fields)


def listing(**given: Any) -> list[SettingInfo]:
    """List every setting with its value and origin, in the order of the table; errors as `resolve`."""
    choices = _choices(given)
    settings = resolve(**given)
    rows = []
    for name, kind in _KIND_OF_SETTING.items():
        origin = choices[name].origin if name in choices else "default"
        rows.append(SettingInfo(name, kind.show(getattr(settings, kind.field)), origin))
    return rows


def _choices(given: Mapping[str, Any]) -> dict[str, _Given]:
    """Each setting that is given anywhere: its value read and checked, from the highest place that gives it."""
    chosen: dict[str, _Given] = {}
    for origin, values in _places(given):
        _check_names(values, origin)
        for name, value in values.items():
            checked = _read(name, value, origin)  # also where a higher place wins: a wrong file stays wrong
            chosen.setdefault(name, _Given(checked, origin))
    return chosen


def _places(given: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "argument", {name: value for name, value in given.items() if value is not None}
    with _session_lock:
        session = dict(_session)
    yield "configure()", session
    for variable in sorted(os.environ):
        if variable.startswith(ENV_PREFIX) and variable not in _ENV_OTHERS and os.environ[variable] != "":
            yield variable, {variable.removeprefix(ENV_PREFIX).lower(): os.environ[variable]}
    yield "kernelmill.toml", _toml(Path("kernelmill.toml"))
    tools = _table(_toml(Path("pyproject.toml"), _MAY_HAVE_TABLE), "tool", "pyproject.toml")
    yield "pyproject.toml [tool.kernelmill]", _table(tools, "kernelmill", "pyproject.toml [tool]")
    user_file = _home("XDG_CONFIG_HOME", ".config") / "kernelmill" / "config.toml"
    yield str(user_file), _toml(user_file)


# What may begin the table tool.kernelmill, in any of TOML's ways to write it. A project's file is mostly of other
# tools' and long, and reading all of it takes as long as planning a job.
_MAY_HAVE_TABLE = re.compile(
    r"""^[ \t]*\[.*kernelmill | ^[ \t]*\[+[ \t]*["']?tool["']?[ \t]*\] | ^[ \t]*["']?tool["']?[ \t]*[.=] | \\[uU]""",
    re.MULTILINE | re.VERBOSE,
)


def _toml(path: Path, may_matter: re.Pattern[str] | None = None) -> dict[str, Any]:
    """What a file says; nothing if it is not there, or nothing in it matches `may_matter`."""
    try:
        text = path.read_text(encoding="utf-8")
        if may_matter is not None and not may_matter.search(text):
            return {}
        found: dict[str, Any] = importlib.import_module("tomllib").loads(text)
        return found
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as problem:  # unreadable; not UTF-8 or not TOML
        what = f"settings cannot be read: {problem}"
        raise error(Code.BAD_SETTING, what, where=str(path), hint="correct the file or move it away") from problem


def _table(values: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """The table `name` of a file, empty if it is not there; KM0107 for anything else that has its name."""
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise _wrong(name, found, where, "settings follow below the line [tool.kernelmill]")
    return found


def _read(name: str, value: Any, where: str) -> Any:
    kind = _KIND_OF_SETTING.get(name)
    return value if kind is None else kind.read(value, name, where)


def _check_names(values: Mapping[str, Any], where: str) -> None:
    for name in values:
        if name not in _KIND_OF_SETTING:
            hint = f"{_did_you_mean(name, SETTING_NAMES)}settings are {', '.join(SETTING_NAMES)}"
            raise error(Code.BAD_SETTING, f"there is no setting {name!r}", where=where, hint=hint)


def _did_you_mean(word: str, words: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {near[0]!r}? " if near else ""
