"""The command line: what it prints where, and with which exit code it ends."""

import collections
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernelmill.engine.cli import group as cli
from kernelmill.engine.cli import house
from kernelmill.engine.cli.console import Console, JobWatch, table_text
from kernelmill.engine.cli.demo import top_text
from kernelmill.engine.errors import Code, error
from kernelmill.engine.events import COMPILE_KERNELS, JobStarted, PhaseEnded, PhaseStarted, SpillWritten

ROOT = Path(__file__).resolve().parents[1]
KJV = ROOT / "data" / "kjv"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Run a command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


def words_of(*paths):
    counts = collections.Counter()
    for path in paths:
        counts.update(re.findall(rb"[A-Za-z0-9_\x80-\xff]+", Path(path).read_bytes().lower()))
    return {word.decode(): count for word, count in counts.items()}


def counts_in(folder):
    table = pq.read_table(folder)
    return dict(zip(table["word"].to_pylist(), table["len"].to_pylist(), strict=True))


# Help and tables -----------------------------------------------------------------------------------------------------


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(re.search(rf"^  {name} ", out, flags=re.M) for name in cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_line_in_the_help_is_the_commands_own(run, name):
    command = cli.commands.get_command(cli.commands.make_context("kernelmill", ["config"]), name)
    assert (command.name, command.short_help) == (name, cli.COMMANDS[name][2])
    assert run(name, "--help")[0] == 0


def test_version_names_kernelmill_and_python(run):
    assert run("--version")[1].startswith("kernelmill 0.1.0 (Python 3.")


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(run):
    code, _, err = run("wordcoun")
    assert code == 2
    assert "'wordcount'" in err


def test_usage_errors_end_with_2(run):
    for arguments in (
        ["wordcount"],
        ["wordcount", "x", "-o", "y", "--tokens", "letters"],
        ["show"],
        ["config", "--what"],
        ["wordcount", KJV, "-o", "y", "--json"],  # for what --top prints
        ["wordcount", KJV, "-o", "y", "--max-rejects", "3"],  # of what --invalid skip sets aside
    ):
        assert run(*arguments)[0] == 2
    code, _, err = run("wordcount", "x", "-o", "y", "--memory", "much")
    assert code == 2
    assert "4GiB" in err


def test_config_names_the_origin_of_each_value(run, monkeypatch):
    monkeypatch.setenv("KERNELMILL_THREADS", "3")
    code, out, err = run("config", "--json")
    assert (code, err) == (0, "")
    assert {"name": "threads", "value": "3", "origin": "KERNELMILL_THREADS"} in json.loads(out)
    assert re.search(r"^threads +3 +KERNELMILL_THREADS$", run("config")[1], flags=re.M)


def test_a_wrong_setting_ends_with_3_before_anything_starts(run, monkeypatch):
    monkeypatch.setenv("KERNELMILL_THREADS", "none")
    code, out, err = run("config")
    assert (code, out) == (3, "")
    assert err.startswith("BadSettingError [KM0107]")


def test_error_explains_one_code_and_lists_all(run):
    assert run("error", "km0204")[1].startswith("KM0204 EncodingError: ")
    assert len(run("error")[1].splitlines()) == len(Code) + 1
    assert [row["code"] for row in json.loads(run("error", "--json")[1])] == [code.id for code in Code]
    assert run("error", "KM9999")[0] == 3


def test_tables_align_numbers_to_the_right():
    assert table_text(["word", "len"], [("a", "1"), ("words", "1,000")], right=[1]) == (
        "word     len\na          1\nwords  1,000"
    )


def test_the_demos_table_shows_six_words_in_two_columns():
    counts = [("the", 63919), ("and", 51696), ("of", 34618), ("to", 13560), ("that", 12915), ("in", 12667), ("x", 1)]
    assert top_text(counts).splitlines() == [
        "word     len        word     len",
        "the   63,919        to    13,560",
        "and   51,696        that  12,915",
        "of    34,618        in    12,667        ... 1 more",
    ]
    assert top_text([]) == ""
    assert top_text([("a", 1)]).splitlines() == ["word  len", "a       1"]


# Errors --------------------------------------------------------------------------------------------------------------


def failing_config(monkeypatch, problem):
    def fail():
        raise problem

    monkeypatch.setattr(house, "listing", fail)


def test_an_expected_error_shows_no_traceback_and_its_causes_if_asked(run, monkeypatch):
    full = error(Code.DISK_FULL, "no space", where="out/", hint="free some")
    full.__cause__ = OSError(28, "No space left")
    failing_config(monkeypatch, full)
    code, _, err = run("config")
    assert code == 3
    assert err == "DiskFullError [KM0402] no space\n  at out/\n  fix: free some\n"
    for words in (["config", "-v"], ["-v", "config"]):
        assert run(*words)[2] == f"caused by OSError: [Errno 28] No space left\n{err}"


def test_any_other_exception_is_a_bug_with_what_to_attach(run, monkeypatch):
    failing_config(monkeypatch, RuntimeError("surprise"))
    code, _, err = run("config")
    assert code == 1
    assert "Traceback" in err
    assert "InternalError [KM0901] RuntimeError: surprise" in err


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("replace it with mode='overwrite'", "replace it with --mode overwrite"),
        ('or mode="overwrite" replaces it, isn\'t it', "or --mode overwrite replaces it, isn't it"),
        ("raise memory= or spill_limit=", "raise --memory or KERNELMILL_SPILL_LIMIT"),
        ("pass a larger max_line=, or the separator= it has", "pass a larger --max-line, or the separator= it has"),
    ],
)
def test_hints_use_the_words_of_the_command(run, monkeypatch, hint, shown):
    def fail(*_, **__):
        raise error(Code.BAD_SETTING, "wrong", hint=hint)

    monkeypatch.setattr(importlib.import_module("kernelmill.engine.cli.wordcount"), "count_words", fail)
    assert run("wordcount", "x", "-o", "y")[2] == f"BadSettingError [KM0107] wrong\n  fix: {shown}\n"


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), error(Code.CANCELLED, "cancelled")])
def test_an_interrupt_ends_with_130(run, monkeypatch, problem):
    failing_config(monkeypatch, problem)
    code, _, err = run("config")
    assert (code, "Traceback" in err) == (130, False)


