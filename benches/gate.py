"""Counts the instructions of the machines' hot paths by valgrind, and compares with the committed counts.

Counts depend on the compiler: gate.json says which one they were taken with, and under another one more is allowed.

usage: gate.py PROGRAM [--write]     with valgrind and rustc in PATH
exit: 0, 1 (a count is too high)
"""

import json
import re
import subprocess
import sys
from pathlib import Path

COUNTS = Path(__file__).with_name("gate.json")
CASES = ("pool", "select", "untracked", "queued")
FEW, MANY = 2_000, 12_000
TOLERANCE, TOLERANCE_OTHER_COMPILER = 0.03, 0.10


def compiler():
    return subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()


def instructions(program, case, count):
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"]
    said = subprocess.run([*valgrind, program, case, str(count)], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"Collected : (\d+)", said).group(1))


def main(program, *options):
    found = {
        # What happens once cancels out.
        case: round((instructions(program, case, MANY) - instructions(program, case, FEW)) / (MANY - FEW))
        for case in CASES
    }
    if "--write" in options:
        COUNTS.write_text(json.dumps({"compiler": compiler(), **found}, indent=1) + "\n")
    committed = json.loads(COUNTS.read_text())
    tolerance, worse = TOLERANCE, 0
    if (ours := compiler()) != committed["compiler"]:
        tolerance = TOLERANCE_OTHER_COMPILER
        print(f"compiled by {ours}, the committed counts by {committed['compiler']}: {tolerance:.0%} are allowed")
    for case, count in found.items():
        change = count / committed[case] - 1
        worse += change > tolerance
        verdict = f"more than {tolerance:.0%} too many" if change > tolerance else "ok"
        print(f"{case:8}{count:6} instructions, {committed[case]} committed, {change:+.1%}: {verdict}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
