import os

import pytest

from kernelmill.engine import machine, settings
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.settings import SETTING_NAMES, Settings, configure, listing, resolve


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test starts in an empty folder, with nothing configured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(settings, "_session", {})
    return tmp_path


def code_of(call, **given):
    with pytest.raises(KernelmillError) as caught:
        call(**given)
    return caught.value.code


def origin_of(name, **given):
    return next(row.origin for row in listing(**given) if row.name == name)


def test_defaults_come_from_the_machine():
    found = resolve()
    assert 1 <= found.threads == machine.usable_cores()
    assert found.memory_bytes == machine.usable_memory_bytes() // 2
    assert os.path.isdir(found.spill_dir)
    assert found.spill_limit_bytes > 0
    assert (found.split_bytes, found.partitions, found.on_bad, found.max_rejects) == (64 << 20, None, "error", 1000)
    assert found.progress_delay_s == 1.0


def test_each_place_wins_over_those_below_it(tmp_path, monkeypatch):
    (tmp_path / "config" / "kernelmill").mkdir(parents=True)
    (tmp_path / "config" / "kernelmill" / "config.toml").write_text("threads = 1\n")
    assert (resolve().threads, origin_of("threads")) == (1, str(tmp_path / "config" / "kernelmill" / "config.toml"))
    (tmp_path / "pyproject.toml").write_text("[tool.kernelmill]\nthreads = 2\n")
    assert (resolve().threads, origin_of("threads")) == (2, "pyproject.toml [tool.kernelmill]")
    (tmp_path / "kernelmill.toml").write_text("threads = 3\n")
    assert (resolve().threads, origin_of("threads")) == (3, "kernelmill.toml")
    monkeypatch.setenv("KERNELMILL_THREADS", "4")
    assert (resolve().threads, origin_of("threads")) == (4, "KERNELMILL_THREADS")
    configure(threads=5)
    assert (resolve().threads, origin_of("threads")) == (5, "configure()")
    assert (resolve(threads=6).threads, origin_of("threads", threads=6)) == (6, "argument")
    assert resolve(threads=None).threads == 5
    configure(threads=None)
    assert resolve().threads == 4


@pytest.mark.parametrize(
    "text",
    [
        "[tool.kernelmill]\nthreads = 2\n",
        "[project]\nname = 'a'\r\n\t[ 'tool' . \"kernelmill\" ] # comment\r\nthreads = 2\n",
        "[tool]\nkernelmill.threads = 2\n",
        "[tool]\nruff = {}\nkernelmill = {threads = 2}\n",
        ' [ "tool" ]\n"kernelmill" . threads = 2\n',
        "tool.kernelmill.threads = 2\n",
        "'tool' = {kernelmill = {threads = 2}}\n",
        '"t\\u006fol"."kernel\\u006dill".threads = 2\n',
    ],
)
def test_a_table_of_a_projects_file_is_found_however_it_is_written(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert resolve().threads == 2


@pytest.mark.parametrize(
    "text", ["", "[project]\nname = 'kernelmill'\n", "[tool.other]\nkernelmill = 5\n", "[project\n"]
)
def test_a_projects_file_without_such_a_table_says_nothing(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert {row.origin for row in listing()} <= {"default", "KERNELMILL_CACHE_DIR"}


def test_the_listing_has_every_setting_once(monkeypatch):
    monkeypatch.delenv("KERNELMILL_CACHE_DIR", raising=False)  # the one setting that a test run may be given
    assert tuple(row.name for row in listing()) == SETTING_NAMES
    assert {row.origin for row in listing()} == {"default"}
    assert len(SETTING_NAMES) == len(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"memory": "4GiB"}, "memory_bytes", 4 << 30),
        ({"memory": 256_000_000}, "memory_bytes", 256_000_000),
        ({"split_size": "1MB"}, "split_bytes", 1_000_000),
        ({"progress": False}, "progress", "off"),
        ({"progress": True}, "progress", "on"),
        ({"progress": "AUTO"}, "progress", "auto"),
        ({"partitions": "12"}, "partitions", 12),
        ({"progress_delay": "0.25"}, "progress_delay_s", 0.25),
        ({"max_rejects": "10_000"}, "max_rejects", 10_000),
    ],
)
def test_values_are_read_as_people_write_them(given, field, expected):
    assert getattr(resolve(**given), field) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"threads": 0},
        {"threads": "many"},
        {"threads": True},
        {"threads": 2.0},
        {"memory": "1KB"},
        {"memory": "lots"},
        {"on_bad": "ignore"},
        {"progress": "maybe"},
        {"progress_delay": -1},
        {"spill_dir": ""},
        {"partitions": 0},
        {"split_size": 0},
        {"thread": 2},
        {"memory_bytes": 2},
    ],
)
def test_wrong_values_and_unknown_names_are_bad_settings(given):
    assert code_of(resolve, **given) is Code.BAD_SETTING
    assert code_of(configure, **given) is Code.BAD_SETTING


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(KernelmillError) as caught:
        resolve(treads=2)
    assert "'threads'" in caught.value.hint


