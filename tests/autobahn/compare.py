"""Compares what the suite reports with what is expected, case by case. For the Python 2.7 of the suite.

    compare.py INDEX EXPECTED     exits with 1 if anything differs; UPDATE_GOLDEN=1 writes EXPECTED anew
"""

import collections
import json
import os
import sys

# A case that ends otherwise fails, whatever is expected.
FINE = ("OK", "NON-STRICT", "INFORMATIONAL")


def number(case):
    return [int(part) for part in case.split(".")]


def read_index(path):
    with open(path) as file:
        cases = json.load(file)["aileron"]
    return {
        case: [found["behavior"], found["behaviorClose"], found["remoteCloseCode"]]
        for case, found in cases.items()
    }


def write_expected(path, found):
    lines = ["  %s: %s" % (json.dumps(case), json.dumps(found[case])) for case in sorted(found, key=number)]
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def main(index, path):
    found = read_index(index)
    if os.environ.get("UPDATE_GOLDEN"):
        write_expected(path, found)
    with open(path) as file:
        expected = json.load(file)
    wrong = 0
    for case in sorted(found, key=number):
        is_fine = found[case][0] in FINE and found[case][1] in FINE
        if not is_fine or found[case] != expected.get(case):
            wrong += 1
            print("case %s: %s instead of %s" % (case, found[case], expected.get(case)))
    counts = collections.Counter(behavior for behavior, _, _ in found.values())
    summary = ", ".join("%d %s" % (counts[behavior], behavior) for behavior in sorted(counts))
    print("autobahn: %d cases: %s; %d differ from what is expected" % (len(found), summary, wrong))
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
