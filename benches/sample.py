"""One sample: one contender, freshly started, under one row's load for a window of time."""

import tempfile
from pathlib import Path

import contenders
import idle
import load
import machine
import perf

WARM_UP = 2
"""Seconds before the window; system calls are counted in the second half of them."""

FOREIGN_MAX = 0.10
"""CPUs that others may use during an undisturbed window."""


def take(row, contender, server, seconds):
    with contenders.running(contender, row, server) as (port, pid):
        if row.idle:
            return idle.sit(row.clients, port, pid, seconds)
        with tempfile.TemporaryDirectory(prefix="headpond-bench-") as folder:
            return under_load(row, port, pid, server, seconds, Path(folder))


def under_load(row, port, pid, server, seconds, folder):
    fleet = [load.Pgbench(row, number, port, WARM_UP + seconds, folder) for number in range(row.processes)]
    try:
        for pgbench in fleet:
            pgbench.wait_for_points(1)
        calls = perf.stat(pid, perf.CALLS, 0.5) if pid else None
        for pgbench in fleet:
            pgbench.wait_for_points(WARM_UP)
        known = [server.process.pid, *(pgbench.process.pid for pgbench in fleet)]
        (busy, stolen), ours = machine.busy_seconds(), machine.tree_seconds(known)
        window = perf.cpu(pid, seconds - 0.3)
        (busy_after, stolen_after), ours_after = machine.busy_seconds(), machine.tree_seconds(known)
        for pgbench in fleet:
            pgbench.finish()
    finally:
        for pgbench in fleet:
            pgbench.process.kill()
    start, end = window["start"], window["end"]
    length = end - start
    done = sum(pgbench.done_between(start, end) for pgbench in fleet)
    waits = load.latencies(folder, start, end)
    sample = {
        "tps": done / length,
        "p50": load.quantile(waits, 0.50),
        "p99": load.quantile(waits, 0.99),
        "p999": load.quantile(waits, 0.999),
        "latencies": len(waits),
        "foreign": (busy_after - busy - (ours_after - ours) - (window["cpu"] or 0)) / length,
        "stolen": (stolen_after - stolen) / length,
        "failures": sum("failed" in line or "error" in line for pgbench in fleet for line in pgbench.said),
    }
    if pid:
        sample["cpu"] = window["cpu"] * 1e6 / done
        sample["clock"] = window["clock"]
    if window["switches"] is not None and pid:
        sample["switches"] = window["switches"] / done
    if calls:
        done = sum(pgbench.done_between(calls["start"], calls["end"]) for pgbench in fleet)
        sample["calls"] = calls[perf.CALLS[0]] / done
    return sample
