"""The master as a process, with clients and workers that a test speaks for: jobs in, work out, restarts, rights."""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import get_args

import msgspec
import pytest
from masters import PLAN, MasterProcess, sheet, submission, submit, until
from raw import client_session, golden, hello, mutations, worker_session

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import AttemptKey, BlocksOutput, TaskRecord, Versions
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys import signing

JOB = bytes(range(16))
TICKET_KEY = b"t" * 32


@pytest.fixture
def master(signals_reach_children):
    found = MasterProcess()
    yield found
    found.close()


@pytest.fixture
def running(master):
    master.start()
    return master


def registered(master, bundle, **more):
    """A worker's session that the master has welcomed."""
    worker = master.worker(bundle)
    worker.say(hello(ticket_key=TICKET_KEY, **more))
    welcome = worker.hear(m.Welcome, m.Refused, wait_s=15)
    assert isinstance(welcome, m.Welcome), welcome
    return worker, welcome


def done_of(assign):
    """What a map with one row says when it is done."""
    record = TaskRecord((), (), BlocksOutput(10, struct.pack("<4Q", 10, 1, 5, 3)), ())
    return m.Done(assign.attempt, assign.gen, assign.seal, record, (), 1, 10, 1)


def beat(*assigned, waiting=()):
    run = [m.Progress(one.attempt.job, one.attempt.attempt, "run", 0, 0, 0) for one in assigned]
    run += [m.Progress(one.attempt.job, one.attempt.attempt, "waiting", 0, 0, 0) for one in waiting]
    return m.Beat(tuple(run), (JOB,), 0, 1 << 40)


def run_maps(worker):
    """Take both maps, do them, and return their assignments and that of the reduce."""
    maps = []
    while len(maps) < 2:
        found = worker.hear(m.Assign)
        if found.attempt in {one.attempt for one in maps}:
            continue  # said again, for no BEAT had shown it
        worker.say(m.Accept(found.attempt))
        worker.say(done_of(found))
        assert worker.hear(m.CommitAck).attempt == found.attempt
        maps.append(found)
    reduce = worker.hear(m.Assign)
    worker.say(m.Accept(reduce.attempt))
    return maps, reduce


def test_a_master_whose_address_is_taken_says_so_and_not_that_it_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        keys_folder.init(tmp_path / "keys", f"tcp://127.0.0.1:{other.getsockname()[1]}")
        told = ["--state", str(tmp_path / "state"), "--keys", str(tmp_path / "keys")]
        command = [sys.executable, "-m", "kernelmill", "master", *told]
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0 and "KM0107" in ended.stderr and "listens" not in ended.stderr


def test_a_job_comes_in_by_parts_and_goes_out_as_work(running):
    ada = running.add("client", "ada")
    bundle = running.add("worker", "w1")
    with running.client(ada) as client:
        until(lambda: client.say(m.ListWorkers()) or client.hear(m.Workers, wait_s=0.5))
        worker, welcome = registered(running, bundle, slots=1)
        with worker:
            assert (welcome.keep, welcome.hold, welcome.resend) == ((), (), ())
            assert submit(client, submission(JOB)) == m.Accepted(JOB, "RUNNING")
            spec = worker.hear(m.Spec)
            assert (spec.job, spec.sheet, spec.signature) == (JOB, sheet(), b"S" * 32)
            maps, reduce = run_maps(worker)
            assert {one.attempt.index for one in maps} == {0, 1} and len({one.seal for one in maps}) == 2
            assert (reduce.attempt.stage, reduce.inputs) == (1, (m.InputVersion(0, 1),))
            (ticket,) = reduce.tickets
            assert signing.is_ticket(ticket.ticket, TICKET_KEY, JOB, 0, 0, 0, 0, "w1") and ticket.holder == "w1"
            status = until(lambda: seen(client, JOB, lambda one: one.stages[0].committed == 2))
            assert [stage.running for stage in status.stages] == [0, 1] and status.stages[0].rows == 2
            client.say(m.CancelJob(JOB))
            assert worker.hear(m.CancelAttempt).attempt == reduce.attempt
            worker.say(m.Failed(reduce.attempt, "CANCELLED", "", None, None, ()))
            result = client.hear(m.Result)
            assert (result.state, result.problem.code) == ("CANCELLED", "CANCELLED")
            client.say(m.Forget(JOB))
            assert client.hear(m.Granted) == m.Granted(JOB)
            client.say(m.ListJobs(False, 0))
            assert client.hear(m.Jobs).jobs == ()


