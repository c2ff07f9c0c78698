# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures that docs/failures.md promises an outcome for and that no other file tests: clocks, memory, the guest's own end, slow
links, hosts and arbiters cut off."""
import os
import resource
import struct
import tempfile
import time

import pytest
from lab import load, paths
from lab.disks import MB, Disk, DiskUser, make_images
from lab.etcd import Cluster
from lab.machine import Machine, guest_mac
from lab.network import REP_SWITCH_IP
from lab.proxy import Proxy
from lab.qmp import Qmp
from lab.sniffer import Sniffer
from lab.vm import PORT, FutagoVm, active_of, address, pair, primary, standby
from test_disks import failing, faulty

QUICK = ("--timeout-ms", "1500", "--retry-ms", "200")


def link(lab):
    """A proxy in front of host B's standby."""
    return lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (lab.hosts[1].rep_ip, PORT)))


# -- clocks --

class ClockVm(FutagoVm):
    """A member of a pair whose host's clocks can be moved."""

    def command(self, qemu):
        self.clocks = os.path.join(self.host.folder, "clocks")
        self.move()
        return ["env", f"LD_PRELOAD={paths.FUT_CLOCK_SHIM}", f"FUT_CLOCK_FILE={self.clocks}"] + super().command(qemu)

    def move(self, wall_s=0, boot_s=0):
        with open(self.clocks, "r+b" if os.path.exists(self.clocks) else "wb") as handle:
            handle.write(struct.pack("=qq", wall_s, boot_s))


def clock_pair(lab):
    backup = ClockVm(lab.hosts[1], listen=address(lab.hosts[1]), options=QUICK)
    backup.wait_state("waiting")
    active = ClockVm(lab.hosts[0], options=QUICK)
    active.wait_ready()
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    for vm in (active, backup):
        with open(f"/proc/{vm.qemu_pid}/maps", encoding="utf-8") as handle:
            assert "fut-clock-shim" in handle.read(), "its clocks cannot be moved: the test would prove nothing"
    return active, backup


def test_wall_clock_set(lab):
    """The hosts' clocks are set hours forth and back, each its own way: the pair does not notice, and fails over."""
    active, backup = clock_pair(lab)
    counter = load.Counter(lab.client)
    for here, there in ((6, -6), (-6, 6), (0, 0), (24 * 400, 24 * 400)):
        active.move(wall_s=here * 3600)
        backup.move(wall_s=there * 3600)
        counter.wait_counts(50)
        assert active.status()["state"] == "protected" and backup.status()["state"] == "standby"
    assert active.status()["generation"] == 1
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())


def test_host_suspended(lab):
    """The primary's host slept for a minute as its own clock says: it loses its backup, and exactly one goes on."""
    active, backup = clock_pair(lab)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.3)
    active.move(boot_s=60)
    deadline = time.monotonic() + 10
    while "FUT-105" not in active.process.output():
        assert time.monotonic() < deadline, "the sleep went unnoticed"
        time.sleep(0.02)
    active_of(active, backup)
    assert 2 in {vm.try_status().get("generation") for vm in (active, backup)}
    counter.wait_counts(100)
    load.check(counter.finish())


# -- memory --

