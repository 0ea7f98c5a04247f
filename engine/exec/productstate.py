"""product: the values of a group multiplied in row order."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from kernelmill.engine.batch import numbers_of, validity_bytes
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.dense import Column, Dense, fixed_array
from kernelmill.kernels import multiplying
from kernelmill.kernels.table import Groups

_MULTIPLY: dict[pa.DataType, Any] = {
    pa.int64(): multiplying.multiply_integers,
    pa.uint64(): multiplying.multiply_unsigned,
    pa.float64(): multiplying.multiply_floats,
}


class Product:
    """Products of type `dtype`: int64, uint64 or float64. One of integers that leaves 64 bits is KM0208."""

    def __init__(self, name: str, dtype: pa.DataType) -> None:
        self._name, self._type = name, dtype
        self._numpy = dtype.to_pandas_dtype()
        self._products, self._begun = Dense(self._numpy), 0

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(numbers_of(columns[0]).astype(self._numpy, copy=False), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        values, validity = columns[0]
        bad = _MULTIPLY[self._type](groups, values, validity, self._held(used))
        if bad is not None and bad >= 0:
            hint = "cast the column to float64 before multiplying, if an approximate product will do"
            raise error(Code.OVERFLOW, f"the product {self._name!r} of a group leaves {self._type}", hint=hint)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return [fixed_array(self._held(last)[first:last].copy(), self._type)]

    def clear(self, groups: int) -> None:
        """See State."""
        self._begun = 0

    def _held(self, used: int) -> Any:
        """The products of the first `used` groups; those not seen before are 1, of nothing."""
        products = self._products.cover(used)
        if used > self._begun:
            products[self._begun : used] = 1
            self._begun = used
        return products