def seen(client, job, is_so):
    client.say(m.Watch(job))
    found = client.hear(m.Status)
    return found if found is not None and is_so(found) else None


def test_a_master_that_was_killed_goes_on_and_runs_nothing_again_that_is_held(running):
    ada, bundle = running.add("client", "ada"), running.add("worker", "w1")
    with running.client(ada) as client:
        worker, _ = registered(running, bundle, slots=1)
        assert isinstance(submit(client, submission(JOB)), m.Accepted)
        maps, reduce = run_maps(worker)
        worker.peer.close()
    running.kill()
    began_s = time.monotonic()
    running.start()
    held = tuple(m.HeldAttempt(one.attempt, one.gen, one.seal) for one in maps)
    kept = m.HeldAttempt(reduce.attempt, reduce.gen, reduce.seal)
    forged = m.HeldAttempt(maps[0].attempt, 0, b"no such seal 123")
    worker, welcome = registered(running, bundle, done=(*held, forged), running=(kept,), epoch_seen=1, count=9)
    with worker:
        assert worker.envelope[2] == 2  # the epoch
        assert set(welcome.hold) == {one.attempt for one in maps} and welcome.keep == (reduce.attempt,)
        inputs = worker.hear(m.Inputs)
        assert {each.attempt for each in inputs.held} == {one.attempt.attempt for one in maps}
        assert time.monotonic() - began_s < 5
        worker.say(beat(reduce))
        assert isinstance(worker.hear(m.Heard), m.Heard)
        worker.say(m.Failed(reduce.attempt, "USER_ERROR", "ValueError", None, 0, ()))
        assert worker.hear(m.Discard).attempt == reduce.attempt
        again = worker.hear(m.Assign, wait_s=10)
        assert (again.attempt.stage, again.attempt.attempt.epoch) == (1, 2)
        assert again.attempt.attempt == AttemptKey(2, 0)
    with running.client(ada) as client:
        assert submit(client, submission(JOB)).job == JOB  # the same job
        assert seen(client, JOB, lambda one: one.stages[0].committed == 2)


def test_a_worker_whose_process_ends_is_noticed_by_its_connection(running):
    ada, bundle = running.add("client", "ada"), running.add("worker", "w1")
    with running.client(ada) as client:
        worker, _ = registered(running, bundle)
        client.say(m.ListWorkers())
        assert [row.name for row in client.hear(m.Workers).workers] == ["w1"]
        worker.peer.close()
        began_s = time.monotonic()
        until(lambda: client.say(m.ListWorkers()) or client.hear(m.Workers).workers == ())
        assert time.monotonic() - began_s < 2.0  # 0.3 s to come back, on a machine that has nothing else to do


def test_a_key_that_is_taken_from_the_list_loses_its_session(running):
    bundle = running.add("worker", "w1")
    worker, _ = registered(running, bundle)
    with worker:
        keys_folder.remove(running.keys, "w1")
        assert worker.hear(m.Refused).code == "AUTH"
        worker.say(beat())
        assert worker.hear(m.Heard, wait_s=1.0) is None
    with worker_session(running.address, bundle) as again:
        assert again.peer.handshake() == "refused"


def is_refused(running, bundle):
    with client_session(running.address, bundle) as stranger:
        return stranger.peer.handshake() == "refused"


def test_a_client_whose_key_is_taken_from_the_list_hears_no_more_of_its_job(running):
    ada = running.add("client", "ada")
    root = running.add("client", "root", is_admin=True)
    with running.client(ada) as client, running.client(root) as admin:
        assert isinstance(submit(client, submission(JOB)), m.Accepted)
        assert seen(client, JOB, lambda one: one.state == "RUNNING")
        keys_folder.remove(running.keys, "ada")
        until(lambda: is_refused(running, ada))
        while client.hear(wait_s=0.1) is not None:
            pass
        admin.say(m.CancelJob(JOB))
        assert isinstance(admin.hear(m.Granted), m.Granted)
        assert client.hear(m.Status, m.Result, wait_s=0.5) is None


