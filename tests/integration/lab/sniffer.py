# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees what a QEMU puts on its tap: frames the host received from it, not those it was sent."""
import socket
import struct
import threading
import time

ETH_P_ALL = 3
ETH_P_ARP = 0x806
PACKET_OUTGOING = 4


class Listener:
    """A thread that sees each frame that passes an interface."""

    def __init__(self, ns, interface, protocol=ETH_P_ALL, room=0):
        with ns.inside():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            if room:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            self.socket.bind((interface, 0))
        self.socket.settimeout(0.05)
        self.ending = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        while not self.ending:
            try:
                frame, where = self.socket.recvfrom(1 << 17)
            except OSError:  # nothing came, or the tap went away for a moment
                continue
            self.take(frame, where)

    def take(self, frame, where):
        raise NotImplementedError

    def kill(self):
        self.ending = True
        self.thread.join()
        self.socket.close()


class Sniffer(Listener):
    def __init__(self, ns, interface, mac):
        self.mac = bytes(int(part, 16) for part in mac.split(":"))
        self.times = []
        super().__init__(ns, interface)

    def take(self, frame, where):
        if where[2] != PACKET_OUTGOING and frame[6:12] == self.mac:
            self.times.append(time.monotonic())

    def since(self, at):
        """Frames from the guest that came after that time."""
        return sum(1 for t in self.times if t > at)


class ArpAsker(Listener):
    """Asks for a guest's MAC in the name of others, by broadcast, and notes who is answered and when the guest announces itself."""
    MAC = bytes.fromhex("02aabbccdd01")

    def __init__(self, ns, interface, guest):
        self.guest = socket.inet_aton(guest)
        self.answers, self.announced = [], []
        super().__init__(ns, interface, ETH_P_ARP)

    def ask(self, sender):
        head = b"\xff" * 6 + self.MAC + struct.pack(">HHHBBH", ETH_P_ARP, 1, 0x800, 6, 4, 1)
        self.socket.send(head + self.MAC + socket.inet_aton(sender) + bytes(6) + self.guest + bytes(18))

    def take(self, frame, where):
        asked = frame[38:42]
        if frame[28:32] != self.guest:
            return
        if asked == self.guest:
            self.announced.append(time.monotonic())
        elif frame[20:22] == b"\x00\x02":
            self.answers.append(socket.inet_ntoa(asked))

    def count(self, sender):
        return self.answers.count(sender)

    def announced_since(self, at):
        return [when for when in self.announced if when > at]


class WireTap(Listener):
    """Looks for byte patterns in all that passes an interface."""

    def __init__(self, ns, interface, *patterns):
        self.found = {pattern: 0 for pattern in patterns}
        self.bytes = 0
        super().__init__(ns, interface, room=64 << 20)

    def take(self, frame, where):
        self.bytes += len(frame)
        for pattern in self.found:
            self.found[pattern] += frame.count(pattern)
