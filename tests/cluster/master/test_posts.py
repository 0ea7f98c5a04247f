"""What the master posts: a message that no frame can hold ends nothing, and who waits for it hears so."""

import pytest
import zmq

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import Count, Place
from kernelmill.cluster.master.gate import CLIENTS, WORKERS
from kernelmill.cluster.master.posts import Me, Post
from kernelmill.cluster.wire import CLIENT_TO_MASTER, MASTER_TO_CLIENT, MASTER_TO_WORKER, WORKER_TO_MASTER

JOB, ROUTE = b"j" * 16, b"way"


class Socket:
    """Keeps what is sent."""

    def __init__(self):
        self.sent, self.open = [], []

    def send(self, frame, flags):
        self.open.append(frame)
        if not flags & zmq.SNDMORE:
            route, *frames = self.open
            assert route == ROUTE
            self.sent += frames
            self.open = []


def post_of(domain, link):
    return Post(Socket(), domain, link, None, Me(bytes(16), 1, bytes(8)))


def result(counters):
    return m.Result(JOB, "COMMITTED", "", None, Place("data", ("out",)), 1, 1, b"", counters, ())


TOO_LONG = result(tuple(Count("\N{GRINNING FACE}" * 252 + f"{n:04}", 1) for n in range(1040)))
TOO_LARGE = result((Count("rows", 1 << 70),))


@pytest.mark.parametrize("body", [TOO_LONG, TOO_LARGE])
def test_a_client_hears_that_an_answer_cannot_be_sent_and_then_what_follows(body):
    post = post_of(CLIENTS, CLIENT_TO_MASTER)
    assert post.send(ROUTE, body, ack=7)
    assert post.send(ROUTE, m.Granted(JOB))
    refused, granted = map(MASTER_TO_CLIENT.decode, post.socket.sent)
    assert (refused.body.job, refused.body.code, refused.ack) == (JOB, "PROTOCOL", 7)
    assert isinstance(granted.body, m.Granted) and (refused.seq, granted.seq, post.unsaid) == (1, 2, 1)


def test_a_worker_is_not_told_what_cannot_be_sent_and_hears_all_else():
    post = post_of(WORKERS, WORKER_TO_MASTER)
    post.post(ROUTE, m.Drop(JOB))
    post.post(ROUTE, m.Inputs(JOB, 0, 0, 1 << 70, 0, 1, (), (), b""))
    post.post(ROUTE, m.Heard())
    assert post.flush() == []
    said = [MASTER_TO_WORKER.decode(frame) for frame in post.socket.sent]
    assert [(type(one.body), one.seq) for one in said] == [(m.Drop, 1), (m.Heard, 2)] and post.unsaid == 1
