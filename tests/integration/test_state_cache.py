# SPDX-License-Identifier: GPL-2.0-or-later
"""The device state that is saved fast is the one that QEMU saves: compared byte for byte at every checkpoint, whatever the guest does."""
import dataclasses
import os

import pytest
from lab import load
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import address, pair, primary, standby

CHECKS = 1500  # more than so many comparisons a machine
MICROVM = ("-device", "virtio-rng-device", "-device", "virtio-serial-device", "-device", "virtio-balloon-device")
PCI = ("-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "virtio-balloon-pci,disable-modern=on,disable-legacy=off")
MACHINES = {
    "microvm": Machine(kind="microvm"),
    "microvm-more": Machine(kind="microvm", vcpus=2, extra=MICROVM),
    "microvm-modern": Machine(kind="microvm", extra=("-global", "virtio-mmio.force-legacy=false")),
    "q35": Machine(kind="q35"),
    "q35-more": Machine(kind="q35", vcpus=2, nics=2, extra=PCI + ("-device", "e1000", "-device", "e1000e")),
    "pc": Machine(kind="pc", extra=PCI + ("-device", "e1000", "-device", "rtl8139")),
}


def with_monitor(machine, host):
    path = os.path.join(host.folder, "qmp")
    extra = ("-qmp", f"unix:{path},server=on,wait=off", "-action", "reboot=reset")
    return dataclasses.replace(machine, extra=machine.extra + extra), path


def start(lab, machine):
    """A protected pair that compares every checkpoint, and the path of the primary's monitor."""
    # Hashing makes the engine compare its copy of the device state, too.
    options = ("--state-check", "1", "--verify", "100", "--timeout-ms", "3000")
    ours, monitor = with_monitor(machine, lab.hosts[0])
    theirs, _ = with_monitor(machine, lab.hosts[1])
    standby(lab.hosts[1], theirs, options=options)
    active = primary(lab.hosts[0], ours, options=options, protect_to=address(lab.hosts[1]))
    active.wait_protected()
    return active, monitor


def looked_at(active):
    """Status of the primary; no comparison so far has failed."""
    status = active.status()
    assert status["state_mismatches"] == 0 and status["state_sections_stock"] == 0, (status, active.process.output())
    assert status["state_sections"] >= 10, status
    return status


def work(lab, active, seconds):
    """Requests on one and on many connections while the guest writes memory."""
    load.dirty(lab.client, 8, 20)
    for connections in (1, 16):
        load.rr(lab.client, connections, seconds)
    return looked_at(active)


def restart(active, monitor):
    """The guest is reset and boots again, protected all the while."""
    boots = active.console().count("GUEST-READY")
    qmp = Qmp(monitor)
    assert "return" in qmp.command("system_reset")
    wait_for("the guest boots again", lambda: active.console().count("GUEST-READY") > boots, 90)
    qmp.close()


@pytest.mark.parametrize("name", list(MACHINES))
def test_equal_to_stock(lab, name):
    """Load, a reset, the boot after it, and load again."""
    active, monitor = start(lab, MACHINES[name])
    first = work(lab, active, 3)
    restart(active, monitor)
    booted = looked_at(active)
    last = work(lab, active, 3)
    assert last["state"] == "protected", last
    assert last["state_checks"] > CHECKS, last
    assert first["state_checks"] < booted["state_checks"] < last["state_checks"]


def test_checked_by_itself(lab):
    """Without being asked for, the first checkpoints are compared, and some later ones."""
    active, _ = pair(lab)
    load.rr(lab.client, 1, 3)
    status = looked_at(active)
    assert 16 <= status["state_checks"] < status["checkpoints"] / 10, status
