# SPDX-License-Identifier: GPL-2.0-or-later
"""A faulty TCP proxy for the replication link: cut, swallow, corrupt, truncate, replay, delay, slow down, stall.

Directions are "up" (from the one who connected, the primary, to the target) and "down". A fault is armed on one direction
and hits the bytes that pass next."""
import collections
import select
import socket
import threading
import time

RECORD_MAX = 1 << 20
READ_MAX = 1 << 18


class Direction:
    """One way of one connection."""

    def __init__(self, source, sink):
        self.source, self.sink = source, sink
        self.passed = 0
        self.record = b""             # the first bytes that passed, for replaying
        self.queue = collections.deque()  # (due time, bytes)


class Proxy:
    def __init__(self, ns, listen_ip, target, port=7200):
        """Listens inside `ns` at listen_ip:port and connects to target (ip, port) from there."""
        self.ns, self.target = ns, target
        self.address = f"tcp:{listen_ip}:{port}"
        with ns.inside():
            self.listener = socket.create_server((listen_ip, port), backlog=8)
        self.lock = threading.RLock()
        self.connections = []          # lists of two Directions: up, down
        self.accepted = 0
        self.blackhole = False
        self.delay_s = 0.0
        self.refuse = False
        self.bytes_per_s = 0           # 0: as fast as it goes
        self.stalled = False           # takes nothing and gives nothing, both connections stay open
        self.armed = {}                # direction -> (function of bytes, then close?)
        self.ending = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    # -- faults --

    def cut(self):
        """Closes all connections; new ones are taken."""
        with self.lock:
            for connection in self.connections:
                self._close(connection)
            self.connections = []

    def arm(self, direction, change, close_after=False):
        """The next bytes of that direction pass through change(bytes)."""
        with self.lock:
            self.armed[direction] = (change, close_after)

    def corrupt(self, direction="up"):
        """Turns one bit of the next bytes over."""
        def turn(data):
            at = len(data) // 2
            return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]
        self.arm(direction, turn)

    def truncate(self, direction="up"):
        """Passes half of the next bytes, then closes."""
        self.arm(direction, lambda data: data[:len(data) // 2], close_after=True)

    def double(self, direction="up"):
        """Sends the next bytes twice."""
        self.arm(direction, lambda data: data + data)

    def drop(self, direction="up"):
        """Loses the next bytes, and goes on."""
        self.arm(direction, lambda data: b"")

    def replay_start(self, direction="up"):
        """Sends the first bytes of the connection once more after the next ones."""
        def again(data):
            with self.lock:
                record = self.connections[-1][0 if direction == "up" else 1].record
            return data + record[:65536]
        self.arm(direction, again)

    def recorded(self, direction="up"):
        """The first bytes the newest connection passed (at most RECORD_MAX)."""
        with self.lock:
            return self.connections[-1][0 if direction == "up" else 1].record

    @property
    def fault_done(self):
        with self.lock:
            return not self.armed

    # -- work --

    def _accept(self):
        front, _ = self.listener.accept()
        if self.refuse:
            front.close()
            return
        try:
            with self.ns.inside():
                back = socket.create_connection(self.target, timeout=2)
        except OSError:
            front.close()
            return
        for end in (front, back):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setblocking(True)
        with self.lock:
            self.accepted += 1
            self.connections.append([Direction(front, back), Direction(back, front)])

    @staticmethod
    def _close(connection):
        for end in (connection[0].source, connection[0].sink):
            try:
                end.shutdown(socket.SHUT_RDWR)  # at once, though the worker may be waiting on it
            except OSError:
                pass
            end.close()

    def _read(self, connection, way, name):
        data = way.source.recv(min(READ_MAX, 65536 if self.bytes_per_s else READ_MAX))
        if not data:
            raise ConnectionError("closed")
        close = False
        with self.lock:
            if name in self.armed and not self.blackhole:
                change, close = self.armed.pop(name)
                data = change(data)
        if self.blackhole:
            return
        if len(way.record) < RECORD_MAX:
            way.record += data[:RECORD_MAX - len(way.record)]
        way.queue.append((time.monotonic() + self.delay_s, data))
        if close:
            self._write(way, time.monotonic() + self.delay_s)
            raise ConnectionError("truncated on purpose")

    def _write(self, way, now):
        while way.queue and way.queue[0][0] <= now and not self.stalled:
            data = way.queue.popleft()[1]
            if self.bytes_per_s:
                data, rest = data[:max(1, self.bytes_per_s // 100)], data[max(1, self.bytes_per_s // 100):]
                pause = len(data) / self.bytes_per_s
                way.queue = collections.deque((max(due, now + pause), more) for due, more in way.queue)
                if rest:
                    way.queue.appendleft((now + pause, rest))
            way.passed += len(data)
            way.sink.sendall(data)

    def _takes(self, way):
        """Does it read from there? What waits in a slow proxy makes the sender wait, as a slow link would."""
        return way.source.fileno() >= 0 and not self.stalled and not (self.bytes_per_s and way.queue)

    def _work(self):
        while not self.ending:
            with self.lock:
                ways = {way.source: (connection, way, name) for connection in self.connections
                        for way, name in zip(connection, ("up", "down")) if way.source.fileno() >= 0}
            busy = any(way.queue for _, way, _ in ways.values())
            sources = [source for source, (_, way, _) in ways.items() if self._takes(way)]
            try:
                ready = select.select([self.listener] + sources, [], [], 0.001 if busy else 0.02)[0]
            except (OSError, ValueError):  # cut() closed one meanwhile
                continue
            if self.listener in ready:
                self._accept()
            for source, (connection, way, name) in ways.items():
                try:
                    if source in ready:
                        self._read(connection, way, name)
                    self._write(way, time.monotonic())
                except (OSError, ValueError):
                    self._drop(connection)

    def _drop(self, connection):
        with self.lock:
            if connection in self.connections:
                self.connections.remove(connection)
                self._close(connection)

    def kill(self):
        self.ending = True
        self.thread.join()
        self.cut()
        self.listener.close()
