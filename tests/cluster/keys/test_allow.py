"""Allow lists let in exactly whom they name, and nobody if they cannot be trusted."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster.fields import PEER_NAME_PATTERN
from kernelmill.cluster.keys.allow import CLIENTS, WORKERS, Allowed, AllowedPeer, check_name, list_text, parse_list
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.engine.errors import Code, KernelmillError

K1, K2, K3 = ("1" * 40, "#" * 40, "[}" * 20)


def parsed(text, path="list"):
    return parse_list(text if isinstance(text, bytes) else f"{text}\n".encode(), path)


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    put(tmp_path / WORKERS, f"w1 {K1} - 10.0.0.1\n")
    put(tmp_path / CLIENTS, f"ann {K2} admin -\nbob {K3} - -\n")
    return tmp_path


def put(path, text):
    path.write_text(text)
    path.chmod(0o644)


def names(peers):
    return sorted(one.name for one in peers.values())


def test_a_list_is_read_by_columns_and_comments_say_nothing():
    found = parsed(f"# w0 {K3} - -\n\nw1 {K1} - 10.0.0.1\r\n  \nann\t{K2}   admin -")
    assert found == {K1: AllowedPeer("w1", K1, False, "10.0.0.1"), K2: AllowedPeer("ann", K2, True, "")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"w1 {K1}", "line 1: 2 columns"),
        (f"# fine\nw1 {K1} - - -", "line 2: 5 columns"),
        (f"../w1 {K1} - -", "line 1: a name"),
        (f"W1 {K1} - -", "line 1: a name"),
        (f"w1 {K1[1:]} - -", "line 1: the key of w1"),
        (f"w1 {K1}1 - -", "line 1: the key of w1"),
        ("w1 " + "~" * 40 + " - -", "line 1: the key of w1"),
        (f"w1 {K1} Admin -", "line 1: the third column"),
        (f"w1 {K1} - 10.0.0.1/../x", "line 1: a host"),
        (f"w1 {K1} - -\nw1 {K2} - -", "line 2: the name or key of w1"),
        (f"w1 {K1} - -\nw2 {K1} - -", "line 2: the name or key of w2"),
        (f"w1 {K1} - -\n\0", "line 2: 1 columns"),
        (b"w1 \xff\n", "byte 3"),
        (b"", "empty"),
        (f"w1 {K1} - 10.0.0".encode(), "ends within a line"),
    ],
)
def test_a_line_that_is_not_understood_spoils_the_list_and_is_named(text, said):
    with pytest.raises(KernelmillError) as caught:
        parsed(text)
    assert caught.value.code is Code.KEYS and said in caught.value.what


@given(st.binary(max_size=200))
def test_random_bytes_are_a_list_or_an_error(data):
    try:
        found = parse_list(data, "list")
    except KernelmillError as problem:
        assert problem.code is Code.KEYS
    else:
        assert all(key == one.key for key, one in found.items())


@given(st.lists(st.from_regex(PEER_NAME_PATTERN), max_size=4, unique=True), st.booleans())
def test_what_is_written_is_read_back(some, is_admin):
    peers = [AllowedPeer(name, f"{number:040}", is_admin, "h.local") for number, name in enumerate(some)]
    assert list(parse_list(list_text(peers), "list").values()) == peers


@pytest.mark.parametrize(
    "name", ["", "..", ".", "a/b", "a\\b", "-x", "A", "a\n", "a\0", "ä", "a" * 65, " a", "~", "a:b"]
)
def test_names_that_are_paths_or_hide_something_are_refused(name):
    with pytest.raises(KernelmillError) as caught:
        check_name(name)
    assert caught.value.code is Code.BAD_SETTING


# Refreshing ----------------------------------------------------------------------------------------------------------


def test_a_refresh_names_the_keys_that_lost_their_rights(folder):
    allowed = Allowed(folder)
    assert allowed.refresh() == frozenset() and allowed.problem is None
    assert (names(allowed.workers), names(allowed.clients)) == (["w1"], ["ann", "bob"])
    assert allowed.refresh() == frozenset()
    put(folder / CLIENTS, f"ann {K2} - -\n")  # bob is gone, ann is no admin any more
    assert allowed.refresh() == {K2, K3}
    assert names(allowed.clients) == ["ann"] and not allowed.clients[K2].is_admin
    put(folder / CLIENTS, f"ann {K2} - -\nbob {K3} - -\n")
    assert allowed.refresh() == frozenset() and names(allowed.clients) == ["ann", "bob"]


def test_a_change_within_one_tick_of_the_clock_and_of_equal_length_is_seen(folder):
    allowed = Allowed(folder)
    allowed.refresh()
    before = os.stat(folder / WORKERS)
    put(folder / WORKERS, f"w1 {'2' * 40} - 10.0.0.1\n")
    os.utime(folder / WORKERS, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert allowed.refresh() == {K1} and list(allowed.workers) == ["2" * 40]


def spoil_by_removing(folder):
    (folder / CLIENTS).unlink()


def spoil_by_a_bad_line(folder):
    with open(folder / WORKERS, "a") as file:
        file.write("w2 half a li")


def spoil_by_a_link(folder):
    os.rename(folder / CLIENTS, folder / "real")
    os.symlink(folder / "real", folder / CLIENTS)


def spoil_by_rights(folder):
    (folder / WORKERS).chmod(0o666)


def spoil_by_rights_of_the_folder(folder):
    folder.chmod(0o777)


def spoil_by_a_pipe(folder):
    (folder / WORKERS).unlink()
    os.mkfifo(folder / WORKERS, 0o600)


def spoil_by_length(folder):
    put(folder / WORKERS, "#" * (1 << 20) + "\n")


def spoil_by_one_key_in_both_lists(folder):
    put(folder / CLIENTS, f"eve {K1} - -\n")


def spoil_by_one_name_in_both_lists(folder):
    put(folder / CLIENTS, f"w1 {K3} - -\n")


def spoil_by_a_worker_that_is_admin(folder):
    put(folder / WORKERS, f"w1 {K1} admin -\n")


@pytest.mark.parametrize("spoil", [value for name, value in sorted(globals().items()) if name.startswith("spoil_")])
def test_lists_that_cannot_be_trusted_take_nobodys_right_until_they_are_mended(folder, spoil):
    allowed = Allowed(folder)
    allowed.refresh()
    before = dict(allowed.workers), dict(allowed.clients)
    kept = {name: (folder / name).read_text() for name in (WORKERS, CLIENTS)}
    spoil(folder)
    for _ in range(2):
        assert allowed.refresh() == frozenset()
        assert (allowed.workers, allowed.clients) == before
        assert allowed.problem.code is Code.KEYS and allowed.problem.hint
    folder.chmod(0o700)
    for name, text in kept.items():
        (folder / name).unlink(missing_ok=True)
        put(folder / name, text)
    assert allowed.refresh() == frozenset() and allowed.problem is None
    assert (allowed.workers, allowed.clients) == before


def test_who_is_taken_off_while_a_list_cannot_be_read_loses_the_right_when_it_can(folder):
    allowed = Allowed(folder)
    allowed.refresh()
    os.rename(folder / WORKERS, folder / "aside")
    put(folder / CLIENTS, f"ann {K2} admin -\n")
    assert allowed.refresh() == frozenset() and K3 in allowed.clients
    os.rename(folder / "aside", folder / WORKERS)
    assert allowed.refresh() == {K3} and allowed.problem is None and names(allowed.clients) == ["ann"]


def test_lists_that_were_never_read_let_nobody_in(folder):
    (folder / CLIENTS).unlink()
    allowed = Allowed(folder)
    assert allowed.refresh() == frozenset() and allowed.workers == {} == allowed.clients


def test_keys_that_zmq_makes_can_stand_in_a_list():
    for number in range(50):
        pair = make_pair()
        line = AllowedPeer(f"w{number}", pair.public, False, "")
        assert parse_list(list_text([line]), "list") == {pair.public: line}
