"""The status page's document: all is there, nothing that others chose is markup, and nothing comes from elsewhere."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from http import HTTPStatus

from shown import full, snapshot_with

from kernelmill.cluster.status.page import page_of
from kernelmill.cluster.status.requests import response
from kernelmill.cluster.status.snapshot import FaultBook

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=y>&\x1b[2J\u202e\udcff"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "tags that do not match"

    def handle_data(self, data):
        self.text.append(data)


def parsed(snapshot):
    tags = Tags()
    tags.feed(page_of(snapshot, "t0k-en_").decode())
    assert tags.open == [], "tags that are not closed"
    return tags


def test_texts_of_others_are_text_wherever_they_stand():
    plain, nasty = parsed(full("x")), parsed(full(NASTY))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert [attrs for _, attrs in nasty.tags] == [attrs for _, attrs in plain.tags]
    assert "".join(nasty.text).count("<script>alert(1)</script>") == 11
    assert not set("\x1b\u202e\udcff") & set("".join(nasty.text))


def test_nothing_is_loaded_and_nothing_runs():
    page = page_of(full("x"), "t0k-en_").decode()
    tags = parsed(full("x")).tags
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe", "link", "object", "form", "base", "svg"}
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on") or name in ("src", "style")]
    assert [attrs["href"] for tag, attrs in tags if tag == "a"] == ["/state.json?token=t0k-en_"]
    assert "url(" not in page and "@import" not in page and "://" not in page


def test_it_loads_itself_again_and_follows_light_and_dark():
    page = page_of(full("x"), "t").decode()
    assert '<meta http-equiv="refresh" content="2">' in page and "color-scheme: light dark" in page


def test_figures_of_jobs_stages_and_workers_are_there():
    text = " ".join(parsed(full("x")).text)
    for word in ("4 of 10", "12,345", "1.0 MiB", "0.4 s ago", "2 of 4", "And 2 jobs more.", "And 1 worker more."):
        assert word in text, word
    bar = next(attrs for tag, attrs in parsed(full("x")).tags if tag == "progress")
    assert bar == {"max": "10", "value": "4"}


def test_a_cluster_with_nothing_in_it_has_a_page_too():
    text = " ".join(parsed(snapshot_with()).text)
    assert "None yet." in text and "None is here." in text and "Nothing since" in text


def test_the_book_of_faults_keeps_what_was_new_and_not_too_much():
    book = FaultBook()
    book.note({"late HELLO": 2}, 10.0)
    book.note({"late HELLO": 2, "paused": 1}, 12.0)
    book.note({"late HELLO": 5, "paused": 1}, 14.0)
    assert [(one.at_s, one.what, one.times) for one in book.latest] == [
        (14.0, "late HELLO", 3),
        (12.0, "paused", 1),
        (10.0, "late HELLO", 2),
    ]
    for number in range(1000):
        book.note({f"fault {number}": 1}, float(number))
    assert len(book.latest) == 50 and book.latest[0].what == "fault 999"


def test_the_style_is_the_one_that_the_policy_names():
    style = re.search("<style>(.*)</style>", page_of(full("x"), "t").decode(), re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'".encode() in response(HTTPStatus.OK, b"")
