# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that puts packets into its card's ring and does not say so: they are sent all the same."""
import os
import struct

import pytest
from lab import load
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import primary

TX = 1  # the queue's number


class Ring:
    """The card's transmit ring, in the memory of QEMU's process."""

    def __init__(self, vm, qmp):
        path = next(device["path"] for device in qmp.command("x-query-virtio")["return"] if "net" in device["name"])
        queue = qmp.command("x-query-virtio-queue-status", path=path, queue=TX)["return"]
        assert queue["vring-used"], "the guest has no driver for its card"

        def host_address(guest):
            said = qmp.command("human-monitor-command", **{"command-line": f"gpa2hva {guest:#x}"})["return"]
            return int(said.split()[-1], 16)
        self.put = host_address(queue["vring-avail"]) + 2
        # behind the ring of what was used: virtio 1.2, 2.7.8
        self.wanted = host_address(queue["vring-used"]) + 4 + 8 * queue["vring-num"]
        self.memory = os.open(f"/proc/{vm.qemu_pid}/mem", os.O_RDWR)

    def read(self, address):
        return struct.unpack("<H", os.pread(self.memory, 2, address))[0]

    def deafen(self):
        """The card wants a kick at an index that the guest has passed: none comes before some 65,000 packets more. False: there was a packet just now."""
        before = self.read(self.put)
        behind = before - 1000 & 0xffff
        os.pwrite(self.memory, struct.pack("<H", behind), self.wanted)
        return self.read(self.put) == before and self.read(self.wanted) == behind

    def close(self):
        os.close(self.memory)


@pytest.mark.parametrize("kind", ["q35", "microvm"])
def test_its_packets_are_sent(lab, kind):
    """TCG leaves the barriers of a guest with one vCPU out, so that a kick may be lost. Here it is lost for certain."""
    host = lab.hosts[0]
    path = os.path.join(host.folder, "qmp")
    vm = primary(host, Machine(kind=kind, extra=("-qmp", f"unix:{path},server=on,wait=off")))
    vm.wait_ready()
    qmp = Qmp(path)
    connection = load.Connection(lab.client, load.ECHO)
    connection.echo()
    ring = Ring(vm, qmp)
    wait_for("a moment without packets", ring.deafen)
    connection.echo()
    connection.echo()
    ring.close()
    qmp.close()
