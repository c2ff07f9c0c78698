# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that never outlive us. All carry FUTAGO_LAB=<id> in their environment, by which strays are found."""
import os
import signal
import subprocess
import time

PATIENCE = 3
LAB_ID = f"{os.getpid()}.{int(time.time() * 1000)}"


def strays():
    """Process ids of this run that are alive, whoever their parent is now."""
    mark = f"FUTAGO_LAB={LAB_ID}\0".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as handle:
                if mark in handle.read() + b"\0":
                    found.append(int(name))
        except OSError:
            pass
    return found


def network_namespaces():
    """(process id, inode of its network namespace) of all processes we may look at."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append((int(name), os.stat(f"/proc/{name}/ns/net").st_ino))
        except OSError:
            pass
    return found


def kill_strays():
    for pid in strays():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def environment(extra=None):
    return dict(os.environ, FUTAGO_LAB=LAB_ID, **(extra or {}))


class Process:
    """A child in a network namespace. Dies with us (parent death signal). Output goes to a file, errors included."""

    def __init__(self, ns, args, log, env=None, stdin=None):
        self.args, self.log = list(args), log
        with ns.inside(), open(log, "wb") as out:
            self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + self.args, stdout=out,
                                          stderr=subprocess.STDOUT, stdin=stdin or subprocess.DEVNULL,
                                          env=environment(env), start_new_session=True)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def alive(self):
        return self.popen.poll() is None

    def output(self):
        with open(self.log, "r", encoding="utf-8", errors="replace") as handle:
            return handle.read()

    def signal(self, number):
        if self.alive:
            os.kill(self.pid, number)

    def wait(self, timeout=10):
        return self.popen.wait(timeout * PATIENCE)

    def kill(self):
        """SIGKILL, and wait until it is gone; a stopped process as well."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def end(self, timeout=5):
        """SIGTERM, then SIGKILL."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()


def run(ns, args, timeout=30, env=None):
    """Runs to the end inside a namespace; returns CompletedProcess with text output. `timeout` as for wait_for()."""
    with ns.inside():
        return subprocess.run(["setpriv", "--pdeathsig", "KILL"] + list(args), capture_output=True, text=True,
                              timeout=timeout * PATIENCE, env=environment(env), stdin=subprocess.DEVNULL)


def wait_for(what, condition, timeout=10.0, every=0.02):
    """Polls until condition() is true and returns its value; TimeoutError naming `what` (a string or callable) otherwise.
    `timeout` is for a machine that does nothing else: we are PATIENCE times as patient."""
    end = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what() if callable(what) else what}: not within {timeout * PATIENCE} s")
        time.sleep(every)
