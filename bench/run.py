#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: ./dev bench [CASE] [--json FILE] [--quick]. README.md says how each figure is taken."""
import argparse
import dataclasses
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "integration"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import kills  # noqa: E402
import pause  # noqa: E402
import rr  # noqa: E402
from lab import paths  # noqa: E402
from lab.machine import Machine  # noqa: E402
from lab.network import Lab, end_on_signals  # noqa: E402

CASES = {case.NAME: case for case in (rr, pause)}
CONFIGURATIONS = [(kind, megabytes) for kind in ("microvm", "q35") for megabytes in (256, 1024)]


@dataclasses.dataclass(frozen=True)
class Effort:
    repeats: int
    seconds: float


def arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures what protection costs.")
    parser.add_argument("case", nargs="?", choices=sorted([*CASES, kills.NAME]), help="only this one; kills runs only if named")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as one object")
    parser.add_argument("--quick", action="store_true", help="one short round of the first configuration: a smoke test, no figure to quote")
    parser.add_argument("--repeats", type=int, default=0, metavar="N", help="rounds of each configuration (default 5)")
    parser.add_argument("--count", type=int, metavar="N", help=f"kills: how many (default {kills.DEFAULT_COUNT})")
    parser.add_argument("--seed", type=int, metavar="S", help="kills: where chance begins (default: another one each time)")
    parser.add_argument("--plots", metavar="FOLDER", help="kills: draw the gaps, as SVG and PNG")
    options = parser.parse_args()
    if options.case != kills.NAME and (options.count, options.seed, options.plots) != (None, None, None):
        parser.error("--count, --seed and --plots belong to the case kills")
    if options.count is not None and options.count < 1:
        parser.error("--count wants a number above 0")
    return options


def say(text):
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def measure(lab, names, effort, configurations):
    """{configuration: {figure: value}}"""
    found = {}
    for kind, megabytes in configurations:
        figures = found.setdefault(f"{kind}-{megabytes}", {})
        for name in names:
            figures.update(CASES[name].run(lab, Machine(kind=kind, memory_mb=megabytes), effort,
                                           lambda text, at=f"{kind} {megabytes} MB": say(f"{at}: {text}")))
    return found


def print_table(found):
    """Figures down, configurations across."""
    keys = list(dict.fromkeys(key for figures in found.values() for key in figures))
    width = max(len(key) for key in keys)
    print(" " * width + "".join(name.rjust(16) for name in found))
    for key in keys:
        print(key.ljust(width) + "".join(f"{figures.get(key, ''):>16}" for figures in found.values()))


def write_json(path, found, method):
    """The first configuration's figures at the top, all configurations under their names, and how it was taken."""
    whole = dict(next(iter(found.values())), **found)
    whole["method"] = dict(method, cores=os.cpu_count(), kernel=os.uname().release)
    partial = path + ".part"
    with open(partial, "w", encoding="ascii") as handle:
        json.dump(whole, handle, indent=2)
        handle.write("\n")
    os.replace(partial, path)


def run_speed(lab, options):
    """All cases that measure speed, or the one named; figures, how they were taken, and whether all is well."""
    effort = Effort(1, 1.0) if options.quick else Effort(options.repeats or 5, 3.0)
    found = measure(lab, [options.case] if options.case else list(CASES), effort,
                    CONFIGURATIONS[:1] if options.quick else CONFIGURATIONS)
    return found, dataclasses.asdict(effort), True


def run_kills(lab, options):
    seed = options.seed if options.seed is not None else int(time.time())
    found, done = kills.run(lab, options.count or (6 if options.quick else kills.DEFAULT_COUNT), seed, say)
    if options.plots:
        for path in kills.plot(options.plots, found, done):
            say(f"plot: {path}")
    return found, {"seed": seed, "gaps_ms": [kill.gap_ms for kill in done]}, all(kill.survived for kill in done)


def main():
    options = arguments()
    missing = paths.missing()
    if missing:
        sys.exit(f"bench: not built: {', '.join(missing)} (run ./dev build)")
    end_on_signals()
    lab = Lab()
    try:
        found, method, well = (run_kills if options.case == kills.NAME else run_speed)(lab, options)
    except (RuntimeError, TimeoutError, OSError) as error:
        sys.exit(f"bench: failed: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
    finally:
        lab.close()
    print_table(found)
    if options.json:
        write_json(options.json, found, method)
    if not well:
        sys.exit("bench: a kill was not survived: see above where its logs are")


if __name__ == "__main__":
    main()
