"""What a process does in a window of time: CPU, context switches, system calls, and how much others do meanwhile."""

import contextlib
import subprocess
import tempfile
import time

import machine

CPU = ("task-clock", "context-switches")
CALLS = ("raw_syscalls:sys_enter",)


class Counter:
    """Counts events of a process from its making until it is stopped, if there is a perf."""

    def __init__(self, pid, events):
        self.events, self.output = events, tempfile.NamedTemporaryFile("r")
        # perf counts while its command runs: that is until cat's input ends, and it has begun when cat repeats a byte.
        command = ["perf", "stat", "-x,", "-o", self.output.name, "-e", ",".join(events), "-p", str(pid), "--", "cat"]
        self.process = None
        with contextlib.suppress(OSError):
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
            self.process.stdin.write(b"x")
            self.process.stdout.read(1)
        self.start = time.time()

    def stop(self):
        """Each event by its name, and the window as epoch times; None without perf."""
        end = time.time()
        if not self.process:
            return None
        self.process.communicate()
        fields = [line.split(",") for line in self.output if line.count(",") > 2]
        if len(fields) != len(self.events) or any(field[0] == "<not supported>" for field in fields):
            return None
        # A process that never ran has not been counted.
        counts = {field[2]: 0.0 if field[0] == "<not counted>" else float(field[0]) for field in fields}
        return {**counts, "start": self.start, "end": end}


class Window:
    """From its making to its end: CPU seconds and context switches of a process, if there is one (`pid`); CPUs that others
    used, who are neither that process nor of the trees of `known`."""

    def __init__(self, pid, known):
        self.pid, self.known = pid, known
        self.ours, (self.busy, self.stolen) = machine.tree_seconds(known), machine.busy_seconds()
        self.schedstat = machine.schedstat_seconds(pid) if pid else None
        self.counter = Counter(pid, CPU) if pid else None
        self.start = time.time()

    def close(self):
        seen = {"start": self.start, "end": time.time(), "cpu": None, "switches": None, "clock": None}
        if self.pid:
            counted = self.counter.stop()
            seen |= {"cpu": machine.schedstat_seconds(self.pid) - self.schedstat, "clock": "schedstat"}
            if counted:
                seen |= {"cpu": counted["task-clock"] / 1e3, "switches": counted["context-switches"], "clock": "task-clock"}
        (busy, stolen), ours = machine.busy_seconds(), machine.tree_seconds(self.known)
        busy, stolen, length = busy - self.busy, stolen - self.stolen, seen["end"] - seen["start"]
        if seen["clock"] == "task-clock":
            # The clock of a task goes on while the host runs somebody else; whoever runs much is stolen from much.
            seen["cpu"] *= busy / (busy + stolen)
        used = busy - (ours - self.ours) - (seen["cpu"] or 0)
        return {**seen, "length": length, "foreign": used / length, "stolen": stolen / length}