@pytest.mark.parametrize(
    ("interrupted", "said"), [("JobWatch", "no output was published"), ("_print_top", "the output out is complete")]
)
@pytest.mark.parametrize("mode", ["error", "overwrite"])
def test_an_interrupt_tells_whether_the_output_is_there(run, monkeypatch, mode, interrupted, said):
    def interrupt(*_):
        raise KeyboardInterrupt

    if mode == "overwrite":
        run("wordcount", KJV / "65-jude.txt", "-o", "out", "-q")
    monkeypatch.setattr(importlib.import_module("kernelmill.engine.cli.wordcount"), interrupted, interrupt)
    code, _, err = run("wordcount", KJV / "65-jude.txt", "-o", "out", "--top", 1, "-q", "--mode", mode)
    assert (code, err) == (130, f"interrupted: {said}\n")


def test_a_reader_that_goes_away_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "kernelmill", "error"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_job_that_started_tells_a_failure_from_a_wrong_plan():
    console = Console(quiet=True)
    with JobWatch(console) as watch:
        watch(PhaseStarted(COMPILE_KERNELS, "a.b"))
        watch(PhaseStarted(COMPILE_KERNELS, "a.c"))
        watch(PhaseEnded(COMPILE_KERNELS, 1.25))
        assert not console.job_started
        watch(JobStarted("j", (), 2, 1 << 30))
        watch(SpillWritten(5_000_000))
    assert console.job_started
    assert watch.detail_text() == "2 threads · memory 1.0 GiB · kernels: 2 compiled in 1.2 s (once) · spilled 5.0 MB"


# Jobs ----------------------------------------------------------------------------------------------------------------


def test_wordcount_counts_what_a_counter_counts(run):
    books = [KJV / "65-jude.txt", KJV / "64-3-john.txt"]
    code, out, err = run("wordcount", *books, "-o", "out", "--tokens", "word", "--lower", "--top", 3)
    assert code == 0
    assert counts_in("out") == words_of(*books)
    assert out.splitlines()[0].split() == ["word", "len"]
    assert out.splitlines()[1].split()[0] == "the"
    assert len(out.splitlines()) == 4
    assert err.startswith("wrote ")
    assert "\x1b" not in err


def test_quiet_says_nothing_and_json_is_for_programs(run):
    code, out, err = run("wordcount", KJV / "65-jude.txt", "-o", "out", "--top", 1, "--json", "-q")
    assert (code, err) == (0, "")
    assert [set(row) for row in json.loads(out)] == [{"word", "len"}]


@pytest.mark.parametrize("name", ["jude.parquet", "JUDE.PARQUET"])
def test_a_name_that_ends_in_parquet_is_one_file(run, name):
    assert run("wordcount", KJV / "65-jude.txt", "-o", name, "--compression", "snappy")[0] == 0
    metadata = pq.ParquetFile(name).metadata
    assert metadata.row_group(0).column(0).compression == "SNAPPY"


