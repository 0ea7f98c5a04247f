"""The five join questions of h2o's db-benchmark: the right table, the key, the kind; all columns come out."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """x joined with table `right` by column `key`; how is inner or left."""

    right: str
    key: str
    how: str


QUESTIONS = {
    "q1": Question("small", "id1", "inner"),
    "q2": Question("medium", "id2", "inner"),
    "q3": Question("medium", "id2", "left"),
    "q4": Question("medium", "id5", "inner"),
    "q5": Question("big", "id3", "inner"),
}
COLUMNS = {
    "x": ["id1", "id2", "id3", "id4", "id5", "id6", "v1"],
    "small": ["id1", "id4", "v2"],
    "medium": ["id1", "id2", "id4", "id5", "v2"],
    "big": ["id1", "id2", "id3", "id4", "id5", "id6", "v2"],
}
