"""Small outputs of map attempts, and what a reader of them is."""

import pyarrow as pa

from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.store import ClusterStore, ScratchPlace
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker.slotframes import MapHeld, SourceInputs
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task, TaskInput

JOB = bytes(range(16))
SCHEMA = pa.schema([("s", pa.string()), ("n", pa.int64())])
PARTITIONS = 3


def batch_of(number, rows):
    texts = [None if row % 5 == 0 else f"text {number}.{row}" for row in range(rows)]
    columns = [pa.array(texts, pa.string()), pa.array(range(rows), pa.int64())]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def rows_of(map_task, partition):
    """The batches that a map task makes for a partition: none, one or several."""
    return [batch_of(f"{map_task}/{partition}/{i}", 7 + i) for i in range((map_task + partition) % 3)]


def write_map(scratch, worker, map_task, attempt, *, gen=0, rows=rows_of, pack=None):
    """Run a made-up map task; what it says of its output: length of the data and packed vectors."""
    key = TaskKey(JOB, 0, gen, map_task)
    task = Task(0, map_task, b"", PARTITIONS)
    desk = BlockDesk(lambda wanted: None)
    store = ClusterStore(ScratchPlace(str(scratch), worker), key, attempt, task, desk, pack=pack)
    with store.open(0, map_task, SCHEMA, PARTITIONS) as out:
        for partition in range(PARTITIONS):
            for batch in rows(map_task, partition):
                out.add(partition, batch)
        out.close()
    return store.made()


def reader(scratch, partition, held, *, maps, worker="reader", gen=0, ask=None, schema_of=None, without_rows=b""):
    """A store of the task that reads a partition of `maps` map tasks; held: [(map task, attempt, holder)].

    Returns it with its desk and the questions it asked.
    """
    asked = []
    desk = BlockDesk(ask or asked.append)
    holders = tuple(sorted({holder for _, _, holder in held}))
    told = tuple(MapHeld(map_task, attempt, holders.index(holder)) for map_task, attempt, holder in held)
    desk.take_inputs(SourceInputs(0, gen, holders, told, without_rows))
    task = Task(1, partition, b"", 0, None, (TaskInput(0, EdgeKind.HASH, partition, 0, maps),))
    place = ScratchPlace(str(scratch), worker)
    store = ClusterStore(place, TaskKey(JOB, 1, 0, partition), AttemptKey(1, 900), task, desk, None, schema_of)
    return store, desk, asked


def refs(maps, partition):
    return [BlockRef(0, map_task, partition) for map_task in range(maps)]
