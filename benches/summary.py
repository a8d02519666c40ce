"""From results of ./bench to what they show: a table of all bars, and a plot.

usage: summary.py [--write] [FILE...]     default: all of benches/results

Of each figure the newest file counts that has it. --write puts the tables into docs/performance.md and README.md, and the
plot beside the former.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import bars
import report
import rows

ROOT = Path(__file__).parents[1]
PERFORMANCE, README, PLOT = ROOT / "docs" / "performance.md", ROOT / "README.md", ROOT / "docs" / "performance.svg"
BLOCK = re.compile(r"(<!-- bench summary begins -->\n).*?(<!-- bench summary ends -->)", re.DOTALL)
SHORT = ("select-1", "select-50", "select-500", "select-5000", "prepared", "settings", "connect-scram", "large", "copy-out", "paced", "idle")
"""Rows of the README, each by the first of its costs."""


def newest(bar, results):
    """The result that counts for a bar: the last that has its row with both whom it compares; or None."""
    needed = {bar.contender, bar.reference} - {""}
    for result in reversed(results):
        if needed <= {one["contender"] for one in result["samples"] if one["row"] == bar.row}:
            return result
    return None


def judged(bar, results):
    result = newest(bar, results)
    return bars.judge(bar, [one for one in result["samples"] if one["row"] == bar.row] if result else [])


def origin(result):
    """Where and how a result was measured, in a sentence."""
    machine, versions = result["machine"], result["versions"]
    who = ", ".join(dict.fromkeys(versions[name] for name in ("headpond", "pgbouncer") if name in versions))
    return (
        f"{result['date']}: {who}, {result['postgres']}; {machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, {machine['system']}; {result['rounds']} rounds of {result['seconds']} s."
    )


def used(of_bars, results):
    return [result for result in results if any(newest(bar, results) is result for bar in of_bars)]


def figure(finding):
    if not finding.found:
        return "-"
    mean, low, high = finding.found
    return f"{mean:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else " (one round)")


def limits(bar):
    sign = "≥" if bar.least else "≤"
    return " / ".join(f"{sign} {limit:g}" for limit in (bar.bar, bar.moonshot) if limit is not None)


def quantity(bar):
    to = ", to the server's alone" if bar.reference == "direct" else ""
    who = f" ({bar.contender})" if bar.contender not in ("headpond", "headpond-plain") else ""
    return bars.FIGURES[bar.key] + to + who


def table(findings):
    if findings and findings[0].bar.bar is None:
        cells = [["row", "figure", "ratio [95 %]", "PgBouncer beside it"]]
        cells += [[rows.BY_NAME[one.bar.row].title, quantity(one.bar), figure(one), one.verdict] for one in findings]
    else:
        cells = [["row", "figure", "ratio [95 %]", "bar / moonshot", "verdict"]]
        cells += [[rows.BY_NAME[one.bar.row].title, quantity(one.bar), figure(one), limits(one.bar), one.verdict] for one in findings]
    return "\n".join(report.lines(cells))


def report_of(results):
    """All tables, and where they come from."""
    groups = [
        ("With everything on", [judged(bar, results) for bar in bars.BARS]),
        ("Without io_uring (`sends = \"plain\"`)", [judged(bar, results) for bar in bars.PLAIN]),
        ("Other figures", [one for bar in bars.OTHERS if (one := judged(bar, results)).verdict != "not measured"]),
    ]
    findings = [one.bar for _, group in groups for one in group]
    # Runs that differ in nothing but their rows are told once.
    text = list(dict.fromkeys(origin(result) for result in used(findings, results)))
    text += [f"### {title}\n\n{table(group)}" for title, group in groups if group]
    return "\n\n".join(text), groups[0][1]


def short(results):
    """The table of the README: a figure for each of a few rows."""
    costs = [bar for bar in bars.BARS if bar.reference == report.REFERENCE and not bar.least]
    picked = [next(bar for bar in costs if bar.row == row) for row in SHORT]
    findings = [one for bar in picked if (one := judged(bar, results)).found]
    cells = [["", "", "ratio to PgBouncer [95 %]"]]
    cells += [[rows.BY_NAME[one.bar.row].title, quantity(one.bar), figure(one)] for one in findings]
    dates = sorted({result["date"] for result in used([one.bar for one in findings], results)})
    return "\n".join(report.lines(cells)) + f"\n\nMeasured {' and '.join(dates)}; less is better."


def replace_block(file, text):
    content, count = BLOCK.subn(lambda found: f"{found[1]}{text}\n{found[2]}", file.read_text())
    if count != 1:
        raise SystemExit(f"{file}: needs one pair of lines `<!-- bench summary begins -->` and `<!-- bench summary ends -->`")
    file.write_text(content)


def plot(findings, file):
    """Each ratio with its interval, its bar and its moonshot."""
    try:
        import matplotlib
    except ImportError:
        print(f"{file.name}: left as it is, for it takes matplotlib (Debian: python3-matplotlib)", file=sys.stderr)
        return
    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "headpond"
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    findings = [one for one in findings if one.found and one.bar.reference]
    figure_, axes = pyplot.subplots(figsize=(10, 1 + 0.32 * len(findings)), layout="constrained")
    for height, one in enumerate(findings):
        mean, low, high = one.found
        axes.plot([low or mean, high or mean], [height, height], color="tab:blue", linewidth=3)
        axes.plot(mean, height, "o", color="tab:blue", label="measured, 95 %" if height == 0 else None)
        axes.plot(one.bar.bar, height, "|", color="black", markersize=13, label="bar" if height == 0 else None)
        axes.plot(one.bar.moonshot, height, "|", color="tab:orange", markersize=13, label="moonshot" if height == 0 else None)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(findings)), [f"{one.bar.row}: {quantity(one.bar)}" for one in findings])
    axes.invert_yaxis()
    axes.set_xlabel("ratio to PgBouncer, unless it says otherwise")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    figure_.savefig(file, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(prog="./bench summary")
    parser.add_argument("files", nargs="*", type=Path, help="results; default: all of benches/results")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md and README.md, with docs/performance.svg")
    options = parser.parse_args()
    files = options.files or (ROOT / "benches" / "results").glob("*.json")
    # Their names are their times.
    results = [json.loads(file.read_text()) for file in sorted(files, key=lambda file: file.name)]
    if not results:
        raise SystemExit("no results: run ./bench first")
    text, findings = report_of(results)
    if not options.write:
        print(text)
        return
    plot(findings, PLOT)
    picture = f"\n\n![The ratios with their intervals]({PLOT.name})" if PLOT.exists() else ""
    replace_block(PERFORMANCE, text + picture)
    replace_block(README, short(results))


if __name__ == "__main__":
    main()
