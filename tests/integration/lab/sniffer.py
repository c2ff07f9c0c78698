# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees what a QEMU puts on its tap: frames the host received from it, not those it was sent."""
import select
import socket
import struct
import threading
import time

ETH_P_ALL = 3
ETH_P_ARP = 0x806
PACKET_OUTGOING = 4


class Sniffer:
    def __init__(self, ns, interface, mac):
        self.mac = bytes(int(part, 16) for part in mac.split(":"))
        self.times = []
        with ns.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((interface, 0))
        self.socket.setblocking(False)
        self.ending = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.ending:
            if not select.select([self.socket], [], [], 0.05)[0]:
                continue
            try:
                frame, where = self.socket.recvfrom(65536)
            except OSError:  # the tap went away for a moment
                continue
            if where[2] != PACKET_OUTGOING and frame[6:12] == self.mac:
                self.times.append(time.monotonic())

    def since(self, at):
        """Frames from the guest that came after that time."""
        return sum(1 for t in self.times if t > at)

    def kill(self):
        self.ending = True
        self.thread.join()
        self.socket.close()


class ArpAsker:
    """Asks for a guest's MAC in the name of others, by broadcast, and notes who is answered and when the guest announces itself."""
    MAC = bytes.fromhex("02aabbccdd01")

    def __init__(self, ns, interface, guest):
        self.guest = socket.inet_aton(guest)
        self.answers, self.announced = [], []
        with ns.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP))
            self.socket.bind((interface, 0))
        self.socket.settimeout(0.05)
        self.ending = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def ask(self, sender):
        head = b"\xff" * 6 + self.MAC + struct.pack(">HHHBBH", ETH_P_ARP, 1, 0x800, 6, 4, 1)
        self.socket.send(head + self.MAC + socket.inet_aton(sender) + bytes(6) + self.guest + bytes(18))

    def _work(self):
        while not self.ending:
            try:
                frame = self.socket.recv(100)
            except OSError:  # nothing came
                continue
            asked = frame[38:42]
            if frame[28:32] != self.guest:
                continue
            if asked == self.guest:
                self.announced.append(time.monotonic())
            elif frame[20:22] == b"\x00\x02":
                self.answers.append(socket.inet_ntoa(asked))

    def count(self, sender):
        return self.answers.count(sender)

    def announced_since(self, at):
        return [when for when in self.announced if when > at]

    def kill(self):
        self.ending = True
        self.thread.join()
        self.socket.close()


class WireTap:
    """Looks for byte patterns in all that passes an interface."""

    def __init__(self, ns, interface, *patterns):
        self.found = {pattern: 0 for pattern in patterns}
        self.bytes = 0
        with ns.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
            self.socket.bind((interface, 0))
        self.socket.settimeout(0.05)
        self.ending = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.ending:
            try:
                frame = self.socket.recv(1 << 17)
            except OSError:  # nothing came
                continue
            self.bytes += len(frame)
            for pattern in self.found:
                self.found[pattern] += frame.count(pattern)

    def kill(self):
        self.ending = True
        self.thread.join()
        self.socket.close()
