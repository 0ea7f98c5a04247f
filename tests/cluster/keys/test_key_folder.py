"""`kernelmill keys`: what it makes, for whom it can be read, and what it refuses."""

import json
import os
import stat
import subprocess
import sys

import pytest
import zmq

from kernelmill.cluster.keys import bundle, curve, folder
from kernelmill.cluster.keys.allow import Allowed
from kernelmill.cluster.keys.bundle import read_bundle, read_code_key, read_master_key
from kernelmill.engine.cli import group as cli
from kernelmill.engine.errors import Code, KernelmillError

SECRETS = ("secret_key", "code_key")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Run `kernelmill keys ...`: (exit code, standard output, standard error)."""

    def call(*arguments):
        capsys.readouterr()
        code = cli.run(["keys", *map(str, arguments)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


@pytest.fixture
def keys(tmp_path):
    folder.init(tmp_path / "keys", "tcp://10.0.0.1:7440")
    return tmp_path / "keys"


def refused(call, *arguments, code=Code.KEYS, **named):
    with pytest.raises(KernelmillError) as caught:
        call(*arguments, **named)
    assert caught.value.code is code and caught.value.hint
    return caught.value


def tree(path):
    """Every path below with its mode and content."""
    return {
        str(one.relative_to(path)): (
            oct(stat.S_IMODE(one.lstat().st_mode)),
            one.read_bytes() if one.is_file() else None,
        )
        for one in sorted(path.rglob("*"))
    }


# What is made --------------------------------------------------------------------------------------------------------


def test_a_cluster_of_keys_from_the_command_line(run, tmp_path):
    assert run("init", "--address", "tcp://master.local:7440")[0] == 0
    assert run("add-worker", "w1", "--host", "10.0.0.7")[:2] == (0, "keys/workers/w1.bundle\n")
    assert run("add-client", "ann", "--admin")[:2] == (0, "keys/clients/ann.bundle\n")
    assert run("-q", "add-client", "bob")[2] == ""
    modes = {name: mode for name, (mode, _) in tree(tmp_path / "keys").items()}
    folders = {"master", "workers", "clients"}
    assert {name for name in modes if modes[name] == "0o700"} == folders
    assert {mode for name, mode in modes.items() if name not in folders} == {"0o600"}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700

    master = read_master_key(tmp_path / "keys/master/master.key")
    code = read_code_key(tmp_path / "keys/code.key").code_key
    worker = read_bundle(tmp_path / "keys/workers/w1.bundle", "worker")
    client = read_bundle(tmp_path / "keys/clients/ann.bundle", "client")
    for one, name in ((worker, "w1"), (client, "ann")):
        assert (one.name, one.address, one.master_key, one.code_key) == (
            name, "tcp://master.local:7440", master.public_key, code,
        )  # fmt: skip
    assert len({master.secret_key, worker.secret_key, client.secret_key}) == 3

    allowed = Allowed(tmp_path / "keys/master")
    allowed.refresh()
    assert allowed.problem is None and set(allowed.workers) == {worker.public_key}
    assert allowed.workers[worker.public_key].host == "10.0.0.7"
    assert {one.name: one.is_admin for one in allowed.clients.values()} == {"ann": True, "bob": False}
    assert allowed.clients[client.public_key].name == "ann"


def test_the_masters_folder_holds_no_code_key_and_nobody_elses_secret(keys):
    folder.add(keys, "worker", "w1")
    secrets = [read_code_key(keys / "code.key").code_key, read_bundle(keys / "workers/w1.bundle", "worker").secret_key]
    for path in (keys / "master").iterdir():
        assert not any(secret in path.read_text() for secret in secrets), path


def test_listing_shows_peers_without_secrets(run, keys):
    folder.add(keys, "worker", "w1")
    folder.add(keys, "client", "ann", is_admin=True)
    (keys / "clients/ann.bundle").rename(keys.parent / "ann.bundle")
    code, out, _ = run("list", "--json")
    assert code == 0
    assert [{**one, "key": len(one["key"])} for one in json.loads(out)] == [
        {"role": "worker", "name": "w1", "admin": False, "host": "", "key": 40, "bundle": True},
        {"role": "client", "name": "ann", "admin": True, "host": "", "key": 40, "bundle": False},
    ]
    text = run("list")[1]
    assert [line.split()[1] for line in text.splitlines()[1:]] == ["w1", "ann"]
    for secret in (
        read_code_key(keys / "code.key").code_key,
        read_bundle(keys / "workers/w1.bundle", "worker").secret_key,
    ):
        assert secret not in text + out


def test_removing_takes_the_right_away_and_the_name_is_free_again(run, keys):
    first = folder.add(keys, "worker", "w1").read_bytes()
    folder.add(keys, "client", "ann")
    allowed = Allowed(keys / "master")
    allowed.refresh()
    (key,) = allowed.workers
    assert run("remove", "w1")[0] == 0
    assert allowed.refresh() == {key} and allowed.workers == {} and len(allowed.clients) == 1
    assert not (keys / "workers/w1.bundle").exists()
    assert folder.add(keys, "worker", "w1").read_bytes() != first
    os.unlink(keys / "workers/w1.bundle")
    assert folder.remove(keys, "w1") == "worker"  # a bundle that was moved away is not needed for it
    code, _, said = run("remove", "w1")
    assert code == 3 and "KM0615" in said and "ann" in said


def test_secrets_are_in_no_text_of_what_holds_them(keys):
    read = [
        read_bundle(folder.add(keys, "worker", "w1"), "worker"),
        read_master_key(keys / "master/master.key"),
        read_code_key(keys / "code.key"),
    ]
    found = {
        value for one in read for name in one.__struct_fields__ if name in SECRETS and (value := getattr(one, name))
    }
    assert len(found) == 3
    texts = [repr(one) for one in (*read, read[0].pair)] + [str(one) for one in (*read, read[0].pair)]
    assert not any(secret in text for secret in found for text in texts)


def test_keys_of_a_pair_belong_together():
    pair = curve.make_pair()
    assert curve.public_of(pair.secret) == pair.public and curve.is_key(pair.public)
    for wrong in ("", "x" * 39, "ä" * 40, "#" * 40):
        with pytest.raises(ValueError):
            curve.public_of(wrong)


@pytest.mark.parametrize(
    ("name", "value"), [("zmq_version_info", (4, 3, 4)), ("pyzmq_version_info", (25, 1, 2)), ("has", False)]
)
def test_a_zmq_that_is_old_or_without_curve_is_refused(keys, monkeypatch, name, value):
    monkeypatch.setattr(zmq, name, lambda *_: value)
    before = tree(keys)
    refused(folder.add, keys, "worker", "w1", code=Code.VERSION)
    assert tree(keys) == before


# What is refused -----------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_never_changed(run, keys):
    before = tree(keys)
    code, _, said = run("init")
    assert code == 3 and "KM0615" in said and tree(keys) == before
    (keys.parent / "file").write_text("x")
    refused(folder.init, keys.parent / "file", bundle.ADDRESS)
    os.symlink(keys.parent / "nowhere", keys.parent / "link")
    refused(folder.init, keys.parent / "link", bundle.ADDRESS)
    (keys.parent / "empty").mkdir()
    folder.init(keys.parent / "empty", bundle.ADDRESS)
    assert folder.peers_of(keys.parent / "empty") == []
    assert sorted(path.name for path in keys.parent.iterdir()) == ["empty", "file", "keys", "link"]


def test_a_failure_in_the_middle_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kernelmill.cluster.keys.files.os.fsync", full)
    assert "No space left" in refused(folder.init, tmp_path / "keys", bundle.ADDRESS).what
    assert list(tmp_path.iterdir()) == []


def test_a_failure_between_bundle_and_list_lets_nobody_in_and_can_be_undone(keys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(folder, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.add(keys, "worker", "w1")
    assert folder.peers_of(keys) == []
    refused(folder.add, keys, "client", "w1")
    assert folder.remove(keys, "w1") == "worker"
    folder.add(keys, "client", "w1")


@pytest.mark.parametrize("name", ["../w1", "/etc/x", "..", "w1/../../x", "W1", "", "a b", "a\n"])
@pytest.mark.parametrize("verb", ["add-worker", "add-client", "remove"])
def test_names_that_are_paths_touch_nothing(run, keys, name, verb):
    before = tree(keys.parent)
    code, out, said = run(verb, "--", name)
    assert code == 3 and out == "" and "KM0107" in said and tree(keys.parent) == before


def test_a_name_is_taken_once_over_both_roles(keys):
    folder.add(keys, "worker", "one")
    before = tree(keys)
    for role in ("worker", "client"):
        refused(folder.add, keys, role, "one")
    assert tree(keys) == before


@pytest.mark.parametrize(
    "address", ["10.0.0.1:7440", "tcp://*:7440", "tcp://h", "tcp://h:0", "tcp://h:65534", "tcp://h:1/x", "ipc://x", ""]
)
def test_an_address_that_cannot_be_is_refused_before_anything_is_made(run, address, tmp_path):
    code, _, said = run("init", "--address", address)
    assert code == 3 and "KM0107" in said and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o777])
@pytest.mark.parametrize("name", ["code.key", "master/master.key", "workers/w1.bundle"])
def test_a_secret_that_others_can_read_is_refused(keys, name, mode):
    folder.add(keys, "worker", "w1")
    read = {
        "code.key": read_code_key,
        "master/master.key": read_master_key,
        "workers/w1.bundle": lambda path: read_bundle(path, "worker"),
    }[name]
    read(keys / name)
    (keys / name).chmod(mode)
    problem = refused(read, keys / name)
    assert f"{mode:o}" in problem.what and "chmod 600" in problem.hint and problem.where == str(keys / name)


def test_links_pipes_folders_and_long_files_are_no_bundles(keys):
    path = folder.add(keys, "worker", "w1")
    os.symlink(path, keys / "link")
    os.mkfifo(keys / "pipe", 0o600)
    (keys / "long").write_bytes(path.read_bytes() + b" " * (1 << 20))
    (keys / "long").chmod(0o600)
    for name in ("link", "pipe", "workers", "long", "missing"):
        refused(read_bundle, keys / name, "worker")


def test_a_bundle_of_the_other_role_is_refused(keys):
    problem = refused(read_bundle, folder.add(keys, "worker", "w1"), "client")
    assert "the bundle of the worker w1" in problem.what and "add-client" in problem.hint


def test_a_damaged_bundle_is_refused_whatever_is_wrong(keys):
    path = folder.add(keys, "worker", "w1")
    whole = json.loads(path.read_bytes())
    changes = [
        {"format": 2}, {"role": "master"}, {"name": "../w1"}, {"address": "tcp://*:1"}, {"public_key": "1" * 40},
        {"secret_key": "#" * 40}, {"secret_key": 1}, {"master_key": "short"}, {"code_key": "AB" * 32},
        {"code_key": ""}, {"more": 1},
    ]  # fmt: skip
    texts = [json.dumps({**whole, **change}) for change in changes]
    texts += [json.dumps({name: value for name, value in whole.items() if name != gone}) for gone in whole]
    texts += ["", "[]", "null", path.read_text()[:-10]]
    for text in texts:
        path.write_text(text)
        refused(read_bundle, path, "worker")
    path.write_text(json.dumps(whole))
    assert read_bundle(path, "worker").name == "w1"


@pytest.mark.parametrize("part", ["", "master", "workers", "clients"])
def test_a_folder_that_others_can_change_or_that_is_a_link_is_refused(keys, part):
    path = keys / part
    path.chmod(0o777)
    assert "others can change" in refused(folder.add, keys, "worker", "w1").what
    path.chmod(0o700)
    real = keys.parent / "real"
    path.rename(real)
    os.symlink(real, path)
    refused(folder.add, keys, "worker", "w1")
    refused(folder.remove, keys, "w1")
    refused(folder.peers_of, keys)
    path.unlink()
    real.rename(path)
    folder.add(keys, "worker", "w1")


@pytest.mark.parametrize("name", ["code.key", "master/master.key", "master/workers.allow", "master/clients.allow"])
def test_without_one_of_its_files_a_folder_takes_nobody(keys, name):
    os.unlink(keys / name)
    before = tree(keys)
    problem = refused(folder.add, keys, "worker", "w1")
    assert problem.where == str(keys / name) and tree(keys) == before


def test_a_link_in_the_place_of_a_bundle_is_not_followed(keys):
    os.symlink(keys.parent / "elsewhere", keys / "workers/w1.bundle")
    refused(folder.add, keys, "worker", "w1")
    assert not (keys.parent / "elsewhere").exists()
    assert folder.remove(keys, "w1") == "worker"


def test_commands_at_the_same_time_lose_no_line(keys):
    script = (
        "import sys; from pathlib import Path; from kernelmill.cluster.keys.folder import add\n"
        "for number in range(8): add(Path(sys.argv[1]), 'worker', sys.argv[2] + str(number))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, str(keys), name]) for name in ("a", "b")]
    assert [child.wait(60) for child in children] == [0, 0]
    assert {one.peer.name for one in folder.peers_of(keys)} == {
        f"{name}{number}" for name in "ab" for number in range(8)
    }


def test_a_wrong_command_names_the_nearest(run):
    code, _, said = run("add-wroker", "x")
    assert code == 2 and "add-worker" in said
    code, _, said = run("list", "--keys", "nowhere")
    assert code == 3 and "kernelmill keys init" in said
