"""The text of one file range as a stream of UTF-8 (or raw) bytes: read, decompressed, decoded."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernelmill.engine.io.bytestream import ByteStream, InputFile, RangeStream
from kernelmill.engine.io.context import ReadContext
from kernelmill.engine.io.cutting import last_record_end, record_start
from kernelmill.engine.io.decompress import DecompressedStream, codec_of
from kernelmill.engine.io.encodings import (
    Decoder,
    codec_name,
    encoded_separator,
    is_splittable,
    needs_whole_file,
    single_byte_table,
)
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, FileStamp
from kernelmill.kernels.intrinsics import SLACK_BYTES
from kernelmill.kernels.utf8 import transcode_bytes

_PIECE_BYTES = 1 << 20  # of raw bytes at a time
_GROWTH_MAX = 3  # a character of a single-byte encoding takes up to 3 bytes in UTF-8


class OpenText(msgspec.Struct, frozen=True):
    """A range's stream; `offset` is where in the file it begins.

    Offsets are bytes of the file; of its decompressed bytes where it is compressed; of the UTF-8 made where the
    encoding has several bytes a character. `offset_counts_characters`: the encoding has one byte a character, so
    that a character of the stream, whatever its length in UTF-8, is one byte of the file.
    """

    stream: ByteStream
    offset: int
    offset_counts_characters: bool


def open_text(file: InputFile, part: FileRange, options: TextOptions, context: ReadContext) -> OpenText:
    """Open the records that begin in the range, whole.

    Raises KM0204 for a part of what cannot be split, KM0107 for a separator or an encoding that is none.
    """
    size = part.file.size_bytes
    start, stop = part.start, part.stop
    separator = encoded_separator(options)
    if (start, stop) != (0, size):
        if not is_splittable(part.file.path, options):
            raise needs_whole_file(part.file.path, options.encoding)
        start = record_start(file, part.start, part.stop, separator, context)
        stop = record_start(file, part.stop, size, separator, context) if start < part.stop else start
    stream = _countable(file, start, stop, options)
    table = None if is_utf8(options) else single_byte_table(options)
    if table is None:
        return OpenText(stream, start, False)
    return OpenText(_TranscodedStream(stream, table, context), start, True)


def is_utf8(options: TextOptions) -> bool:
    """True if the bytes of the files are taken as they are."""
    return options.invalid == "binary" or codec_name(options.encoding) == "utf-8"


def undecoded(file: InputFile, start: int, stop: int) -> ByteStream:
    """The bytes [start, stop) of a file, or all that are packed in it if it is compressed."""
    codec = codec_of(file.stamp.path)
    return DecompressedStream(file, codec) if codec else RangeStream(file, start, stop)


def _countable(file: InputFile, start: int, stop: int, options: TextOptions) -> ByteStream:
    """The stream whose bytes offsets count: decompressed, and decoded if only that makes its bytes countable."""
    stream = undecoded(file, start, stop)
    if is_utf8(options) or single_byte_table(options) is not None:
        return stream
    return _DecodedStream(stream, options.encoding)


class _TranscodedStream:
    """A single-byte encoding as UTF-8, by table."""

    def __init__(self, inner: ByteStream, utf8_of_byte: NDArray[np.uint32], context: ReadContext) -> None:
        self._inner, self._utf8_of_byte = inner, utf8_of_byte
        self._scratch = context.buffer("transcode", _PIECE_BYTES + SLACK_BYTES)
        self._made = bytearray(_GROWTH_MAX * _PIECE_BYTES + SLACK_BYTES)
        self._at = self._stop = 0

    @property
    def file_position(self) -> int:
        """Up to which byte the file was read."""
        return self._inner.file_position

    def read_into(self, view: memoryview) -> int:
        """Fill `view` with UTF-8; see ByteStream."""
        if self._at == self._stop:
            got = self._inner.read_into(memoryview(self._scratch)[:_PIECE_BYTES])
            data, out = np.frombuffer(self._scratch, np.uint8), np.frombuffer(self._made, np.uint8)
            self._at, self._stop = 0, int(transcode_bytes(data, 0, got, self._utf8_of_byte, out, 0))
        size = min(len(view), self._stop - self._at)
        view[:size] = memoryview(self._made)[self._at : self._at + size]
        self._at += size
        return size


class _DecodedStream:
    """A multi-byte encoding as UTF-8, by Python's decoder."""

    def __init__(self, inner: ByteStream, encoding: str) -> None:
        self._inner, self._decoder = inner, Decoder(encoding)
        self._piece = bytearray(_PIECE_BYTES)
        self._made = b""
        self._at = 0
        self._ended = False

    @property
    def file_position(self) -> int:
        """Up to which byte the file was read."""
        return self._inner.file_position

    def read_into(self, view: memoryview) -> int:
        """Fill `view` with UTF-8; see ByteStream."""
        while self._at == len(self._made) and not self._ended:
            got = self._inner.read_into(memoryview(self._piece))
            self._ended = got == 0
            self._made = self._decoder.decode(bytes(self._piece[:got]), final=self._ended)
            self._at = 0
        size = min(len(view), len(self._made) - self._at)
        view[:size] = self._made[self._at : self._at + size]
        self._at += size
        return size


class RecordCounter:
    """Numbers records by counting separators from the file's beginning, for offsets that rise. Reads only if asked.

    Beyond `bytes_max` it answers None: a reject deep in a huge file is not worth reading all before it again.
    `opened`: the file, open already; else it is opened here.
    """

    def __init__(self, stamp: FileStamp, options: TextOptions, bytes_max: int, opened: InputFile | None = None) -> None:
        self._file: InputFile | None = None
        self._opened = opened
        self._stamp, self._options, self._bytes_max = stamp, options, bytes_max
        self._done = self._records = 0
        self._tail = b""

    def number(self, offset: int, context: ReadContext) -> int | None:
        """The number, from 1, of the record in which byte `offset` (as OpenText counts it) lies."""
        if offset > self._bytes_max or self._options.whole_file:
            return None
        if self._file is None:
            self._file = self._opened or InputFile(self._stamp)
            self._stream = _countable(self._file, 0, self._stamp.size_bytes, self._options)
            self._separator = encoded_separator(self._options)
            self._piece = bytearray(_PIECE_BYTES)
        while self._done < offset:
            context.check_cancelled()
            got = self._stream.read_into(memoryview(self._piece)[: offset - self._done])
            if got == 0:
                break
            self._done += got
            self._count(bytearray(self._tail) + self._piece[:got])
        return self._records + 1

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._file is not None and self._file is not self._opened:
            self._file.close()

    def _count(self, data: bytearray) -> None:
        end = max(last_record_end(data, 0, len(data), self._separator), 0)
        self._records += data.count(self._separator, 0, end)
        keep = len(self._separator) - 1
        self._tail = bytes(data[max(end, len(data) - keep) :])
