# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP segments that pass an interface."""
import socket
import struct

from .sniffer import Listener

FIN, SYN, RST, ACK = 1, 2, 4, 16


class Segment:
    def __init__(self, mac, source, target, flags):
        self.mac, self.source, self.target, self.flags = mac, source, target, flags  # the sender's MAC; (address, port)

    def __repr__(self):
        return f"{self.source}->{self.target}:{self.flags:#x}"


def parsed(frame):
    """None for what is no TCP over IPv4 or IPv6."""
    kind, at = struct.unpack_from("!H", frame, 12)[0], 14
    if kind == 0x0800 and frame[at + 9] == 6:
        family, addresses, head = socket.AF_INET, frame[at + 12:at + 20], (frame[at] & 15) * 4
    elif kind == 0x86dd and frame[at + 6] == 6:
        family, addresses, head = socket.AF_INET6, frame[at + 8:at + 40], 40
    else:
        return None
    half, tcp = len(addresses) // 2, at + head
    ports = struct.unpack_from("!HH", frame, tcp)
    ends = [socket.inet_ntop(family, addresses[i * half:(i + 1) * half]) for i in (0, 1)]
    return Segment(frame[6:12].hex(":"), (ends[0], ports[0]), (ends[1], ports[1]), frame[tcp + 13] & 0x3f)


class Segments(Listener):
    """All that pass while it is there, in order."""

    def __init__(self, ns, interface):
        self.all = []
        super().__init__(ns, interface)

    def take(self, frame, where):
        segment = parsed(frame)
        if segment:
            self.all.append(segment)

    def between(self, client, guest):
        """Those of one connection, as (from the guest, flags)."""
        return [(one.source == guest, one.flags) for one in list(self.all)
                if {one.source, one.target} == {client, guest}]
