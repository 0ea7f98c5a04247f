"""The bytes of a file under its text: rejects and errors show what is in the file, not the UTF-8 made of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from kernelmill.engine.io.bytestream import ByteStream, InputFile
from kernelmill.engine.io.context import ReadContext
from kernelmill.engine.io.decompress import codec_of
from kernelmill.engine.io.encodings import Decoder, single_byte_table
from kernelmill.engine.io.text_stream import undecoded
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileStamp

_PIECE_BYTES = 16 << 10  # small: the piece in which a place lies is decoded some 14 times to find it


class OriginalText:
    """Reads a file in another encoding than UTF-8 again, if asked: from its beginning where only that tells places."""

    def __init__(self, stamp: FileStamp, options: TextOptions) -> None:
        self._stamp, self._encoding = stamp, options.encoding
        self._is_in_place = codec_of(stamp.path) is None and single_byte_table(options) is not None
        self._decoder = None if single_byte_table(options) is not None else Decoder(options.encoding)
        self._file: InputFile | None = None
        self._stream: ByteStream | None = None
        self._at = 0  # as OpenText counts
        self._ahead = b""

    def bytes_of(self, start: int, stop: int, context: ReadContext) -> bytes:
        """The bytes of the text [start, stop), as OpenText counts; later calls must ask for later places."""
        if self._file is None:
            self._file = InputFile(self._stamp)
            self._stream = undecoded(self._file, 0, self._stamp.size_bytes)
        if self._is_in_place:
            return self._file.read(start, stop - start)
        for _ in self._pieces_up_to(start, context):
            pass
        return b"".join(self._pieces_up_to(stop, context))

    def record(self, start: int, stop: int, end: str, context: ReadContext) -> bytes:
        """The bytes of a record without those of `end`, the text it ends with; see `bytes_of`.

        Its own last byte might not tell: a decoder may have to see the next to know that it means nothing.
        """
        raw = self.bytes_of(start, stop, context)
        end_bytes = len((end + end).encode(self._encoding)) - len(end.encode(self._encoding))  # a BOM is in both
        return raw[: len(raw) - end_bytes]

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._file is not None:
            self._file.close()

    def _pieces_up_to(self, place: int, context: ReadContext) -> Iterator[bytes]:
        assert self._stream is not None
        buffer = bytearray(_PIECE_BYTES)
        while self._at < place:
            context.check_cancelled()
            piece = self._ahead or bytes(buffer[: self._stream.read_into(memoryview(buffer))])
            if not piece:
                return
            size, made = self._measure(piece, place - self._at)
            self._at += made
            self._ahead = piece[size:]
            yield piece[:size]

    def _measure(self, piece: bytes, wanted: int) -> tuple[int, int]:
        """How many bytes of `piece` make `wanted` of text, or all if it makes less, and how many they do make."""
        decoder = self._decoder
        if decoder is None:
            return min(len(piece), wanted), min(len(piece), wanted)
        state = decoder.state()

        def made_of(size: int) -> int:
            decoder.restore(state)
            return len(decoder.decode(piece[:size], final=False))

        size = len(piece) if made_of(len(piece)) < wanted else bisect_left(range(len(piece)), wanted, key=made_of)
        return size, made_of(size)
