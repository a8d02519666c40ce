"""From samples to tables: medians with their spread, ratios over paired rounds with their interval."""

import math
import statistics

REFERENCE = "pgbouncer"
# Two-sided 95 % points of Student's t by degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


def interval(logs):
    """The geometric mean of what these are logarithms of, and its 95 % interval, if there are two or more."""
    mean = statistics.mean(logs)
    if len(logs) < 2:
        return math.exp(mean), None, None
    half = T95[min(len(logs) - 2, len(T95) - 1)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def by_round(samples, key):
    """Of each round that has it: each contender's figure."""
    rounds = {}
    for sample in samples:
        if sample.get(key) and sample[key] > 0:
            rounds.setdefault(sample["round"], {})[sample["contender"]] = sample[key]
    return rounds.values()


def ratio(samples, name, key, reference=REFERENCE):
    """The geometric mean of a contender's ratios to the reference in the same rounds, and its 95 % interval."""
    pairs = [one for one in by_round(samples, key) if {name, reference} <= one.keys()]
    if not pairs or name == reference:
        return None
    return interval([math.log(pair[name] / pair[reference]) for pair in pairs])


def alone(samples, name, key):
    """The same for a figure that is compared with nobody's."""
    figures = [one[name] for one in by_round(samples, key) if name in one]
    return interval([math.log(figure) for figure in figures]) if figures else None


def with_added(samples):
    """Samples with what each adds to the median latency of the server alone in the same round."""
    direct = {one["round"]: one["p50"] for one in samples if one["contender"] == "direct" and one.get("p50")}
    return [
        {**one, "added": one["p50"] - direct[one["round"]]}
        if one["contender"] != "direct" and one.get("p50") and one["round"] in direct else one
        for one in samples
    ]


def spread(samples, name, key, digits=1):
    values = [sample[key] for sample in samples if sample["contender"] == name and sample.get(key) is not None]
    if not values:
        return "-"
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low}..{high})"


def middle(samples, name, key, digits=2, divisor=1):
    values = [sample[key] for sample in samples if sample["contender"] == name and sample.get(key) is not None]
    return f"{statistics.median(values) / divisor:.{digits}f}" if values else "-"


def times(samples, name, key, reference=REFERENCE):
    found = ratio(samples, name, key, reference)
    if not found:
        return "1" if name == reference and any(one.get(key) for one in samples if one["contender"] == name) else "-"
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
ADDED_COLUMNS = (
    ("added ms", lambda s, n: middle(s, n, "added", 3, 1000)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "added")),
)
BULK_COLUMNS = (
    ("CPU us/MB", lambda s, n: spread(s, n, "cpu_mb")),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "cpu_mb")),
    ("MB/s", lambda s, n: spread(s, n, "rate", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "rate")),
    ("x direct [95 %]", lambda s, n: times(s, n, "rate", "direct")),
)
IDLE_COLUMNS = (
    ("bytes/client", lambda s, n: spread(s, n, "bytes", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "bytes")),
    ("resident before, MB", lambda s, n: middle(s, n, "resident", 1, 1e6)),
    ("CPU while idle, %", lambda s, n: middle(s, n, "cpu_share", 3, 0.01)),
)
BURST_COLUMNS = (
    ("clients", lambda s, n: middle(s, n, "crowd", 0)),
    ("refused", lambda s, n: spread(s, n, "refused", 0)),
    ("not in after 60 s", lambda s, n: spread(s, n, "outside", 0)),
    ("all in, s", lambda s, n: spread(s, n, "all_in", 2)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "all_in")),
    ("CPU us/login", lambda s, n: spread(s, n, "cpu_login")),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "cpu_login")),
)
STORM_COLUMNS = (
    ("p99 quiet ms", lambda s, n: middle(s, n, "p99_quiet", 2, 1000)),
    ("p99 in the storm ms", lambda s, n: middle(s, n, "p99", 2, 1000)),
    ("x quiet", lambda s, n: spread(s, n, "factor", 2)),
    ("tps quiet", lambda s, n: middle(s, n, "tps_quiet", 0)),
    ("tps in the storm", lambda s, n: middle(s, n, "tps", 0)),
    ("logins/s", lambda s, n: spread(s, n, "logins", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "logins")),
    ("CPU us/login", lambda s, n: spread(s, n, "cpu_login", 0)),
    ("x PgBouncer [95 %]", lambda s, n: times(s, n, "cpu_login")),
)


def columns(row):
    of_kind = {"idle": IDLE_COLUMNS, "copy": BULK_COLUMNS, "burst": BURST_COLUMNS, "storm": STORM_COLUMNS}
    of_queries = BULK_COLUMNS + COLUMNS[4:] if row.megabytes else COLUMNS + ADDED_COLUMNS if row.added else COLUMNS
    return of_kind.get(row.kind, of_queries)


def lines(cells):
    """A table in Markdown, that is one for the eye too."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    drawn = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells]
    drawn.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return drawn


def failures(samples, name=None):
    """How often each contender failed, and what was heard first."""
    found = {}
    for sample in samples:
        if "failed" in sample and name in (None, sample["contender"]):
            found.setdefault(sample["contender"], []).append(sample["failed"].strip().splitlines() or [""])
    rounds = len({sample["round"] for sample in samples})
    return [f"{one} FAILED in {len(said)} of {rounds} rounds: {said[0][0]}" for one, said in found.items()]


def table(row, samples):
    samples = with_added(samples) if row.added else samples
    names = list(dict.fromkeys(sample["contender"] for sample in samples))
    cells = [["", *(title for title, _ in columns(row))]]
    cells += [[name, *(cell(samples, name) for _, cell in columns(row))] for name in names]
    disturbed = sum(bool(sample.get("disturbed")) for sample in samples)
    rounds = len({sample["round"] for sample in samples})
    notes = [f"{rounds} round{'s' * (rounds > 1)}" + (f", {disturbed} of {len(samples)} samples disturbed by others" if disturbed else "")]
    notes += failures(samples)
    wrong = {name: sum(one.get("failures", 0) for one in samples if one["contender"] == name) for name in names}
    notes += [f"{name}: {count} errors reported by pgbench" for name, count in wrong.items() if count]
    notes += [row.note] if row.note else []
    clocks = {sample["clock"] for sample in samples if sample.get("clock")}
    notes += ["CPU from schedstat (no perf): too low where io_uring is used."] if "schedstat" in clocks else []
    return "\n".join([f"\n{row.name}: {row.title}", *lines(cells), *notes])
