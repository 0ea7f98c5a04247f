"""A job's whole way in one process: packed, put in a folder, opened, every task run, parts read."""

import os

from kernelmill.cluster.fields import AttemptKey, Place
from kernelmill.cluster.jobspec.opening import open_job
from kernelmill.cluster.jobspec.packing import for_collecting, pack
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage.layout import make_staging
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.task import run_task
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.settings import Settings
from kernelmill.engine.shuffle.store import BlockStore

KEY, JOB, NOW_S = bytes(range(32)), b"j" * 16, 1_800_000_000


def packed(frame, folder, *, output="out", plan=None, settings=None, job=JOB, now_s=NOW_S, **more):
    """The frame's rows as a job that writes them below `folder`, which is root "data"."""
    plan = plan or for_collecting(plan_job(frame._plan, split_bytes=1 << 20))
    settings = settings or Settings(progress="off", memory_bytes=1 << 30)
    given = {"output": Place("data", (output,)), "mode": "error"} | more
    return pack(plan, settings=settings, roots=Roots({"data": folder}), **given).sign(job, KEY, now_s)


def written(packed_job, folder):
    """Put a job's parts into a folder, as a worker keeps them."""
    os.makedirs(folder, exist_ok=True)
    for digest, data in packed_job.contents.items():
        with open(os.path.join(folder, digest.hex()), "wb") as file:
            file.write(data)
    return str(folder)


def opened(packed_job, folder, data, **changed):
    """Open a packed job whose parts lie in `folder`; `changed` replaces what the spec says."""
    spec = {name: getattr(packed_job, name) for name in ("job", "sheet", "parts", "signature", "expires_s")} | changed
    given = (spec[name] for name in ("job", "sheet", "parts", "signature", "expires_s"))
    registered = changed.pop("registered", None)
    keys = {"code_key": changed.get("code_key", KEY), "now_s": changed.get("now_s", NOW_S)}
    return open_job(*given, folder=folder, roots=Roots({"data": data}), registered=registered, **keys)


def run_all(job, spill_dir):
    """Run every task in order; the results of all of them, and the files of the last stage."""
    make_staging(job.target, job.job)
    results, files = {}, []
    settings = {"memory_bytes_max": 1 << 28, "spill_dir": str(spill_dir), "spill_bytes_max": 1 << 30}
    store = BlockStore(**settings)
    for stage in job.plan.graph.stages:
        for index in range(stage.tasks):
            attempt = AttemptKey(1, len(results))
            path = None
            if job.writes_files(stage.number):
                os.mkdir(job.attempt_folder(attempt))
                path = os.path.join(job.attempt_folder(attempt), job.part_name(stage.number))
                files.append(path)
            number = AttemptId(TaskId(stage.number, index), 0)
            context = TaskContext(number, part_path=path, on_bad=job.on_bad, sink=job.sink)
            task = job.task(stage.number, index)
            plan = job.plan
            results[stage.number, index] = run_task(task, store, context, plan.tables, plan.functions, plan.sources)
    store.close()
    return results, files
