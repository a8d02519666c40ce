"""What is claimed: the bar of each figure, and the moonshot behind it."""

from dataclasses import dataclass, replace

import report


@dataclass(frozen=True)
class Bar:
    row: str
    key: str
    """Of the samples."""
    bar: float | None = None
    moonshot: float | None = None
    least: bool = False
    """The ratio must be at least that, rather than at most."""
    reference: str = "pgbouncer"
    """Whose figure it is a ratio to; empty: it counts by itself."""
    contender: str = "headpond"


FIGURES = {
    "cpu": "CPU per transaction",
    "tps": "transactions per second",
    "p99": "p99",
    "added": "added latency",
    "rate": "MB/s",
    "cpu_mb": "CPU per MB",
    "bytes": "bytes per client",
    "admitted": "share that is let in",
    "all_in": "time until all are in",
    "cpu_login": "CPU per login",
    "logins": "logins per second",
    "factor": "p99 of the others, to its quiet value",
}

BARS = [
    Bar("select-50", "cpu", 0.85, 0.70),
    Bar("select-50", "tps", 1.15, 1.3, least=True),
    *(Bar(row, key, bar, moonshot) for row in ("select-500", "select-2000", "select-5000")
      for key, bar, moonshot in (("cpu", 0.85, 0.66), ("p99", 1.0, 0.75))),
    Bar("select-1", "cpu", 1.0, 0.90),
    Bar("select-1", "added", 1.0, 0.95),
    Bar("simple", "cpu", 0.95, 0.80),
    Bar("extended", "cpu", 0.95, 0.77),
    Bar("prepared", "cpu", 0.85, 0.65),
    Bar("settings", "cpu", 0.85, 0.50),
    Bar("connect", "cpu", 1.0, 0.80),
    Bar("connect-scram-stored", "cpu", 1.0, 0.80),
    Bar("connect-scram", "cpu", 1.0, 0.80),
    Bar("large", "rate", 0.6, 0.85, least=True, reference="direct"),
    Bar("large", "cpu_mb", 0.60, 0.40),
    Bar("copy-out", "cpu_mb", 0.80, 0.60),
    Bar("copy-in", "cpu_mb", 0.90, 0.70),
    Bar("paced", "p99", 0.8, 0.5),
    Bar("idle", "bytes", 0.5, 0.35),
    Bar("burst", "admitted", 1.0, least=True, reference=""),
    Bar("login-storm", "factor", 2.0, reference=""),
]

PLAIN = [
    replace(bar, bar=1.0, moonshot=0.9, contender="headpond-plain")
    for bar in BARS if bar.reference == report.REFERENCE and not bar.least
]
"""The same where the kernel offers no io_uring."""

OTHERS = [
    *(Bar(row, "cpu") for row in ("tpcb", "function", "trigger", "pools-50", "pools-2")),
    Bar("pools-2", "tps", least=True, contender="headpond-2"),
    *(Bar(row, "cpu") for row in ("unix-50", "unix-500", "tls-50", "tls-both-50", "connect-tls")),
    *(Bar(row, "cpu_mb") for row in ("tls-large", "tls-both-large")),
    Bar("burst", "all_in"),
    Bar("burst", "cpu_login"),
    Bar("login-storm", "cpu_login"),
    Bar("login-storm", "logins", least=True),
]
"""Figures without a bar."""


@dataclass(frozen=True)
class Finding:
    bar: Bar
    found: tuple | None
    """The ratio, and the ends of its 95 % interval, if there are."""
    verdict: str


def judge(bar, samples):
    """What the samples of the bar's row show."""
    samples = report.with_added(samples)
    if bar.reference:
        found = report.ratio(samples, bar.contender, bar.key, bar.reference)
    else:
        found = report.alone(samples, bar.contender, bar.key)
    failed = [name for name in (bar.contender, bar.reference) if name and report.failures(samples, name)]
    if failed:
        return Finding(bar, found, " and ".join(failed) + " failed")
    return Finding(bar, found, verdict(bar, *found[1:]) if found else "not measured")


def verdict(bar, low, high):
    """A claim holds if the whole interval does: the estimate alone claims nothing."""
    if low is None:
        return "not shown"
    reached = (lambda limit: limit is not None and low >= limit) if bar.least else (lambda limit: limit is not None and high <= limit)
    if bar.bar is None:
        ahead, behind = (low > 1, high < 1) if bar.least else (high < 1, low > 1)
        return "ahead" if ahead else "behind" if behind else "even"
    return "moonshot" if reached(bar.moonshot) else "holds" if reached(bar.bar) else "not shown"
