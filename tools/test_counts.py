#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Add up the tests in a folder of results and print "N passed, N failed, N skipped" as the last line.

    test_counts.py FOLDER

Each *.junit.xml is read; a name in the file "expected" without one counts as a failure. Where Meson wrote it, NAME.json
beside it tells of programs that ended badly without a failed test inside (a crash, a time-out): one failure each. A test with
the property "again" (by tools/run_integration.py) has passed, but only when it was run again: it is named before the last line
and in FOLDER/again.txt. The exit status is 1 if a test failed, if none ran, or if one was skipped while CI=true.
"""
import collections
import glob
import json
import os
import sys
import xml.etree.ElementTree

FINE = {"OK", "EXPECTEDFAIL", "SKIP"}


def outcome(case):
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def program_of(case):
    """Meson writes a TAP program's tests in a class named after it, and a plain program as a test of its own."""
    return {case.get("classname", "").rsplit(".", 1)[-1], case.get("name")}


def ran_again(case):
    return any(found.get("name") == "again" for found in case.iter("property"))


def junit_counts(path, again):
    """How many tests ended how, and the names of the programs in which one failed. Fills the list `again`."""
    counts, failed_in = collections.Counter(), set()
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        print(f"failed: {path}: {error}")
        return collections.Counter(failed=1), failed_in
    for case in tree.iter("testcase"):
        result = outcome(case)
        counts[result] += 1
        if ran_again(case):
            again.append(f"{case.get('classname', '')}::{case.get('name', '')}")
        if result == "failed":
            failed_in |= program_of(case)
            print(f"failed: {case.get('classname', '')} {case.get('name', '')}")
    return counts, failed_in


def bad_programs(path):
    """Names of Meson's test programs that did not end well."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as handle:
        results = [json.loads(line) for line in handle if line.strip()]
    return [result["name"].rsplit(" / ", 1)[-1] for result in results if result["result"] not in FINE]


def suite_counts(path, again):
    counts, failed_in = junit_counts(path, again)
    for name in bad_programs(path[: -len(".junit.xml")] + ".json"):
        if name not in failed_in:
            print(f"failed: {name} ended badly")
            counts["failed"] += 1
    if not counts:
        print(f"failed: {os.path.basename(path)} holds no test")
        counts["failed"] += 1
    return counts


def missing_results(folder):
    try:
        with open(os.path.join(folder, "expected"), encoding="utf-8") as handle:
            names = handle.read().split()
    except OSError:
        return []
    return [name for name in names if not os.path.exists(os.path.join(folder, name + ".junit.xml"))]


def name_again(folder, again):
    """A test that needs a second run is to be mended: nobody shall overlook it."""
    for name in again:
        print(f"passed only when run again: {name}")
    if again:
        with open(os.path.join(folder, "again.txt"), "w", encoding="utf-8") as out:
            out.write("".join(f"{name}\n" for name in again))


def main():
    total, again = collections.Counter(), []
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.junit.xml"))):
        counts = suite_counts(path, again)
        name = os.path.basename(path)[: -len(".junit.xml")]
        print(f"{name}: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        total += counts
    for name in missing_results(sys.argv[1]):
        print(f"failed: {name} left no results")
        total["failed"] += 1
    name_again(sys.argv[1], again)
    if not total:
        print("test_counts: no test ran", file=sys.stderr)
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    skips_fail = os.environ.get("CI") == "true" and total["skipped"]
    return 1 if total["failed"] or not total or skips_fail else 0


if __name__ == "__main__":
    sys.exit(main())
