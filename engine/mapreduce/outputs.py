"""Several outputs of one job: what `outputs=` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernelmill.engine.commit import OUTPUT_NAME
from kernelmill.engine.errors import Code, error
from kernelmill.engine.mapreduce.lane import Lane
from kernelmill.engine.options import column_name
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.userfunctions import shown


class Output:
    """A further output of a job: `outputs={"bad": km.Output(key="line")}`.

    The map emits to it by emit.to("bad", key, value); all arguments are those of MapReduce, for this output alone.
    Without schema= the types are inferred if the map is compiled and writes the name in the call, KM0104 else.
    Raises KM0107 for a bad one.
    """

    def __init__(
        self,
        reduce: str | Callable[..., Any] | None = None,
        *,
        combine: str | Callable[..., Any] | None = None,
        partition: str | Callable[..., Any] | None = None,
        key: str | tuple[str, ...] = "key",
        value: str | tuple[str, ...] = "value",
        schema: Any = None,
        order: str | None = "key",
        partitions: int | None = None,
    ) -> None:
        self._arguments = (reduce, combine, partition, key, value, schema, order, partitions)
        with located(users_line()):
            self.lane("auto")  # what is wrong is said here, where it stands

    def lane(self, compiling: str, side: Mapping[str, Any] | None = None) -> Lane:
        """The steps of this output in a job with that compile= and side=."""
        return Lane(*self._arguments, compiling, side)

    def __repr__(self) -> str:
        reduce = self._arguments[0]
        return f"Output({getattr(reduce, '__name__', reduce)!r})" if reduce is not None else "Output()"


def named_lanes(outputs: Any, compiling: str, side: Mapping[str, Any]) -> dict[str, Lane]:
    """The steps of each named output; KM0107 for what is no such mapping, and for names that can be no folder."""
    if outputs is None:
        return {}
    hint = 'name each one: outputs={"bad": km.Output(key="line")}'
    if not isinstance(outputs, Mapping):
        raise error(Code.BAD_SETTING, f"outputs cannot be {outputs!r}", hint=hint)
    lanes = {}
    for name, output in outputs.items():
        if not isinstance(output, Output):
            raise error(Code.BAD_SETTING, f"outputs={{{name!r}: ...}} takes a km.Output, not {output!r}", hint=hint)
        if not OUTPUT_NAME.fullmatch(column_name(name)):
            what = f"outputs= cannot name one {shown(name)}: it becomes a folder"
            hint = "use up to 100 letters, digits, - and _, a letter or digit first"
            raise error(Code.BAD_SETTING, what, hint=hint)
        lanes[name] = output.lane(compiling, side)
    return lanes
