"""Count of URL accesses: hits and bytes of each page, from a web server's log (OSDI 2004, section 2.3).

The log is in the combined format of Apache and nginx:

    192.0.2.7 - - [03/Feb/2024:10:00:00 +0000] "GET /posts/7?page=2 HTTP/1.1" 200 5120 "-" "curl/8.5.0"

Real logs have lines that hold no request, or end in the middle. What map rejects is set aside, with file, offset and
reason, in the output's folder _rejects. What map raises for goes there too with on_bad="reject"; else the first such
record ends the job.

    python examples/url_access_count.py
    python examples/url_access_count.py '/var/log/nginx/access.log*' -o hits/
    kernelmill run examples/url_access_count.py:job access.log -o hits/ --on-bad reject
"""

import kernelmill as km
from inputs import arguments, made, write_access_log


def map(line, emit):
    client, request, result, referer, agent = line.split('"', 4)  # a record for which this raises is a bad one
    if request.count(" ") != 2:
        emit.reject("no request")
        return
    method, target, protocol = request.split()
    status, size = result.split()
    page, mark, query = target.partition("?")
    emit(page, (1, 0 if size == "-" else int(size)))
    if status == "304":
        emit.count("not modified")


job = km.MapReduce(map, "sum", key="page", value=("hits", "bytes"))


def main():
    given = arguments(__doc__, "url_access_count")
    log = given.inputs or write_access_log(made(given.output, "access.log"))
    result = job.run(log, output=given.output, mode="overwrite", on_bad="reject", max_rejects=10_000)
    print(result)
    print("counters:", dict(result.counters), "rejects:", dict(result.rejects))
    km.scan_parquet(f"{given.output}/*.parquet").top_k(10, by="hits").show()


if __name__ == "__main__":
    main()
