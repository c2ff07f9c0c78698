# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices as real machines have them: AHCI disks and e1000 NICs, beside a virtio NIC. Debian's generic kernel has the drivers."""
import pytest
from lab import load
from lab.disks import Disk, Writer, make_images, names
from lab.machine import GUEST_IPS, Machine
from lab.vm import address, pair, standby

KINDS = {
    "q35": Machine(kind="q35", generic=True, nics=3, nic_models=("e1000", "virtio-net-pci", "e1000e"),
                   disks=(Disk(bus="ide", format="qcow2"), Disk(bus="ide"))),
    "pc": Machine(kind="pc", generic=True, nics=2, nic_models=("virtio-net-pci", "e1000"), disks=(Disk(bus="ide"),)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kill_two_in_turn(lab, kind):
    """Written disks and clients at each NIC, one of whom counts through an e1000, while two hosts die."""
    machine = KINDS[kind]
    for host in lab.hosts:
        make_images(host, machine.disks)
    here, there = pair(lab, machine)
    counted = machine.nic_models.index("e1000")
    for ip in GUEST_IPS[:machine.nics]:
        load.Connection(lab.client, load.ECHO, ip).echo()
    counter = load.Counter(lab.client, GUEST_IPS[counted])
    busy = [lab.client.spawn([load.paths.FUT_RR, ip, str(load.ECHO), "1", "3600"], "rr")
            for number, ip in enumerate(GUEST_IPS[:machine.nics]) if number != counted]
    writers = [Writer(lab.client, name, 200) for name in names(machine.disks)]
    for number in range(2):
        counter.wait_counts(100)
        here.kill_qemu()
        there.wait_running()
        counter.wait_counts(100)
        assert all(each.alive for each in busy), [each.output() for each in busy]
        if number == 0:
            here, there = there, standby(lab.hosts[2], machine)
            here.protect(address(lab.hosts[2]))
            here.wait_protected()
    for writer in writers:
        writer.stop()
        writer.check()
    load.check(counter.finish())
