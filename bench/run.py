#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: ./dev bench [CASE] [--json FILE] [--report FILE] [--quick]. README.md says how each figure is taken.

A case is a module with
    NAME, TITLE, ABOUT          as on the command line; for the report
    run(lab, effort, say)       {configuration: {figure: a value, or a list of samples}}; raises what went wrong
and, where it makes sense,
    IN_CORE = False             not part of "core"
    arguments(parser)           options of its own; found in effort.options
    plot(folder, result)        draws into the folder; returns the names of the SVG files
    verdict(found)              why the run counts as failed, or ""
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "integration"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bulk  # noqa: E402
import colo  # noqa: E402
import compare  # noqa: E402
import cost  # noqa: E402
import cpu  # noqa: E402
import disk  # noqa: E402
import events  # noqa: E402
import gap  # noqa: E402
import kills  # noqa: E402
import links  # noqa: E402
import migration  # noqa: E402
import options  # noqa: E402
import pace  # noqa: E402
import pause  # noqa: E402
import probe  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
import rr  # noqa: E402
import snapshot  # noqa: E402
import tracker  # noqa: E402
import wire  # noqa: E402
from lab import paths  # noqa: E402
from lab.network import Lab, end_on_signals  # noqa: E402

CASES = {case.NAME: case for case in (rr, bulk, cpu, pause, cost, pace, gap, links, colo, kills, tracker, migration, wire, disk, events, snapshot, probe)}


def say(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def measure(cases, effort):
    """{case: {configuration: {figure: a value, or samples}}} and what failed."""
    found, troubles = {}, []
    lab = Lab()
    try:
        for number, case in enumerate(cases, 1):
            say(f"{case.NAME}: case {number} of {len(cases)}")
            try:
                found[case.NAME] = case.run(lab, effort, lambda text, name=case.NAME: say(f"{name}: {text}"))
                troubles.append(getattr(case, "verdict", lambda _: "")(found[case.NAME]))
            except (RuntimeError, TimeoutError, OSError) as error:  # the other cases' figures are worth having all the same
                say(f"{case.NAME}: failed: {error}")
                troubles.append(f"{case.NAME} failed: {error}")
            lab.reset()
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
    finally:
        lab.close()
    return found, [trouble for trouble in troubles if trouble]


def main():
    wanted = options.parse(CASES)
    if wanted.case == "compare":
        sys.exit(compare.main(*wanted.files))
    missing = paths.missing()
    if missing:
        sys.exit(f"bench: not built: {', '.join(missing)} (run ./dev build)")
    end_on_signals()
    effort = options.Effort(wanted)
    cases = [case for case in CASES.values() if wanted.case in (case.NAME, "all", "core" if getattr(case, "IN_CORE", True) else None)]
    found, troubles = measure(cases, effort)
    if not found:
        sys.exit("bench: " + "; ".join(troubles))
    cases = [case for case in cases if case.NAME in found]
    whole = results.whole(found, effort)
    results.print_table(whole)
    if wanted.json:
        results.write_json(wanted.json, whole)
    if wanted.plots:
        for case in cases:
            for name in report.draw(case, wanted.plots, whole):
                say(f"plot: {os.path.join(wanted.plots, name)}")
    if wanted.report:
        report.write(wanted.report, whole, cases)
        say(f"report: {wanted.report}")
    if troubles:
        sys.exit("bench: " + "; ".join(troubles))


if __name__ == "__main__":
    main()
