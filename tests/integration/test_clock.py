# SPDX-License-Identifier: GPL-2.0-or-later
"""A protected guest's clock keeps up with the world's, however many checkpoints stop the guest."""
import os
import time

import pytest
from lab import load
from lab.machine import Machine
from lab.qmp import Qmp
from lab.vm import address, primary, standby

SECONDS = 6


def machine(host):
    """Its RTC runs on the guest's clock, and QEMU tells it, by the second."""
    qmp = os.path.join(host.folder, "qmp")
    return Machine(kind="q35", extra=("-rtc", "clock=vm", "-qmp", f"unix:{qmp},server=on,wait=off"))


def rtc(qmp):
    told = qmp.command("qom-get", path="/machine", property="rtc-time")["return"]
    return (told["tm_hour"] * 60 + told["tm_min"]) * 60 + told["tm_sec"]


def second_begins(qmp):
    """(guest's time, host's time) at the beginning of a second of the guest's."""
    before = now = rtc(qmp)
    while now == before:
        time.sleep(0.01)
        now = rtc(qmp)
    return now, time.monotonic()


@pytest.mark.parametrize("mode", ["pipeline", "stop"])
def test_clock_keeps_up(lab, mode):
    standby(lab.hosts[1], machine(lab.hosts[1]))
    active = primary(lab.hosts[0], machine(lab.hosts[0]), options=("--mode", mode))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    counter = load.Counter(lab.client)
    qmp = Qmp(os.path.join(active.host.folder, "qmp"))
    guest_begin, host_begin = second_begins(qmp)
    load.sleep_counting(counter, SECONDS)
    guest_end, host_end = second_begins(qmp)
    qmp.close()
    checkpoints = active.status()["checkpoints"]
    load.check(counter.finish())
    assert checkpoints > 100 * SECONDS, checkpoints
    passed = (guest_end - guest_begin) % 86400
    assert abs(passed - (host_end - host_begin)) < 0.03 * SECONDS, (passed, host_end - host_begin, checkpoints)
