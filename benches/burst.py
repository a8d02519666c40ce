"""Clients that all connect at once, and log in."""

import machine
import perf
import postgres
from helper import Helper

SPARE = 200
"""Descriptors left to the pooler and to the crowd for anything but clients."""


def rush(row, server, port, pid, _seconds):
    count = min(row.crowd, machine.raise_descriptor_limit() - SPARE)
    with Helper("crowd.py", port, count, postgres.USER, postgres.DATABASE, postgres.PASSWORD, "clear") as crowd:
        window = perf.Window(pid, [server.process.pid, crowd.pid])
        said = crowd.ask()
        seen = window.close()
    if not said["in"]:
        raise RuntimeError(f"nobody was let in: {said}")
    return {
        "crowd": count,
        "refused": said["refused"],
        "outside": said["outside"],
        "said": said["said"],
        "admitted": said["in"] / count,
        "all_in": said["ended"] - said["began"],
        "cpu_login": seen["cpu"] * 1e6 / said["in"],
        "clock": seen["clock"],
        "foreign": seen["foreign"],
        "stolen": seen["stolen"],
    }
