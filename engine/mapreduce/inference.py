"""What a map emits, by the compiler's word: asked while a job is planned, no data is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from kernelmill.engine.compiling import compiled_form, emitted_types
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.mapreduce.columns import wrong_count
from kernelmill.engine.userfunctions import UserFunction

if TYPE_CHECKING:
    from kernelmill.kernels.usermaps import CompiledMap, NamedRows

Named = tuple[tuple[str, ...], bool]


def infer_types(
    function: UserFunction, input_schema: pa.Schema, key: Named, value: Named, to: str = "", *, is_needed: bool = False
) -> dict[str, pa.DataType] | None:
    """The types of what a map emits, by the names of key= and value=; None where schema= must tell.

    With `to`: of what it emits to that named output. A map that emits another number of keys or values than are named,
    or nothing, is such. `is_needed`: without them the job is refused, and why there are none is said then.
    """
    form = compiled_form(function, input_schema, ends_job=is_needed)
    rows = None if form is None else _rows_for(form, to)
    if rows is None or not rows.outputs:
        return None
    (keys, key_is_tuple), (values, value_is_tuple) = key, value
    wanted = (len(keys) if key_is_tuple else -1, len(values) if value_is_tuple else -1)
    if rows.shape != wanted[: len(rows.shape)]:
        return None
    names = keys if len(rows.shape) == 1 else (*keys, *values)
    return dict(zip(names, emitted_types(rows), strict=True))


def count_mismatch(
    function: UserFunction, input_schema: pa.Schema, key: Named, value: Named, to: str = "", *, is_reduced: bool = False
) -> KernelmillError | None:
    """KM0104 for a map that is compiled and emits another number of keys or values than are named; else None.

    `is_reduced`: by a function, for which value= may have been meant.
    """
    form = compiled_form(function, input_schema)
    rows = None if form is None else _rows_for(form, to)
    if rows is None or not rows.outputs:
        return None
    return wrong_count(function, to, rows.shape, emitted_types(rows), (key, value), may_be_reduces=is_reduced)


def never_emits(function: UserFunction, input_schema: pa.Schema, to: str = "") -> bool:
    """True if it is known that the map emits nothing, to the main output or to the named one `to`."""
    form = compiled_form(function, input_schema)
    if form is None:
        return False
    return form.names_all and all(rows.name != to for rows in form.named) if to else not form.outputs


def emits_to(function: UserFunction, input_schema: pa.Schema) -> tuple[str, ...]:
    """The names of the outputs to which the map is known to emit by emit.to."""
    form = compiled_form(function, input_schema)
    return () if form is None else tuple(rows.name for rows in form.named)


def _rows_for(form: CompiledMap, to: str) -> CompiledMap | NamedRows | None:
    if not to:
        return form
    return next((rows for rows in form.named if rows.name == to), None) if form.names_all else None
