"""A join by hand: each click with the country of its user, brought together by a map and a reduce alone.

Two kinds of record go through one map, which tells them apart by their file and tags them: 0 for who a user is, 1 for a
click. order="value" puts the 0 before the 1s of a user, so the reduce knows the user when the clicks come by, and holds
one record of a user, however many clicks there are. Clicks of users without an account get no country (a left join).

    python examples/join_by_hand.py
    python examples/join_by_hand.py 'logs/clicks*.tsv' logs/users.tsv -o joined/
    kernelmill run examples/join_by_hand.py:joined clicks.tsv users.tsv -o joined/ --on-bad reject
"""

import kernelmill as km
from inputs import arguments, made, write_clicks, write_users


def map(row, emit):
    if row.path.endswith("users.tsv"):
        user, country = row.line.split("\t")
        emit(user, (0, 0, country))
    else:
        clock, user, page = row.line.split("\t")
        if page.startswith("/"):
            emit(user, (1, int(clock), page))
        else:
            emit.reject("cut off")


def reduce(user, records, emit):
    country = None
    for kind, clock, text in records:
        if kind == 0:
            country = text
        else:
            emit((clock, text, country))


job = km.MapReduce(
    map,
    reduce,
    key="user",
    value=("kind", "clock", "text"),
    order="value",
    schema=(
        {"user": "string", "kind": "int64", "clock": "int64", "text": "string"},
        {"clock": "int64", "page": "string", "country": "string"},
    ),
)


def joined(inputs):
    """The frame of clicks: user, clock, page, country."""
    return km.scan_text(inputs, include_file_paths="path").pipe(job)


def main():
    given = arguments(__doc__, "join_by_hand")
    inputs = given.inputs
    if not inputs:
        clicks = write_clicks(made(given.output, "clicks.tsv"))
        inputs = [clicks, write_users(made(given.output, "users.tsv"))]
    result = joined(inputs).sink_parquet(given.output, mode="overwrite", on_bad="reject", max_rejects=10_000)
    print(result)
    print("rejects:", dict(result.rejects))
    km.scan_parquet(f"{given.output}/*.parquet").group_by("country").len("clicks").sort("country").show(20)


if __name__ == "__main__":
    main()
