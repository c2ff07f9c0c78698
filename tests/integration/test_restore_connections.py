# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a guest's TCP connections when it goes back to a snapshot: those that can go on do, the others end at once at both ends."""
import socket
import struct
import tempfile

import pytest
from lab import load, paths
from lab import snapshots as stores
from lab.machine import GUEST_IP, GUEST_IP1, Machine
from lab.process import wait_for
from lab.segments import ACK, RST, SYN, Segments
from lab.vm import FutagoVm, pair, primary

ONE = Machine(memory_mb=192)
TWO = Machine(kind="q35", memory_mb=192, nics=2, vcpus=2)
GUEST_LINK_IP = "fe80::5054:ff:fe77:2"


class RestoredVm(FutagoVm):
    def __init__(self, host, source, *options, machine=ONE, **more):
        self.source, self.own = source, options
        super().__init__(host, machine, **more)

    def command(self, qemu):
        return [paths.FUTAGO, "restore", self.source, "--name", self.name, "--node", self.host.name, "--arbiter",
                f"file:{self.host.lab.arbiter}", "--force-generation", *self.own, "--"] + qemu

    def said(self, text, timeout=60):
        wait_for(lambda: f"{self.name} says {text!r}: {self.process.output()[-800:]}", lambda: text in self.process.output(), timeout)


class Count:
    """A connection to the guest's counter."""

    def __init__(self, client, guest=GUEST_IP, local=None):
        def connected():
            try:
                with client.ns.inside():
                    return socket.create_connection((guest, load.COUNTER), 5, local)
            except OSError:  # an address that is not yet there
                return None
        self.socket = wait_for(f"a connection to {guest}", connected)
        self.socket.settimeout(30)
        self.ends = self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        self.number = 0

    def count(self, times=1):
        for _ in range(times):
            self.send()
            self.answer()

    def send(self):
        self.number += 1
        self.socket.sendall(struct.pack("<Q", self.number))

    def answer(self):
        got = b""
        while len(got) < 16:
            piece = self.socket.recv(16 - len(got))
            assert piece, "closed by the guest"
            got += piece
        assert struct.unpack("<Q", got[:8])[0] == self.number, got

    def expect_reset(self):
        with pytest.raises(ConnectionResetError):
            self.answer()


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
    restored = RestoredVm(lab.hosts[1], store, "--keep-connections")
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
    restored = RestoredVm(lab.hosts[1], store)
    idle.count(3)
    restored.said("the snapshot's connections: 1 go on, 1 reset in the guest, as the other end is silent")
    gone.socket.close()


def test_pair(lab, wire):
    """Of a protected VM; and of its twin after it took over, which knows the connections, too."""
    store = folder(lab)
    vm, twin = pair(lab, ONE)
    first, second = Count(lab.client), Count(lab.client)
    first.count(3)
    second.count(3)
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
    restored = RestoredVm(lab.hosts[2], other)
    first.expect_reset()
    second.count(3)
    restored.said("the snapshot's connections: 1 go on, 1 reset")
    restored.kill_qemu()
    again = RestoredVm(lab.hosts[0], store)
    second.expect_reset()
    again.said("the snapshot's connections: 2 reset")
    Count(lab.client).count(3)
