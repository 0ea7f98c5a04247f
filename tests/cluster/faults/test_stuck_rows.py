"""Matrix row 17, the slow part: a row for which a function never returns, and one for which it takes all memory."""

import known
import pyarrow.parquet as pq
import pytest

import kernelmill as km

ROWS, BAD = 300, 123
HUNG_S = 4.0


def stuck():
    def hold_up(line, emit):
        number = line.split()[1]
        while number == "123":
            pass
        emit(line, 1)

    return hold_up


def greedy():
    def take_all(line, emit):
        number, held = line.split()[1], []
        while number == "123":
            held.append(bytearray(4 << 20))
        emit(line, 1)

    return take_all


@pytest.mark.faults
@pytest.mark.timeout(200)
@pytest.mark.parametrize("function", [greedy, stuck])
def test_a_row_that_holds_up_or_overfills_its_process_is_set_aside_and_no_other(rig, strikes, function):
    lines = [f"row {number}" for number in range(ROWS)]
    source, target = rig.files / "a.txt", rig.files / "out"
    source.write_text("".join(f"{line}\n" for line in lines))
    schema = {"key": "string", "value": "int64"}
    job = km.MapReduce(function(), None, schema=schema, compile="never", order=None)
    rig.start_master()
    for name in ("w1", "w2"):
        rig.start_worker(name, hung_s=HUNG_S)
    with rig.connect():
        result = job.run(str(source), output=str(target), on_bad="reject", progress=False)
    strikes.add(function.__name__)
    assert sum(result.rejects.values()) == 1
    assert known.problems_of_manifest(target) == []
    (part,) = target.glob("*.parquet")
    assert pq.read_table(part).column("key").to_pylist() == lines[:BAD] + lines[BAD + 1 :]
    (reject,) = pq.read_table(next((target / "_rejects").glob("*.parquet"))).to_pylist()
    assert reject["record"] == lines[BAD].encode() and reject["code"] == "KM0307"
