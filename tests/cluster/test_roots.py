"""Paths of a job stay below the roots that a process was given, whatever parts arrive (S17)."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster.fields import Place
from kernelmill.cluster.roots import Roots, roots_given
from kernelmill.engine.errors import Code, KernelmillError


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roots")
    (folder / "data" / "in" / "deep").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text("secret")
    os.symlink(folder / "outside", folder / "data" / "out-link")
    os.symlink(folder / "data" / "in", folder / "data" / "in-link")
    return folder


@pytest.fixture(scope="module")
def roots(folder):
    return Roots({"data": folder / "data", "in": folder / "data" / "in"})


def test_a_path_has_its_place_in_the_innermost_root(roots, folder):
    assert roots.place_of(str(folder / "data" / "x" / "y.txt")) == Place("data", ("x", "y.txt"))
    assert roots.place_of(str(folder / "data" / "in" / "new")) == Place("in", ("new",))
    assert roots.place_of(str(folder / "data" / "in-link" / "new")) == Place("in", ("new",))
    assert roots.path_of(Place("in", ("deep", "f"))) == str(folder / "data" / "in" / "deep" / "f")


def test_relative_paths_go_by_the_working_folder(roots, folder, monkeypatch):
    monkeypatch.chdir(folder / "data" / "in")
    assert roots.place_of("deep/../f") == Place("in", ("f",))


@pytest.mark.parametrize(
    "path", ["outside/secret", "data/out-link/secret", "data", "data/../outside/x", "da", "dataset/x"]
)
def test_a_path_that_lies_in_no_root_is_refused(roots, folder, path):
    assert code_of(lambda: roots.place_of(str(folder / path))) is Code.BAD_SETTING


def test_a_name_that_is_not_utf8_cannot_travel(roots, folder):
    assert code_of(lambda: roots.place_of(os.fsdecode(os.fsencode(folder / "data") + b"/\xff.txt"))) is Code.BAD_SETTING


@pytest.mark.parametrize(
    "parts",
    [(), ("",), (".",), ("..",), ("in", ".."), ("..", "outside", "secret"), ("/etc/passwd",), ("a/b",), ("a\0",)]
    + [("out-link", "secret"), ("in", "", "x")],
)
def test_places_that_leave_their_root_are_refused(roots, parts):
    assert code_of(lambda: roots.path_of(Place("data", parts))) is Code.PROTOCOL


def test_a_root_that_is_not_here_is_named(roots):
    assert code_of(lambda: roots.path_of(Place("other", ("x",)))) is Code.BAD_SETTING


@given(st.lists(st.sampled_from(["..", ".", "", "in", "out-link", "in-link", "x", "/", "a/..", "deep"]), max_size=6))
def test_no_parts_lead_out(roots, folder, parts):
    try:
        path = roots.path_of(Place("data", tuple(parts)))
    except KernelmillError as refused:
        assert refused.code is Code.PROTOCOL
    else:
        assert os.path.realpath(path).startswith(str(folder.resolve() / "data") + "/")


def test_options_name_roots(folder):
    assert roots_given([f"data={folder}/data", f"s={folder}"]).names == ("data", "s")
    for bad in (["data"], ["=x"], ["data="], [f"Data={folder}"], [f"a={folder}"] * 2, [f"a={folder}/none"]):
        assert code_of(lambda: roots_given(bad)) is Code.BAD_SETTING  # noqa: B023
