# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest, many mishaps in a row, chosen by a seed (FUTAGO_SEED; printed): each survivor gets a new twin and the next mishap.

Two NICs, a busy one and a counted one; memory is being written; every few checkpoints the twins' memory is compared.
FUTAGO_MISHAPS sets how many (default 8), FUTAGO_CHAIN_MACHINE and FUTAGO_CHAIN_VCPUS the guest."""
import os
import random
import time

from lab import load
from lab.machine import GUEST_IP1, Machine
from lab.process import wait_for
from lab.vm import address, primary, standby

OPTIONS = ("--timeout-ms", "2000", "--verify", "5")
MACHINE = Machine(kind=os.environ.get("FUTAGO_CHAIN_MACHINE", "microvm"), vcpus=int(os.environ.get("FUTAGO_CHAIN_VCPUS", "1")), nics=2)


class Chain:
    def __init__(self, lab, chance):
        self.lab, self.chance = lab, chance
        self.backup = standby(lab.hosts[1], MACHINE, options=OPTIONS)
        self.active = primary(lab.hosts[0], MACHINE, options=OPTIONS)

    def protect(self):
        self.active.protect(address(self.backup.host))
        self.active.wait_protected()
        time.sleep(self.chance.random() * 0.5)

    def renew_backup(self):
        free = [host for host in self.lab.hosts if host is not self.active.host]
        self.backup = standby(self.chance.choice(free), MACHINE, options=OPTIONS)

    # -- mishaps --

    def kill_primary(self):
        self.active.kill_qemu()
        self.backup.wait_running()

    def freeze_primary(self):
        self.active.freeze()
        self.backup.wait_running()
        self.active.thaw()
        wait_for("the old primary is fenced", lambda: not self.active.alive or self.active.try_status().get("state") == "fenced")
        self.active.kill()

    def hand_over(self):
        asked = self.chance.choice((self.active, self.backup))
        asked.host.futago("failover", "vm")
        self.backup.wait_running()
        self.active.kill()

    def kill_backup(self):
        self.backup.kill_qemu()
        status = self.active.wait_status("alone", lambda s: s["running"] and s["state"] in ("alone", "connecting"))
        if status["state"] == "connecting":
            self.active.call("unprotect")
            self.active.wait_state("alone")
        self.active, self.backup = None, self.active  # the "survivor" below

    def mishap(self):
        what = self.chance.choice((self.kill_primary, self.kill_primary, self.freeze_primary, self.hand_over, self.kill_backup))
        what()
        self.active = self.backup
        status = self.active.status()
        assert status["verify_failed"] == 0, status
        if int(status["committed_hash"], 16):
            assert status["committed_hash"] == status["memory_hash"], status
        self.renew_backup()
        return what.__name__


def test_chain_of_mishaps(lab):
    seed = int(os.environ.get("FUTAGO_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"FUTAGO_SEED={seed}")
    chain = Chain(lab, random.Random(seed))
    counter = load.Counter(lab.client)
    load.dirty(lab.client, 16, 10)
    busy = lab.client.spawn([load.paths.FUT_RR, GUEST_IP1, str(load.ECHO), "8", "3600"], "rr")
    for number in range(int(os.environ.get("FUTAGO_MISHAPS", "8"))):
        chain.protect()
        print(f"{number + 1}: {chain.mishap()} → {chain.active.host.name}")
        counter.wait_counts(5)
    assert busy.alive, busy.output()
    load.check(counter.finish())
