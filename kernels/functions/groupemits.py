"""The numba type of a reduce's `emit`: emit(value) stages the group's key beside it, emit(key, value) another."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators, allow-incomplete-defs

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.extending import intrinsic, models, register_model

from kernelmill.kernels.functions.emits import EmitType, stage_row
from kernelmill.kernels.text.pointers import WORDS


class GroupEmitType(EmitType):
    """The type of one reduce's `emit`, for groups whose keys are of type `group_key`."""

    def __init__(self, name: str, group_key: Any, columns: tuple[Any, ...] | None = None) -> None:
        self.group_key = group_key
        super().__init__(name, columns)

    def emitted(self, args):
        """See EmitType: emit(value) emits the group's key too."""
        return (self.group_key, *args) if len(args) == 1 else args


@register_model(GroupEmitType)
class _GroupEmitModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [("stage", WORDS), ("state", WORDS), ("arena", WORDS), ("key", of_type.group_key)]
        super().__init__(manager, of_type, members)


def make_group_emit(emit_type: GroupEmitType) -> Any:
    """Make `emit(stage, state, arena, key)`: the emit of that type over three arrays, for a group, in compiled code."""

    @intrinsic
    def emit(typingctx, stage, state, arena, key):
        def codegen(context, builder, sig, args):
            made = cgutils.create_struct_proxy(emit_type)(context, builder)
            made.stage = context.make_array(sig.args[0])(context, builder, args[0]).data
            made.state = context.make_array(sig.args[1])(context, builder, args[1]).data
            made.arena = context.make_array(sig.args[2])(context, builder, args[2]).data
            made.key = args[3]
            return made._getvalue()

        return emit_type(stage, state, arena, emit_type.group_key), codegen

    return emit


@lower_builtin(GroupEmitType, types.VarArg(types.Any))
def _emit_of_group(context, builder, sig, args):
    of_type = sig.recvr if sig.recvr is not None else sig.args[0]
    me = cgutils.create_struct_proxy(of_type)(context, builder, value=args[0])
    kinds, given = tuple(sig.args[1:] if sig.recvr is None else sig.args), tuple(args[1:])
    if len(kinds) == 1:
        kinds, given = (of_type.group_key, *kinds), (me.key, *given)
    return stage_row(context, builder, of_type, me, kinds, given)
