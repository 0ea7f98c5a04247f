"""Matrix rows 22 and 27: jobs whose code or spec is not what was signed, and jobs that are submitted twice."""

import time

import known
import pytest
import raw
import rig as rigs
import submissions as subs

from kernelmill.cluster import messages
from kernelmill.cluster.fields import Place
from kernelmill.cluster.keys.signing import EXPIRY_S
from kernelmill.engine.errors import Code, KernelmillError

JOB, OTHER = b"job no. 1 .....!", b"job no. 2 .....!"


def state_of(rig, job):
    return next((row["state"] for row in rig.jobs() if row["job"] == job.hex()), None)


@pytest.fixture
def cluster(rig, small_truth):
    """A cluster of one worker, and the marker that must not appear."""
    rig.bundles = {name: rig.read_bundle("client", name, is_admin=name == "ann") for name in ("ann", "bob")}
    rig.marker = rig.folder / "marker"
    rig.evil = raw.pickle_that_marks(rig.marker)
    rig.start_master()
    return rig


def forgeries(rig, truth):
    """Jobs that nobody with the code key has signed so: name -> job."""
    whole = subs.packed(rig, truth, "out", job=JOB)
    late = whole._replace(expires_s=int(time.time()) - EXPIRY_S)
    elsewhere = Place(whole.sheet.output.root, ("elsewhere",))
    return {
        "unsigned": whole._replace(signature=bytes(32)),
        "signed by another key": subs.signed(rig, subs.with_part(whole, "code", rig.evil), key=b"k" * 32),
        "expired": subs.signed(rig, subs.with_part(late, "code", rig.evil)),
        "expiry moved": subs.with_part(whole, "code", rig.evil)._replace(expires_s=whole.expires_s + 1),
        "replayed as another job": whole._replace(job=OTHER),
        "replayed on another output": subs.sheet_of(whole, output=elsewhere),
        **{f"pickle as {role}": subs.with_part(whole, role, rig.evil) for role in ("code", "plan", "inputs")},
    }


def test_a_job_that_was_not_signed_so_is_refused_in_the_slot_and_nothing_of_it_is_loaded(cluster, small_truth, strikes):
    cluster.start_worker("w1")
    for number, (name, forged) in enumerate(forgeries(cluster, small_truth).items()):
        job = forged.job if name.startswith("replayed as") else bytes([number]) * 16
        if forged.job != job:  # each has an id of its own; what is refused is what the name says
            forged = forged._replace(job=job)
            if name in ("expired", "signed by another key"):
                forged = subs.signed(cluster, forged, key=b"k" * 32 if "another" in name else None)
        target = subs.stage(cluster, forged)
        result = subs.result_of(cluster, forged)
        assert (result.state, result.code) == ("FAILED", "CODE_REFUSED"), name
        assert not target.exists()
        strikes.add(name)
        rigs.until(lambda: known.leftovers_beside(target) == [], "its staging is removed")  # noqa: B023
    assert not cluster.marker.exists()
    honest = subs.signed(
        cluster, subs.with_part(subs.packed(cluster, small_truth, "out", job=JOB), "code", cluster.evil)
    )
    subs.stage(cluster, honest)
    assert subs.result_of(cluster, honest).state == "FAILED"
    assert cluster.marker.exists(), "the marker works: this pickle was signed"
    cluster.run(small_truth, "after")
    small_truth.check(cluster.files / "after")


def test_a_master_that_changes_what_was_signed_gets_nothing_run(cluster, small_truth, strikes):
    """Its worker hears of the code that the master chose, and may fetch it; the signature is of the client's."""
    cluster.kill("master")
    chosen = cluster.folder / "chosen"
    chosen.write_bytes(cluster.evil)
    cluster.start_master(changes="swaps-code", changed_file=chosen)
    cluster.start_worker("w1")
    with pytest.raises(KernelmillError) as caught:
        cluster.run(small_truth)
    assert caught.value.code is Code.CODE_REFUSED
    strikes.from_tokens(cluster.tokens)
    assert not cluster.marker.exists() and not (cluster.files / "out").exists()


@pytest.mark.faults
def test_code_that_is_damaged_where_the_master_keeps_it_never_reaches_a_slot(cluster, small_truth, strikes):
    made = subs.packed(cluster, small_truth, "out", job=JOB)
    target = subs.stage(cluster, made)
    waiting = cluster.submit(lambda: subs.result_of(cluster, made))
    rigs.until(lambda: state_of(cluster, JOB) == "RUNNING", "the job is accepted")
    path = cluster.folder / "state" / "parts" / subs.code_part(made).sha256.hex()
    whole = path.read_bytes()
    path.write_bytes(cluster.evil.ljust(len(whole), b"."))
    strikes.add("code replaced on the master's disk")
    cluster.start_worker("w1")
    result = cluster.done(waiting)
    assert result.state == "FAILED"
    assert result.problem.code == "PART_DAMAGED"
    assert f"part {subs.code_part(made).sha256.hex()} of the job" in result.problem.what
    assert not cluster.marker.exists() and not target.exists()


def heard_of(session, *kinds):
    found = session.hear(*kinds, wait_s=10.0)
    assert found is not None, f"no {kinds}"
    return found


def put_all(session, made):
    """Say the job and send its parts, as they are asked for, until it is accepted."""
    session.say(subs.submit_of(made))
    for _ in range(100):
        match session.hear(messages.Need, messages.Accepted, messages.Refused, wait_s=2.0):
            case messages.Need(sha256=sha256, offset=offset):
                piece = made.contents[sha256][offset : offset + messages.PIECE_BYTES_MAX]
                session.say(messages.PutPart(made.job, sha256, offset, piece))
            case None:
                session.say(subs.submit_of(made))
            case found:
                return found
    raise AssertionError("never accepted")


def test_a_job_that_is_submitted_again_is_the_same_job_and_another_with_its_id_is_refused(
    cluster, small_truth, strikes
):
    made = subs.packed(cluster, small_truth, "out", job=JOB)
    other = subs.signed(cluster, subs.sheet_of(made, output=Place(made.sheet.output.root, ("other",))))
    subs.stage(cluster, made)
    cluster.start_worker("w1")
    cluster.wait_workers("w1")
    with (
        raw.client_session(cluster.address, cluster.bundles["ann"]) as ann,
        raw.client_session(cluster.address, cluster.bundles["bob"]) as bob,
    ):
        assert isinstance(put_all(ann, made), messages.Accepted)
        for _ in range(5):
            ann.say(subs.submit_of(made))
            strikes.add("submitted again")
        assert heard_of(ann, messages.Accepted).job == JOB
        for session in (ann, bob):
            session.say(subs.submit_of(other))
            refused = heard_of(session, messages.Refused)
            assert (refused.job, refused.code) == (JOB, "JOB_EXISTS")
            strikes.add("another job with this id")
        ann.say(messages.Watch(JOB))
        result = heard_of(ann, messages.Result)
        assert result.state == "COMMITTED"
        ann.say(subs.submit_of(made))  # when it is over, as a client that comes back late
        assert heard_of(ann, messages.Result, messages.Accepted, messages.Refused) is not None
        bob.say(messages.Watch(JOB))
        assert heard_of(bob, messages.Refused).code == "NO_JOB"
    small_truth.check(cluster.files / "out")
    assert not (cluster.files / "other").exists()
    found = cluster.history()
    assert found.problems == [] and found.kinds["JobAccepted"] == 1 and found.commits_again == 0
