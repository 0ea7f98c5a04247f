"""Texts that are odd or broken: counted as documented, or refused by a typed error that names the place."""

import gzip
import os
import tempfile
from pathlib import Path

import outside
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import TaskFinished


def count(data, name="text.txt", **options):
    Path(name).write_bytes(data)
    outside.word_count(name, **options).sink_parquet("out", mode="overwrite", progress=False)
    return outside.counts_in("out")


def fails(call):
    """The typed error that `call` raises, once it has been seen that it has a hint and left nothing."""
    with pytest.raises(KernelmillError) as caught:
        call()
    assert caught.value.hint
    assert not Path("out").exists()
    return caught.value


# Odd, and fine -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected", "lines"),
    [
        (b"", {}, []),
        (b"\n\n\n", {}, ["", "", ""]),
        (b"a b\nc a", {"a": 2, "b": 1, "c": 1}, ["a b", "c a"]),
        (b"a b\r\nc a\r\n", {"a": 2, "b": 1, "c": 1}, ["a b", "c a"]),
        (b"a\rb\r\n", {"a": 1, "b": 1}, ["a\rb"]),
        (b"a\0b c\0\n\0 a\n", {"a\0b": 1, "c\0": 1, "\0": 1, "a": 1}, ["a\0b c\0", "\0 a"]),
        (b"\xef\xbb\xbfa b\n", {"a": 1, "b": 1}, ["a b"]),
        (b" \t\x0b\x0c \n", {}, [" \t\x0b\x0c "]),
    ],
    ids=["empty", "only line ends", "no final newline", "CRLF", "CR", "NUL", "BOM", "only white space"],
)
def test_odd_text_is_counted_and_read_line_by_line(data, expected, lines):
    assert count(data) == expected
    assert [line for (line,) in km.scan_text("text.txt").collect(progress=False).rows()] == lines


def test_words_and_their_lines_can_be_collected():
    Path("text.txt").write_bytes(b"a b\n\nc\n")
    words = km.scan_text("text.txt").select("line", word=km.col("line").str.tokenize())
    for frame in (words.explode("word"), words.filter(km.col("word").list.len() > 0).explode("word")):
        collected = frame.collect(progress=False)
        assert collected.rows() == [("a b", "a"), ("a b", "b"), ("c", "c")]
        assert collected.to_arrow().schema == frame.schema.to_arrow()


def test_an_empty_file_among_others_adds_nothing():
    Path("a.txt").write_bytes(b"a\n")
    Path("b.txt").write_bytes(b"")
    Path("c.txt").write_bytes(b"c")
    outside.word_count("*.txt").sink_parquet("out", progress=False)
    assert outside.counts_in("out") == {"a": 1, "c": 1}


@pytest.mark.parametrize("size", [70_000, 5_000_000])
@pytest.mark.parametrize("lowercase", [False, True])
def test_a_huge_word_is_a_word(size, lowercase):
    word = b"Xy" * (size // 2)
    found = count(b"a " + word + b" b\n" + word + b" a", lowercase=lowercase)
    text = word.decode()
    assert found == {"a": 2, (text.lower() if lowercase else text): 2, "b": 1}


def test_a_huge_word_is_shown_shortened():
    Path("text.txt").write_bytes(b"x" * 70_000 + b" \x1b[31mred a a\n")
    done = outside.command("wordcount", "text.txt", "-o", "out", "--top", 3)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) < 100
    assert "\x1b" not in done.stdout


def test_a_word_of_64_mb_is_refused_and_its_place_named():
    path = Path("text.txt")
    with open(path, "wb") as file:
        file.write(b"before ")
        file.truncate(64 << 20)  # NULs are no white space
    problem = fails(lambda: outside.word_count(path).sink_parquet("out", progress=False))
    assert problem.code is Code.RECORD_TOO_LONG
    assert problem.where == "text.txt, byte 7, line 1"


def test_a_line_that_is_made_is_bounded_by_max_line():
    Path("text.txt").write_bytes(b"short\n" + b"word " * 1_000_000)
    frame = km.scan_text("text.txt", max_line="1MiB").filter(km.col("line").str.len_bytes() > 3)
    problem = fails(lambda: frame.sink_parquet("out", progress=False))
    assert problem.code is Code.RECORD_TOO_LONG
    assert problem.where == "text.txt, byte 6, line 2"
    longer = km.scan_text("text.txt", max_line="8MiB").filter(km.col("line").str.len_bytes() > 3)
    assert longer.collect(progress=False).height == 2


