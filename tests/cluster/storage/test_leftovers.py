"""`kernelmill clean` and what clusters leave: removed where the job has ended, or where nobody knows it."""

import contextlib
import json
import os
import time

import pytest
from click.testing import CliRunner

from kernelmill.cluster.cli import cleaning
from kernelmill.cluster.messages import JobRow
from kernelmill.cluster.storage.layout import make_staging, staging_of, trash_of
from kernelmill.cluster.storage.leftovers import staging_in
from kernelmill.engine.cli.console import Console
from kernelmill.engine.errors import Code, KernelmillError, error

LIVE, ENDED, UNKNOWN = (bytes([letter]) * 16 for letter in b"123")


@pytest.fixture
def folder(tmp_path):
    """Three jobs that write `out`, staging of each, older than an hour."""
    for job in (LIVE, ENDED, UNKNOWN):
        make_staging(str(tmp_path / "out"), job)
    (tmp_path / f".out.km-{'x' * 32}").mkdir()  # of no job
    (tmp_path / ".out.km-staging").mkdir()  # of a local run that is dead
    os.symlink(tmp_path, tmp_path / f".link.km-{'a' * 32}")
    for path in (*tmp_path.glob(".out.km-*"), *tmp_path.glob(".out.km-*/attempts")):
        os.utime(path, (time.time() - 7200,) * 2)
    return tmp_path


@pytest.fixture
def clean(monkeypatch):
    """Run the command; the paths that it removed and what it said. `is_admin` may be changed."""

    def jobs_of(link, everybodys=False):
        if everybodys and not run.is_admin:
            raise error(Code.REFUSED, "the jobs of all are for administrators")
        return [JobRow(LIVE, "me", "PAUSED", 1, 0, "", ""), JobRow(ENDED, "me", "FAILED", 1, 0, "", "")]

    def run(*arguments):
        found = CliRunner().invoke(
            cleaning.clean, [*map(str, arguments), "--json"], obj=Console(), catch_exceptions=False
        )
        assert found.exit_code == 0, found.output
        return json.loads(found.stdout), found.stderr

    monkeypatch.setattr(cleaning, "open_link", lambda bundle, address: contextlib.nullcontext())
    monkeypatch.setattr(cleaning, "jobs_of", jobs_of)
    run.is_admin = True
    return run


def names_of(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".out"))


def staging(folder, *jobs):
    return sorted(staging_of(str(folder / "out"), job) for job in jobs)


def test_staging_of_clusters_is_found_by_its_name_in_a_folder_and_beside_an_output(folder):
    (folder / ".out2.km-{}".format("b" * 32)).mkdir()
    (folder / f".file.km-{'c' * 32}").touch()
    assert len(staging_in(str(folder))) == 4
    assert [one.path for one in staging_in(str(folder / "out"))] == staging(folder, LIVE, ENDED, UNKNOWN)
    assert {one.target for one in staging_in(str(folder / "out"))} == {str(folder / "out")}
    assert staging_in(str(folder / "nothing")) == []


def test_without_a_cluster_to_ask_nothing_of_clusters_is_touched(clean, folder):
    removed, said = clean(folder)
    assert removed == [str(folder / ".out.km-staging")]
    assert "3 folders of cluster jobs stay" in said and "--bundle" in said
    assert len(staging_in(str(folder))) == 3


def test_what_ended_jobs_left_is_removed_and_living_jobs_keep_theirs(clean, folder):
    removed, said = clean(folder, "--bundle", "me.bundle")
    assert sorted(removed) == sorted([str(folder / ".out.km-staging"), *staging(folder, ENDED)])
    assert "1 of jobs that live, 1 of jobs that the cluster does not know" in said
    assert [one.job for one in staging_in(str(folder))] == [LIVE, UNKNOWN]


def test_what_no_cluster_knows_is_removed_if_one_says_so_but_never_a_living_jobs(clean, folder):
    removed, _ = clean(folder / "out", "--bundle", "me.bundle", "--forgotten")
    assert set(staging(folder, ENDED, UNKNOWN)) <= set(removed)
    assert [one.job for one in staging_in(str(folder))] == [LIVE]


def test_without_a_cluster_all_that_is_quiet_goes_if_one_says_so(clean, folder):
    os.utime(staging_of(str(folder / "out"), LIVE) + "/attempts")  # an attempt has just begun there
    removed, _ = clean(folder, "--forgotten")
    assert set(staging(folder, ENDED, UNKNOWN)) <= set(removed)
    assert [one.job for one in staging_in(str(folder))] == [LIVE]
    assert (folder / f".link.km-{'a' * 32}").is_symlink() and f".out.km-{'x' * 32}" in names_of(folder)


def test_keys_that_do_not_know_the_jobs_of_all_do_not_decide_what_nobody_knows(clean, folder):
    clean.is_admin = False
    with pytest.raises(KernelmillError) as caught:
        clean(folder, "--bundle", "me.bundle", "--forgotten")
    assert caught.value.code is Code.REFUSED
    assert len(staging_in(str(folder))) == 3
    assert set(clean(folder, "--bundle", "me.bundle")[0]) >= set(staging(folder, ENDED))


def test_an_old_output_that_was_put_aside_is_put_back(clean, tmp_path):
    target = tmp_path / "out"
    make_staging(str(target), ENDED)
    old = tmp_path / staging_of(str(target), ENDED) / "old"
    old.mkdir()
    (old / "part-00000.parquet").write_bytes(b"rows")
    removed, _ = clean(target, "--bundle", "me.bundle")
    assert removed == staging(tmp_path, ENDED)
    assert (target / "part-00000.parquet").read_bytes() == b"rows"


def test_a_staging_that_is_half_deleted_is_deleted(clean, tmp_path):
    make_staging(str(tmp_path / "out"), ENDED)
    staging_path = staging_of(str(tmp_path / "out"), ENDED)
    os.rename(staging_path, trash_of(staging_path))
    assert clean(tmp_path, "--bundle", "me.bundle")[0] == [trash_of(staging_path)]
    assert list(tmp_path.iterdir()) == []
