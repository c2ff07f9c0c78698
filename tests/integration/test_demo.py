# SPDX-License-Identifier: GPL-2.0-or-later
"""./dev demo itself, from beginning to end and interrupted; and the benchmark's smoke run."""
import json
import os
import signal
import subprocess
import sys

import pytest
from lab import paths
from lab.process import environment, wait_for

DEMO = os.path.join(paths.ROOT, "tests", "integration", "demo.py")
BENCH = os.path.join(paths.ROOT, "bench", "run.py")


class Stage:
    """Starts programs whose processes and files can be told from all others: by a temporary folder of their own."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.started = []

    def start(self, args, out=subprocess.PIPE):
        self.started.append(subprocess.Popen([sys.executable, "-B"] + args, stdout=out, stderr=subprocess.STDOUT, text=True,
                                             env=environment({"TMPDIR": self.folder}), stdin=subprocess.DEVNULL))
        return self.started[-1]

    def processes(self):
        mark, found = f"TMPDIR={self.folder}\0".encode(), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as handle:
                    found += [int(name)] if mark in handle.read() else []
            except OSError:
                pass
        return found


@pytest.fixture
def stage(lab, tmp_path_factory):
    """What is started on it leaves neither a process nor a file. (Namespaces have no life of their own.)"""
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    running = [program for program in made.started if program.poll() is None]
    for program in running:  # the test has failed
        program.kill()
        program.wait()
    if not running:
        assert made.processes() == []
        assert os.listdir(made.folder) == []


def test_demo(stage):
    demo = stage.start([DEMO])
    said = demo.communicate(timeout=150)[0]
    assert demo.returncode == 0, said
    assert said.splitlines()[-1] == "demo: ok", said
    assert said.count("kill -9") == 2, said
    for row in ("transactions", "lost", "doubled", "longest gap at the kill of hostA", "longest gap at the kill of hostB",
                "checkpoints", "pause p50 / p99", "commit p50 / p99"):
        assert row in said, f"{row} missing in: {said}"


@pytest.mark.parametrize("number, when", [(signal.SIGINT, "waits as the standby"), (signal.SIGTERM, "protected:"),
                                          (signal.SIGINT, "counted")])
def test_interrupted_demo(stage, tmp_path, number, when):
    """Ctrl-C or a termination at different moments: it says so, and cleans up."""
    said = tmp_path / "said"
    with open(said, "w", encoding="utf-8") as out:
        demo = stage.start([DEMO], out)
    wait_for(f"the demo says '{when}'", lambda: when in said.read_text(), 40)
    assert len(stage.processes()) >= 2, "there is nothing to clean up: the test would prove nothing"
    demo.send_signal(number)
    assert demo.wait(60) != 0
    assert "demo: ok" not in said.read_text() and "Traceback" not in said.read_text(), said.read_text()


SMOKE = {
    "rr": ("rr.ratio_1conn", "rr.ratio_32conn", "rr.same_path_ratio_1conn", "rr.unprotected_tps", "rr.protected_tps"),
    "pause": ("pause_us.p50", "pause_us.p99", "commit_us.p50", "commit_us.p99", "pages_per_checkpoint", "bytes_per_checkpoint",
              "pause_part_us.save", "pause_part_us.collect", "pause_part_us.copy", "pause_part_us.send"),
}


@pytest.mark.parametrize("case", SMOKE)
def test_bench_smoke(stage, tmp_path, case):
    """One quick round; the file has all the figures there must be, none is nonsense, and the page shows them."""
    out, page = tmp_path / "bench.json", tmp_path / "bench.html"
    bench = stage.start([BENCH, case, "--quick", "--json", str(out), "--report", str(page)])
    said = bench.communicate(timeout=150)[0]
    assert bench.returncode == 0, said
    figures, shown = json.loads(out.read_text()), page.read_text()
    for key in SMOKE[case]:
        assert figures[key] > 0 and figures["microvm-256"][key] == figures[key], (key, figures)
        assert len(figures["samples"]["microvm-256"][key]) == 1, figures["samples"]
        assert key in said and key in shown, said
    assert "<svg" in shown and "http://" not in shown.replace("http://www.w3.org", ""), "the page draws nothing, or wants the network"
    if case == "pause":
        assert figures["pause_us.p50"] <= figures["pause_us.p99"] and figures["commit_us.p50"] <= figures["commit_us.p99"]
        parts = sum(figures[f"pause_part_us.{part}"] for part in ("stop", "save", "collect", "copy", "go_on"))
        assert figures["pause_us.p50"] / 3 < parts < figures["pause_us.p99"] * 3, "the parts do not make up the pause"
