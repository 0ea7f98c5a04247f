"""Sessions: the clicks of a user, in order of time, cut wherever the user was away for half an hour.

Clicks lie in the log in any order. The key is the user; order="value" sorts each user's clicks by their value, time
first (a secondary sort), so the reduce reads them in order and holds one session, not all clicks of a user.

    python examples/sessionize_clicks.py
    python examples/sessionize_clicks.py 'clicks/*.tsv' -o sessions/
    kernelmill run examples/sessionize_clicks.py:job clicks.tsv -o sessions/ --on-bad reject
"""

import kernelmill as km
from inputs import arguments, made, write_clicks

AWAY_S = 1800


def map(line, emit):
    clock, user, page = line.split("\t")
    if not page.startswith("/"):
        emit.reject("cut off")
    else:
        emit(user, (int(clock), page))


def reduce(user, clicks, emit):
    count, start, end, entry, exit = 0, 0, 0, "", ""
    for clock, page in clicks:
        if count > 0 and clock - end > AWAY_S:
            emit((start, end - start, count, entry, exit))
            count = 0
        if count == 0:
            start, entry = clock, page
        count, end, exit = count + 1, clock, page
    emit((start, end - start, count, entry, exit))


job = km.MapReduce(
    map,
    reduce,
    key="user",
    value=("clock", "page"),
    order="value",
    schema=(
        {"user": "string", "clock": "int64", "page": "string"},
        {"start": "int64", "seconds": "int64", "clicks": "int64", "entry": "string", "exit": "string"},
    ),
)


def main():
    given = arguments(__doc__, "sessionize_clicks")
    log = given.inputs or write_clicks(made(given.output, "clicks.tsv"))
    result = job.run(log, output=given.output, mode="overwrite", on_bad="reject", max_rejects=10_000)
    print(result)
    print("rejects:", dict(result.rejects))
    sessions = km.scan_parquet(f"{given.output}/*.parquet")
    sessions.select(sessions=km.len(), clicks=km.col("clicks").mean(), seconds=km.col("seconds").mean()).show()
    sessions.top_k(5, by=["clicks", "user"]).show()


if __name__ == "__main__":
    main()
