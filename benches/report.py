"""From samples to tables: medians with their spread, ratios over paired rounds with their interval."""

import math
import statistics

REFERENCE = "pgbouncer"
# Two-sided 95 % points of Student's t by degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def ratio(samples, name, key):
    """The geometric mean of a contender's ratios to the reference in the same rounds, and its 95 % interval."""
    rounds = {}
    for sample in samples:
        if sample.get(key):
            rounds.setdefault(sample["round"], {})[sample["contender"]] = sample[key]
    logs = [math.log(pair[name] / pair[REFERENCE]) for pair in rounds.values() if {name, REFERENCE} <= pair.keys()]
    if not logs or name == REFERENCE:
        return None
    mean = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(mean), None, None
    half = T95[min(len(logs) - 2, len(T95) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def spread(samples, name, key, digits=1):
    values = [sample[key] for sample in samples if sample["contender"] == name and sample.get(key) is not None]
    if not values:
        return "-"
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def middle(samples, name, key, digits=2, divisor=1):
    values = [sample[key] for sample in samples if sample["contender"] == name and sample.get(key) is not None]
    return f"{statistics.median(values) / divisor:.{digits}f}" if values else "-"


def times(samples, name, key):
    found = ratio(samples, name, key)
    if not found:
        return "1" if name == REFERENCE else "-"
    mean, low, high = found
    return f"{mean:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low else "")


COLUMNS = (
    ("CPU us/tx", lambda s, n: spread(s, n, "cpu")),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "cpu")),
    ("tps", lambda s, n: spread(s, n, "tps", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "tps")),
    ("p50 ms", lambda s, n: middle(s, n, "p50", 2, 1000)),
    ("p99 ms", lambda s, n: middle(s, n, "p99", 2, 1000)),
    ("x PgB", lambda s, n: times(s, n, "p99").partition(" ")[0]),
    ("p99.9 ms", lambda s, n: middle(s, n, "p999", 2, 1000)),
    ("switches/tx", lambda s, n: middle(s, n, "switches", 3)),
    ("calls/tx", lambda s, n: middle(s, n, "calls")),
)
IDLE_COLUMNS = (
    ("bytes/client", lambda s, n: spread(s, n, "bytes", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "bytes")),
    ("resident before, MB", lambda s, n: middle(s, n, "resident", 1, 1e6)),
    ("CPU while idle, %", lambda s, n: middle(s, n, "cpu_share", 3, 0.01)),
)


def table(row, samples):
    columns = IDLE_COLUMNS if row.idle else COLUMNS
    names = list(dict.fromkeys(sample["contender"] for sample in samples))
    cells = [["", *(title for title, _ in columns)]]
    cells += [[name, *(cell(samples, name) for _, cell in columns)] for name in names]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    disturbed = sum(bool(sample.get("disturbed")) for sample in samples)
    rounds = len({sample["round"] for sample in samples})
    notes = [f"{rounds} rounds" + (f", {disturbed} of {len(samples)} samples disturbed by others" if disturbed else "")]
    notes += [row.note] if row.note else []
    clocks = {sample["clock"] for sample in samples if sample.get("clock")}
    notes += ["CPU from schedstat (no perf): too low where io_uring is used."] if "schedstat" in clocks else []
    return "\n".join([f"\n{row.name}: {row.title}", *lines, *notes])
