# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a guest's TCP connections when it goes back to a snapshot: those that can go on do, the others end at once at both ends."""
import tempfile

import pytest
from lab import snapshots as stores
from lab.machine import GUEST_IP1, Machine
from lab.restored import Count, RestoredVm
from lab.segments import ACK, RST, SYN, Segments
from lab.vm import address, primary, standby

ONE = Machine(memory_mb=192)
TWO = Machine(kind="q35", memory_mb=192, nics=2, vcpus=2)
GUEST_LINK_IP = "fe80::5054:ff:fe77:2"


def folder(lab):
    return tempfile.mkdtemp(prefix="store-", dir=lab.folder)


@pytest.fixture
def wire(lab):
    """All segments at the client."""
    segments = Segments(lab.client.ns, "eth0")
    yield segments
    segments.kill()


@pytest.fixture
def ipv6(lab):
    path = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"
    with lab.client.ns.inside():
        with open(path, "w", encoding="ascii") as handle:
            handle.write("0")
    yield f"{GUEST_LINK_IP}%eth0"
    with lab.client.ns.inside():
        with open(path, "w", encoding="ascii") as handle:
            handle.write("1")


def expect_ended_in_guest(lab, wire, old):
    """The same ports again: a guest that still had the old connection would not begin a new one, but say where that stands."""
    client, guest = old.ends
    old.socket.close()
    before = len(wire.between(client, guest))
    again = Count(lab.client, guest[0], ("", client[1]))
    again.count()
    flags = [flags for from_guest, flags in wire.between(client, guest)[before:] if from_guest]
    assert flags[0] & (SYN | ACK) == SYN | ACK, flags


def test_each_as_it_can(lab, wire, ipv6):
    """Over two NICs, IPv4 and IPv6: idle ones go on, also where the client has asked something while there was no guest."""
    store = folder(lab)
    vm = primary(lab.hosts[0], TWO)
    used = [Count(lab.client), Count(lab.client, GUEST_IP1), Count(lab.client, ipv6)]
    idle = [Count(lab.client), Count(lab.client, GUEST_IP1), Count(lab.client, ipv6)]
    asking = Count(lab.client)
    closed = Count(lab.client)
    for one in used + idle + [asking, closed]:
        one.count(3)
    ends = used[0].ends
    stores.take(vm, store)
    closed.socket.close()
    for one in used:
        one.count(5)
    vm.kill_qemu()
    asking.send()
    restored = RestoredVm(lab.hosts[1], store, machine=TWO)
    for one in used:
        one.expect_reset()
    for one in idle:
        one.count(3)
    asking.answer()
    asking.count(3)
    restored.said("the snapshot's connections: 4 go on, 4 reset")
    expect_ended_in_guest(lab, wire, used[0])
    assert [flags for from_guest, flags in wire.between(*ends) if from_guest and flags & RST] == [RST | ACK], wire.between(*ends)


def test_left_alone(lab, wire):
    store = folder(lab)
    vm = primary(lab.hosts[0], ONE)
    used, idle = Count(lab.client), Count(lab.client)
    used.count(3)
    idle.count(3)
    stores.take(vm, store)
    used.count(3)
    vm.kill_qemu()
    seen = len(wire.all)
    restored = RestoredVm(lab.hosts[1], store, "--keep-connections", machine=ONE)
    restored.wait_running()
    idle.count(3)
    Count(lab.client).count(3)
    assert not [one for one in wire.all[seen:] if one.flags & RST], wire.all[seen:]
    assert "connections" not in restored.process.output()
    used.socket.close()


def test_silent_client(lab):
    """Who does not answer any more has no connection, in the guest neither."""
    store = folder(lab)
    vm = primary(lab.hosts[0], ONE)
    lab.client.ns.ip("address add 10.77.0.9/24 dev eth0")
    try:
        gone, idle = Count(lab.client, local=("10.77.0.9", 0)), Count(lab.client)
        gone.count(3)
        idle.count(3)
        stores.take(vm, store)
        vm.kill_qemu()
    finally:
        lab.client.ns.ip("address del 10.77.0.9/24 dev eth0")
    restored = RestoredVm(lab.hosts[1], store, machine=ONE)
    idle.count(3)
    restored.said("the snapshot's connections: 1 go on, 1 reset in the guest, as the other end is silent")
    gone.socket.close()


def test_pair(lab, wire):
    """Of a protected VM; and of its twin after it took over, which knows the connections, also one that was not used since before the protection began."""
    store = folder(lab)
    twin, vm = standby(lab.hosts[1], ONE), primary(lab.hosts[0], ONE)
    third = Count(lab.client)
    third.count(3)
    vm.protect(address(lab.hosts[1]))
    vm.wait_protected()
    first, second = Count(lab.client), Count(lab.client)
    for one in (first, second):
        one.count(3)
    stores.take(vm, store)
    second.count(3)
    vm.kill_qemu()
    twin.wait_running()
    first.count(3)
    second.count(3)
    other = folder(lab)
    stores.take(twin, other)
    first.count(3)
    twin.kill_qemu()
    restored = RestoredVm(lab.hosts[2], other, machine=ONE)
    first.expect_reset()
    second.count(3)
    restored.said("the snapshot's connections: 2 go on, 1 reset")
    third.count(3)
    restored.kill_qemu()
    again = RestoredVm(lab.hosts[0], store, machine=ONE)
    second.expect_reset()
    third.expect_reset()
    again.said("the snapshot's connections: 3 reset")
    Count(lab.client).count(3)
