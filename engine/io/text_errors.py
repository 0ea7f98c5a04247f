"""Errors about text: which byte, on which line, what stands around it, and what it probably is instead."""

from __future__ import annotations

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.context import where
from kernelmill.engine.io.decompress import codec_of, suffix_of_magic

_BYTE_ORDER_MARKS = {  # the longer ones first, for they begin like the shorter
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_ENCODING_HINT = "or choose invalid='replace', 'skip' (sets such lines aside) or 'binary': options of km.scan_text"


def encoding_error(
    path: str, offset: int, line: int | None, around: bytes, bad_at: int, head: bytes, encoding: str
) -> KernelmillError:
    """KM0204 for the bad byte around[bad_at], which is at `offset` of the text; `head` is how the file begins."""
    shown = around[max(0, bad_at - 24) : bad_at + 24]
    what = f"{path} is not valid {encoding}: byte 0x{around[bad_at : bad_at + 1].hex().upper()} in {shown!r}"
    return error(Code.ENCODING, what, where=where(path, offset, line), hint=_likely(head, around, encoding, offset))


def too_long_error(
    path: str, offset: int, line: int | None, length: int | None, length_max: int, *, is_for_tokens: bool = False
) -> KernelmillError:
    """KM0209: a record of `length` bytes (None: more than were read) begins at `offset`.

    `is_for_tokens`: the job wants no lines, it only needs them whole to skip the bad ones.
    """
    size = f"{length:,} bytes" if length is not None else f"more than {length_max:,} bytes"
    bound = f", {length_max:,} are allowed" if length is not None else ", which is all that is allowed"
    what = f"a line of {path} has {size}{bound}"
    other = "another invalid=: only 'skip' needs lines here" if is_for_tokens else "the separator= that the file has"
    hint = f"pass a larger max_line=, or {other}"
    return error(Code.RECORD_TOO_LONG, what, where=where(path, offset, line), hint=hint)


def token_too_long_error(path: str, offset: int, line: int | None, length_max: int) -> KernelmillError:
    """KM0209: a token that begins at `offset` has not ended after `length_max` bytes."""
    what = f"a word of {path} has more than {length_max:,} bytes"
    hint = "it is hardly text: check what the file holds, or choose tokens that end at its separators"
    return error(Code.RECORD_TOO_LONG, what, where=where(path, offset, line), hint=hint)


def _likely(head: bytes, around: bytes, encoding: str, offset: int) -> str:
    suffix = suffix_of_magic(head)
    if suffix is not None:
        remedy = f"rename it so that it ends in {suffix}" if codec_of(suffix) else "decompress it first"
        return f"it begins like a {suffix} file: {remedy}"
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if marked is not None and not encoding.startswith(marked):
        return f"it begins like {marked.upper()}: pass encoding='{marked}'"
    if encoding in _BYTE_ORDER_MARKS.values() and not offset and not around.startswith(tuple(_BYTE_ORDER_MARKS)):
        return _unmarked(around, encoding)
    if head.startswith(b"PAR1"):
        return "it begins like a Parquet file: read it with scan_parquet"
    if b"\0" in around:
        return f"it may be binary: pass the encoding= it is in, {_ENCODING_HINT}"
    try:
        around.decode("cp1252")
    except UnicodeDecodeError:
        return f"pass the encoding= it is in, {_ENCODING_HINT}"
    return f"it may be encoding='cp1252' (or 'latin-1'), {_ENCODING_HINT}"


def _unmarked(around: bytes, encoding: str) -> str:
    unit = {"utf-16": 2, "utf-32": 4}[encoding]
    orders = ["le", "be"] if around[unit - 1 :: unit].count(0) >= around[::unit].count(0) else ["be", "le"]
    first, second = (f"'{encoding}-{order}'" for order in orders)
    return f"it has no byte order mark: pass encoding={first} (or {second}), or leave it out if the file is UTF-8"
