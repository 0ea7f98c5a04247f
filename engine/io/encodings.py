"""Encodings other than UTF-8: single-byte ones by a table, the rest decoded as a stream; what cannot be split.

Whatever has no meaning in the encoding becomes the byte FF, which UTF-8 never contains: so one check, that of the
UTF-8 made, finds it, and `invalid=` means the same for every encoding. Text that lacks the byte order mark its encoding
asks for has no meaning as a whole: it becomes one such byte.
"""

from __future__ import annotations

import codecs
import functools

import numpy as np
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.decompress import codec_of
from kernelmill.engine.plan.fileformats import TextOptions

BAD_BYTE = 0xFF
_MARK = "\udcff"  # a lone surrogate: no decoder makes it from valid input
_MARK_BYTES = _MARK.encode("utf-8", "surrogatepass")
_ON_ERROR = "kernelmill.mark"
_UNORDERED_BYTES = (64 << 10) + 1
"""Of text without byte order mark, the byte FF stands for so many: one more than a reject keeps of a record."""


def _mark(problem: UnicodeError) -> tuple[str, int]:
    if not isinstance(problem, UnicodeDecodeError):
        raise problem
    return _MARK, problem.end


codecs.register_error(_ON_ERROR, _mark)


def codec_name(encoding: str) -> str:
    """Python's name of an encoding, "utf-8" for UTF-8 with or without BOM; KM0107 if text files are in none such."""
    hint = "use a name that Python knows, such as 'utf-8', 'latin-1', 'cp1252' or 'utf-16'"
    try:
        return _name_of_codec(encoding)
    except (LookupError, TypeError, ValueError):
        raise error(Code.BAD_SETTING, f"encoding cannot be {encoding!r}", hint=hint) from None


@functools.lru_cache(maxsize=64)
def _name_of_codec(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    "a".encode(name)  # refuses rot13, hex and other codecs that are no encodings; "" would not ask the codec
    codecs.getincrementaldecoder(name)(_ON_ERROR).decode(b"a")  # refuses idna and punycode, made for short names
    return "utf-8" if name == "utf-8-sig" else name


def is_splittable(path: str, options: TextOptions) -> bool:
    """True if a text file may be read from the middle: not if compressed, a whole document, or in a multi-byte code."""
    if options.whole_file or codec_of(path) is not None:
        return False
    return (
        codec_name(options.encoding) == "utf-8" or options.invalid == "binary" or single_byte_table(options) is not None
    )


def single_byte_table(options: TextOptions) -> NDArray[np.uint32] | None:
    """`utf8_of_byte` as kernels.utf8.transcode_bytes takes it; None where a character may have several bytes."""
    return _table(codec_name(options.encoding))


@functools.lru_cache(maxsize=64)
def _table(name: str) -> NDArray[np.uint32] | None:
    if name == "utf-8":  # as below, after 194 characters: the start of nearly every job
        return None
    table = np.empty(256, dtype=np.uint32)
    for byte in range(256):
        # An incremental decoder answers the first byte of a longer character with nothing.
        try:
            text = codecs.getincrementaldecoder(name)().decode(bytes([byte]))
            utf8 = text.encode()
        except (UnicodeError, LookupError):
            utf8 = bytes([BAD_BYTE])
        if not 1 <= len(utf8) <= 3:
            return None
        table[byte] = len(utf8) << 24 | int.from_bytes(utf8, "little")
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=64)
def encoded_separator(options: TextOptions) -> bytes:
    """The separator as it lies in the files; KM0107 if it is empty, or no text in the encoding."""
    separator = options.separator
    if not separator:
        raise error(Code.BAD_SETTING, "the separator is empty", hint="use whole_file=True for a record a file")
    if options.invalid == "binary":
        return separator
    try:
        text = separator.decode()
        return text.encode(options.encoding) if single_byte_table(options) is not None else separator
    except UnicodeError:
        what = f"the separator {separator!r} is no text in {options.encoding}"
        raise error(Code.BAD_SETTING, what, hint="read with invalid='binary' to separate by any bytes") from None


class Decoder:
    """Decodes a multi-byte encoding piece by piece into UTF-8."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(codec_name(encoding))(_ON_ERROR)
        self._unordered_bytes = 0  # how many there were, where a byte order mark lacks

    def state(self) -> tuple[tuple[bytes, int], int]:
        """What `restore` needs to go on from here."""
        return self._decoder.getstate(), self._unordered_bytes

    def restore(self, state: tuple[tuple[bytes, int], int]) -> None:
        """Go back to an earlier state."""
        decoder_state, self._unordered_bytes = state
        self._decoder.setstate(decoder_state)

    def decode(self, piece: bytes, *, final: bool) -> bytes:
        """UTF-8 of what is complete so far, with the byte FF for each error."""
        if self._unordered_bytes:
            return self._unordered(len(piece), final)
        try:
            text = self._decoder.decode(piece, final)
        except UnicodeError:  # "stream does not start with BOM": errors of single characters go to _mark
            return self._unordered(len(self._decoder.getstate()[0]) + len(piece), final)
        return text.encode("utf-8", "surrogatepass").replace(_MARK_BYTES, bytes([BAD_BYTE]))

    def _unordered(self, more_bytes: int, final: bool) -> bytes:
        before, self._unordered_bytes = self._unordered_bytes, self._unordered_bytes + more_bytes
        is_due = before < _UNORDERED_BYTES and (final or self._unordered_bytes >= _UNORDERED_BYTES)
        return bytes([BAD_BYTE]) if is_due else b""


def needs_whole_file(path: str, encoding: str) -> KernelmillError:
    """The error for a byte range of a file that can only be read from its beginning."""
    what = f"{path} cannot be read from the middle: it is compressed, a whole document, or in {encoding}"
    return error(Code.ENCODING, what, where=path, hint="give it one split; is_splittable tells")
