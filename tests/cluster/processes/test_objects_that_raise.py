"""Sources and sinks of users that raise whatever they like: told as theirs, and never as a worker's trouble."""

import pyarrow as pa
import pytest
from slots import SlotProcess, pack_here

import kernelmill as km
from kernelmill.cluster.worker.slotframes import JobOpened, JobRefused, TaskFailed
from kernelmill.engine.plan.logical import SinkRows
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.sinks import HeldSink

KINDS = ("DISK_FULL", "CORRUPT_BLOCK", "CANCELLED", "CODE_REFUSED", "INPUT_CHANGED", "SystemExit", "KeyboardInterrupt")


def raising():
    """A source of a split for each kind, which it raises after its row, and a sink that does so for each part."""

    def fail(kind):
        import builtins

        from kernelmill.engine.errors import Code, error

        if kind in Code.__members__:
            raise error(Code[kind], "mine", where="/of/mine")
        raise getattr(builtins, kind)(3)

    class Source:
        schema = pa.schema([("n", pa.int64())])

        def __init__(self, fails):
            self.fails = fails

        def splits(self):
            return list(KINDS)

        def read(self, split):
            yield pa.record_batch({"n": [1]})
            if self.fails:
                fail(split)

    class Sink:
        def begin(self, schema, parts):
            pass

        def write(self, part, batches):
            list(batches)
            fail(KINDS[part])

        commit = abort = begin

    return Source, Sink


def told(job, parts, data, scratch):
    """What the slot says of each task."""
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, scratch), JobOpened)
        return [slot.run(job, 0, index, index) for index in range(len(KINDS))]


@pytest.mark.parametrize("which", ["source", "sink"])
def test_what_a_users_object_raises_is_its_own_failure_whatever_it_is(which, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    source, sink = raising()
    frame = km.scan_source(source(which == "source"))
    given = {}
    if which == "sink":
        given = {"plan": plan_job(SinkRows(frame._plan, "Sink"), split_bytes=1 << 20), "sink": HeldSink(sink())}
    job, parts = pack_here(frame, data, tmp_path / "parts", **given)
    failed = told(job, parts, data, tmp_path)
    method = "read" if which == "source" else "write"
    for kind, one in zip(KINDS, failed, strict=True):
        assert isinstance(one, TaskFailed) and one.code == "USER_ERROR", one
        assert one.problem.code == "FUNCTION_FAILED", one
        assert one.problem.what.startswith(f"{which} {which.title()}: {method} raised "), one
        assert ("mine" if kind.isupper() else kind) in one.problem.what


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
def test_an_object_that_raises_what_ends_processes_when_it_is_opened_is_refused(kind, tmp_path):
    data = tmp_path / "data"
    data.mkdir()

    class Held:
        def __getstate__(self):
            return {"kind": kind}

        def __setstate__(self, state):
            import builtins

            raise getattr(builtins, state["kind"])(3)

    held = Held()

    def uses(batch):
        return batch if held else None

    frame = km.from_arrow(pa.table({"n": [1]})).map_batches(uses, schema={"n": "int64"})
    job, parts = pack_here(frame, data, tmp_path / "parts")
    with SlotProcess() as slot:
        refused = slot.open(job, parts, data, tmp_path)
    assert isinstance(refused, JobRefused) and refused.problem.code == "CODE_REFUSED", refused
    assert kind in refused.problem.what


MET = {
    "MemoryError": ("MEMORY_LIMIT", "takes more memory"),
    "OSError": ("CODE_REFUSED", "disks and limits"),
    "ImportError": ("CODE_REFUSED", "install the modules"),
    "ValueError": ("CODE_REFUSED", "__setstate__"),
}


@pytest.mark.parametrize("kind", MET)
def test_what_an_object_meets_when_it_is_opened_is_told_as_what_it_was(kind, tmp_path):
    data = tmp_path / "data"
    data.mkdir()

    class Held:
        def __getstate__(self):
            return {"kind": kind}

        def __setstate__(self, state):
            import builtins

            raise getattr(builtins, state["kind"])(28, "No space left on device")

    held = Held()

    def uses(batch):
        return batch if held else None

    frame = km.from_arrow(pa.table({"n": [1]})).map_batches(uses, schema={"n": "int64"})
    job, parts = pack_here(frame, data, tmp_path / "parts")
    with SlotProcess() as slot:
        refused = slot.open(job, parts, data, tmp_path)
    code, hint = MET[kind]
    assert isinstance(refused, JobRefused) and refused.problem.code == code, refused
    assert kind in refused.problem.what and "No space left on device" in refused.problem.what
    assert hint in refused.problem.hint and ("install" in refused.problem.hint) == (kind == "ImportError")
