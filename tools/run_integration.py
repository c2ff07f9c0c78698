#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run pytest files, two at a time, and the failed tests once more.

    run_integration.py RESULTS NAME [-m MARKERS] [-j JOBS] [--within SECONDS] FILE...

Each file has a pytest of its own (and so a laboratory of its own). RESULTS/NAME.junit.xml tells how each test ended;
RESULTS/NAME.logs/ keeps what every pytest printed. What failed is run once more at the end, alone: noise of the machine is told
from a failure so, and a test that passed only then has the property "again" in the JUnit file, for tools/test_counts.py to
name it. More failures than AGAIN_MAX are not noise. A pytest that hangs is ended, after it has printed its stacks, and its
other tests get another. After --within seconds all that did not end has failed. Exit status 1 if a test failed.
"""
import argparse
import collections
import glob
import json
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

AGAIN_MAX = 20
START_S = 120            # to import, collect, and make the laboratory
STACKS_S = 5             # from SIGABRT, at which pytest prints its stacks, to SIGKILL
ENDING_S = 30            # from SIGTERM to SIGKILL, when we are told to end
NO_TEST_FITS = 5         # pytest's status where the markers leave no test of a file
WHOLE_FILE = "the run of this file"
PYTEST = ["/usr/bin/python3", "-B", "-m", "pytest", "-p", "no:cacheprovider", "-p", "pytest_futago", "--strict-markers", "-v"]
# These take longest: begun first, so that none of them runs alone at the end.
LONGEST = ("test_disks.py", "test_guests.py", "test_failures.py", "test_disk_notes.py", "test_shared_disks.py", "test_probes.py",
           "test_demo.py", "test_bad_link.py", "test_kill_primary.py", "test_tls.py", "test_relocating_disk.py",
           "test_arbiter_pairs.py", "test_emulated.py")


class Case:
    """One test and how it ended."""

    def __init__(self, name):
        self.name, self.outcome, self.seconds, self.text, self.again = name, None, 0.0, "", False

    def take(self, message):
        self.seconds += message["seconds"]
        if message["outcome"] == "failed" or self.outcome is None or message["when"] == "call" and self.outcome == "passed":
            self.outcome = message["outcome"]
        if message["text"]:
            self.text += f"{message['when']} {message['outcome']}:\n{message['text']}\n"


def file_of(name):
    return name.split("::")[0]


def short(name):
    return name.rsplit("/", 1)[-1]


def kill_marked(mark):
    """Processes with this in their environment."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as handle:
                if mark.encode() in handle.read().split(b"\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass


class Batch:
    """One pytest at work on a file, or on some tests of one."""

    def __init__(self, targets, log, options):
        self.targets, self.log, self.cases, self.collected, self.present = targets, log, {}, [], None
        self.killed = ""   # why
        self.cpu_s = 0.0   # of all its processes, known at its end
        self.rest = b""
        self.began = time.monotonic()
        self.silence = options.silence
        self.silent_until = self.began + START_S
        self.mark = f"FUTAGO_RUN={os.getpid()}.{int(self.began * 1000)}.{os.path.basename(log)}"
        ours, theirs = os.pipe()
        self.pipe = ours
        os.set_blocking(ours, False)
        words = PYTEST + (["-m", options.markers] if options.markers else []) + targets
        mark, value = self.mark.split("=")
        path = os.path.dirname(os.path.abspath(__file__)) + ":" + os.environ.get("PYTHONPATH", "")
        with open(log, "wb") as out:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM"] + words, stdout=out, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, pass_fds=[theirs], start_new_session=True,
                                            env=dict(os.environ, FUTAGO_REPORT_FD=str(theirs), PYTHONPATH=path, **{mark: value}))
        os.close(theirs)

    def read(self):
        """Takes what was told; returns the cases that ended, and whether that was the end."""
        ended = []
        try:
            data = os.read(self.pipe, 1 << 20)
        except BlockingIOError:
            return ended, False
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line), ended)
        return ended, not data

    def _take(self, message, ended):
        self.silent_until = time.monotonic() + self.silence
        if "collected" in message:
            self.collected = message["collected"]
        elif "start" in message:
            self.present = message["start"]
            self.silent_until += message["limit"]
            self.cases.setdefault(self.present, Case(self.present))
        elif "finish" in message:
            self.present = None
            ended.append(self.cases[message["finish"]])
        else:
            self.cases[message["id"]].take(message)

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def kill(self, why):
        """With its stacks in the log."""
        self.killed = why
        self.signal(signal.SIGCONT)
        try:
            os.kill(self.process.pid, signal.SIGABRT)
            self.process.wait(STACKS_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
        self.signal(signal.SIGKILL)

    def tail(self):
        with open(self.log, "r", encoding="utf-8", errors="replace") as handle:
            return handle.read()[-6000:]

    def clean_up(self):
        """What a laboratory could not take away itself."""
        kill_marked(self.mark)
        for folder in glob.glob(os.path.join(tempfile.gettempdir(), f"futago-lab-{self.process.pid}-*")):
            shutil.rmtree(folder, ignore_errors=True)

    def end(self):
        """After its end. Returns what it could not tell itself: a failed case or None; the names of tests it did not come to."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status = self.process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        os.close(self.pipe)
        self.clean_up()
        left = [name for name in self.collected if name not in self.cases]
        if self.present:
            case = self.cases[self.present]
        elif self.killed or status not in (0, 1, NO_TEST_FITS) or left:
            case, left = Case(f"{file_of(self.targets[0])}::{WHOLE_FILE}"), []
        else:
            return None, left
        case.outcome, case.text = "failed", f"{self.killed or f'pytest ended with status {status}'}\n{self.tail()}"
        return case, left


class Run:
    def __init__(self, options):
        self.options = options
        self.logs = os.path.join(options.results, f"{options.name}.logs")
        os.makedirs(self.logs, exist_ok=True)
        self.began = time.monotonic()
        self.until = self.began + options.within
        self.queue = collections.deque([[name] for name in in_order(options.files)])
        self.cases, self.times, self.cpu, self.number = {}, collections.Counter(), collections.Counter(), 0
        self.selector = selectors.DefaultSelector()

    def say(self, case, note=""):
        print(f"{case.outcome:7s} {case.seconds:6.1f} s  {short(case.name)}{note}", flush=True)
        if case.outcome == "failed":
            print(re.sub(r"(?m)^", "    ", case.text), flush=True)

    def start(self):
        targets = self.queue.popleft()
        self.number += 1
        stem = os.path.basename(file_of(targets[0]))
        stem = stem[:-len(".py")] if stem.endswith(".py") else stem
        batch = Batch(targets, os.path.join(self.logs, f"{self.number:03d}-{stem}.log"), self.options)
        self.selector.register(batch.pipe, selectors.EVENT_READ, batch)

    def batches(self):
        return [key.data for key in self.selector.get_map().values()]

    def finish(self, batch, told):
        self.selector.unregister(batch.pipe)
        failed, left = batch.end()
        if failed:
            told(failed)
        self.times[file_of(batch.targets[0])] += time.monotonic() - batch.began
        self.cpu[file_of(batch.targets[0])] += batch.cpu_s
        if left:
            self.queue.appendleft(left)

    def work(self, jobs, told):
        """Empties the queue; told(case) for each test that ended."""
        while self.queue or self.batches():
            while self.queue and len(self.batches()) < jobs:
                self.start()
            for key, _ in self.selector.select(1.0):
                ended, over = key.data.read()
                for case in ended:
                    told(case)
                if over:
                    self.finish(key.data, told)
            self.look_at_clock(told)

    def look_at_clock(self, told):
        now = time.monotonic()
        for batch in self.batches():
            if now > batch.silent_until and not batch.killed:
                batch.kill("hangs, and was ended; the stacks are in the log")
            elif now > self.until and not batch.killed:
                batch.kill(f"not ended when the whole run had taken {self.options.within} s")
        if now > self.until:
            while self.queue:
                for name in self.queue.popleft():
                    case = Case(name if "::" in name else f"{name}::{WHOLE_FILE}")
                    case.outcome, case.text = "failed", f"not begun when the whole run had taken {self.options.within} s"
                    told(case)

    def first_run(self):
        def told(case):
            self.cases[case.name] = case
            self.say(case)
        self.work(self.options.jobs, told)

    def second_run(self):
        """Failed tests once more, one at a time."""
        failed = [case for case in self.cases.values() if case.outcome == "failed"]
        if not failed:
            return
        if len(failed) > AGAIN_MAX:
            print(f"{len(failed)} failures: too many to be noise, none is run again", flush=True)
            return
        self.queue.extend([case.name] for case in failed if WHOLE_FILE not in case.name)
        print(f"once more, alone: {', '.join(short(targets[0]) for targets in self.queue)}", flush=True)

        def told(case):
            first = self.cases.get(case.name)
            if first and case.outcome == "passed":
                first.outcome, first.again = "passed", True
            self.say(case, "  (second run)")
        self.work(1, told)

    def write(self):
        suite = xml.etree.ElementTree.Element("testsuite", name=self.options.name, tests=str(len(self.cases)))
        for case in self.cases.values():
            suite.append(element(case))
        xml.etree.ElementTree.ElementTree(suite).write(os.path.join(self.options.results, f"{self.options.name}.junit.xml"),
                                                       encoding="utf-8", xml_declaration=True)
        with open(os.path.join(self.options.results, f"{self.options.name}.times"), "w", encoding="utf-8") as out:
            for name, seconds in self.times.most_common():
                out.write(f"{seconds:7.1f} s  {short(name)}  ({self.cpu[name]:.0f} s of CPU)\n")
            for case in sorted(self.cases.values(), key=lambda case: -case.seconds):
                out.write(f"{case.seconds:7.1f} s  {short(case.name)}\n")

    def summary(self):
        slowest = ", ".join(f"{short(name)} {seconds:.0f} s" for name, seconds in self.times.most_common(5))
        print(f"{len(self.cases)} tests in {time.monotonic() - self.began:.0f} s; most time went into {slowest}", flush=True)

    def interrupt(self):
        for batch in self.batches():
            batch.signal(signal.SIGTERM)
        until = time.monotonic() + ENDING_S
        for batch in self.batches():
            try:
                batch.process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            batch.clean_up()


def in_order(files):
    rank = {name: number for number, name in enumerate(LONGEST)}
    return sorted(files, key=lambda name: (rank.get(short(name), len(LONGEST)), name))


def printable(text):
    return re.sub(r"[^\t\n\r -\ud7ff\ue000-\ufffd]", "?", text)


def element(case):
    where, _, name = case.name.partition("::")
    made = xml.etree.ElementTree.Element("testcase", classname=os.path.splitext(os.path.basename(where))[0], name=printable(name),
                                         time=f"{case.seconds:.3f}")
    if case.again:
        properties = xml.etree.ElementTree.SubElement(made, "properties")
        xml.etree.ElementTree.SubElement(properties, "property", name="again", value="passed only when run again")
        xml.etree.ElementTree.SubElement(made, "system-out").text = printable(case.text)
    elif case.outcome in ("failed", "skipped"):
        kind = {"failed": "failure", "skipped": "skipped"}[case.outcome]
        said = re.search(r"(?m)^E +(.*)", case.text) or re.match(r"(.*)", case.text)
        xml.etree.ElementTree.SubElement(made, kind, message=printable(said.group(1))[:300]).text = printable(case.text)
    return made


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("name")
    parser.add_argument("-m", dest="markers", default="")
    parser.add_argument("-j", dest="jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--silence", type=float, default=60, help="seconds beyond a test's own limit: then its pytest hangs")
    parser.add_argument("--within", type=float, default=24 * 3600)
    parser.add_argument("files", nargs="+")
    return parser.parse_args()


def leave(number, _frame):
    raise SystemExit(128 + number)


def main():
    run = Run(arguments())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        run.first_run()
        run.second_run()
        run.write()
    except SystemExit:
        run.interrupt()
        raise
    run.summary()
    return 1 if any(case.outcome == "failed" for case in run.cases.values()) or not run.cases else 0


if __name__ == "__main__":
    sys.exit(main())
