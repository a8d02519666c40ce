"""Counts the instructions of the machines' hot paths by valgrind, and compares with the committed counts.

usage: gate.py PROGRAM [--write]
exit: 0, 1 (a count is too high), 3 (no valgrind)
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

COUNTS = Path(__file__).with_name("gate.json")
CASES = ("pool", "select", "queued")
FEW, MANY = 2_000, 12_000
TOLERANCE = 0.03


def instructions(program, case, count):
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"]
    said = subprocess.run([*valgrind, program, case, str(count)], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"Collected : (\d+)", said).group(1))


def main(program, *options):
    if not shutil.which("valgrind"):
        print("gate: needs valgrind", file=sys.stderr)
        return 3
    found = {
        # What happens once cancels out.
        case: round((instructions(program, case, MANY) - instructions(program, case, FEW)) / (MANY - FEW))
        for case in CASES
    }
    if "--write" in options:
        COUNTS.write_text(json.dumps(found, indent=1) + "\n")
    committed = json.loads(COUNTS.read_text())
    worse = 0
    for case, count in found.items():
        change = count / committed[case] - 1
        worse += change > TOLERANCE
        verdict = f"more than {TOLERANCE:.0%} too many" if change > TOLERANCE else "ok"
        print(f"{case:8}{count:6} instructions, {committed[case]} committed, {change:+.1%}: {verdict}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
