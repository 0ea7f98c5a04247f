"""Text as blocks of bytes in one reused buffer: cut where lines or words end, checked to be UTF-8."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import ReadContext, Reject
from kernelmill.engine.io.cutting import last_record_end, last_token_end, long_piece
from kernelmill.engine.io.decompress import codec_of
from kernelmill.engine.io.original import OriginalText
from kernelmill.engine.io.text_errors import encoding_error, token_too_long_error, too_long_error
from kernelmill.engine.io.text_stream import OpenText, RecordCounter, is_utf8, open_text
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, FileStamp, TextSplit
from kernelmill.kernels.intrinsics import SLACK_BYTES
from kernelmill.kernels.lines import count_characters_before
from kernelmill.kernels.utf8 import find_invalid_utf8, repair_utf8

BLOCK_BYTES = 4 << 20
TOKEN_BYTES_MAX = 16 << 20
"""A longer token is an error: it would be held several times over by buffers and tables that are sized for less."""
RECORD_BYTES_KEPT = 64 << 10
"""How much of a rejected record is kept; its file and offset say where the rest is."""
LINE_COUNT_BYTES_MAX = 1 << 30
"""A reject's line is counted up to this offset, an error's up to 16 times as far."""
_ENDING_BYTES = 1  # a \r before the separator, which is not of the line
_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES_MIN = 64  # room for a BOM and for any separator's carry


class TextBlock(msgspec.Struct, frozen=True):
    """Bytes data[start:stop] of a file, valid until the next block is asked for.

    data u8[n], n >= stop + 64: bytes from `stop` on may be read, mean nothing and must not be written; those before
    may be changed in place. `offset` is where data[start] lies in the file: in its decompressed bytes if it is
    compressed, in the UTF-8 made of it if its encoding has several bytes a character. `offset_counts_characters`:
    the file has one byte a character, so count characters, not bytes, from `start` on.
    """

    data: NDArray[np.uint8]
    start: int
    stop: int
    file: FileStamp
    offset: int
    offset_counts_characters: bool = False

    def offset_of(self, place: int) -> int:
        """Where in the file data[place] lies."""
        if not self.offset_counts_characters:
            return self.offset + place - self.start
        characters = np.empty(1, np.int64)
        return self.offset + int(count_characters_before(self.data, self.start, np.array([place]), 1, characters))


def read_blocks(
    split: TextSplit,
    options: TextOptions,
    context: ReadContext,
    *,
    is_separator: NDArray[np.uint8] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[TextBlock]:
    """Read the lines that begin in the split as blocks of about `block_bytes`; none is empty.

    A block ends behind a line, or with `is_separator` (u8[256], 1: an ASCII byte that separates tokens) behind any
    such byte, so that a huge line streams and only a long token makes the buffer grow. `invalid="skip"` needs whole
    lines and ends blocks at lines (whole_file: at files) always. Files are never mixed in a block.
    Raises KM0201, KM0203 (missing, changed), KM0202, KM0205 (corrupt, truncated), KM0204 (not UTF-8), KM0701, KM0209
    for a token of more than 16 MiB, or a line longer than max_line where blocks end at lines.
    """
    done_bytes = 0
    for part in split.ranges:
        with InputFile(part.file) as file:
            reader = FileReader(file, part, options, context, done_bytes, is_for_tokens=is_separator is not None)
            try:
                cut_words = is_separator if options.invalid != "skip" else None
                line_bytes_max = None if options.whole_file or cut_words is not None else options.max_line_bytes
                bytes_max = TOKEN_BYTES_MAX if cut_words is not None else line_bytes_max
                for block in reader.blocks(block_bytes, cut_words, bytes_max):
                    if is_separator is not None:
                        reader.check_tokens(block, is_separator)
                    if line_bytes_max is not None:
                        reader.check_lines(block, line_bytes_max)
                    yield from reader.checked(block)
                file.check()
            finally:
                reader.close()
        done_bytes += part.stop - part.start
        context.progress(done_bytes)


class FileReader:
    """Reads one range: raw blocks, their check against UTF-8, and the errors and rejects that name places in it."""

    def __init__(
        self,
        file: InputFile,
        part: FileRange,
        options: TextOptions,
        context: ReadContext,
        done_bytes: int,
        *,
        is_for_tokens: bool = False,
    ) -> None:
        self._file, self._part, self._options, self._context = file, part, options, context
        self._done_bytes, self._is_for_tokens = done_bytes, is_for_tokens
        self._line_of = RecordCounter(part.file, options, LINE_COUNT_BYTES_MAX)
        self._original = None if is_utf8(options) else OriginalText(part.file, options)
        self._separator = None if options.whole_file else options.separator

    def close(self) -> None:
        """Close what numbering lines and showing bytes opened."""
        self._line_of.close()
        if self._original is not None:
            self._original.close()

    def blocks(
        self, block_bytes: int, is_separator: NDArray[np.uint8] | None, record_bytes_max: int | None = None
    ) -> Iterator[TextBlock]:
        """The range's bytes in blocks, unchecked. Raises KM0209 if a record does not end within `record_bytes_max`.

        With `is_separator`, the records are tokens.
        """
        opened = open_text(self._file, self._part, self._options, self._context)
        capacity = room = size = max(block_bytes, _BLOCK_BYTES_MIN)
        separator_bytes = len(self._separator or b"")
        buffer = self._context.buffer("text", capacity + SLACK_BYTES)
        offset, start, filled = opened.offset, 0, 0
        is_first = True
        while True:
            filled, ended = self._fill(opened, buffer, filled, capacity)
            if is_first and self._part.start == 0 and buffer[:3] == _BOM and filled >= 3:
                start, offset = 3, offset + 3
            is_first = False
            data = np.frombuffer(buffer, np.uint8)
            cut = filled if ended else self._last_cut(buffer, data, start, filled, is_separator)
            if cut < 0:
                if record_bytes_max is not None and filled - start > record_bytes_max + separator_bytes + _ENDING_BYTES:
                    if is_separator is not None:
                        raise self._token_too_long(offset)
                    raise self._too_long(offset, None, record_bytes_max)
                capacity *= 2
                room = max(room, capacity)
                larger = self._context.buffer("text", room + SLACK_BYTES)
                if larger is not buffer:
                    larger[:filled] = memoryview(buffer)[:filled]
                buffer = larger
                continue
            if cut > start:
                block = TextBlock(data, start, cut, self._part.file, offset, opened.offset_counts_characters)
                offset = block.offset_of(cut)  # before the block is used: its user may change the bytes
                yield block
            if ended:
                return
            carried = filled - cut
            memoryview(buffer)[:carried] = memoryview(buffer)[cut:filled]  # may overlap, a bytearray's own copy may not
            start, filled = 0, carried
            capacity = min(max(size, 2 * carried), room)

    def checked(self, block: TextBlock) -> Iterator[TextBlock]:
        """The block, or what `invalid=` makes of it where it is not UTF-8."""
        invalid = self._options.invalid
        bad = -1 if invalid == "binary" else self.find_invalid(block, block.start)
        if bad < 0:
            yield block
        elif invalid == "replace":
            yield self._repaired(block)
        elif invalid == "skip":
            yield from self._without_bad_lines(block, bad)
        else:
            raise self.encoding_error(block, bad)

    def check_tokens(self, block: TextBlock, is_separator: NDArray[np.uint8]) -> None:
        """Raise KM0209 if a token has more than TOKEN_BYTES_MAX bytes."""

        def last_end(start: int, stop: int) -> int:
            return last_token_end(block.data, start, stop, is_separator)

        if (place := long_piece(block.start, block.stop, last_end, TOKEN_BYTES_MAX + 1)) >= 0:
            raise self._token_too_long(block.offset_of(place))

    def check_lines(self, block: TextBlock, bytes_max: int) -> None:
        """Raise KM0209 if a line has more than `bytes_max` bytes."""
        separator = self._options.separator

        def last_end(start: int, stop: int) -> int:
            end = last_record_end(block.data[start:stop].tobytes(), 0, stop - start, separator)
            return start + end if end >= 0 else -1

        place = long_piece(block.start, block.stop, last_end, bytes_max + len(separator) + _ENDING_BYTES)
        if place >= 0:
            raise self._too_long(block.offset_of(place), None, bytes_max)

    @staticmethod
    def find_invalid(block: TextBlock, start: int) -> int:
        """The first byte from data[start] on that is not UTF-8, -1 if there is none."""
        return int(find_invalid_utf8(block.data, start, block.stop))

    def encoding_error(self, block: TextBlock, bad: int) -> KernelmillError:
        """KM0204 for data[bad]."""
        before = self._original_bytes(block, max(block.start, bad - 64), bad)
        around = before + self._original_bytes(block, bad, min(block.stop, bad + 64))
        offset = block.offset_of(bad)
        path, encoding = self._part.file.path, self._options.encoding
        head = self._file.read(0, 16) if codec_of(path) is None else b""  # of the text, not of what it is packed in
        return encoding_error(path, offset, self.line_for_error(offset), around, len(before), head, encoding)

    def _original_bytes(self, block: TextBlock, start: int, stop: int) -> bytes:
        """The file's bytes whose text is data[start:stop]."""
        if self._original is None:
            return block.data[start:stop].tobytes()
        return self._original.bytes_of(block.offset_of(start), block.offset_of(stop), self._context)

    def reject(self, block: TextBlock, start: int, stop: int, next_start: int) -> None:
        """Set aside the record data[start:stop], which is no text in its encoding; the next is at `next_start`."""
        offset = block.offset_of(start)
        if self._original is None:
            record, reason = block.data[start:stop].tobytes(), "invalid UTF-8"
        else:
            end = block.data[stop:next_start].tobytes().decode()
            record = self._original.record(offset, block.offset_of(next_start), end, self._context)
            reason = f"invalid {self._options.encoding}"
        if len(record) > RECORD_BYTES_KEPT:
            reason += f" (the first {RECORD_BYTES_KEPT:,} bytes of the record are kept)"
        line = self._line_of.number(offset, self._context)
        kept = record[:RECORD_BYTES_KEPT]
        self._context.reject(Reject(self._part.file.path, offset, line, kept, reason, Code.ENCODING.id))

    def too_long(self, block: TextBlock, place: int, length: int, length_max: int) -> KernelmillError:
        """KM0209 for the record of `length` bytes at data[place]."""
        return self._too_long(block.offset_of(place), length, length_max)

    def _too_long(self, offset: int, length: int | None, length_max: int) -> KernelmillError:
        path, line = self._part.file.path, self.line_for_error(offset)
        return too_long_error(path, offset, line, length, length_max, is_for_tokens=self._is_for_tokens)

    def _token_too_long(self, offset: int) -> KernelmillError:
        return token_too_long_error(self._part.file.path, offset, self.line_for_error(offset), TOKEN_BYTES_MAX)

    def line_for_error(self, offset: int) -> int | None:
        """The number of the line at `offset`, if it is not too deep in the file to count."""
        try:
            return self._line_at(offset, None)
        except KernelmillError as problem:
            if problem.code is not Code.FILE_LIMIT:
                raise
        # a function that has opened all files that it may is the error to tell: the one that is read here is open
        return self._line_at(offset, self._file) if self._file.is_open else None

    def _line_at(self, offset: int, opened: InputFile | None) -> int | None:
        counter = RecordCounter(self._part.file, self._options, 16 * LINE_COUNT_BYTES_MAX, opened)
        try:
            return counter.number(offset, self._context)
        finally:
            counter.close()

    def line_for_reject(self, offset: int) -> int | None:
        """The number of the line at `offset`, for offsets that rise from call to call; None deep in a huge file."""
        return self._line_of.number(offset, self._context)

    def _fill(self, opened: OpenText, buffer: bytearray, filled: int, capacity: int) -> tuple[int, bool]:
        """Read until the buffer holds `capacity` bytes or the stream ends: bytes it holds, and whether it ended."""
        self._context.check_cancelled()
        view = memoryview(buffer)
        while filled < capacity:
            got = opened.stream.read_into(view[filled:capacity])
            if got == 0:
                return filled, True
            filled += got
        read = opened.stream.file_position - self._part.start
        self._context.progress(self._done_bytes + max(0, min(read, self._part.stop - self._part.start)))
        return filled, False

    def _last_cut(
        self, buffer: bytearray, data: NDArray[np.uint8], start: int, stop: int, is_separator: NDArray[np.uint8] | None
    ) -> int:
        if is_separator is not None:
            return last_token_end(data, start, stop, is_separator)
        return last_record_end(buffer, start, stop, self._separator) if self._separator is not None else -1

    def _repaired(self, block: TextBlock) -> TextBlock:
        size = block.stop - block.start
        out = np.frombuffer(self._context.buffer("repaired", 3 * size + 2 * SLACK_BYTES), np.uint8)
        replaced = np.zeros(1, np.int64)
        stop = int(repair_utf8(block.data, block.start, block.stop, out, replaced))
        self._context.count("utf8_replaced", int(replaced[0]))
        return TextBlock(out, 0, stop, block.file, block.offset, block.offset_counts_characters)

    def _without_bad_lines(self, block: TextBlock, bad: int) -> Iterator[TextBlock]:
        """The runs of good lines of a block that ends at a line; the buffer is not changed, so offsets stay true."""
        good = block.start
        content = block.data[block.start : block.stop].tobytes()
        while bad >= 0:
            line, end, next_line = self._line_around(content, good - block.start, bad - block.start)
            if line + block.start > good:
                yield self._part_of(block, good, line + block.start)
            self.reject(block, line + block.start, end + block.start, next_line + block.start)
            good = next_line + block.start
            bad = self.find_invalid(block, good)
        if good < block.stop:
            yield self._part_of(block, good, block.stop)

    def _line_around(self, content: bytes, first: int, bad: int) -> tuple[int, int, int]:
        """Where the line that holds content[bad] begins, ends, and the next begins; a line begins at `first`."""
        separator = self._separator
        if separator is None:
            return first, len(content), len(content)
        line = max(first, last_record_end(content, first, bad, separator))
        found = content.find(separator, bad)
        end = found if found >= 0 else len(content)
        return line, end, min(end + len(separator), len(content))

    @staticmethod
    def _part_of(block: TextBlock, start: int, stop: int) -> TextBlock:
        offset = block.offset_of(start)
        return TextBlock(block.data, start, stop, block.file, offset, block.offset_counts_characters)
