"""Compressed input by extension: .gz .zst .bz2 .lz4, streamed, several members one after the other.

pyarrow decompresses .zst and .lz4, with the GIL released; it takes compressed bytes in pieces of 64 KiB through
`_Reader`, which keeps the file to its stamp and knows where in it an error lies. The others are Python's own (which
release the GIL too, and are as fast): pyarrow 26 fails with "wrong sequence of calls to bz2 library" on some files of
several members, and takes the zeros that tapes and block devices pad a .gz with for damage.
"""

from __future__ import annotations

import bz2
import zlib
from functools import lru_cache
from typing import Literal, Protocol

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.bytestream import InputFile

Codec = Literal["gzip", "zstd", "bz2", "lz4"]
CODEC_OF_SUFFIX: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}

_PIECE_BYTES = 64 << 10
_MAGIC = (
    (b"\x1f\x8b", ".gz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"BZh", ".bz2"),
    (b"\x04\x22\x4d\x18", ".lz4"),
    (b"\xfd7zXZ\0", ".xz"),
    (b"PK\x03\x04", ".zip"),
    (b"7z\xbc\xaf\x27\x1c", ".7z"),
)
_UNREADABLE_SUFFIXES = (".xz", ".lzma", ".zip", ".7z", ".br")


@lru_cache(maxsize=256)
def codec_of(path: str) -> Codec | None:
    """The codec that the path's extension names, None for a plain file. Case does not matter."""
    lower = path.lower()
    return next((codec for suffix, codec in CODEC_OF_SUFFIX.items() if lower.endswith(suffix)), None)


def suffix_of_magic(head: bytes) -> str | None:
    """The extension that a file with these first bytes should have, None if it is not compressed as far as known."""
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), None)


def refuse_unreadable_format(path: str) -> None:
    """Raise KM0202 if the path's extension names a compression that is not read here: its bytes are no text."""
    suffix = next((suffix for suffix in _UNREADABLE_SUFFIXES if path.lower().endswith(suffix)), None)
    if suffix is not None:
        hint = f"decompress it first; compressed as {', '.join(CODEC_OF_SUFFIX)} it can be read as it is"
        raise error(Code.FORMAT, f"{path}: {suffix} files cannot be read", where=path, hint=hint)


class _Reader:
    """The file as pyarrow wants to see it: `read`, `closed`, `close`."""

    closed = False

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self.position = 0

    def read(self, size: int) -> bytes:
        found = self._file.read(self.position, size)
        self.position += len(found)
        return found

    def close(self) -> None:
        self.closed = True


class _Decompressor(Protocol):
    def readinto(self, view: memoryview) -> int: ...


class _GzipMember:
    """One member of a .gz, in the manner of bz2.BZ2Decompressor."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: with gzip's header and checksum

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Members:
    """Decompressed bytes of all members; raises OSError("Truncated ...") at an end inside a member, as pyarrow does.

    `may_be_padded`: zeros between and behind members mean nothing, as gzip has it.
    """

    def __init__(
        self, reader: _Reader, make: type[_GzipMember] | type[bz2.BZ2Decompressor], *, may_be_padded: bool
    ) -> None:
        self._reader, self._make, self._may_be_padded = reader, make, may_be_padded
        self._member = make()
        self._pending = b""
        self._is_inside = self._is_behind_one = False

    def readinto(self, view: memoryview) -> int:
        while True:
            if self._member.eof:
                self._pending, self._member = self._member.unused_data, self._make()
                self._is_inside, self._is_behind_one = False, True
            if not self._pending and self._member.needs_input:
                self._pending = self._reader.read(_PIECE_BYTES)
                if not self._pending:
                    if self._is_inside:
                        raise OSError("Truncated data")
                    return 0
            if self._may_be_padded and self._is_behind_one and not self._is_inside:
                self._pending = self._pending.lstrip(b"\0")
                if not self._pending:
                    continue
            self._is_inside = True
            made = self._member.decompress(self._pending, len(view))
            self._pending = b""
            if made:
                view[: len(made)] = made
                return len(made)


class DecompressedStream:
    """The text of a whole compressed file. Raises KM0205 where it ends too early, KM0202 where it is corrupt."""

    def __init__(self, file: InputFile, codec: Codec) -> None:
        self._stamp = file.stamp
        self._reader = _Reader(file)
        self._made_bytes = 0
        if file.stamp.size_bytes == 0:  # gzip, zstd, bzip2 and lz4 all refuse a file of no bytes, pyarrow does not
            raise self._truncated()
        self._stream: _Decompressor
        if codec == "gzip":
            self._stream = _Members(self._reader, _GzipMember, may_be_padded=True)
        elif codec == "bz2":
            self._stream = _Members(self._reader, bz2.BZ2Decompressor, may_be_padded=False)
        else:
            source = pa.PythonFile(self._reader, mode="r")  # type: ignore[arg-type]  # it takes whatever can read
            self._stream = pa.CompressedInputStream(source, codec)

    @property
    def file_position(self) -> int:
        """Up to which byte the compressed file was read."""
        return self._reader.position

    def read_into(self, view: memoryview) -> int:
        """Fill `view` with decompressed bytes; see ByteStream."""
        try:
            got = int(self._stream.readinto(view)) if len(view) else 0
        except KernelmillError:
            raise
        except (OSError, zlib.error, pa.ArrowException) as exc:
            if "Truncated" in str(exc):
                raise self._truncated() from None
            what = f"{self._stamp.path} is corrupt: {exc}"
            hint = "test it with the tool that made it; a plain file must not have this extension"
            raise error(Code.FORMAT, what, where=self._where(), hint=hint) from None
        self._made_bytes += got
        return got

    def _truncated(self) -> KernelmillError:
        what = f"{self._stamp.path} is truncated: its {self._stamp.size_bytes:,} bytes end inside compressed data"
        hint = "get the file again: a download or a copy of it stopped early"
        return error(Code.TRUNCATED, what, where=self._where(), hint=hint)

    def _where(self) -> str:
        at = min(self._reader.position, self._stamp.size_bytes)
        return f"{self._stamp.path}, byte {at:,} (after {self._made_bytes:,} decompressed)"
