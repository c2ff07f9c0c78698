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
    parser.add_argument("case", nargs="?", choices=sorted(CASES), help="only this one")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as one object")
    parser.add_argument("--quick", action="store_true", help="one short round of the first configuration: a smoke test, no figure to quote")
    parser.add_argument("--repeats", type=int, default=0, metavar="N", help="rounds of each configuration (default 5)")
    return parser.parse_args()


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
    print(" " * width + "".join(name.rjust(14) for name in found))
    for key in keys:
        print(key.ljust(width) + "".join(f"{figures.get(key, ''):>14}" for figures in found.values()))


def write_json(path, found, effort):
    """The first configuration's figures at the top, all configurations under their names, and how it was taken."""
    whole = dict(next(iter(found.values())), **found)
    whole["method"] = {"repeats": effort.repeats, "seconds": effort.seconds, "cores": os.cpu_count(), "kernel": os.uname().release}
    partial = path + ".part"
    with open(partial, "w", encoding="ascii") as handle:
        json.dump(whole, handle, indent=2)
        handle.write("\n")
    os.replace(partial, path)


def main():
    options = arguments()
    missing = paths.missing()
    if missing:
        sys.exit(f"bench: not built: {', '.join(missing)} (run ./dev build)")
    effort = Effort(1, 1.0) if options.quick else Effort(options.repeats or 5, 3.0)
    end_on_signals()
    lab = Lab()
    try:
        found = measure(lab, [options.case] if options.case else list(CASES), effort,
                        CONFIGURATIONS[:1] if options.quick else CONFIGURATIONS)
    except (RuntimeError, TimeoutError, OSError) as error:
        sys.exit(f"bench: failed: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
    finally:
        lab.close()
    print_table(found)
    if options.json:
        write_json(options.json, found, effort)


if __name__ == "__main__":
    main()
