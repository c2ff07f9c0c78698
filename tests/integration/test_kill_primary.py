# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 of the primary's QEMU: the twin goes on, on every kind of machine, and holds exactly the committed image."""
import socket
import struct
import time

import pytest
from lab import load
from lab.machine import GUEST_IP, Machine
from lab.process import wait_for
from lab.sniffer import ArpAsker
from lab.vm import pair

VARIANTS = {
    "microvm": (Machine(), ()),
    "microvm-stop-mode": (Machine(), ("--mode", "stop")),
    "microvm-two-vcpus": (Machine(vcpus=2), ()),
    "microvm-1GB": (Machine(memory_mb=1024), ()),
    "q35": (Machine(kind="q35"), ()),
    "pc": (Machine(kind="pc"), ()),
}


def kill_and_judge(lab, active, backup, counter):
    """Kills the primary under the counter; returns the counter's result and the survivor's status."""
    before = active.status()
    killed_at = active.kill_qemu()
    status = backup.wait_running()
    counter.wait_counts(200)
    result = counter.finish()
    load.check(result)
    assert load.gap_after(result, killed_at) < 5000, result
    assert status["generation"] == before["generation"] + 1
    assert status["takeover_us"] > 0
    assert before["checkpoints"] > 0 and before["outputs_dropped"] == 0, before
    return result, status


def code_kb(pid):
    """Memory that a QEMU under TCG has for translated code."""
    found = 0
    with open(f"/proc/{pid}/smaps", encoding="ascii") as handle:
        inside = False
        for line in handle:
            words = line.split()
            if "-" in words[0]:
                inside = words[1].startswith("rwx")
            elif inside and words[0] == "Rss:":
                found += int(words[1])
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_kill_primary(lab, variant):
    machine, options = VARIANTS[variant]
    active, backup = pair(lab, machine, options)
    assert active.status()["mode"] == ("stop" if "stop" in options else "pipeline")
    if machine.accel == "tcg":
        wait_for("room for the twin's code", lambda: code_kb(backup.qemu_pid) >= 4096 * machine.vcpus)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.0)
    kill_and_judge(lab, active, backup, counter)


@pytest.mark.parametrize("kind, compress", [("microvm", "lz4"), ("q35", "zstd")])
def test_survivor_holds_the_committed_image(lab, kind, compress):
    """Every checkpoint is hashed on both sides; after the takeover the image must be the one last committed. What is large goes compressed."""
    active, backup = pair(lab, Machine(kind=kind), ("--verify", "1", "--compress", compress), ("--verify", "1"))
    assert active.status()["compress_spared_bytes"] > 10e6, active.status()
    load.dirty(lab.client, 24, 20)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.5)
    standby = backup.status()
    assert standby["verified"] > 5 and standby["verify_failed"] == 0, standby
    _, status = kill_and_judge(lab, active, backup, counter)
    assert status["verify_failed"] == 0 and status["verified"] >= standby["verified"], status
    assert int(status["committed_hash"], 16) != 0, status
    assert status["memory_hash"] == status["committed_hash"], status


def test_kill_primary_under_load(lab):
    """Two NICs, 16 busy connections and memory being written while the primary dies."""
    active, backup = pair(lab, Machine(nics=2))
    load.dirty(lab.client, 32, 30)
    busy = lab.client.spawn([load.paths.FUT_RR, "10.77.2.2", str(load.ECHO), "16", "6"], "rr")
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.0)
    kill_and_judge(lab, active, backup, counter)
    assert busy.wait(20) == 0, busy.output()


