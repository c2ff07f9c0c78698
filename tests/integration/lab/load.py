# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's users do: count over one connection, ask and wait, make it write memory."""
import json
import os
import signal
import socket
import subprocess
import time

from . import paths
from .machine import GUEST_IP
from .process import wait_for

ECHO, COUNTER, SINK, SOURCE, WRITER = 7000, 7001, 7002, 7003, 7004


def parsed(lines):
    """Those of the lines that are JSON; the last may be half written."""
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            pass


class Counter:
    """fut-count at work, over one connection or several."""

    def __init__(self, client, guest=GUEST_IP, connections=1):
        self.process = client.spawn([paths.FUT_COUNT, guest, str(COUNTER), "86400", str(connections)], "count")
        self.wait_counts(1)

    def lines(self):
        return list(parsed(self.process.output().splitlines()))

    def progress(self):
        """The newest progress line, {} before the first."""
        newest_first = parsed(reversed(self.process.output().splitlines()))
        return next((line for line in newest_first if "t" in line), {})

    def gaps(self):
        return [line for line in self.lines() if "gap_ms" in line]

    def count(self):
        return self.progress().get("n", 0)

    def wait_counts(self, more, timeout=20):
        """Waits for that many further counts (progress is told ten times a second)."""
        goal = self.count() + more

        def enough():
            if not self.process.alive:
                raise RuntimeError(f"the counter ended: {self.process.output()[-500:]}")
            return self.count() >= goal
        wait_for(lambda: f"counter gets from {goal - more} to {goal}, is at {self.count()}", enough, timeout)

    def wait_answers(self, since, timeout=20):
        """Waits until every connection had an answer after that time."""
        def answered():
            if not self.process.alive:
                raise RuntimeError(f"the counter ended: {self.process.output()[-500:]}")
            return self.progress().get("oldest", 0) > since
        wait_for(lambda: f"every connection gets an answer; counter at {self.progress()}", answered, timeout)

    def finish(self):
        """Stops it and returns its last word."""
        self.process.signal(signal.SIGTERM)
        self.process.wait(10)
        ends = [line for line in self.lines() if line.get("end")]
        if not ends:
            raise RuntimeError(f"the counter left no result: {self.process.output()[-500:]}")
        return dict(ends[-1], exit=self.process.popen.returncode, gaps=self.gaps())


def check(result):
    """Nothing lost, nothing doubled, the one connection lived."""
    assert result["lost"] == 0 and result["doubled"] == 0, result
    assert result["alive"] and result["exit"] == 0, result
    assert result["transactions"] > 0, result


def gap_after(result, at):
    """Longest gap (ms) between answers that was open at or began within two seconds after the time `at`; 0 if all were short."""
    return max((gap["gap_ms"] for gap in result["gaps"] if gap["to"] > at and gap["from"] < at + 2), default=0.0)


def rr(client, connections, seconds, warm_up=0.5, guest=GUEST_IP, patience=30):
    """fut-rr's result; TimeoutError if it is not done so many seconds after it should be."""
    try:
        done = client.run([paths.FUT_RR, guest, str(ECHO), str(connections), str(seconds), str(warm_up)], seconds + warm_up + patience)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"fut-rr got no answers: {error}") from error
    if done.returncode != 0:
        raise RuntimeError(f"fut-rr: {done.stderr.strip()}")
    return json.loads(done.stdout)


def bulk(client, port, way, seconds, warm_up=0.5, guest=GUEST_IP):
    """fut-bulk's result; `way` is "send" or "receive", seen from the client."""
    done = client.run([paths.FUT_BULK, guest, str(port), way, str(seconds), str(warm_up)], seconds + warm_up + 30)
    if done.returncode != 0:
        raise RuntimeError(f"fut-bulk: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Connection:
    """A plain TCP connection to a service of the guest, from the client's namespace."""

    def __init__(self, client, port, guest=GUEST_IP, timeout=30):
        with client.ns.inside():
            self.socket = socket.create_connection((guest, port), timeout)

    def order(self, line):
        """One line to the memory writer; its answer."""
        self.socket.sendall(line.encode() + b"\n")
        return self.socket.recv(200).decode().strip()

    def echo(self, data=b"echo"):
        self.socket.sendall(data)
        got = b""
        while len(got) < len(data):
            piece = self.socket.recv(4096)
            if not piece:
                raise ConnectionError("closed by the guest")
            got += piece
        return got

    def close(self):
        self.socket.close()


def dirty(client, megabytes, rate_mb, guest=GUEST_IP):
    """Makes the guest write memory from now on."""
    connection = Connection(client, WRITER, guest)
    answer = connection.order(f"DIRTY {megabytes} {rate_mb}")
    connection.close()
    if answer != "OK":
        raise RuntimeError(f"memory writer: {answer}")


def sleep_counting(counter, seconds):
    """Lets a counter work for a while; it must get on."""
    before = counter.count()
    time.sleep(seconds)
    if counter.count() <= before:  # a busy machine, or is there more to it?
        counter.wait_counts(1)


def exists(pid):
    return os.path.exists(f"/proc/{pid}")
