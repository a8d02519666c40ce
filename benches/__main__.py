"""Headpond's benchmark: takes the samples, in interleaved rounds, and prints a table for each row. See ./bench."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import contenders
import machine
import postgres
import report
import rows
import sample

RESULTS = Path(__file__).with_name("results")
TRIES = 3
"""Samples taken at most of one cell: a disturbed one is repeated."""


def arguments():
    parser = argparse.ArgumentParser(prog="./bench")
    parser.add_argument("rows", nargs="*", help="rows by name; `quick`: three of them, briefly; default: all")
    parser.add_argument("--list", action="store_true", help="the rows and the contenders")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of one sample")
    parser.add_argument("--only", help="contenders, by name, with commas")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for the machine to be quiet")
    parser.add_argument("--binaries", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    quick = "quick" in options.rows
    options.rows = [name for name in options.rows if name != "quick"] or list(rows.QUICK if quick else rows.BY_NAME)
    options.rounds = options.rounds or (2 if quick else 5)
    options.seconds = options.seconds or (3 if quick else 8)
    return options


def chosen(names, known, kind):
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such {kind}: {', '.join(unknown)} (there are {', '.join(known)})")
    return {name: known[name] for name in names}


def also(row, names):
    """Contenders of this row alone, unless some were chosen by name."""
    return [name for name in row.also if names == list(contenders.DEFAULT)]


def steps(chosen_rows, names, rounds):
    """Every sample to be taken, in order: within a row the rounds are interleaved, every other one backwards."""
    for row in chosen_rows:
        able = [name for name in (*names, *also(row, names)) if name not in row.without]
        for number in range(rounds):
            for name in able if number % 2 == 0 else able[::-1]:
                yield row, number, name


def progress(text):
    end = "" if sys.stderr.isatty() else "\n"
    print(("\r\033[K" if not end else "") + text, end=end, file=sys.stderr, flush=True)


def undisturbed(row, contender, server, options):
    """A sample; one that others disturbed is repeated, and the least disturbed counts."""
    taken = []
    while len(taken) < TRIES:
        machine.wait_until_quiet(options.patience)
        taken.append(sample.take(row, contender, server, options.seconds))
        if sample.disturbance(taken[-1]) <= sample.DISTURBANCE_MAX:
            break
    best = min(taken, key=sample.disturbance)
    return {**best, "disturbed": sample.disturbance(best) > sample.DISTURBANCE_MAX, "tries": len(taken)}


def measure(plan, all_contenders, options, keep):
    samples, begun = [], time.monotonic()
    with postgres.server() as server:
        for index, (row, number, name) in enumerate(plan):
            left = (time.monotonic() - begun) / index * (len(plan) - index) / 60 if index else 0
            progress(f"{row.name}: round {number + 1} of {options.rounds}, {name}; about {left:.0f} min left")
            try:
                taken = undisturbed(row, all_contenders[name], server, options)
            except Exception as error:  # Whatever it is, the hours of the others are not lost for it.
                taken = {"failed": str(error) or repr(error)}
                progress(f"{row.name}: {name} failed: {taken['failed']}\n")
            samples.append({"row": row.name, "round": number, "contender": name, **taken})
            keep(samples)
            if index + 1 == len(plan) or plan[index + 1][0] is not row:
                progress("")
                order = list(all_contenders)
                of_row = sorted((one for one in samples if one["row"] == row.name), key=lambda one: order.index(one["contender"]))
                print(report.table(row, of_row), flush=True)


def main():
    # Whatever ends it, what it has started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments()
    every = contenders.contenders(options.binaries.resolve())
    if options.list:
        print(*(f"{row.name:22}{row.title}" for row in rows.ROWS), sep="\n")
        print("contenders:", ", ".join(every))
        return
    picked = chosen(options.only.split(",") if options.only else contenders.DEFAULT, every, "contender")
    picked_rows = chosen(options.rows, rows.BY_NAME, "row").values()
    machine.raise_descriptor_limit()
    notes = machine.notes()
    names = list(picked)
    for row in picked_rows:
        picked |= {name: every[name] for name in also(row, names)}
    versions = {name: contender.version() for name, contender in picked.items()}
    for name, version in versions.items():
        print(f"{name:15}{version}")
    print("machine: " + ", ".join(f"{name} {value}" for name, value in notes.items()))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / time.strftime("%Y-%m-%d-%H%M%S.json")
    header = {
        "date": time.strftime("%Y-%m-%d"), "machine": notes, "versions": versions, "postgres": postgres.version(),
        "rounds": options.rounds, "seconds": options.seconds, "pool": rows.POOL,
    }

    def keep(samples):
        file.write_text(json.dumps({**header, "samples": samples}, indent=1) + "\n")

    measure(list(steps(picked_rows, names, options.rounds)), every, options, keep)
    print(f"\nsamples: {file.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
