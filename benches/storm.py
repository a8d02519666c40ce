"""Many clients that log in at once while others run queries: what they cost, and what the others notice."""

import tempfile
import time
from pathlib import Path

import load
import perf
import postgres
from helper import Helper

STORM = 15
"""Seconds that the logins may take."""


def weather(row, server, port, pid, seconds):
    with tempfile.TemporaryDirectory(prefix="headpond-bench-") as folder:
        return through(row, server, port, pid, seconds, Path(folder))


def through(row, server, port, pid, seconds, folder):
    pgbench = load.Pgbench(row, 0, port, load.WARM_UP + seconds + STORM, folder)
    identity = postgres.USER, postgres.DATABASE, postgres.PASSWORD
    try:
        with Helper("crowd.py", port, row.crowd, *identity, "tls" if row.tls else "clear") as crowd:
            known = [server.process.pid, crowd.pid, pgbench.process.pid]
            pgbench.wait_for_points(load.WARM_UP)
            window = perf.Window(pid, known)
            time.sleep(seconds - 0.3)
            quiet = window.close()
            window = perf.Window(pid, known)
            said = crowd.ask()
            storm = window.close()
            over = pgbench.process.poll() is not None
        pgbench.finish()
    finally:
        pgbench.process.kill()
    if over or said["in"] < row.crowd:
        raise RuntimeError(f"not all were in after {STORM} s: {said}")
    done, done_in_storm = (pgbench.done_between(part["start"], part["end"]) for part in (quiet, storm))
    p99, p99_in_storm = (load.quantile(load.latencies(folder, part["start"], part["end"]), 0.99) for part in (quiet, storm))
    sample = {
        "p99_quiet": p99,
        "p99": p99_in_storm,
        "factor": p99_in_storm / p99,
        "tps_quiet": done / quiet["length"],
        "tps": done_in_storm / storm["length"],
        "logins": said["in"] / (said["ended"] - said["began"]),
        "foreign": max(quiet["foreign"], storm["foreign"]),
        "stolen": max(quiet["stolen"], storm["stolen"]),
    }
    if pid:
        # What the others' queries cost while it was quiet is not the logins'.
        queries = quiet["cpu"] / done * done_in_storm
        sample |= {"cpu_login": (storm["cpu"] - queries) * 1e6 / said["in"], "clock": storm["clock"]}
    return sample