class Ping:
    """One echo request of ICMP, which nobody sends again."""

    def __init__(self, client):
        with client.ns.inside():
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)

    def send(self, number):
        body = struct.pack(">BBHHH", 8, 0, 0, 0xf07a, number)
        total = sum(struct.unpack(">4H", body))
        self.socket.sendto(struct.pack(">BBHHH", 8, 0, ~(total + (total >> 16)) & 0xffff, 0xf07a, number), (GUEST_IP, 0))

    def answered(self, number, timeout):
        self.socket.settimeout(timeout)
        wanted = struct.pack(">BB", 0, 0), struct.pack(">HH", 0xf07a, number)
        try:
            while True:
                packet = self.socket.recv(2048)[20:]
                if (packet[:2], packet[4:8]) == wanted:
                    return True
        except socket.timeout:
            return False

    def unanswered(self, numbers, timeout):
        """Of these, when all are answered or the time is over. One may be answered twice."""
        left, end = set(numbers), time.monotonic() + timeout
        while left and (rest := end - time.monotonic()) > 0:
            self.socket.settimeout(rest)
            try:
                packet = self.socket.recv(2048)[20:]
            except socket.timeout:
                break
            if (packet[:2], packet[4:6]) == (struct.pack(">BB", 0, 0), struct.pack(">H", 0xf07a)):
                left.discard(struct.unpack(">H", packet[6:8])[0])
        return left


@pytest.mark.parametrize("machine", [Machine(), Machine(kind="q35", nics=2)], ids=("microvm", "q35-two-nics"))
def test_what_nobody_had_read(lab, machine):
    """A packet lies in the tap when QEMU dies. Nobody sends it again, and the twin answers it."""
    active, backup = pair(lab, machine, ("--timeout-ms", "8000"), ("--timeout-ms", "8000"))
    ping = Ping(lab.client)
    ping.send(1)
    assert ping.answered(1, 20)
    active.freeze()
    ping.send(2)
    assert not ping.answered(2, 0.1)
    active.kill_qemu()
    backup.wait_running()
    assert ping.answered(2, 20)


def test_what_was_read_last(lab):
    """A volley of packets, and QEMU dies in the middle of it: some it has not read, some the guest has and the twin has not been told of, some are
    in a checkpoint. Nobody sends them again, and each is answered, but for one that may have been on its way from the tap into the log."""
    active, backup = pair(lab, Machine(), ("--timeout-ms", "8000"), ("--timeout-ms", "8000"))
    ping = Ping(lab.client)
    for number in range(1, 33):  # a volley before makes it busy: then packets wait for a checkpoint that covers them
        ping.send(number)
    assert ping.unanswered(range(1, 33), 20) == set()
    volley = range(101, 165)
    for number in volley:
        ping.send(number)
    active.kill_qemu()
    backup.wait_running()
    assert len(ping.unanswered(volley, 20)) <= 1


def test_kill_an_idle_primary(lab):
    """Nobody speaks when it dies. A connection that was quiet all the time goes on afterwards."""
    active, backup = pair(lab)
    quiet = load.Connection(lab.client, load.ECHO)
    assert quiet.echo(b"before") == b"before"
    time.sleep(0.5)
    active.kill_qemu()
    backup.wait_running()
    assert quiet.echo(b"after") == b"after"
    quiet.close()


GUEST_ANNOUNCES_AFTER_S = 0.25


def test_the_twin_begins_with_what_is_asked_now(lab):
    """What was broadcast while the twin stood by is no affair of its guest, and the guest's own announcement comes when others were answered."""
    active, backup = pair(lab)
    asker = lab.keep(ArpAsker(lab.client.ns, "eth0", GUEST_IP))
    for sender in ("10.77.0.97", "10.77.0.98"):  # the second may get its answer once more, as the last that was let go
        asker.ask(sender)
        wait_for(lambda: f"the primary answers: {asker.answers}", lambda: asker.count(sender) == 1)
    active.kill_qemu()
    takeover = backup.wait_running()["takeover"]
    asker.ask("10.77.0.99")
    wait_for(lambda: f"the twin answers: {asker.answers}", lambda: asker.count("10.77.0.99") == 1)
    assert asker.count("10.77.0.97") == 1, asker.answers
    wait_for(lambda: f"the guest announces itself: {asker.answers}", lambda: asker.announced_since(takeover["lost"]))
    assert asker.announced_since(takeover["lost"])[0] > takeover["loaded"] + GUEST_ANNOUNCES_AFTER_S, (takeover, asker.announced)