def test_another_version_is_refused_and_both_are_named(running):
    bundle = running.add("worker", "w1")
    other = Versions("9.9", "3.11.7", "26.0.1", "0.68.1", "2.4.6")
    with running.worker(bundle) as worker:
        worker.say(hello(versions=other))
        refused = worker.hear(m.Refused, wait_s=15)
        assert (
            refused.code == "VERSION"
            and "has kernelmill 9.9," in refused.text
            and sheet().versions.pyarrow in refused.text
        )


@pytest.mark.parametrize("role", ["worker", "client"])
def test_what_a_listed_peer_says_that_makes_no_sense_harms_nobody(running, role):
    ada, w1, evil = running.add("client", "ada"), running.add("worker", "w1"), running.add(role, "evil")
    kinds = m.WorkerToMaster if role == "worker" else m.ClientToMaster
    with running.client(ada) as client:
        worker, _ = registered(running, w1, slots=1)
        assert isinstance(submit(client, submission(JOB)), m.Accepted)
        other = running.worker(evil) if role == "worker" else running.client(evil)
        if role == "worker":
            other.say(hello(slots=1))
            assert other.hear(m.Welcome)
        frames = golden([kind.__name__ for kind in get_args(kinds) if kind not in (m.Hello, m.Bye)])
        for number, frame in enumerate(frames.values()):
            sound = other.around(frame)
            for damaged in (sound, *mutations(sound, number, 40)):
                other.peer.send(damaged)
            other.peer.send(*[sound] * 300)  # more in one message than may be
        other.peer.close()
        worker.say(beat())  # it was silent meanwhile
        run_maps(worker)
        assert until(lambda: seen(client, JOB, lambda one: one.stages[0].committed == 2))
        assert running.process.poll() is None
        worker.peer.close()


def test_clients_see_and_stop_their_own_jobs_and_administrators_all(running):
    ada, bob = running.add("client", "ada"), running.add("client", "bob")
    root = running.add("client", "root", is_admin=True)
    with running.client(ada) as a, running.client(bob) as b, running.client(root) as r:
        assert isinstance(submit(a, submission(JOB)), m.Accepted)
        for body in (m.Watch(JOB), m.CancelJob(JOB), m.Forget(JOB), m.ReadLog(JOB, 0)):
            b.say(body)
            assert b.hear(m.Refused, m.Granted, m.Status, m.LogPage) == m.Refused(
                JOB, "NO_JOB", "no job of yours has this id", ""
            )
        b.say(submission(JOB))
        assert b.hear(m.Refused, m.Accepted).code == "JOB_EXISTS"
        b.say(m.ListJobs(True, 0))
        assert b.hear(m.Refused, m.Jobs).code == "AUTH"
        b.say(m.DrainWorker("w1"))
        assert b.hear(m.Refused, m.Granted).code == "AUTH"
        r.say(m.ListJobs(True, 0))
        (row,) = r.hear(m.Jobs).jobs
        assert (row.job, row.client, row.state, row.output) == (JOB, "ada", "RUNNING", "data:/out")
        assert b.hear(m.Status, m.Result, wait_s=0.5) is None  # nothing of another's job reaches him
        r.say(m.CancelJob(JOB))
        assert a.hear(m.Result).state == "CANCELLED"


