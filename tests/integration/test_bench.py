# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmarks' own machinery: setting two runs side by side, and the report. No figure is judged here."""
import json
import os
import random
import subprocess
import sys

import pytest

from lab import paths

RUN = os.path.join(paths.ROOT, "bench", "run.py")
KEY = "rr.ratio_1conn"


def bench(*args):
    return subprocess.run([sys.executable, "-B", RUN, *map(str, args)], capture_output=True, text=True, timeout=60)


def result_file(path, samples):
    path.write_text(json.dumps({"configurations": ["microvm-256"], "microvm-256": {KEY: samples[0]},
                                "samples": {"microvm-256": {KEY: samples}}}))
    return path


def noise(seed, middle, count=40):
    chance = random.Random(seed)
    return [chance.gauss(middle, 0.05) for _ in range(count)]


@pytest.mark.parametrize("middle, count, status, word", [
    (0.60, 40, 0, "no difference shown"), (0.50, 40, 1, "lower"), (0.70, 40, 1, "higher"), (0.50, 29, 0, "fewer than 30 samples")])
def test_compare(tmp_path, middle, count, status, word):
    done = bench("compare", result_file(tmp_path / "a.json", noise(1, 0.60)), result_file(tmp_path / "b.json", noise(2, middle, count)))
    assert done.returncode == status, done.stdout + done.stderr
    assert KEY in done.stdout and word in done.stdout


@pytest.mark.parametrize("content", [None, "", "[]", '{"samples": 1}', '{"samples": {}}'])
def test_compare_refuses(tmp_path, content):
    """What is no result is named in one line."""
    good, bad = result_file(tmp_path / "a.json", noise(1, 0.6)), tmp_path / "bad.json"
    if content is not None:
        bad.write_text(content)
    done = bench("compare", good, bad)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("compare", "one.json"), ("rr", "a.json"), ("nothing",), ("--repeats", "0")])
def test_wrong_use(args):
    done = bench(*args)
    assert done.returncode == 2 and "error:" in done.stderr, done.stderr