def vm_kb(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii") as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith(key + ":"))


def test_backup_out_of_memory(lab):
    """The backup cannot keep an epoch: it gives its image up and claims nothing; the primary says why and goes on."""
    active, backup = pair(lab, options=("--retry-ms", "60000"))
    counter = load.Counter(lab.client)
    limit = vm_kb(backup.qemu_pid, "VmSize") * 1024 + 24 * MB
    resource.prlimit(backup.qemu_pid, resource.RLIMIT_AS, (limit, limit))
    load.dirty(lab.client, 150, 0)
    status = active.wait_status("protection ends", lambda s: "out of memory" in s["reason"], 30)
    assert status["running"] and status["role"] == "primary", status
    away = backup.wait_state("waiting")
    assert "out of memory" in away["reason"] and not away["running"], away
    counter.wait_counts(100)
    load.check(counter.finish())


def test_writer_faster_than_the_link(lab):
    """Memory is written faster than the link carries: neither host's process grows beyond what the documentation says."""
    memory_mb, dirty_mb = 128, 48
    proxy = link(lab)
    backup = standby(lab.hosts[1], Machine(memory_mb=memory_mb))
    active = primary(lab.hosts[0], Machine(memory_mb=memory_mb))
    active.protect(proxy.address)
    active.wait_protected()
    pids = {"primary": active.qemu_pid, "backup": backup.qemu_pid}
    other = vm_kb(pids["primary"], "RssFile") // 1024 + 64  # QEMU's own
    committed = active.status()["committed"]
    proxy.bytes_per_s = 30 * MB
    load.dirty(lab.client, dirty_mb, 0)
    most = dict.fromkeys(pids, 0)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        for who, pid in pids.items():
            most[who] = max(most[who], vm_kb(pid, "VmRSS") // 1024)
        time.sleep(0.05)
    status = active.status()
    assert status["state"] == "protected" and status["committed"] > committed, status
    assert most["primary"] <= 3 * memory_mb + other, most
    assert most["backup"] <= 2 * memory_mb + other, most
    active.kill_qemu()
    backup.wait_running(60)
    load.Connection(lab.client, load.ECHO).echo()


# -- the guest's own end --

def panicking(lab, choice):
    """A protected guest, and what makes it panic as far as QEMU can tell."""
    sockets = [os.path.join(host.folder, "qmp") for host in lab.hosts[:2]]
    machines = [Machine(kind="q35", extra=("-device", "pvpanic", "-qmp", f"unix:{path},server=on,wait=off",
                                           "-action", "reboot=reset")) for path in sockets]
    options = ("--on-panic", choice) if choice else ()
    backup = standby(lab.hosts[1], machines[1], options=options)
    active = primary(lab.hosts[0], machines[0], options=options)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()

    def panic():
        qmp = Qmp(sockets[0])
        qmp.command("human-monitor-command", **{"command-line": "o /b 0x505 1"})
        qmp.close()
    return active, backup, panic


def test_panic_restart(lab):
    """A guest that panics starts anew, three times; it stays protected, and its twin goes on with what it has become."""
    active, backup, panic = panicking(lab, "restart")
    panic()
    active.wait_status("started anew", lambda s: s["panics"] == 1 and s["running"])
    deadline = time.monotonic() + 60
    while active.console().count("GUEST-READY") < 2:
        assert time.monotonic() < deadline, active.console()[-300:]
        time.sleep(0.1)
    assert "FUT-192 the guest has panicked: it starts anew" in active.process.output()
    active.wait_protected()
    counter = load.Counter(lab.client)
    counter.wait_counts(50)
    for number in (2, 3, 4):
        panic()
        active.wait_status("panicked again", lambda s, n=number: s["panics"] == n)
    active.wait_status("left stopped", lambda s: not s["running"])
    assert "having started anew too often" in active.process.output()
    counter.process.kill()


@pytest.mark.parametrize("choice", ["report", "stop", None])
def test_panic(lab, choice):
    """Reported in any case. Left stopped with its twin standing by, or ended, as QEMU ends it when it is told nothing."""
    active, backup, panic = panicking(lab, choice)
    panic()
    if choice == "report":
        status = active.wait_status("left stopped", lambda s: s["panics"] == 1 and not s["running"])
        assert status["state"] == "protected" and backup.status()["state"] == "standby", status
        assert "guest panics         1" in lab.hosts[0].futago("status", "vm").stdout
    else:
        assert active.process.wait(20) == 0, active.process.output()
        backup.wait_state("waiting")
    assert "FUT-192 the guest has panicked" in active.process.output()


# -- links --

@pytest.mark.parametrize("how", ["stalled", "trickling"])
def test_link_that_hardly_moves(lab, how):
    """Nothing passes, or a few bytes a second: one of the two goes on, in bounded time."""
    proxy = link(lab)
    options = QUICK + ("--commit-ms", "2000")
    backup = standby(lab.hosts[1], options=options)
    active = primary(lab.hosts[0], options=options)
    active.protect(proxy.address)
    active.wait_protected()
    counter = load.Counter(lab.client)
    proxy.refuse = True
    if how == "stalled":
        proxy.stalled = True
    else:
        proxy.bytes_per_s = 400
    active_of(active, backup)
    counter.wait_counts(100)
    load.check(counter.finish())


# -- hosts and arbiters cut off --

def test_host_cut_off(lab):
    """The primary's host loses its networks, without a word: the twin goes on; back again, the old one is fenced."""
    cluster = Cluster(lab, lab.switch, REP_SWITCH_IP, 1, tempfile.mkdtemp(prefix="cut-", dir=lab.folder))
    options = QUICK + ("--arbiter", cluster.address())
    active, backup = pair(lab, options=options, backup_options=options)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.3)
    ends = [(lab.switch, f"{bridge}{lab.hosts[0].number}") for bridge in ("vm", "rep")]
    for ns, end in ends:
        ns.ip(f"link set {end} down")
    backup.wait_running()
    counter.wait_counts(100)
    assert active.status()["state"] == "asking", active.status()
    sniffer = lab.keep(Sniffer(lab.hosts[0].ns, "tap0", guest_mac(0)))
    woken_at = time.monotonic()
    for ns, end in ends:
        ns.ip(f"link set {end} up")
    active.wait_state("fenced")
    counter.wait_counts(100)
    assert sniffer.since(woken_at) == 0, "frames escaped from the host that was cut off"
    load.check(counter.finish())


def test_both_cut_from_the_arbiter(lab):
    """The link breaks while neither reaches the arbiter: nobody goes on; when it is back, exactly one does."""
    proxy = link(lab)
    active, backup = pair(lab, options=QUICK, backup_options=QUICK, to=proxy.address)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.3)
    away = lab.arbiter + ".away"
    os.rename(lab.arbiter, away)
    try:
        proxy.refuse = True
        proxy.cut()
        active.wait_state("asking")
        backup.wait_state("claiming")
        before = counter.count()
        time.sleep(1.0)
        assert counter.count() <= before + 1, "somebody went on alone"
        assert active.status()["state"] == "asking" and backup.status()["state"] == "claiming"
        assert "cannot open" in active.status()["reason"], active.status()
    finally:
        os.rename(away, lab.arbiter)
    active_of(active, backup)
    counter.wait_counts(100)
    load.check(counter.finish())


# -- the primary's disk --

def test_primary_disk_fails(lab):
    """The guest gets the error, as without a twin, and stays protected."""
    disk = Disk()
    for host in lab.hosts[:2]:
        make_images(host, [disk])
    backup = standby(lab.hosts[1], Machine(disks=(disk,)))
    active = primary(lab.hosts[0], Machine(extra=faulty(disk, lab.hosts[0], 0, failing("write", 5, 10 * MB))))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    user = DiskUser(lab.client)
    user.write("vda", 4 * MB, 4096, 1)
    assert not user.order("WRITE", "vda", 10 * MB, 4096, 2).startswith("OK")
    user.write("vda", 12 * MB, 4096, 3)
    assert active.status()["state"] == "protected"
    active.kill_qemu()
    backup.wait_running()
    user.verify("vda", 12 * MB, 4096, 3)
