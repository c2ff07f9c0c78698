# SPDX-License-Identifier: GPL-2.0-or-later
"""A request that was done when its host died has told the guest so, or tells it on the twin: no disk ever stands still."""
import threading
import time

import pytest
from lab import disks, load
from lab.disks import Disk, DiskUser
from lab.machine import Machine
from lab.vm import address, pair, standby

MB = disks.MB
CHURN_MB = 1  # 256 writes and flushes, one after the other: nearly always one is on its way
KILLS = 3


class Churn:
    """Orders one write after another from the guest's disk service, which does each in small requests; there is never a second one
    whose end would wake up who waits for the first."""

    def __init__(self, client, name):
        self.user, self.name = DiskUser(client, timeout=60), name
        self.turns, self.error, self.stopping = 0, None, False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stopping:
                self.user.must("CHURN", self.name, 0, CHURN_MB * MB, self.turns)
                self.turns += 1
        except (OSError, RuntimeError) as error:
            self.error = error

    def wait_turns(self, more, timeout):
        goal = self.turns + more
        load.wait_for(lambda: f"{self.name}: {more} more turns after {self.turns}; {self.error!r}",
                      lambda: self.error or self.turns >= goal, timeout)
        assert self.error is None, self.error

    def finish(self):
        self.stopping = True
        self.thread.join(60)
        assert not self.thread.is_alive() and self.error is None, self.error
        self.user.verify(self.name, 0, CHURN_MB * MB, self.turns - 1)


@pytest.mark.parametrize("kind", ["q35", "microvm"])
def test_none_is_lost(lab, kind):
    """Hosts die one after the other under a guest that waits for its disks all the time."""
    machine = Machine(kind=kind, disks=(Disk(), Disk(bus="scsi")))
    for host in lab.hosts:
        disks.make_images(host, machine.disks)
    here, there = pair(lab, machine)
    churns = [Churn(lab.client, name) for name in disks.names(machine.disks)]
    lab.client.spawn([load.paths.FUT_RR, load.GUEST_IP, str(load.ECHO), "2", "3600"], "rr")  # outputs: checkpoints at any instant
    for number in range(KILLS):
        time.sleep(0.5 + 0.1 * number)
        here.kill_qemu()
        there.wait_running()
        for churn in churns:
            churn.wait_turns(2, 40)
        next_host = lab.hosts[(number + 2) % 3]
        disks.make_images(next_host, machine.disks)
        here, there = there, standby(next_host, machine)
        here.protect(address(next_host))
        here.wait_protected()
    for churn in churns:
        churn.finish()