# Not UTF-8 -----------------------------------------------------------------------------------------------------------

BAD = b"good line\n" * 1000 + b"bad \xff\xfe line\n" + b"more good\n" + b"cut \xe2\x82"


def test_invalid_error_names_file_byte_and_line():
    problem = fails(lambda: count(BAD))
    assert problem.code is Code.ENCODING
    assert problem.where == "text.txt, byte 10,004, line 1,001"


def test_invalid_error_names_the_place_in_a_later_split_too():
    Path("text.txt").write_bytes(b"good line\n" * 300_000 + BAD)
    frame = outside.word_count("text.txt")
    problem = fails(lambda: frame.sink_parquet("out", progress=False, split_size="1MiB", threads=1))
    assert problem.where == "text.txt, byte 3,010,004, line 301,001"


def test_invalid_replace_puts_the_replacement_character():
    found = count(BAD, invalid="replace")
    assert found == {"good": 1001, "line": 1001, "bad": 1, "\ufffd\ufffd": 1, "more": 1, "cut": 1, "\ufffd": 1}


def test_invalid_skip_sets_the_lines_aside_with_their_origin():
    assert count(BAD, invalid="skip") == {"good": 1001, "line": 1000, "more": 1}
    rejects = pq.read_table("out/_rejects").to_pylist()
    assert [(row["file"], row["offset"], row["line"], row["record"], row["code"]) for row in rejects] == [
        ("text.txt", 10_000, 1001, b"bad \xff\xfe line", "KM0204"),
        ("text.txt", 10_022, 1003, b"cut \xe2\x82", "KM0204"),
    ]


def test_a_file_whose_name_is_not_utf8_is_counted_and_named():
    name = os.fsdecode(b"caf\xe9.txt")
    assert count(b"good\nbad \xff\n", name, invalid="skip") == {"good": 1}
    assert pq.read_table("out/_rejects")["file"].to_pylist() == ["caf\\xe9.txt"]
    assert km.scan_text(name, invalid="skip", include_file_paths="f").select("f").collect().rows() == [
        ("caf\\xe9.txt",)
    ]


def test_head_does_not_read_a_file_that_it_does_not_need():
    Path("a.txt").write_bytes(b"one\n")
    Path("b.txt").write_bytes(b"\xff\n")
    assert km.scan_text(["a.txt", "b.txt"]).head(1).collect(progress=False).rows() == [("one",)]


def test_more_rejects_than_allowed_fail_the_job():
    Path("text.txt").write_bytes(b"bad \xff\n" * 11)
    frame = outside.word_count("text.txt", invalid="skip")
    problem = fails(lambda: frame.sink_parquet("out", progress=False, max_rejects=10))
    assert problem.code is Code.REJECT_LIMIT
    assert frame.sink_parquet("out", progress=False, max_rejects=11).rejects == {"invalid UTF-8": 11}


def test_invalid_binary_counts_bytes():
    assert count(BAD, invalid="binary")[b"\xff\xfe"] == 1


# Compressed ----------------------------------------------------------------------------------------------------------

WORDS = b" ".join(b"%x" % (n * 2654435761 % 2**32) for n in range(200_000))
PACKED = gzip.compress(WORDS, mtime=0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (PACKED[: len(PACKED) // 2], Code.TRUNCATED),
        (PACKED[:-4], Code.TRUNCATED),
        (PACKED[:5], Code.TRUNCATED),
        (b"", Code.TRUNCATED),
        (PACKED[:5000] + bytes(64) + PACKED[5064:], Code.FORMAT),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], Code.FORMAT),
        (b"not packed at all\n", Code.FORMAT),
    ],
    ids=["half", "cut in the checksum", "cut in the header", "nothing", "damaged", "wrong checksum", "plain"],
)
def test_a_damaged_gz_is_a_typed_error_and_no_count(data, code):
    problem = fails(lambda: count(data, "text.txt.gz"))
    assert problem.code is code
    assert "text.txt.gz" in problem.where


