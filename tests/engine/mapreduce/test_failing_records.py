"""Records that fail in compiled code, among many that do not: rows, counters and rejects are those of plain Python."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code
from kernelmill.engine.exec import records, usersteps
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

# Enough for a stage to be full and an arena to be used up in between; record 700 is beyond int64, which Python is not.
LINES = [f"Key{n % 50} {'x' if n % 7 == 3 else n} {'Long Text ' * (n % 40)}" for n in range(12_000)]
LINES[700] = "Key9 " + "9" * 25 + " huge"
TYPES = {"key": "string", "text": "string", "n": "int64"}


def map_line(line, emit):
    key, number, rest = line.split(" ", 2)
    emit.count("lines")
    emit(key.lower(), (rest.upper(), 1))
    if rest.endswith("0 "):
        emit.reject("ends so")
    emit(key, (rest, int(number) % 1000))


@pytest.mark.parametrize("options", [{}, {"reduce": "max", "order": None}, {"reduce": "list"}])
def test_rows_counters_and_rejects_are_those_of_plain_python(tmp_path, options):
    def run(compile_, **given):
        names = {"key": "key", "value": ("text", "n")}
        job = km.MapReduce(map_line, compile=compile_, **names, **options, **given)
        frame = job(km.from_arrow(pa.table({"line": LINES})))
        output = tmp_path / compile_
        result = frame.sink_parquet(output, on_bad="reject", max_rejects=5000, progress=False)
        rejects = sorted((output / "_rejects").glob("*.parquet"))
        return km.read_parquet(f"{output}/*.parquet").to_arrow(), result.counters, km.read_parquet(rejects).to_arrow()

    compiled, plain = run("require"), run("never", schema=TYPES)
    assert compiled[0].equals(plain[0]) and compiled[1] == plain[1]
    assert compiled[2].drop_columns(["reason"]).equals(plain[2].drop_columns(["reason"]))
    assert compiled[1]["lines"] == len(LINES) - compiled[2].num_rows and compiled[2].num_rows > 1500


@pytest.mark.parametrize("threads", [1, 2])
def test_records_of_a_file_that_fail_are_named_by_their_places(tmp_path, threads):
    """The file is read in large blocks, whose lines compiled code reads where they are."""
    lines, counted = LINES * 2, {}
    for line in lines:
        if line.split(" ")[1] != "x":
            counted[line[:5]] = counted.get(line[:5], 0) + 1
    path, offset, places = tmp_path / "t.txt", 0, []
    path.write_text("\n".join(lines))
    for line in lines:
        if line.split(" ")[1] == "x":
            places.append((offset, line.encode()))
        offset += len(line) + 1

    def counts(line, emit):
        n = line.split(" ")[1]
        emit(line[:5], 1 if int(n) >= 0 else 2)

    job = km.MapReduce(counts, "sum", key="key", value="n", compile="require")
    output = tmp_path / "out"
    frame = job(km.scan_text(path))
    options = {"on_bad": "reject", "max_rejects": 10_000, "split_size": "2MiB", "threads": threads}
    frame.sink_parquet(output, progress=False, **options)
    rejects = km.read_parquet(sorted((output / "_rejects").glob("*.parquet"))).to_arrow().to_pylist()
    assert [(one["offset"], one["record"]) for one in rejects] == places
    rows = km.read_parquet(f"{output}/*.parquet").to_arrow().to_pylist()
    assert {row["key"]: row["n"] for row in rows} == counted


def test_rejected_records_do_not_part_the_rows_that_a_table_gets(monkeypatch):
    """39 rejected records among 4,000 would make 40 small batches of rows, each dearer than its rows."""
    batches = []

    def counted(*arguments):
        for batch in records.map_records(*arguments):
            batches.append(batch.num_rows)
            yield batch

    def words(line, emit):
        if line.endswith("00"):
            emit.reject("round")
        emit(line, 1)

    monkeypatch.setattr(usersteps, "map_records", counted)
    lines = km.from_arrow(pa.table({"line": [f"line {n}" for n in range(4000)]}))
    found = km.MapReduce(words, "sum", compile="require")(lines).collect()
    assert (found.height, found.rejects.height, batches) == (3961, 39, [3961])


@pytest.mark.parametrize("every", [2, 40, 200])
def test_where_many_records_fail_those_that_follow_are_called_together(monkeypatch, every):
    """A record that fails costs as much as a hundred others: it ends a batch, and makes one of its own."""
    batches = []

    def counted(*arguments):
        for batch in records.map_records(*arguments):
            batches.append(batch.num_rows)
            yield batch

    def numbers(line, emit):
        try:
            emit(line, int(line))
        except ValueError:
            emit("none", -1)

    texts = [f"n{n}" if n % every == 1 and n < 15_000 else str(n) for n in range(20_000)]
    monkeypatch.setattr(usersteps, "map_records", counted)
    job = km.MapReduce(numbers, key="text", value="n", order=None, compile="require")
    found = job(km.from_arrow(pa.table({"line": texts}))).collect(threads=1).rows()
    assert found == [("none", -1) if text[0] == "n" else (text, int(text)) for text in texts]
    assert len(batches) < 200


class Wordless(Exception):
    """Of a user whose own __str__ and __repr__ are wrong."""

    def __str__(self):
        return f"no {self.missing}"

    __repr__ = __str__


def raises(line, emit):
    raise Wordless


def emits_it(line, emit):
    emit(Wordless(), 1)


@pytest.mark.parametrize("function, code", [(raises, Code.FUNCTION_FAILED), (emits_it, Code.CAST)])
def test_what_cannot_say_itself_is_named_by_its_type(function, code):
    lines = km.from_arrow(pa.table({"line": ["a"]}))
    job = km.MapReduce(function, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    with pytest.raises(km.errors.KernelmillError, match="Wordless") as caught:
        job(lines).collect()
    assert caught.value.code is code
