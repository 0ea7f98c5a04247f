"""Text columns that go into a Parquet file as they came: from a dictionary to a dictionary, they need not be texts."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.nodes import Column, Node
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.pipes import Pipe
from kernelmill.engine.typing import read_beside_tests


def carried_as_dictionaries(pipe: Pipe, end: physical.End) -> Pipe:
    """Let text columns that are carried to a Parquet writer arrive as dictionaries, from files and from build sides.

    On their way they may be tested against literals, renamed, and be the only key of a probe side.
    """
    steps, schema = list(pipe.steps), pipe.schema
    match (*steps, end):
        case (*_, physical.EncodeRowGroups(to=to), _):
            schema, last = to.schema, len(steps) - 1
        case _ if type(end) is physical.ToParquet:
            last = len(steps)
        case _:
            return pipe
    carried = {field.name for field in schema if pa.types.is_string(field.type)}
    for at in reversed(range(last)):
        match steps[at]:
            case physical.Filter(predicate=predicate):
                carried -= read_beside_tests(predicate)
            case physical.Project(columns=columns):
                nodes = {column.name: unaliased(column.node) for column in columns}
                plain = {name: node for name, node in nodes.items() if isinstance(node, Column)}
                others = [node for name, node in nodes.items() if name not in plain]
                carried = _below(carried, {name: node.name for name, node in plain.items()}.items(), others)
            case physical.Join() as join:
                texts = {field.name for field in join.schema if pa.types.is_string(field.type)}
                coded = tuple(c.name for c in join.columns if c.from_build and c.name in carried & texts)
                steps[at] = replace(join, coded=coded)
                from_probe = [(c.name, c.column) for c in join.columns if not c.from_build]
                lost = {below for name, below in from_probe if name not in carried}
                carried = _below(carried, from_probe, ())
                if join.asof is None and len(join.probe_keys) == 1:  # one key is looked up by its codes
                    carried |= {*join.probe_keys} - lost
                else:
                    carried -= {*join.probe_keys, *(() if join.asof is None else (join.asof.probe_on,))}
            case _:
                carried = set()
    if isinstance(source := pipe.source, physical.ReadParquet):
        texts = {field.name for field in source.schema if pa.types.is_string(field.type)}
        known = source.dictionary_columns
        more = tuple(name for name in source.schema.names if name in carried & texts and name not in known)
        source = replace(source, dictionary_columns=(*known, *more))
    return replace(pipe, source=source, steps=tuple(steps))


def _below(carried: set[str], renamed: Iterable[tuple[str, str]], read: Iterable[Node]) -> set[str]:
    """The columns below a step that come out of it under carried names alone, and are not read for more than tests."""
    renamed = list(renamed)
    lost = {below for name, below in renamed if name not in carried}
    return {below for _, below in renamed} - lost - set().union(*map(read_beside_tests, read))
