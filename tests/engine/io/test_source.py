"""Inputs by path, glob, directory and list: which files, in which order, and what is said when there are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.source import arrow_path, describe, list_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.txt", "_hidden.txt", ".dot.txt", "sub/c.txt", "_part/d.txt", ".git/e.txt", "sub/f.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def names_of(root: Path, source: object, **options: object) -> list[str]:
    return [os.path.relpath(file.path, root) for file in list_files(source, **options)]  # type: ignore[arg-type]


def code_of(source: object, **options: object) -> Code:
    with pytest.raises(KernelmillError) as caught:
        list_files(source, **options)  # type: ignore[arg-type]
    return caught.value.code


def test_a_path_is_one_file_with_its_size_and_time(tree):
    (file,) = list_files(tree / "a.txt")
    status = os.stat(tree / "a.txt")
    assert (file.path, file.size_bytes, file.mtime_ns) == (str(tree / "a.txt"), 5, status.st_mtime_ns)


def test_a_directory_is_searched_to_the_bottom_without_hidden_names(tree):
    assert names_of(tree, tree) == ["a.txt", "b.txt", "sub/c.txt", "sub/f.log"]


def test_a_directory_can_be_narrowed_to_endings(tree):
    assert names_of(tree, tree, suffixes=(".txt",)) == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_glob_skips_hidden_names_and_comes_sorted(tree):
    assert names_of(tree, str(tree / "*.txt")) == ["a.txt", "b.txt"]


def test_a_glob_with_two_stars_goes_down(tree):
    assert names_of(tree, str(tree / "**" / "*.txt")) == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_list_keeps_the_order_of_its_items_and_names_no_file_twice(tree):
    assert names_of(tree, [tree / "b.txt", str(tree / "*.txt")]) == ["b.txt", "a.txt"]


@pytest.mark.parametrize("again", ["a.txt", "./a.txt", "sub/../a.txt", "link.txt", "linked/a.txt", "link?txt"])
def test_a_file_is_read_once_however_it_is_spelled_and_goes_by_its_first_name(tree, again, monkeypatch):
    monkeypatch.chdir(tree)
    Path("link.txt").symlink_to("a.txt")
    Path("linked").symlink_to(".")
    assert [file.path for file in list_files(["a.txt", again, "b.txt"])] == ["a.txt", "b.txt"]


def test_a_file_beside_a_removed_current_directory_is_read(tree, monkeypatch):
    (tree / "gone").mkdir()
    monkeypatch.chdir(tree / "gone")
    (tree / "gone").rmdir()
    path = os.path.join("..", os.path.basename(next(p for p in tree.iterdir() if p.is_file())))
    assert [file.path for file in list_files([path, path])] == [path]


def test_a_hard_link_is_a_file_of_its_own(tree):
    os.link(tree / "a.txt", tree / "same.txt")
    assert names_of(tree, [tree / "a.txt", tree / "same.txt"]) == ["a.txt", "same.txt"]


def test_a_name_that_is_not_utf8_is_spelled_out_for_arrow():
    assert arrow_path(os.fsdecode(b"caf\xe9.txt")) == "caf\\xe9.txt"
    assert arrow_path("café.txt") == "café.txt"


def test_files_sort_by_the_bytes_of_their_paths(tmp_path):
    for name in ("é.txt", "z.txt", "Z.txt", "10.txt", "9.txt"):
        (tmp_path / name).touch()
    assert names_of(tmp_path, tmp_path) == ["10.txt", "9.txt", "Z.txt", "z.txt", "é.txt"]


def test_a_name_with_glob_characters_that_exists_is_that_file(tmp_path):
    (tmp_path / "a[1].txt").touch()
    assert names_of(tmp_path, tmp_path / "a[1].txt") == ["a[1].txt"]


def test_an_output_of_ours_is_read_by_its_manifest(tmp_path):
    for name in ("part-00000.parquet", "part-00001.parquet", "stray.parquet"):
        (tmp_path / name).touch()
    files = [{"name": "part-00000.parquet"}, {"name": "part-00001.parquet"}]
    (tmp_path / "_manifest.json").write_text(json.dumps({"files": files}))
    assert names_of(tmp_path, tmp_path) == ["part-00000.parquet", "part-00001.parquet"]


@pytest.mark.parametrize("text", ["", "[]", '{"files": 3}', '{"files": [{"name": "../../etc/passwd"}]}'])
def test_a_manifest_that_is_none_is_a_format_error(tmp_path, text):
    (tmp_path / "_manifest.json").write_text(text)
    assert code_of(tmp_path) is Code.FORMAT


def test_a_missing_file_suggests_its_neighbour(tree):
    with pytest.raises(FileNotFoundError) as caught:
        list_files(tree / "aa.txt")
    assert isinstance(caught.value, KernelmillError)
    assert caught.value.code is Code.INPUT_NOT_FOUND
    assert str(tree / "a.txt") in caught.value.hint


@pytest.mark.parametrize("name", ["nowhere/x.txt", "nowhere/*.txt", "*.csv", "_part/*.csv"])
def test_what_matches_nothing_is_not_found(tree, name):
    assert code_of(tree / name) is Code.INPUT_NOT_FOUND


def test_a_directory_without_matches_is_not_found(tree):
    (tree / "empty").mkdir()
    assert code_of(tree / "empty") is Code.INPUT_NOT_FOUND
    assert code_of(tree, suffixes=(".parquet",)) is Code.INPUT_NOT_FOUND


def test_a_pipe_is_no_input_but_may_lie_in_a_directory(tree):
    os.mkfifo(tree / "pipe")
    assert code_of(tree / "pipe") is Code.INPUT_NOT_FOUND
    assert "pipe" not in names_of(tree, tree)


@pytest.mark.parametrize("name", ["", "gone.txt"])
def test_a_dangling_link_is_an_error_that_says_so(tree, name):
    (tree / "gone.txt").symlink_to(tree / "nothing")
    with pytest.raises(KernelmillError) as caught:
        list_files(tree / name)
    assert caught.value.code is Code.INPUT_NOT_FOUND
    assert f"link to {tree / 'nothing'}" in caught.value.what
    assert "gone.txt" not in caught.value.hint


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_a_file_that_hides_its_size_is_not_taken_for_an_empty_one():
    assert code_of("/proc/self/status") is Code.INPUT_NOT_FOUND


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tree):
    (tree / "a.txt").chmod(0)
    assert code_of(tree / "a.txt") is Code.INPUT_NOT_FOUND


@pytest.mark.parametrize("source", [3, None, [None], b"", "", "\ud800", ["a", "x\udfff/*.txt"]])
def test_what_is_no_path_is_a_bad_setting(source):
    assert code_of(source) is Code.BAD_SETTING


@pytest.mark.parametrize("source", [[], "s3://bucket/x.txt"])
def test_no_input_and_a_remote_one_are_not_found(source):
    assert code_of(source) is Code.INPUT_NOT_FOUND


def test_a_source_is_described_by_its_first_name():
    assert describe("x/*.txt") == "x/*.txt"
    assert describe(["a", Path("b"), "c"]) == "a and 2 more"


def test_a_glob_that_spells_the_underscore_gets_it(tree):
    assert names_of(tree, str(tree / "_*.txt")) == ["_hidden.txt"]
    assert names_of(tree, str(tree / "_part" / "*.txt")) == ["_part/d.txt"]


def test_a_glob_of_directories_gives_their_files(tree):
    assert names_of(tree, str(tree / "s*")) == ["sub/c.txt", "sub/f.log"]


def test_an_open_file_is_no_source(tmp_path):
    (tmp_path / "a.txt").write_text("b.txt")
    with open(tmp_path / "a.txt") as file:
        for source in (file, [file]):
            with pytest.raises(KernelmillError) as caught:
                list_files(source)
            assert (caught.value.code, "pass the path" in caught.value.hint) == (Code.BAD_SETTING, True)


def test_a_dash_is_not_standard_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KernelmillError) as caught:
        list_files("-")
    assert (caught.value.code, "standard input" in caught.value.hint) == (Code.INPUT_NOT_FOUND, True)
