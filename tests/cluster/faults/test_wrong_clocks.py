"""Matrix row 26: clocks that are an hour off, each another way, and that jump in mid-job. Nothing changes."""

import known

HOUR_S = 3600


def test_clocks_that_are_hours_apart_and_jump_change_nothing(rig, strikes):
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=known.ROWS // 2))
    offsets = {"master": HOUR_S, "w1": -HOUR_S, "w2": HOUR_S}
    files = {name: rig.folder / f"offset-{name}" for name in offsets}
    for name, offset_s in offsets.items():
        files[name].write_text(str(offset_s))
    rig.start_master(changes="wrong-clock", changed_file=files["master"])
    for name in ("w1", "w2"):
        rig.start_worker(name, changes="wrong-clock,slot-wrong-clock", changed_file=files[name])
    future = rig.begin(truth)
    rig.gated(gate)
    for name, offset_s in offsets.items():
        turned = files[name].with_suffix(".new")
        turned.write_text(str(-offset_s))
        turned.replace(files[name])  # nobody reads half of it
        strikes.add("clock jumped two hours")
    open(gate, "w").close()
    rig.done(future)
    assert (rig.tokens / "changed").exists(), "somebody asked for the time"
    truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0 and found.lost == []
