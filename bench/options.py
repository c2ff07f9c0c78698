# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmarks' command line, and how much work it asks for."""
import argparse

DEFAULT_REPEATS = 5
SECONDS = 3.0
REPORT = "futago-bench.html"


class Effort:
    """repeats: rounds of each configuration; seconds: of each window of load; quick: a smoke test; options: the command line."""

    def __init__(self, options):
        self.options, self.quick = options, options.quick
        self.repeats = 1 if self.quick else options.repeats or DEFAULT_REPEATS
        self.seconds = 1.0 if self.quick else SECONDS

    def of(self, configurations):
        """Those of a case's configurations that are measured."""
        return configurations[:1] if self.quick else configurations


def count(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0")
    return value


def parse(cases):
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measures what protection costs.")
    core = ", ".join(name for name, case in cases.items() if getattr(case, "IN_CORE", True))
    parser.add_argument("case", nargs="?", default="core", choices=[*cases, "core", "all", "compare"],
                        help=f"only this one; core (the default): {core}; all: every case; compare sets two JSON files side by side")
    parser.add_argument("files", nargs="*", metavar="FILE", help="compare: the two files")
    parser.add_argument("--json", metavar="FILE", help="write all figures and their samples to FILE as one object")
    parser.add_argument("--report", metavar="FILE", nargs="?", const=REPORT,
                        help=f"write one HTML page with every table and plot (default {REPORT})")
    parser.add_argument("--plots", metavar="FOLDER", help="draw the plots, as SVG and PNG")
    parser.add_argument("--quick", action="store_true", help="one short round of the first configuration: a smoke test, no figure to quote")
    parser.add_argument("--repeats", type=count, metavar="N", help=f"rounds of each configuration (default {DEFAULT_REPEATS})")
    for case in cases.values():
        getattr(case, "arguments", lambda _: None)(parser)
    options = parser.parse_args()
    if (options.case == "compare") != (len(options.files) == 2) or (options.files and options.case != "compare"):
        parser.error("compare wants two JSON files; no other case wants any")
    return options
