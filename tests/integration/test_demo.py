# SPDX-License-Identifier: GPL-2.0-or-later
"""./dev demo itself, from beginning to end and interrupted; and the benchmark's smoke run."""
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from lab import paths
from lab.process import environment, wait_for

DEMO = os.path.join(paths.ROOT, "tests", "integration", "demo.py")
BENCH = os.path.join(paths.ROOT, "bench", "run.py")


def lab_folders():
    return set(glob.glob(os.path.join(tempfile.gettempdir(), "futago-lab-*")))


def qemus():
    """Process ids of all QEMUs on this machine."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.path.basename(os.readlink(f"/proc/{name}/exe")).startswith("qemu-system"):
                found.add(int(name))
        except OSError:
            pass
    return found


@pytest.fixture
def nothing_left(lab):
    """Whatever the test starts has left neither a QEMU nor a folder when it ends. (Namespaces have no life of their own.)"""
    before = (lab_folders(), qemus())
    yield
    assert (lab_folders(), qemus()) == before


def start(args):
    return subprocess.Popen([sys.executable, "-B"] + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=environment(), stdin=subprocess.DEVNULL)


def test_demo(nothing_left):
    began = time.monotonic()
    demo = start([DEMO])
    said = demo.communicate(timeout=150)[0]
    assert demo.returncode == 0, said
    assert said.splitlines()[-1] == "demo: ok", said
    assert said.count("kill -9") == 2, said
    for row in ("transactions", "lost", "doubled", "longest gap at the kill of hostA", "longest gap at the kill of hostB",
                "checkpoints", "pause p50 / p99", "commit p50 / p99"):
        assert row in said, f"{row} missing in: {said}"
    assert time.monotonic() - began < 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo(nothing_left, number):
    before = qemus()
    demo = start([DEMO])
    wait_for("the demo has two QEMUs", lambda: len(qemus() - before) == 2, 30)
    demo.send_signal(number)
    said = demo.communicate(timeout=20)[0]
    assert demo.returncode != 0 and "demo: ok" not in said, said
    assert "Traceback" not in said, said


def test_bench_smoke(nothing_left, tmp_path):
    """One quick round; the file has all the figures there must be, and none is nonsense."""
    out = tmp_path / "bench.json"
    bench = start([BENCH, "--quick", "--json", str(out)])
    said = bench.communicate(timeout=150)[0]
    assert bench.returncode == 0, said
    figures = json.loads(out.read_text())
    for key in ("rr.ratio_1conn", "rr.ratio_32conn", "rr.unprotected_tps", "rr.protected_tps", "pause_us.p50", "pause_us.p99",
                "commit_us.p50", "commit_us.p99", "pages_per_checkpoint", "bytes_per_checkpoint"):
        assert figures[key] > 0 and figures["microvm-256"][key] == figures[key], (key, figures)
        assert key in said, said
    assert figures["pause_us.p50"] <= figures["pause_us.p99"] and figures["commit_us.p50"] <= figures["commit_us.p99"]
