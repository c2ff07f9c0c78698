# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs whose arbiter is etcd, a command, or a person: a takeover waits for the arbiter, and for nothing else."""
import os
import tempfile
import time

import pytest
from lab import load, paths
from lab.etcd import Cluster
from lab.network import REP_SWITCH_IP
from lab.proxy import Proxy
from lab.vm import PORT, primary, standby, address

WAIT = ("--timeout-ms", "1500", "--retry-ms", "200")


def pair_with(lab, arbiters):
    """A protected pair; `arbiters`: the address that each host names."""
    backup = standby(lab.hosts[1], options=("--arbiter", arbiters[1], *WAIT))
    active = primary(lab.hosts[0], options=("--arbiter", arbiters[0], *WAIT))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    return active, backup


def check_waits(vm, words, seconds=1.5):
    """The host asks, gets no answer, and does not run the guest."""
    status = vm.wait_status(f"waits: {words}", lambda s: s["state"] in ("claiming", "asking") and words in s["reason"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = vm.status()
        assert status["state"] in ("claiming", "asking"), status
        assert status["role"] == "primary" or not status["running"], status
        time.sleep(0.05)


@pytest.fixture
def folder(whole_lab):
    return tempfile.mkdtemp(prefix="arbiter-", dir=whole_lab.folder)


def test_etcd(lab, folder):
    """While etcd is gone the backup waits; when its majority is back, with one member dead, the backup takes over."""
    cluster = Cluster(lab, lab.switch, REP_SWITCH_IP, 3, folder)
    active, backup = pair_with(lab, [cluster.address(), cluster.address([2, 1, 0])])
    counter = load.Counter(lab.client)
    for member in cluster.members:
        member.kill()
    load.sleep_counting(counter, 1)  # a pair that is not disturbed does not need it
    active.kill_qemu()
    check_waits(backup, cluster.members[1].url)
    for member in cluster.members[:2]:
        member.start()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
    assert backup.status()["generation"] == 2


def test_command(lab, folder, monkeypatch):
    monkeypatch.setenv("FUTAGO_ARBITER_DIR", folder)
    program = f"command:{os.path.join(paths.ROOT, 'agents', 'arbiter-example')}"
    active, backup = pair_with(lab, [program, program])
    counter = load.Counter(lab.client)
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
    with open(os.path.join(folder, "vm.generation"), encoding="ascii") as handle:
        assert handle.read() == "futago-arbiter 1 generation=2 holder=hostB state=active\n"


def test_manual(lab, folder):
    """A person grants the start, then the takeover, each by its generation; nothing goes on before."""
    manual = [f"manual:{folder}/{host.name}" for host in lab.hosts]
    early = primary(lab.hosts[0], options=("--arbiter", manual[0]), wait=False)
    assert early.process.wait(20) != 0
    assert "futago grant vm --generation 1" in early.process.output()
    lab.hosts[0].futago("grant", "vm", "--generation", 1, "--arbiter", manual[0], "--node", lab.hosts[0].name)
    active, backup = pair_with(lab, manual)
    refused = lab.hosts[1].futago("grant", "vm", "--generation", 2, check=False)
    assert refused.returncode == 1 and "nothing waits for a grant here (state standby)" in refused.stderr
    counter = load.Counter(lab.client)
    active.kill_qemu()
    check_waits(backup, "futago grant vm --generation 2")
    refused = lab.hosts[1].futago("grant", "vm", "--generation", 3, check=False)
    assert refused.returncode == 2 and "this host asks for 2" in refused.stderr
    check_waits(backup, "futago grant vm --generation 2", 0.5)
    lab.hosts[1].futago("grant", "vm", "--generation", 2)
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())


def test_manual_lost_backup(lab, folder):
    """The backup is lost: the primary's outputs are held until a person lets it go on."""
    manual = [f"manual:{folder}/{host.name}" for host in lab.hosts]
    lab.hosts[0].futago("grant", "vm", "--generation", 1, "--arbiter", manual[0], "--node", lab.hosts[0].name)
    active, backup = pair_with(lab, manual)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    backup.kill_qemu()
    check_waits(active, "futago grant vm --generation 2")
    lab.hosts[0].futago("grant", "vm", "--generation", 2)
    active.wait_status("going on alone", lambda s: s["running"] and s["state"] in ("alone", "connecting"))
    counter.wait_counts(100)
    load.check(counter.finish())


def test_file_grants_nothing_by_hand(lab):
    """Where the arbiter decides, a person's grant is refused."""
    active = primary(lab.hosts[0], wait=False)
    active.wait_state("alone")
    refused = lab.hosts[0].futago("grant", "vm", "--generation", 2, check=False)
    assert refused.returncode == 1 and "nothing waits for a grant here" in refused.stderr


def test_different_arbiters(lab, folder):
    """Two hosts that would ask different arbiters are told so when they greet, not when one of them is dead."""
    backup = standby(lab.hosts[1], options=("--arbiter", f"file:{folder}/b", *WAIT))
    active = primary(lab.hosts[0], options=("--arbiter", f"file:{folder}/a", *WAIT), wait=False)
    active.wait_running()
    active.call("protect", to=address(lab.hosts[1]))
    status = active.wait_status("refused", lambda s: "different arbiters" in s["reason"])
    for host in "ab":
        with open(f"{folder}/{host}/vm.token", encoding="ascii") as handle:
            assert handle.read().strip() in status["reason"], status["reason"]
    assert status["running"] and backup.status()["state"] == "waiting"


def test_ended_vm_stays_ended(lab):
    """The backup is cut off, misses the farewell of a VM ended on purpose, and is refused; a new start is not."""
    proxy = lab.keep(Proxy(lab.switch, REP_SWITCH_IP, (lab.hosts[1].rep_ip, PORT)))
    backup = standby(lab.hosts[1], options=WAIT)
    active = primary(lab.hosts[0], options=("--timeout-ms", "20000"))
    active.protect(proxy.address)
    active.wait_protected()
    proxy.blackhole = proxy.refuse = True
    lab.hosts[0].futago("stop", "vm")
    assert active.process.wait(20) == 0, active.process.output()
    status = backup.wait_status("refused", lambda s: s["state"] == "waiting")
    assert "hostA has ended the VM" in status["reason"] and not status["running"], status
    assert "FUT-124" in backup.process.output(), "the backup never claimed: the test would prove nothing"
    again = primary(lab.hosts[2], wait=False)
    again.wait_running()
    assert again.status()["generation"] == 3


def test_hand_over_without_arbiter(lab, folder):
    """Ordered while etcd is gone, a hand-over does not begin: the guest runs on, protected. With etcd it goes through."""
    cluster = Cluster(lab, lab.switch, REP_SWITCH_IP, 1, folder)
    active, backup = pair_with(lab, [cluster.address()] * 2)
    counter = load.Counter(lab.client)
    cluster.members[0].kill()
    refused = lab.hosts[0].futago("failover", "vm", "--wait", check=False)
    assert refused.returncode != 0, refused.stdout
    status = active.status()
    assert status["state"] == "protected" and cluster.members[0].url in status["reason"], status
    assert "FUT-113" in active.process.output()
    counter.wait_counts(50)
    cluster.members[0].start()
    cluster.wait()
    lab.hosts[0].futago("failover", "vm", "--wait")
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
