"""Matrix row 17, the slow part: a row for which a function never returns, and one for which it takes all memory."""

import pyarrow.parquet as pq
import pytest

import kernelmill as km

ROWS, BAD = 300, 123


def stuck(line, emit):
    number = line.split()[1]
    while number == "123":
        pass
    emit(line, 1)


def greedy(line, emit):
    number, held = line.split()[1], []
    while number == "123":
        held.append(bytearray(4 << 20))
    emit(line, 1)


@pytest.mark.faults
@pytest.mark.timeout(300)  # what holds up a process is noticed after 30 s, several times
@pytest.mark.parametrize("function", [greedy, stuck])
def test_a_row_that_holds_up_or_overfills_its_process_is_set_aside_and_no_other(tmp_path, strikes, function):
    lines = [f"row {number}" for number in range(ROWS)]
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" for line in lines))
    schema = {"key": "string", "value": "int64"}
    job = km.MapReduce(function, None, schema=schema, compile="never", order=None)
    with km.LocalCluster(workers=2, memory="512MiB"):
        result = job.run(str(tmp_path / "a.txt"), output=str(tmp_path / "out"), on_bad="reject", progress=False)
    strikes.add(function.__name__)
    assert sum(result.rejects.values()) == 1
    (part,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_table(part).column("key").to_pylist() == lines[:BAD] + lines[BAD + 1 :]
    (reject,) = pq.read_table(next((tmp_path / "out" / "_rejects").glob("*.parquet"))).to_pylist()
    assert reject["record"] == lines[BAD].encode() and reject["code"] == "KM0307"