def test_an_output_that_is_there_is_refused_or_replaced(run):
    book = KJV / "65-jude.txt"
    assert run("wordcount", book, "-o", "out")[0] == 0
    code, _, err = run("wordcount", book, "-o", "out")
    assert code == 3
    assert "KM0501" in err
    assert run("wordcount", book, "-o", "out", "--mode", "overwrite", "--tokens", "word")[0] == 0
    assert "the" in counts_in("out")


def test_a_missing_input_ends_with_3_and_leaves_nothing(run, tmp_path):
    code, out, err = run("wordcount", "nowhere/*.txt", "-o", "out")
    assert (code, out) == (3, "")
    assert "KM0201" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_bad_bytes_fail_the_job_with_1_and_leave_nothing(run, tmp_path):
    Path("bad.txt").write_bytes(b"good line\nbad \xff line\n")
    code, _, err = run("wordcount", "bad.txt", "-o", "out", "--no-progress")
    assert code == 1
    assert "KM0204" in err
    assert "bad.txt" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


def test_skipped_lines_are_rejects_that_show_can_print(run):
    Path("bad.txt").write_bytes(b"good line\nbad \xff line\n")
    code, _, err = run("wordcount", "bad.txt", "-o", "out", "--invalid", "skip")
    assert code == 0
    assert counts_in("out/part-00000.parquet") == {"good": 1, "line": 1}
    assert "out/_rejects" in err
    assert "1 row in 1 file" in run("show", "out/_rejects")[1]


def test_the_encoding_and_the_longest_line_can_be_given(run):
    Path("latin.txt").write_bytes(b"caf\xe9 " * 100 + b"\n")
    arguments = ["wordcount", "latin.txt", "-o", "out", "--mode", "overwrite"]
    assert run(*arguments, "--encoding", "cp1252")[0] == 0
    assert counts_in("out") == {"café": 100}
    code, _, err = run(*arguments, "--invalid", "skip", "--max-line", "300")
    assert (code, "KM0209" in err, "pass a larger --max-line, or another --invalid" in err) == (1, True, True)
    assert "=" not in err.partition("KM0209")[2]  # none of Python's words
    assert run(*arguments, "--invalid", "skip", "--max-line", "501")[0] == 0


def test_show_prints_rows_schema_and_manifest(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "out", "--tokens", "word", "--lower")
    rows = len(words_of(KJV / "65-jude.txt"))
    code, out, _ = run("show", "out", "-n", 2)
    assert code == 0
    assert out.startswith(f"out: {rows} rows in 1 file, ")
    assert "word: string" in out
    assert "len: int64" in out
    described = json.loads(run("show", "out", "-n", 2, "--json")[1])
    assert (described["rows"], len(described["head"]), described["schema"]["len"]) == (rows, 2, "int64")
    assert run("show", "missing")[0] == 3


def test_a_damaged_manifest_is_told_with_what_can_be_done(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "out")
    Path("out/_manifest.json").write_text('{"version": 1, "rows": ')
    shown, checked = run("show", "out"), run("check", "out")
    assert (shown[0], shown[2]) == (checked[0], checked[2])
    assert "name them by a glob" in shown[2]
    assert run("show", "out/*.parquet")[0] == 0


def test_a_manifest_that_is_a_folder_is_told_with_what_can_be_done(run):
    Path("out/_manifest.json").mkdir(parents=True)
    for command in ("show", "check"):
        code, _, err = run(command, "out")
        assert (code, "KM0202" in err, "remove the folder" in err) == (3, True, True)


def test_show_says_so_where_the_manifest_has_other_rows(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "out")
    manifest = json.loads(Path("out/_manifest.json").read_text())
    Path("out/_manifest.json").write_text(json.dumps(manifest | {"rows": 1}))
    code, out, err = run("show", "out")
    assert (code, out.startswith(f"out: {manifest['rows']} rows")) == (0, True)
    assert f"the manifest says 1 row, the files have {manifest['rows']}" in err


def test_show_prints_moments_that_python_has_not(run):
    pq.write_table(pa.table({"t": pa.array([1], pa.timestamp("ns"))}), "t.parquet")
    assert "1970-01-01 00:00:00.000000001" in run("show", "t.parquet")[1]
    assert json.loads(run("show", "t.parquet", "--json")[1])["head"] == [{"t": "1970-01-01 00:00:00.000000001"}]


def test_show_prints_binary_as_text_in_json(run):
    pq.write_table(pa.table({"b": [b"caf\xc3\xa9", b"\xff"]}), "b.parquet")
    assert json.loads(run("show", "b.parquet", "--json")[1])["head"] == [{"b": "café"}, {"b": "\\xff"}]


