# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM, end to end: protect, kill, takeover, and the survivor's memory is the committed image. The guest is tests/guest/pages.c."""
import re
import time

import pytest
from lab import paths
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import pair, primary

RINGS = "kvm,dirty-ring-size=65536"
OPTIONS = ("--verify", "1", "--tracker-check", "1", "--timeout-ms", "3000")
# Accelerator, processors, tracker asked for, trackers that may be at work, longest epoch.
VARIANTS = {
    "rings": (RINGS, 1, "queue", ("queue",), 50000),
    "rings-two-processors": (RINGS, 2, "queue", ("queue",), 50000),
    # Filled within an epoch. KVM stops a processor in time, unless it emulates it: then rings are overrun, and that is noticed.
    "small-rings": ("kvm,dirty-ring-size=1024", 2, "queue", ("queue", "all"), 400000),
    "rings-words": (RINGS, 2, "words", ("words",), 25000),
    "no-rings": ("kvm", 2, "queue", ("words",), 25000),
    "no-rings-flags": ("kvm", 1, "flags", ("flags",), 25000),
}


def guest(accel, vcpus):
    return Machine(memory_mb=64, vcpus=vcpus, nics=0, accel=accel, cpu="qemu64,-cx16,-xsave", kernel=paths.PAGES_GUEST)


def rounds(vm, vcpus):
    """The newest round that the guest told of; its pages held what it had written so far."""
    console = vm.console()
    assert "BAD" not in console, console
    found = re.findall(r"^round (\d+) processors (\d+)$", console, re.M)
    assert all(int(working) == vcpus for _, working in found[1:]), console
    return int(found[-1][0]) if found else 0


def judge_trackers(active, variant):
    """The tracker that should be at work is, and has done what it can."""
    _, _, asked, at_work, _ = VARIANTS[variant]
    status, said = active.status(), active.process.output()
    assert status["tracker"] in at_work and status["tracker_mismatches"] == 0, status
    assert status["state"] == "protected" and status["pages_per_checkpoint"] > 10, status
    assert "FUT-201" not in said and status["state_sections_stock"] <= 1, said
    assert ("FUT-203" in said) == (asked == "queue" and at_work == ("words",)), said
    assert ("FUT-205" in said) == (status["tracker"] == "all"), said
    if at_work == ("queue",):
        # QEMU's own thread looks into the rings once a second, and may find something: scanned then, and then only.
        status = active.wait_status("QEMU has emptied a ring, too", lambda s: s["tracker_scans"] > 0, 60)
        assert status["tracker_scans"] < status["epoch"] / 2, status


@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_primary(lab, variant):
    accel, vcpus, asked, _, epoch_max_us = VARIANTS[variant]
    options = OPTIONS + ("--tracker", asked, "--epoch-max-us", str(epoch_max_us))
    active, backup = pair(lab, guest(accel, vcpus), options, options)
    active.call("reset-stats")
    time.sleep(2.5)
    judge_trackers(active, variant)
    theirs = backup.status()
    assert theirs["verified"] > 3 and theirs["verify_failed"] == 0, theirs
    before = rounds(active, vcpus)
    active.kill_qemu()
    status = backup.wait_running()
    assert status["memory_hash"] == status["committed_hash"] != "0" * 16, status
    backup.wait_status("goes on", lambda _: rounds(backup, vcpus) > before)


def test_probes_need_linux(lab):
    """A guest without a kernel takes no probes: one line says so, and it runs on."""
    vm = primary(lab.hosts[0], guest("kvm", 1), wait=False)
    vm.wait_running()
    done = vm.host.futago("probe", "add", "vm", "kprobe:panic", check=False)
    assert done.returncode == 1 and "no Linux kernel is up" in done.stderr, done
    before = rounds(vm, 1)
    wait_for("the guest goes on", lambda: rounds(vm, 1) > before)
