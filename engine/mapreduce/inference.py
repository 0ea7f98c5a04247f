"""What a map emits, by the compiler's word: asked while a job is planned, no data is read."""

from __future__ import annotations

import pyarrow as pa

from kernelmill.engine.compiling import compiled_form, emitted_types
from kernelmill.engine.userfunctions import UserFunction

Named = tuple[tuple[str, ...], bool]


def infer_types(
    function: UserFunction, input_schema: pa.Schema, key: Named, value: Named
) -> dict[str, pa.DataType] | None:
    """The types of what a map emits, by the names of key= and value=; None where schema= must tell.

    A map that emits another number of keys or values than are named is such.
    """
    form = compiled_form(function, input_schema)
    if form is None:
        return None
    (keys, key_is_tuple), (values, value_is_tuple) = key, value
    wanted = (len(keys) if key_is_tuple else -1, len(values) if value_is_tuple else -1)
    if form.shape != wanted[: len(form.shape)]:
        return None
    names = keys if len(form.shape) == 1 else (*keys, *values)
    return dict(zip(names, emitted_types(form), strict=True))
