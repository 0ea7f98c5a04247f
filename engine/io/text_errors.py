"""Errors about text: which byte, on which line, what stands around it, and what it probably is instead."""

from __future__ import annotations

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.context import where
from kernelmill.engine.io.decompress import codec_of, suffix_of_magic

_ENCODING_HINT = "or choose invalid='replace', 'skip' (sets such lines aside) or 'binary'"


def encoding_error(
    path: str, offset: int, line: int | None, around: bytes, bad_at: int, head: bytes, encoding: str
) -> KernelmillError:
    """KM0204 for the bad byte around[bad_at], which is at `offset` of the text; `head` is how the file begins."""
    shown = around[max(0, bad_at - 24) : bad_at + 24]
    what = f"{path} is not valid {encoding}: byte 0x{around[bad_at : bad_at + 1].hex().upper()} in {shown!r}"
    return error(Code.ENCODING, what, where=where(path, offset, line), hint=_likely(head, around, encoding))


def too_long_error(path: str, offset: int, line: int | None, length: int | None, length_max: int) -> KernelmillError:
    """KM0209: a record of `length` bytes (None: more than were read) begins at `offset`."""
    size = f"{length:,} bytes" if length is not None else f"more than {length_max:,} bytes"
    what = f"a line of {path} has {size}, max_line allows {length_max:,}"
    hint = "pass a larger max_line=, or the separator= that the file has; tokens need no max_line"
    return error(Code.RECORD_TOO_LONG, what, where=where(path, offset, line), hint=hint)


def token_too_long_error(path: str, offset: int, line: int | None, length_max: int) -> KernelmillError:
    """KM0209: a token that begins at `offset` has not ended after `length_max` bytes."""
    what = f"a word of {path} has more than {length_max:,} bytes"
    hint = "it is hardly text: check what the file holds, or choose tokens that end at its separators"
    return error(Code.RECORD_TOO_LONG, what, where=where(path, offset, line), hint=hint)


def _likely(head: bytes, around: bytes, encoding: str) -> str:
    suffix = suffix_of_magic(head)
    if suffix is not None:
        remedy = f"rename it so that it ends in {suffix}" if codec_of(suffix) else "decompress it first"
        return f"it begins like a {suffix} file: {remedy}"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not encoding.startswith("utf-16"):
        return "it begins like UTF-16: pass encoding='utf-16'"
    if head.startswith(b"PAR1"):
        return "it begins like a Parquet file: read it with scan_parquet"
    if b"\0" in around:
        return f"it may be binary: pass the encoding= it is in, {_ENCODING_HINT}"
    try:
        around.decode("cp1252")
    except UnicodeDecodeError:
        return f"pass the encoding= it is in, {_ENCODING_HINT}"
    return f"it may be encoding='cp1252' (or 'latin-1'), {_ENCODING_HINT}"
