"""Powers of floats as the C library has them, which are Python's.

numba multiplies where the exponent is whole. LLVM does where it knows the exponent, and takes exp2, ldexp or sqrt for
some bases and exponents, be it only that all calls in a function agree in them: the last digit may be another then. So
the library's function is called by a name that LLVM must know nothing about.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernelmill.kernels.text.jitting import apart


def _library_pow(typingctx, a, b):
    """The C library's pow of two floats."""

    def codegen(context, builder, sig, args):
        double = ir.DoubleType()
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(double, [double, double]), "pow")
        made = builder.call(function, args)
        set.add(made.attributes, "nobuiltin")  # llvmlite's own add knows the commonest attributes of calls alone
        return made

    return types.float64(types.float64, types.float64), codegen


_pow: Any = intrinsic(_library_pow)


@apart
def float_power(a: Any, b: Any) -> Any:
    """a to the power of b; raises where Python does, or gives a complex number."""
    result = _pow(float(a), float(b))
    if not math.isfinite(result):
        if math.isfinite(a) and math.isfinite(b):
            raise OverflowError("a power beyond float64")
        if math.isnan(result) and not math.isnan(a) and not math.isnan(b):
            raise ValueError("a complex power")
    return result