def test_a_bad_value_names_the_place_that_gave_it(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELMILL_MEMORY", "much")
    with pytest.raises(KernelmillError) as caught:
        resolve()
    assert caught.value.where == "KERNELMILL_MEMORY"
    monkeypatch.delenv("KERNELMILL_MEMORY")
    (tmp_path / "kernelmill.toml").write_text("max_reject = 3\n")
    with pytest.raises(KernelmillError) as caught:
        resolve()
    assert (caught.value.code, caught.value.where) == (Code.BAD_SETTING, "kernelmill.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kernelmill.toml", "threads = \n"),
        ("pyproject.toml", "tool = 5\n"),
        ("pyproject.toml", "[tool]\nkernelmill = 5\n"),
    ],
)
def test_a_file_that_is_no_toml_or_no_table_is_a_bad_setting(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(KernelmillError) as caught:
        resolve()
    assert caught.value.code is Code.BAD_SETTING
    assert name == "kernelmill.toml" or "[tool.kernelmill]" in caught.value.hint


def test_a_failed_configure_changes_nothing():
    configure(threads=2)
    assert code_of(configure, threads=3, memory="x") is Code.BAD_SETTING
    assert code_of(configure, threads=3, unknown=1) is Code.BAD_SETTING
    assert resolve().threads == 2


def test_an_unknown_variable_of_ours_is_an_error_and_the_log_level_is_not(monkeypatch):
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", "somewhere")
    resolve()
    monkeypatch.setenv("KERNELMILL_THREDS", "2")
    assert code_of(resolve) is Code.BAD_SETTING


def test_the_spill_limit_follows_the_spill_folder(tmp_path):
    found = resolve(spill_dir=str(tmp_path / "not" / "yet"))
    assert found.spill_dir == str(tmp_path / "not" / "yet")
    assert found.spill_limit_bytes > 0


def fake_groups(tmp_path, monkeypatch, own, files):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "fs")


def test_a_control_group_of_version_2_and_its_parents_bind(tmp_path, monkeypatch):
    files = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "50000 100000\n",
        "a/b/memory.max": "1000000\n",
        "a/memory.max": "max\n",
    }
    fake_groups(tmp_path, monkeypatch, "0::/a/b\n", files)
    assert machine.usable_cores() == 1
    assert machine.usable_memory_bytes() == 1_000_000


def test_a_control_group_of_version_1_binds(tmp_path, monkeypatch):
    files = {
        "memory/x/memory.limit_in_bytes": "2000000\n",
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
    }
    fake_groups(tmp_path, monkeypatch, "3:cpu:/y\n2:memory:/x\n", files)
    assert machine.usable_memory_bytes() == 2_000_000
    assert machine.usable_cores() >= 1


def test_a_machine_without_control_groups_has_its_own_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_OWN_CGROUP", tmp_path / "missing")
    assert machine.usable_cores() >= 1
    assert machine.usable_memory_bytes() > 1 << 28
