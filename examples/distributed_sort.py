"""Distributed sort: all records in order of their keys, over several part files (OSDI 2004, sections 2.3 and 5.3).

Map takes the key of 10 characters off each record; nothing is reduced. Inside a part file records are always in order.
That one file ends where the next begins is the work of the partition: "range" finds from a sample of the keys where
files are to begin. A partition function can know it, as that of the paper's benchmark does.

    python examples/distributed_sort.py
    kernelmill run examples/distributed_sort.py:job records.txt -o sorted/ --partitions 4
"""

import kernelmill as km
from inputs import arguments, made, write_records


def map(record, emit):
    emit(record[:10], record[10:])


job = km.MapReduce(map, key="key", value="rest", partition="range", order="value")


def by_first_character(key, n):
    return (ord(key[0]) - ord(" ")) * n // 95  # of the 95 printable characters of ASCII


# Without a sample, for keys of random characters: their first one says where in the output they belong.
job_for_random_keys = km.MapReduce(map, key="key", value="rest", partition=by_first_character, order="value")


def main():
    given = arguments(__doc__, "distributed_sort", partitions=4)
    records = given.inputs or write_records(made(given.output, "records.txt"))
    print(job.run(records, output=given.output, mode="overwrite", partitions=given.partitions))
    km.scan_parquet(f"{given.output}/*.parquet").show()


if __name__ == "__main__":
    main()
