"""Compressed input by extension: .gz .zst .bz2 .lz4, streamed, several members one after the other.

pyarrow decompresses, with the GIL released; it takes compressed bytes in pieces of 64 KiB through `_Reader`, which
keeps the file to its stamp and knows where in it an error lies. Only bzip2 is Python's own (it releases the GIL too):
pyarrow 26 fails with "wrong sequence of calls to bz2 library" on some files of several members.
"""

from __future__ import annotations

import bz2
from typing import Literal, Protocol

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.bytestream import InputFile

Codec = Literal["gzip", "zstd", "bz2", "lz4"]
CODEC_OF_SUFFIX: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}

_PIECE_BYTES = 64 << 10
_MAGIC = ((b"\x1f\x8b", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"BZh", ".bz2"), (b"\x04\x22\x4d\x18", ".lz4"))


def codec_of(path: str) -> Codec | None:
    """The codec that the path's extension names, None for a plain file. Case does not matter."""
    lower = path.lower()
    return next((codec for suffix, codec in CODEC_OF_SUFFIX.items() if lower.endswith(suffix)), None)


def suffix_of_magic(head: bytes) -> str | None:
    """The extension that a file with these first bytes should have, None if it is not compressed as far as known."""
    return next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), None)


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


class _Bzip2:
    """Decompressed bytes of all members; raises OSError("Truncated ...") at an end inside a member, as pyarrow does."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._member = bz2.BZ2Decompressor()
        self._pending = b""
        self._is_inside = False

    def readinto(self, view: memoryview) -> int:
        while True:
            if self._member.eof:
                self._pending, self._member = self._member.unused_data, bz2.BZ2Decompressor()
                self._is_inside = False
            if not self._pending and self._member.needs_input:
                self._pending = self._reader.read(_PIECE_BYTES)
                if not self._pending:
                    if self._is_inside:
                        raise OSError("Truncated bzip2 data")
                    return 0
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
        if codec == "bz2":
            self._stream = _Bzip2(self._reader)
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
        except (OSError, pa.ArrowException) as exc:
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
