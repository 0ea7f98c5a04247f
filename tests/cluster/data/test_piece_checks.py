"""A piece is checked in its file as it is in memory, without all of it being in memory."""

import os
import tracemalloc

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster.data.blockindex import Piece
from kernelmill.cluster.openfiles import open_file
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.shuffle.block import encode_piece
from kernelmill.engine.shuffle.piecehead import HEAD_BYTES, head_sum_of

BEFORE = b"what lies before"


def piece_of(rows):
    data = b"".join(bytes(chunk) for chunk in encode_piece([pa.record_batch({"n": pa.array(range(rows), pa.int64())})]))
    return data, Piece(0, len(data), rows, 0, 0, 0, head_sum_of(data))


def check(piece, data, path):
    """Whether the piece is intact, in memory and in a file."""
    path.write_bytes(BEFORE + data)
    handle = open_file(str(path))
    found = []
    for look in (
        lambda: piece.check(memoryview(data), where="memory"),
        lambda: piece.check_at(handle, len(BEFORE), where="file"),
    ):
        try:
            look()
            found.append(True)
        except KernelmillError as problem:
            assert problem.code is Code.CORRUPT_BLOCK
            found.append(False)
    os.close(handle)
    assert found[0] == found[1]
    return found[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_piece_is_intact_in_its_file_where_it_is_in_memory(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("piece") / "data"
    written, piece = piece_of(data.draw(st.sampled_from([1, 7, 1000, 150_000, 300_000])))
    assert check(piece, written, path)
    at = data.draw(st.integers(0, HEAD_BYTES + 8) | st.integers(0, len(written) - 1))
    damaged = bytearray(written)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not check(piece, bytes(damaged), path)
    _, other = piece_of(data.draw(st.sampled_from([2, 999])))
    assert not check(other._replace(length=len(written)), written, path)


def test_a_file_that_ends_before_the_piece_is_an_error(tmp_path):
    written, piece = piece_of(1000)
    (tmp_path / "data").write_bytes(written[:-1])
    handle = open_file(str(tmp_path / "data"))
    with pytest.raises(OSError):
        piece.check_at(handle, 0, where="file")
    os.close(handle)


def test_a_long_piece_takes_little_memory_to_be_checked(tmp_path):
    written, piece = piece_of(4_000_000)
    (tmp_path / "data").write_bytes(written)
    del written
    handle = open_file(str(tmp_path / "data"))
    tracemalloc.start()
    try:
        piece.check_at(handle, 0, where="file")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
        os.close(handle)
