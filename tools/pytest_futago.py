# SPDX-License-Identifier: GPL-2.0-or-later
"""A plugin for pytest: no test takes for ever, and what happens is told at once to tools/run_integration.py.

A phase of a test (setup, call, teardown) that takes longer than LIMIT_S fails, with the stacks of all threads in the output;
@pytest.mark.limit(seconds) gives it another limit. If FUTAGO_REPORT_FD is set, JSON lines go to that descriptor:

    {"collected": [ID...]}
    {"start": ID, "limit": SECONDS}                                        before each phase
    {"id": ID, "when": PHASE, "outcome": "passed", "seconds": S, "text": T}  after it
    {"finish": ID}
"""
import json
import os
import re
import signal
import sys
import threading
import traceback

import pytest

LIMIT_S = 240
LONG_LIMIT_S = 3000  # of a test that is marked long

REPORT_FD = int(os.environ.pop("FUTAGO_REPORT_FD", "-1"))


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): how long a phase of this test may take")
    if REPORT_FD >= 0:
        os.set_inheritable(REPORT_FD, False)  # a process that is left behind must not keep it open


def tell(**words):
    if REPORT_FD >= 0:
        data = json.dumps(words).encode() + b"\n"
        while data:
            data = data[os.write(REPORT_FD, data):]


def limit_of(item):
    mark = item.get_closest_marker("limit")
    if mark:
        return mark.args[0]
    return LONG_LIMIT_S if item.get_closest_marker("long") else LIMIT_S


def stacks():
    """Of all threads, without pytest's own part."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines = []
    for ident, frame in sys._current_frames().items():
        own = [step for step in traceback.extract_stack(frame) if not re.search("/_pytest/|/pluggy/|/pytest/|runpy", step.filename)]
        lines += [f"thread {names.get(ident, ident)}:\n"] + traceback.format_list(own)
    return "".join(lines)


def limited(item, when):
    """Runs one phase, as a hook's wrapper."""
    limit = limit_of(item)

    def too_long(_number, _frame):
        sys.stderr.write(f"\n{item.nodeid}: {when} has taken {limit} s\n{stacks()}")
        pytest.fail(f"{when} has taken longer than {limit} s")
    tell(start=item.nodeid, limit=limit)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    yield from limited(item, "setup")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from limited(item, "call")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from limited(item, "teardown")


def pytest_collection_finish(session):
    tell(collected=[item.nodeid for item in session.items])


def pytest_runtest_logreport(report):
    said = "\n".join(f"--- {title}\n{text}" for title, text in report.sections) if report.failed else ""
    text = f"{report.longreprtext}\n{said}" if report.outcome != "passed" else ""
    tell(id=report.nodeid, when=report.when, outcome=report.outcome, seconds=report.duration, text=text)


def pytest_runtest_logfinish(nodeid):
    tell(finish=nodeid)