def test_a_gz_of_several_members_is_read_whole():
    assert count(PACKED + gzip.compress(b" once more"), "text.txt.gz")["more"] == 1


# Missing, unreadable -------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_nearest_name():
    Path("words.txt").touch()
    problem = fails(lambda: km.scan_text("word.txt"))
    assert problem.code is Code.INPUT_NOT_FOUND
    assert "words.txt" in problem.hint


@pytest.mark.parametrize("source", ["empty", "*.text", "nowhere/*.txt", "nowhere", [], "pipe"])
def test_what_holds_no_text_is_an_error_at_once(source):
    os.mkdir("empty")
    Path("empty/_hidden").touch()
    os.mkfifo("pipe")
    assert fails(lambda: km.scan_text(source)).code is Code.INPUT_NOT_FOUND


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody, and back")
@pytest.mark.parametrize("secret_name", ["secret.txt", "secret"])
def test_what_may_not_be_read_is_a_typed_error(secret_name):
    nobody, found = 65534, os.pipe()
    with tempfile.TemporaryDirectory() as folder:  # below pytest's own folder nobody sees nothing at all
        os.chmod(folder, 0o755)
        secret = source = Path(folder) / secret_name
        if secret.suffix:
            secret.write_bytes(b"a\n")
        else:
            secret.mkdir()
            source = secret / "*.txt"
        secret.chmod(0o600)

        def look_as_nobody():
            os.setgid(nobody)
            os.setuid(nobody)
            os.write(found[1], str(fails(lambda: km.scan_text(source))).encode())

        assert outside.in_child(look_as_nobody) == 0
    text = os.read(found[0], 1000).decode()
    for end in found:
        os.close(end)
    assert text.startswith(f"[KM0201] {secret} cannot be read: permission denied")
    assert "permission" in text.partition("fix: ")[2] or "chmod" in text


def test_an_error_of_a_command_shows_no_traceback_and_no_line_of_ours():
    done = outside.command("wordcount", "nowhere.txt", "-o", "out")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == "InputNotFoundError [KM0201] there is no file nowhere.txt"
    assert ".py:" not in done.stderr


# Changed while it is read --------------------------------------------------------------------------------------------


def append(path):
    with open(path, "ab") as file:
        file.write(b"more\n")


def rewrite(path):
    """The same size, other words: only the time tells."""
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


def replace(path):
    Path("other").write_bytes(b"others\n")
    os.replace("other", path)


def into_a_folder(path):
    path.unlink()
    path.mkdir()


CHANGES = {
    "truncated": (lambda path: os.truncate(path, 1000), {Code.INPUT_CHANGED}),
    "emptied": (lambda path: os.truncate(path, 0), {Code.INPUT_CHANGED}),
    "appended to": (append, {Code.INPUT_CHANGED}),
    "written again": (rewrite, {Code.INPUT_CHANGED}),
    "replaced": (replace, {Code.INPUT_CHANGED}),
    "removed": (Path.unlink, {Code.INPUT_NOT_FOUND, Code.INPUT_CHANGED}),
    "made a folder": (into_a_folder, {Code.INPUT_NOT_FOUND, Code.INPUT_CHANGED}),
}


@pytest.mark.parametrize("how", list(CHANGES))
@pytest.mark.parametrize("name", ["text.txt", "table.parquet"])
def test_an_input_that_changes_during_the_job_fails_it(how, name, many_words):
    change, codes = CHANGES[how]
    path = Path(name)
    if name == "text.txt":
        path.write_bytes(many_words.read_bytes()[: 4 << 20])
        frame, settings = outside.word_count(path), {"split_size": "256KiB"}
    else:
        outside.write_table(path, rows=100_000)
        frame, settings = km.scan_parquet(path).group_by("s").agg(km.col("x").sum()), {"split_size": "64KiB"}
    finished = []

    def meddle(event):
        # With one thread the next task starts only when this returns.
        if isinstance(event, TaskFinished):
            finished.append(event)
            if len(finished) == 2:
                change(path)

    problem = fails(lambda: frame.sink_parquet("out", progress=meddle, threads=1, **settings))
    assert problem.code in codes
    assert name in problem.where
    assert len(finished) == 2
