# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest that begins as a snapshot is to the network and the time: where it is, who it is if there are several of it, how late it is."""
import os
import struct
import subprocess
import tempfile
import time

import pytest
from lab import load, paths
from lab import snapshots as stores
from lab.ctl import ControlError
from lab.machine import GUEST_IP, Machine, guest_mac
from lab.process import wait_for
from lab.restored import Count, RestoredVm
from lab.segments import Segments
from lab.vm import primary

ONE = Machine(memory_mb=192)
HOURS = 3 * 3600


def folder(lab):
    return tempfile.mkdtemp(prefix="store-", dir=lab.folder)


def clone(lab, host, store, number, *options):
    return RestoredVm(host, store, "--identity", f"0=52:54:00:aa:00:{number:02x},{GUEST_IP}=10.77.0.{100 + number}", *options,
                      machine=ONE, name=f"clone{number}", taps=host.taps()[number - 1:])


def test_clones(lab):
    """Two at once on one bridge, and the first guest beside them: each has its own addresses, and nobody hears of the others' connections."""
    store = folder(lab)
    vm = primary(lab.hosts[0], ONE)
    old = Count(lab.client)
    old.count(3)
    stores.take(vm, store)
    old.count(3)
    hook, noted = os.path.join(lab.folder, "hook"), os.path.join(lab.folder, "noted")
    with open(hook, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nenv >{noted}\n")
    os.chmod(hook, 0o755)
    wire = Segments(lab.client.ns, "eth0")
    try:
        clones = [clone(lab, lab.hosts[1], store, 1, "--identity-hook", hook), clone(lab, lab.hosts[1], store, 2)]
        counts = []
        for number, one in enumerate(clones, 1):
            counts.append(Count(lab.client, f"10.77.0.{100 + number}"))
            one.said("the snapshot's connections: 1 reset")
        for _ in range(3):
            for one in counts + [old]:
                one.count(3)
        for port, way in ((load.SOURCE, "receive"), (load.SINK, "send")):  # segments that are yet to be cut up
            assert load.bulk(lab.client, port, way, 0.3, 0.1, guest="10.77.0.101")["mbit_s"] > 0
        new = Count(lab.client)
        new.count(3)
        assert {one.mac for one in wire.all if one.source[0] == GUEST_IP} == {guest_mac(0)}
        assert {one.mac for one in wire.all if one.source[0] == "10.77.0.101"} == {"52:54:00:aa:00:01"}
        assert not [flags for from_guest, flags in wire.between(*old.ends) if flags & 4]
    finally:
        wire.kill()
    clones[0].said("identity hook")
    with open(noted, encoding="ascii") as file:
        told = dict(line.rstrip("\n").split("=", 1) for line in file)
    assert told["FUTAGO_VM"] == "clone1" and told["FUTAGO_SOCKET"] == clones[0].socket, told
    assert told["FUTAGO_IDENTITY"] == f"NIC 0 is 52:54:00:aa:00:01, and {GUEST_IP} is 10.77.0.101", told
    with pytest.raises(ControlError) as caught:
        clones[0].call("protect", to="tcp:127.0.0.1:1")
    assert "can be neither protected nor moved" in str(caught.value)


def times(lab):
    """System time, RTC of the guest."""
    connection = load.Connection(lab.client, 7007)
    words = connection.order("TIME").split()
    connection.close()
    return int(words[1]), int(words[2])


def test_place_and_time(lab):
    """Hours later, on another host. Switches that know the guest at its old place hear of the new one before anybody speaks to it; the machine's
    clock shows the host's time, the guest's own goes on from the cut."""
    store = folder(lab)
    vm = primary(lab.hosts[0], ONE)
    begin = time.time()
    system, rtc = times(lab)
    assert abs(system - begin) < 20 and abs(rtc - begin) < 20, (system, rtc, begin)
    stores.take(vm, store)

    def port():
        with lab.switch.inside():
            told = subprocess.run(["bridge", "fdb", "show", "br", "vm"], capture_output=True, text=True, check=True).stdout
        return [line.split()[2] for line in told.splitlines() if line.startswith(guest_mac(0))]
    wait_for("the switch knows the guest behind host A", lambda: port() == ["vm1"])
    vm.kill_qemu()
    clocks = os.path.join(lab.folder, "clocks")
    with open(clocks, "wb") as file:
        file.write(struct.pack("<qq", HOURS, 0))
    restored = RestoredVm(lab.hosts[1], store, machine=ONE, before=["env", f"LD_PRELOAD={paths.FUT_CLOCK_SHIM}", f"FUT_CLOCK_FILE={clocks}"])
    wait_for(lambda: f"the switch knows the guest behind host B: {port()}", lambda: port() == ["vm2"])
    restored.wait_running()
    system, rtc = times(lab)
    now = time.time()
    assert begin - 20 < system < now + 20, (system, begin)
    assert abs(rtc - HOURS - now) < 20, (rtc, now)
