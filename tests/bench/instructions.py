#!/usr/bin/env python3
"""Counts the instructions of the hot pure parts of the data path under callgrind, and fails when one needs over a tenth more than recorded.

usage: instructions.py PROGRAM [--record]

Instructions are the same on every run, seconds are not: so a slower part is noticed on any machine, however busy. They depend on the
compiler and the libraries; after a change that is meant, `make instructions-record` writes instructions.json anew, and the change shows there.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

RECORD = pathlib.Path(__file__).with_name("instructions.json")
ALLOWED = 1.10


def counted(program, work):
    """Instructions of one piece of work, without those that made its input."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--toggle-collect=*measured*", str(program), work]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"error: {work} failed under valgrind:\n{done.stderr[-2000:]}")
        total = re.search(r"^(?:totals|summary): (\d+)", pathlib.Path(folder, "out").read_text(), re.M)
    if not total or int(total[1]) < 10_000:
        raise SystemExit(f"error: nothing of {work} was counted: is its function `measured` still there?")
    return int(total[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--record", action="store_true", help="write the counts instead of comparing them")
    options = parser.parse_args()
    works = subprocess.run([options.program], capture_output=True, text=True, check=True).stdout.split()
    counts = {work: counted(options.program, work) for work in works}
    if options.record:
        RECORD.write_text(json.dumps(counts, indent=2) + "\n")
        return 0
    recorded, slower = json.loads(RECORD.read_text()), []
    if recorded.keys() != counts.keys():
        raise SystemExit(f"error: {RECORD.name} names {sorted(recorded)}, the program does {sorted(counts)}: record them anew")
    for work, count in counts.items():
        ratio = count / recorded[work]
        print(f"{work:16} {count:>15,} instructions, {ratio:.3f} of what is recorded")
        if ratio > ALLOWED:
            slower.append(work)
    if slower:
        print(f"error: {', '.join(slower)}: over {ALLOWED - 1:.0%} more instructions than recorded in {RECORD.name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
