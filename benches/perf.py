"""What a process does in a window of time: CPU, context switches, system calls."""

import subprocess
import tempfile
import time

import machine

CPU = ("task-clock", "context-switches")
CALLS = ("raw_syscalls:sys_enter",)


def stat(pid, events, seconds):
    """Counts events of a process; each by its name, and the window as epoch times. None without perf."""
    with tempfile.NamedTemporaryFile("r") as output:
        command = ["perf", "stat", "-x,", "-o", output.name, "-e", ",".join(events), "-p", str(pid), "--"]
        try:
            subprocess.run([*command, "sleep", str(seconds)], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        end = time.time()
        fields = [line.split(",") for line in output if line.count(",") > 2]
    if len(fields) != len(events) or any(field[0] == "<not supported>" for field in fields):
        return None
    # A process that never ran has not been counted.
    counts = {field[2]: 0.0 if field[0] == "<not counted>" else float(field[0]) for field in fields}
    return {**counts, "start": end - seconds, "end": end}


def cpu(pid, seconds):
    """CPU seconds and context switches of a process in a window."""
    found = pid and stat(pid, CPU, seconds)
    if found:
        switches = found["context-switches"]
        return {"start": found["start"], "end": found["end"], "cpu": found["task-clock"] / 1e3, "switches": switches,
                "clock": "task-clock"}
    start, before = time.time(), machine.schedstat_seconds(pid) if pid else None
    time.sleep(seconds)
    used = machine.schedstat_seconds(pid) - before if pid else None
    return {"start": start, "end": time.time(), "cpu": used, "switches": None, "clock": "schedstat"}

