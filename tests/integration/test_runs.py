# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/run_integration.py and tools/test_counts.py: how a run with tests that fail, hang, crash or need a second run ends."""
import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree

import pytest
from lab import paths

TOOLS = os.path.join(paths.ROOT, "tools")
HEAD = "import os, signal, subprocess, time\nimport pytest\n"


class Runs:
    """A folder of test files, and what became of them."""

    def __init__(self, folder):
        self.folder, self.out = str(folder), ""
        self.results = os.path.join(self.folder, "results")

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as out:
            out.write(HEAD + textwrap.dedent(text))

    def run(self, *words):
        files = sorted(name for name in os.listdir(self.folder) if name.startswith("test_"))
        os.makedirs(self.results, exist_ok=True)
        done = subprocess.run([sys.executable, "-B", os.path.join(TOOLS, "run_integration.py"), self.results, "some", *words, *files],
                              cwd=self.folder, capture_output=True, text=True, timeout=150)
        self.out = done.stdout + done.stderr
        return done.returncode

    def outcomes(self):
        kinds, cases = {}, xml.etree.ElementTree.parse(os.path.join(self.results, "some.junit.xml")).iter("testcase")
        for case in cases:
            tags = {child.tag for child in case}
            kinds[f"{case.get('classname')}::{case.get('name')}"] = \
                "again" if "properties" in tags else "failed" if "failure" in tags else "skipped" if "skipped" in tags else "passed"
        return kinds

    def counts(self, **env):
        done = subprocess.run([sys.executable, "-B", os.path.join(TOOLS, "test_counts.py"), self.results], capture_output=True,
                              text=True, env={**os.environ, "CI": "", **env})
        return done.returncode, done.stdout.splitlines()


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def test_each_end_is_told(runs):
    """What hangs or crashes costs its own test only, whether it heeds the alarm or not; nothing of it lives on."""
    runs.write("test_a.py", """
        def test_good(): pass
        def test_bad(): assert 1 == 2
        @pytest.mark.limit(1)
        def test_slow(): time.sleep(100)
        @pytest.mark.limit(1)
        def test_deaf():
            with open("pid", "w") as out:
                out.write(str(subprocess.Popen(["sleep", "100"], start_new_session=True).pid))
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(100)
        def test_between(): pass
        def test_crash(): os._exit(7)
        def test_last(): pass
        @pytest.mark.skip
        def test_left_out(): pass
        """)
    runs.write("test_b.py", "import there_is_no_such_module\n")
    assert runs.run("--silence", "5") == 1
    assert runs.outcomes() == {
        "test_a::test_good": "passed", "test_a::test_bad": "failed", "test_a::test_slow": "failed", "test_a::test_deaf": "failed",
        "test_a::test_between": "passed", "test_a::test_crash": "failed", "test_a::test_last": "passed",
        "test_a::test_left_out": "skipped", "test_b::the run of this file": "failed"}, runs.out
    assert "call has taken longer than 1 s" in runs.out and "in test_slow" in runs.out, runs.out
    assert "hangs, and was ended" in runs.out and "in test_deaf" in runs.out, runs.out
    with open(os.path.join(runs.folder, "pid"), encoding="ascii") as handle:
        assert not os.path.exists(f"/proc/{handle.read()}/exe")
    status, lines = runs.counts()
    assert status == 1 and lines[-1] == "3 passed, 5 failed, 1 skipped", lines


def test_second_run(runs):
    """Passed then: passed, and named. Failed twice: failed."""
    runs.write("test_a.py", """
        def test_once():
            if not os.path.exists("been"):
                open("been", "w").close()
                assert False, "the first time"
        """)
    assert runs.run() == 0, runs.out
    assert runs.outcomes() == {"test_a::test_once": "again"}, runs.out
    status, lines = runs.counts(CI="true")
    assert status == 0 and lines[-2:] == ["passed only when run again: test_a::test_once", "1 passed, 0 failed, 0 skipped"], lines
    with open(os.path.join(runs.results, "again.txt"), encoding="utf-8") as handle:
        assert handle.read() == "test_a::test_once\n"


def test_many_failures_are_no_noise(runs):
    runs.write("test_a.py", """
        @pytest.mark.parametrize("number", range(21))
        def test_bad(number):
            path = f"been{number}"
            if not os.path.exists(path):
                open(path, "w").close()
                assert False
        """)
    assert runs.run() == 1
    assert set(runs.outcomes().values()) == {"failed"} and "too many to be noise" in runs.out, runs.out


def test_no_time_left(runs):
    """A run ends when its time is over: what is under way and what has not begun has failed."""
    for name in "ab":
        runs.write(f"test_{name}.py", "def test_endless(): time.sleep(300)\n")
    assert runs.run("-j", "1", "--within", "4") == 1
    assert runs.outcomes() == {"test_a::test_endless": "failed", "test_b::the run of this file": "failed"}, runs.out
    assert "not begun when the whole run had taken 4" in runs.out, runs.out
