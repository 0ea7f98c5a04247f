"""An error crosses processes and copies whole, whatever built-in class it also is."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from kernelmill.engine.errors import Code, KernelmillError, error


def raise_one(code: Code) -> None:
    raise error(code, "what", where="file, byte 12", hint="do this", reason="why")


@pytest.mark.parametrize("code", Code, ids=str)
def test_an_error_is_copied_with_all_it_says(code):
    one = error(code, "what", where="file, byte 12", hint="do this", reason="why")
    one.where = "another file"
    one.add_note("a note")
    for other in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert (type(other), vars(other)) == (type(one), vars(one))
        assert str(other) == str(one)


def test_an_error_comes_out_of_a_pool_of_processes():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for code in (Code.CAST, Code.DISK_FULL):
            with pytest.raises(KernelmillError) as caught:
                pool.submit(raise_one, code).result(60)
            assert (caught.value.code, caught.value.where) == (code, "file, byte 12")
