"""Places and inputs of the end-to-end tests: a folder to work in, a folder to spill to, texts and tables made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `outside`

import outside


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Each test works in an empty folder of its own and spills to a private one."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    spills = tmp_path / "spills"
    spills.mkdir()
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(spills))
    yield place
    left = outside.leftovers(place, spills)
    assert left == [], "a test left staging or spill folders"


@pytest.fixture
def spills(tmp_path, workplace):
    return tmp_path / "spills"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="session")
def books(inputs):
    """The King James text 3 times over, 12 MB in one file: many counts, few words."""
    text = b"".join(path.read_bytes() for path in sorted(outside.KJV.glob("*.txt")))
    path = inputs / "books.txt"
    path.write_bytes(text * 3)
    return path


@pytest.fixture(scope="session")
def many_words(inputs):
    """13 MB with some 0.8 million distinct words: a table's worst case."""
    path = inputs / "many-words.txt"
    outside.write_words(path, words=1_500_000, distinct=1_000_000)
    return path


@pytest.fixture(scope="session")
def tables(inputs):
    """Two Parquet files of 8 row groups each: int and string keys with nulls, floats, integers with nulls."""
    for number in range(2):
        outside.write_table(inputs / f"table-{number}.parquet", rows=200_000, seed=number)
    return str(inputs / "table-*.parquet")
