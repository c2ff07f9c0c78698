# SPDX-License-Identifier: GPL-2.0-or-later
"""Users of the Debian guest's Redis and nginx. Each has one connection for its whole life and remembers what it was told."""
import contextlib
import random
import socket
import threading

from . import paths
from .machine import GUEST_IP

REDIS, HTTP = 6379, 80
PIECE = 65536


class User:
    """A thread with one connection, at work until stop(). What goes wrong ends it and is told by stop()."""

    def __init__(self, client, port, number):
        self.random = random.Random(number)
        self.number, self.count, self.error, self.stopping = number, 0, None, False
        with client.ns.inside():
            self.socket = socket.create_connection((GUEST_IP, port), timeout=20)
        self.lines = self.socket.makefile("rb")
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        try:
            while not self.stopping:
                self.turn()
                self.count += 1
        except (OSError, ValueError, AssertionError) as error:
            self.error = error

    def turn(self):
        """One request and its answer."""
        raise NotImplementedError

    def progress(self):
        """Grows by about one with each answer."""
        return self.count

    def stop(self):
        """After the request under way."""
        self.stopping = True
        self.thread.join(30)
        self.lines.close()
        self.socket.close()
        assert not self.thread.is_alive() and self.error is None, f"{self.name()}: {self.error!r}"

    def name(self):
        return f"{type(self).__name__} {self.number} after {self.count}"

    def kill(self):
        """At the end of a test, whatever its outcome."""
        self.stopping = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(5)


def redis(lines, sock, *words):
    """One command; its answer as text, None for nothing."""
    words = [str(word).encode() for word in words]
    sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    head = lines.readline().decode().rstrip()
    if not head or head[0] == "-":
        raise ValueError(f"Redis: {head or 'closed the connection'}")
    if head[0] != "$":
        return head[1:]
    length = int(head[1:])
    return lines.read(length + 2)[:-2].decode() if length >= 0 else None


class Writer(User):
    """SET of new keys and INCR of a counter in turn."""

    def __init__(self, client, number):
        self.kept = {}
        self.counter = 0
        super().__init__(client, REDIS, number)

    def turn(self):
        if self.count % 2:
            told = int(redis(self.lines, self.socket, "INCR", f"counter{self.number}"))
            assert told == self.counter + 1, f"counter{self.number} is {told} after {self.counter}"
            self.counter = told
            return
        key, value = f"key{self.number}.{self.count}", self.random.randbytes(self.random.randrange(8, 200)).hex()
        assert redis(self.lines, self.socket, "SET", key, value) == "OK"
        self.kept[key] = value

    def known(self):
        """What was acknowledged so far: the counter, how many keys (the oldest of `kept`)."""
        return self.counter, len(self.kept)


@contextlib.contextmanager
def connected(client):
    """A new connection to Redis: its lines, its socket."""
    with client.ns.inside():
        sock = socket.create_connection((GUEST_IP, REDIS), timeout=20)
    with sock, sock.makefile("rb") as lines:
        yield lines, sock


def check_kept_since(client, writers, known):
    """Redis is as it was at some time after the writers knew so much; they have stopped."""
    with connected(client) as (lines, sock):
        for writer, (counter, keys) in zip(writers, known):
            assert counter <= int(redis(lines, sock, "GET", f"counter{writer.number}")) <= writer.counter, writer.name()
            for number, (key, value) in enumerate(writer.kept.items()):
                assert redis(lines, sock, "GET", key) in ([value] if number < keys else [value, None]), f"{key} of {keys}"


def check_kept(client, writers):
    """Redis holds all that was acknowledged to the writers, which have stopped, and counted nothing twice."""
    with connected(client) as (lines, sock):
        for writer in writers:
            assert redis(lines, sock, "GET", f"counter{writer.number}") == str(writer.counter), writer.name()
            for key, value in writer.kept.items():
                assert redis(lines, sock, "GET", key) == value, f"{key} of {len(writer.kept)}"


class Reader(User):
    """Downloads over one kept connection; each byte is compared as it comes. Whole files, or pieces of any size."""

    def __init__(self, client, number, pieces):
        with open(paths.LARGE_FILE, "rb") as handle:
            self.content = handle.read()
        self.pieces, self.bytes = pieces, 0
        super().__init__(client, HTTP, number)

    def progress(self):
        return self.bytes // PIECE

    def turn(self):
        first, end = 0, len(self.content)
        if self.pieces:
            first = self.random.randrange(end)
            end = min(end, first + self.random.choice((1, 700, 5000, 300000)))
        self.socket.sendall(f"GET /large.bin HTTP/1.1\r\nHost: guest\r\nRange: bytes={first}-{end - 1}\r\n\r\n".encode())
        status = self.lines.readline()
        assert b" 206 " in status, f"answer {status!r}"
        length = 0
        while (line := self.lines.readline()) != b"\r\n":
            assert line, "closed in the answer's head"
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length == end - first, f"{length} bytes instead of {end - first}"
        while first < end:
            piece = self.lines.read1(min(PIECE, end - first))
            assert piece, f"closed at byte {first}"
            assert piece == self.content[first:first + len(piece)], f"wrong bytes at {first}"
            first += len(piece)
            self.bytes += len(piece)