def test_a_single_file_is_checked_against_its_own_footer(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "jude.parquet")
    assert run("check", "jude.parquet")[2].endswith("as its footer says\n")


def test_check_finds_a_changed_byte(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "out")
    code, _, err = run("check", "out")
    assert code == 0
    assert err.endswith("as its manifest says\n")
    part = Path("out/part-00000.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    code, out, _ = run("check", "out")
    assert code == 1
    assert out.startswith("checksum: part-00000.parquet: ")
    report = json.loads(run("check", "out", "--json")[1])
    assert (report["ok"], report["problems"][0]["kind"]) == (False, "checksum")


def test_clean_reports_what_it_removed(run):
    run("wordcount", KJV / "65-jude.txt", "-o", "out")
    assert run("clean", ".") == (0, "", "removed 0 leftovers\n")
    assert json.loads(run("clean", ".", "--json")[1]) == []
    assert [run("clean", path)[0] for path in ("nowhere", "nowhere/at/all")] == [3, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_in_the_middle_of_a_job_leaves_nothing(tmp_path, signals_reach_children):
    book = b"".join(path.read_bytes() for path in sorted(KJV.glob("*.txt")))
    with open("books.txt", "wb") as file:
        for _ in range(20):
            file.write(book)
    arguments = ["wordcount", "books.txt", "-o", "out", "--threads", "1", "--split-size", "64KiB"]
    # The interrupt comes with the first finished task of a thousand: as Ctrl-C does, in the main thread.
    program = (
        "import sys, _thread\n"
        "from kernelmill.engine.cli import group as cli\n"
        "from kernelmill.engine.cli.console import JobWatch\n"
        "from kernelmill.engine.events import TaskFinished\n"
        "hear = JobWatch.__call__\n"
        "def interrupt(self, event):\n"
        "    hear(self, event)\n"
        "    if isinstance(event, TaskFinished):\n"
        "        _thread.interrupt_main()\n"
        "JobWatch.__call__ = interrupt\n"
        "sys.exit(cli.run(sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted: no output was published\n")
    assert [path.name for path in tmp_path.iterdir()] == ["books.txt"]


def test_the_demo_prints_the_counts_of_the_book(tmp_path):
    done = subprocess.run([sys.executable, "-m", "kernelmill", "demo"], capture_output=True, text=True, check=True)
    assert "66 files, 4.1 MB, 31,102 lines" in done.stderr
    assert "map  791,450 words    reduce  12,544 words" in done.stderr
    assert done.stdout.splitlines() == [
        "word     len        word     len",
        "the   63,919        to    13,560",
        "and   51,696        that  12,915",
        "of    34,618        in    12,667        ... 12,538 more",
    ]
    assert (
        "wrote kernelmill-demo/part-00000.parquet: 12,544 rows, manifest kernelmill-demo/_manifest.json" in done.stderr
    )
    assert counts_in(tmp_path / "kernelmill-demo") == words_of(*KJV.glob("*.txt"))


def test_warm_compiles_all_or_finds_all_in_the_cache(run):
    code, out, _ = run("warm", "--json")
    assert code == 0
    assert json.loads(out)["kernels"] > 0
    assert json.loads(run("warm", "--json")[1])["compiled"] == 0


def test_run_reads_the_text_of_a_job_in_its_encoding_and_says_what_bad_bytes_are(run):
    Path("job.py").write_text(
        "import kernelmill as km\n\n"
        "job = km.MapReduce(lambda line, emit: emit(line, 1), 'sum', schema={'key': 'string', 'value': 'int64'},\n"
        "                   compile='never')\n"
        "frame = km.scan_text('latin.txt')\n"
    )
    Path("latin.txt").write_bytes(b"caf\xe9\nplain\n")
    arguments = ["run", "job.py:job", "latin.txt", "-o", "out", "--mode", "overwrite", "--no-progress"]
    code, _, err = run(*arguments)
    assert (code, "KM0204" in err) == (1, True)
    assert "--invalid" in err
    assert "=" not in err.partition("KM0204")[2]  # none of Python's words
    assert run(*arguments, "--encoding", "cp1252")[0] == 0
    assert pq.read_table("out")["key"].to_pylist() == ["café", "plain"]
    assert run(*arguments, "--invalid", "skip")[0] == 0
    assert pq.read_table("out/part-00000.parquet")["key"].to_pylist() == ["plain"]
    assert run("run", "job.py:frame", "-o", "out2", "--encoding", "cp1252")[0] == 2
