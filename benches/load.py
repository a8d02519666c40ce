"""The clients: pgbench, one process or several, watched while they run."""

import re
import subprocess
import threading
import time

import postgres

WARM_UP = 2
"""Seconds before the window."""

PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")


class Pgbench:
    """One process, and how many transactions it had done by when."""

    def __init__(self, row, number, port, seconds, folder, database=postgres.DATABASE):
        clients = row.clients // row.processes
        script = folder / f"script-{number}.sql"
        script.write_text(row.script)
        command = [
            postgres.BIN / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(port), "-U", postgres.USER,
            "-c", str(clients), "-j", str(min(2, clients)), "-T", str(seconds), "-P", "1", "--progress-timestamp",
            "-l", "--log-prefix", folder / f"log-{number}", "--sampling-rate", str(row.sampling),
            *row.arguments, *(("-f", script) if row.script else ()), database,
        ]
        self.points = []
        self.said = []
        self.process = subprocess.Popen(
            command, env=postgres.environment(PGSSLMODE="require" if row.tls else "disable", **row.environment(number)),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, bufsize=1)
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def listen(self):
        done = 0
        for line in self.process.stderr:
            found = PROGRESS.match(line)
            if not found:
                self.said.append(line.strip())
                continue
            at, rate = map(float, found.groups())
            done += rate * (at - self.points[-1][0]) if self.points else 0
            self.points.append((at, done))

    def wait_for_points(self, count, patience=60):
        deadline = time.monotonic() + patience
        while len(self.points) < count:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pgbench: " + "; ".join(self.said[-3:]))
            time.sleep(0.002)

    def finish(self):
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise RuntimeError("pgbench: a client was left without an answer") from None
        self.reader.join(10)
        if self.process.returncode != 0:
            raise RuntimeError("pgbench: " + "; ".join(self.said[-3:]))

    def done_at(self, moment):
        """Transactions done by then, counted from the first report."""
        (t0, n0), (t1, n1) = next(
            (pair for pair in zip(self.points, self.points[1:]) if pair[1][0] >= moment), self.points[-2:])
        return n0 + (n1 - n0) * (moment - t0) / (t1 - t0)

    def done_between(self, start, end):
        return self.done_at(end) - self.done_at(start)


def latencies(folder, start, end):
    """Of the transactions that ended in the window, in microseconds, in order."""
    found = []
    for log in folder.glob("log-*"):
        for line in log.open():
            _client, _number, latency, _script, second, micro = line.split()[:6]
            if latency.isdigit() and start <= int(second) + int(micro) / 1e6 < end:
                found.append(int(latency))
    return sorted(found)


def quantile(ordered, share):
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
