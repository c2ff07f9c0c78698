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


REAL, ASKED, COARSE, TAI, MONOTONIC, BOOTTIME, FREQUENCY = range(7)
S = 10 ** 9
DEVICES = 7007
PPM = 65536 * 40  # in units of adjtimex(2)


def order(lab, line):
    connection = load.Connection(lab.client, DEVICES)
    words = connection.order(line).split()
    connection.close()
    assert words[0] == "OK", (line, words)
    return list(map(int, words[1:]))


def expect_consistent(clocks):
    """What programs read without the kernel, what it says if asked, and what timers go by are one clock."""
    assert -S < clocks[ASKED] - clocks[REAL] < 5 * S and -S < clocks[COARSE] - clocks[REAL] < 5 * S, clocks
    assert 36 * S < clocks[TAI] - clocks[REAL] < 42 * S and 0 <= clocks[BOOTTIME] - clocks[MONOTONIC] < 5 * S, clocks
    assert clocks[FREQUENCY] == PPM, clocks


def later(lab, host, store, machine, *options):
    """Restored on a host whose clock is ahead."""
    clocks = os.path.join(lab.folder, "clocks")
    with open(clocks, "wb") as file:
        file.write(struct.pack("<qq", HOURS, 0))
    return RestoredVm(host, store, *options, machine=machine, before=["env", f"LD_PRELOAD={paths.FUT_CLOCK_SHIM}", f"FUT_CLOCK_FILE={clocks}"])


def port(lab):
    with lab.switch.inside():
        told = subprocess.run(["bridge", "fdb", "show", "br", "vm"], capture_output=True, text=True, check=True).stdout
    return [line.split()[2] for line in told.splitlines() if line.startswith(guest_mac(0))]


# Programs read this clock without asking the kernel.
READABLE = Machine(kind="q35", memory_mb=192, vcpus=2, append="tsc=reliable clocksource=tsc")
NEWER = Machine(memory_mb=192, vcpus=2, debian13=True)  # Linux 6.12


@pytest.mark.parametrize("machine, options", ((ONE, ()), (READABLE, ("--lazy",)), (NEWER, ())), ids=("microvm", "q35-lazy", "newer"))
def test_place_and_time(lab, machine, options):
    """Hours later, on another host. Switches that know the guest at its old place hear of the new one before anybody speaks to it; the guest's wall clock is as right as
    it was, timers that go by it come due, and no other clock has jumped."""
    store = folder(lab)
    vm = primary(lab.hosts[0], machine)
    connection = load.Connection(lab.client, DEVICES)
    connection.order(f"ADJUST {PPM}")
    connection.close()
    was = order(lab, "CLOCKS")
    order(lab, f"WAKE {was[REAL] // S + HOURS // 2}")
    before_cut = time.monotonic_ns()
    stores.take(vm, store)
    after_cut = time.monotonic_ns()
    wait_for("the switch knows the guest behind host A", lambda: port(lab) == ["vm1"])
    vm.kill_qemu()

    before_run = time.monotonic_ns()
    restored = later(lab, lab.hosts[1], store, machine, *options)
    wait_for(lambda: f"the switch knows the guest behind host B: {port(lab)}", lambda: port(lab) == ["vm2"])
    restored.said("s late, and is set")
    clocks = order(lab, "CLOCKS")
    after_run = time.monotonic_ns()
    expect_consistent(clocks)
    # A busy emulated guest loses ticks: not its clock is compared with the host's, but by how much it went forward while there was no guest.
    moved = clocks[REAL] - clocks[MONOTONIC] - (was[REAL] - was[MONOTONIC])
    assert before_run - after_cut - S // 2 < moved - HOURS * S < after_run - before_cut + S // 2, (moved, before_cut, after_cut, before_run, after_run)
    ran = after_cut - before_cut + after_run - before_run
    assert 0 < clocks[MONOTONIC] - was[MONOTONIC] < ran + 5 * S, (was, clocks, ran)
    woken = wait_for("a sleeper until a time that is over is awake", lambda: order(lab, "WOKEN")[0])
    assert clocks[REAL] - 60 * S < woken < clocks[REAL] + 60 * S, (woken, clocks)
    again = order(lab, "CLOCKS")
    expect_consistent(again)
    went = again[REAL] - clocks[REAL]
    assert abs(went - (again[MONOTONIC] - clocks[MONOTONIC])) < S and 0 < went < 120 * S, (clocks, again)
    assert abs(order(lab, "TIME")[1] - HOURS - time.time()) < 20
    restored.kill_qemu()

    kept = later(lab, lab.hosts[1], store, machine, "--keep-clock", *options)
    kept.wait_running()
    assert 0 <= order(lab, "CLOCKS")[REAL] - was[REAL] < HOURS * S // 2 and order(lab, "WOKEN") == [0]
    assert "late" not in kept.process.output()
