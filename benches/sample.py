"""One sample: one contender, freshly started, under one row's load for a window of time."""

import tempfile
import time
from pathlib import Path

import burst
import contenders
import copying
import idle
import load
import perf
import storm

DISTURBANCE_MAX = 0.06
"""CPUs that others may use during an undisturbed window; of what the host of a virtual machine takes away, a third counts, for
most of its effect is known."""


def disturbance(taken):
    return max(taken["foreign"], 0) + taken.get("stolen", 0) / 3


def take(row, contender, server, seconds):
    with contenders.running(contender, row, server) as (port, pid):
        return KINDS[row.kind](row, server, port, pid, seconds)


def queries(row, server, port, pid, seconds):
    names = contenders.databases(row, pooled=pid is not None)
    with tempfile.TemporaryDirectory(prefix="headpond-bench-") as folder:
        fleet = [
            load.Pgbench(row, number, port, load.WARM_UP + seconds, Path(folder), names[number % len(names)])
            for number in range(row.processes)
        ]
        try:
            return under_load(row, fleet, server, pid, seconds, Path(folder))
        finally:
            for pgbench in fleet:
                pgbench.process.kill()


def under_load(row, fleet, server, pid, seconds, folder):
    for pgbench in fleet:
        pgbench.wait_for_points(1)
    counter = perf.Counter(pid, perf.CALLS) if pid else None
    time.sleep(0.5)
    calls = counter and counter.stop()
    for pgbench in fleet:
        pgbench.wait_for_points(load.WARM_UP)
    window = perf.Window(pid, [server.process.pid, *(pgbench.process.pid for pgbench in fleet)])
    time.sleep(seconds - 0.3)
    seen = window.close()
    for pgbench in fleet:
        pgbench.finish()
    done = sum(pgbench.done_between(seen["start"], seen["end"]) for pgbench in fleet)
    waits = load.latencies(folder, seen["start"], seen["end"])
    sample = {
        "tps": done / seen["length"],
        "p50": load.quantile(waits, 0.50),
        "p99": load.quantile(waits, 0.99),
        "p999": load.quantile(waits, 0.999),
        "latencies": len(waits),
        "foreign": seen["foreign"],
        "stolen": seen["stolen"],
        "failures": sum("failed" in line or "error" in line for pgbench in fleet for line in pgbench.said),
    }
    if pid:
        sample |= {"cpu": seen["cpu"] * 1e6 / done, "clock": seen["clock"]}
    if seen["switches"] is not None:
        sample["switches"] = seen["switches"] / done
    if calls:
        done_meanwhile = sum(pgbench.done_between(calls["start"], calls["end"]) for pgbench in fleet)
        sample["calls"] = calls[perf.CALLS[0]] / done_meanwhile
    if row.megabytes:
        sample["rate"] = sample["tps"] * row.megabytes
        sample |= {"cpu_mb": sample["cpu"] / row.megabytes} if pid else {}
    return sample


KINDS = {
    "queries": queries,
    "idle": idle.sit,
    "copy": copying.endure,
    "burst": burst.rush,
    "storm": storm.weather,
}
"""How a row of each kind is measured."""
