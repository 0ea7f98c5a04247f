"""Steps that call nothing of a user's: silent for long, as a sort or a median of millions of rows is, and not hung."""

import os

import pyarrow as pa
import pytest
from bench_rig import Rig, slot_sample

import kernelmill as km
from kernelmill.cluster import messages
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotcontext import SlotContext, Whereabouts
from kernelmill.cluster.worker.slotframes import RunTask
from kernelmill.cluster.worker.usersown import users_own
from kernelmill.engine.exec import taskinputs
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.splits import SourceSplit


@pytest.mark.parametrize("phase", ["engine", "write"])
def test_a_step_of_our_own_has_a_patience_of_its_own_and_is_never_told_as_one_that_takes_memory(phase):
    rig = Rig(slot_rss_bytes_max=1200 << 20, hung_s=2.0).with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, phase=phase, steps=9, rss_bytes=100 << 20),)
    rig.wait(1.0)
    rig.samples = (slot_sample(slot, 1, phase=phase, steps=9, rss_bytes=500 << 20),)
    for _ in range(58):
        rig.say(messages.Heard())
        rig.wait(1.0)
        assert not rig.ordered(ev.KillSlot)
    for _ in range(4):
        rig.say(messages.Heard())
        rig.wait(1.0)
        if rig.ordered(ev.KillSlot):
            break
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", rig.samples[0]))
    (failed,) = rig.sent(messages.Failed)
    assert failed.code == "HUNG" and "no sign of life for 60 s" in failed.problem.what


def test_the_page_says_whether_an_attempt_calls_something_of_a_users():
    handle = new_page()
    whereabouts, page = Whereabouts(ProgressPage(handle)), ProgressPage(handle)
    os.close(handle)
    for is_own, phase in ((True, "engine"), (False, "run")):
        whereabouts.begin(AttemptKey(1, 1), is_own=is_own)
        for move in (whereabouts.step, lambda: whereabouts.rows(0, 5), lambda: whereabouts.batch(5, 9)):
            whereabouts.phase("fetch")
            move()
            assert page.read().phase == phase
        before = page.read()
        whereabouts.live_in_run()
        assert page.read() == before._replace(steps=before.steps + 1)


def emit_line(line, emit):
    emit(line, 1)


def add(a, b):
    return a + b


def total(key, values, emit):
    emit(sum(values))


def place(key, n):
    return 0


def same(batch):
    return batch


class Rows:
    schema = pa.schema([("line", pa.string())])

    def splits(self):
        return [0]

    def read(self, split):
        yield pa.record_batch({"line": ["a"]})


def test_a_source_that_is_asked_for_its_first_rows_is_not_taken_for_a_compiler():
    handle = new_page()
    whereabouts, page = Whereabouts(ProgressPage(handle)), ProgressPage(handle)
    os.close(handle)
    phases = []

    class Held:
        label = "Rows"

        def split_name(self, split):
            return "Rows, split 0"

        def read(self, split):
            phases.append(page.read().phase)
            yield pa.record_batch({"line": ["a"]})

    order = RunTask(AttemptKey(1, 1), TaskKey(b"j" * 16, 0, 0, 0), (), False)
    whereabouts.begin(order.attempt)
    assert page.read().phase == "compile"
    context = SlotContext(whereabouts, order, ())
    rows = taskinputs._source_batches(SourceSplit("s", 0, b"0", 0), Held(), Rows.schema, context)
    assert [batch.num_rows for batch in rows] == [1] and phases == ["run"]


def called(frame):
    plan = plan_job(frame._plan, split_bytes=1 << 20)
    return [users_own(pipeline, plan.sources) for pipeline in plan.pipelines]


def test_what_a_stage_calls_of_a_users_is_named_stage_by_stage(tmp_path):
    (tmp_path / "a.txt").write_text("a\nb\n")
    lines = km.scan_text(str(tmp_path / "a.txt"))
    schema = {"key": "string", "value": "int64"}
    job = km.MapReduce(emit_line, total, combine=add, partition=place, schema=schema, compile="never")
    texts = [" ".join(stage) for stage in called(lines.pipe(job).group_by("key").agg(m=km.col("value").median()))]
    assert "map function 'emit_line'" in texts[0] and "partition function 'place'" in texts[0]
    assert "combine function 'add'" in texts[0] and "reduce function 'total'" in texts[1]
    assert texts[-1] == "" and set(map(str, called(lines.group_by("line").agg(n=km.len()).sort("n")))) == {"[]"}
    assert "map_batches function 'same'" in called(lines.map_batches(same, schema={"line": "string"}))[0][0]
    assert "Rows" in called(km.scan_source(Rows()))[0][0]