def test_damaged_and_unasked_parts_are_refused_and_leave_nothing(running):
    ada = running.add("client", "ada")
    body = submission(JOB)
    with running.client(ada) as client:
        client.say(body)
        need = client.hear(m.Need, wait_s=15)
        client.say(m.PutPart(JOB, need.sha256, 7, b"out of order"))
        assert client.hear(m.Need) == need
        client.say(m.PutPart(JOB, b"x" * 32, 0, b"nobody asked"))
        assert client.hear(m.Need) == need
        client.say(m.PutPart(JOB, need.sha256, 0, PLAN[:-1] + b"?"))
        assert client.hear(m.Refused).code == "PROTOCOL"
        client.say(body)
        client.say(m.PutPart(JOB, need.sha256, 0, PLAN + b"and more"))
        assert client.hear(m.Refused).code == "PROTOCOL"
        assert list((running.folder / "state" / "parts").iterdir()) == []
        assert isinstance(submit(client, body), m.Accepted)


def test_parts_of_a_job_that_is_refused_once_they_are_here_are_deleted(running):
    ada = running.add("client", "ada")
    good = submission(JOB)
    nobody_reads = msgspec.structs.replace(good.sheet, stages=good.sheet.stages[:1])
    with running.client(ada) as client:
        client.say(msgspec.structs.replace(good, sheet=nobody_reads))
        need = client.hear(m.Need, wait_s=15)
        client.say(m.PutPart(JOB, need.sha256, 0, PLAN))
        assert client.hear(m.Refused).code == "PROTOCOL"
        until(lambda: not list((running.folder / "state" / "parts").iterdir()))


def test_a_second_master_on_the_same_state_is_refused(running):
    bundle = running.add("worker", "w1")
    registered(running, bundle)[0].peer.close()
    first = running.process
    running.start()
    assert running.ended() == 3 and "KM0613" in running.said()
    running.process = first


def test_a_master_interrupted_ends_well_and_removes_its_child(running):
    bundle = running.add("worker", "w1")
    registered(running, bundle)[0].peer.close()
    children = subprocess.run(["ps", "--ppid", str(running.process.pid), "-o", "pid="], capture_output=True, text=True)
    assert len(children.stdout.split()) == 1
    running.process.terminate()
    assert running.ended() == 0
    assert not os.path.exists(f"/proc/{children.stdout.strip()}")


def test_a_master_loads_neither_arrow_nor_numba_nor_cloudpickle():
    script = "import sys, kernelmill.cluster.cli.master; print(sorted(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    loaded = eval(done.stdout)
    assert not {"pyarrow", "numpy", "numba", "llvmlite", "cloudpickle"}.intersection(loaded)
    assert "kernelmill.cluster.master.shell" in loaded and "zmq" in loaded


def test_unpickling_a_class_ends_the_process():
    script = (
        "import pickle; from kernelmill.cluster.master.process import refuse_to_unpickle\n"
        "import collections; data = pickle.dumps(collections.OrderedDict); refuse_to_unpickle()\n"
        "pickle.loads(pickle.dumps({1: [2]})); print('plain', flush=True); pickle.loads(data); print('alive')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (70, "plain\n")


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_its_status_page_shows_jobs_and_workers_to_who_has_the_printed_address(master):
    ann, w1 = master.add("client", "ann"), master.add("worker", "w1")
    master.start()
    printed = r"status page is at (http://127.0.0.1:[0-9]+/[?]token=[^ ]+)\n"
    url = until(lambda: re.search(printed, master.said()), 30)[1]
    assert "None yet." in get(url) and "None is here." in get(url)
    worker, _ = registered(master, w1)
    client = master.client(ann)
    assert isinstance(submit(client, submission(JOB)), m.Accepted)
    worker.hear(m.Assign, wait_s=20)
    state = until(lambda: (found := json.loads(get(url.replace("/?", "/state.json?"))))["jobs"] and found)
    (job,), (here,) = state["jobs"], state["workers"]
    assert (job["id"], job["client"], job["output"], job["state"]) == (JOB.hex(), "ann", "data:/out", "RUNNING")
    assert [(stage["tasks"], stage["committed"]) for stage in job["stages"]] == [(2, 0), (1, 0)]
    assert (here["name"], here["state"]) == ("w1", "REGISTERED") and here["running"] >= 1
    assert job["id"][:12] in get(url) and url.partition("token=")[2] not in str(state)
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(url.partition("?")[0])
    caught.value.close()
    assert caught.value.code == 403
    master.kill()
    with pytest.raises(urllib.error.URLError):
        get(url)
