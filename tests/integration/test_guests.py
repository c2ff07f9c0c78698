# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests of all kinds outlive their host: several vCPUs and NICs, consoles, clock, random numbers, kinds and sizes of memory."""
import contextlib
import dataclasses
import json
import os
import time

import pytest
from lab import load
from lab.console import Console
from lab.machine import GUEST_IPS, Machine, serial_socket
from lab.process import wait_for
from lab.vm import address, pair, primary, standby

SMP, DEVICES = 7006, 7007
VERIFY = ("--verify", "1", "--timeout-ms", "3000")  # hashing takes a while where many work
MB = 128  # of guests whose memory is hashed at every checkpoint


def daily_and_long(daily, long):
    """Parameters of a test, of which some are for the long suite."""
    return list(daily) + [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.long) for case in long]


def ask(lab, port, line, timeout=10):
    """One line to a service of the guest over a connection of its own; the words of its answer after "OK"."""
    connection = load.Connection(lab.client, port, timeout=timeout)
    answer = connection.order(line)
    connection.close()
    assert answer.startswith("OK"), f"{line}: {answer}"
    return answer.split()[1:]


def kill_and_check_image(active, backup):
    """kill -9; the twin runs what was committed last, by the hash of all memory."""
    active.kill_qemu()
    status = backup.wait_running()
    assert status["verified"] > 0 and status["verify_failed"] == 0, status
    assert status["memory_hash"] == status["committed_hash"] and int(status["memory_hash"], 16) != 0, status


@pytest.mark.parametrize("kind, vcpus", daily_and_long([("q35", 4)], [("microvm", 2), ("pc", 8), ("microvm", 8)]))
def test_vcpus(lab, kind, vcpus):
    """Each vCPU writes memory and watches the others; what they see of each other is of one instant."""
    active, backup = pair(lab, Machine(kind=kind, vcpus=vcpus, memory_mb=MB), VERIFY, VERIFY)
    assert int(ask(lab, SMP, "CPUS")[0]) == vcpus
    ask(lab, SMP, f"WORK {vcpus} 2")
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1.5)
    kill_and_check_image(active, backup)
    counter.wait_counts(100)
    assert int(ask(lab, SMP, "REST", 30)[0]) > 1000
    load.check(counter.finish())


@pytest.mark.long
@pytest.mark.parametrize("kind", ["microvm", "q35"])
def test_vcpus_in_turn(lab, kind):
    """Ten hosts die, one after the other, under the same four vCPUs at work."""
    machine = Machine(kind=kind, vcpus=4, memory_mb=MB)
    here, there = pair(lab, machine, VERIFY, VERIFY)
    ask(lab, SMP, "WORK 4 2")
    counter = load.Counter(lab.client)
    for turn in range(10):
        load.sleep_counting(counter, 0.5 + 0.07 * turn)
        kill_and_check_image(here, there)
        counter.wait_counts(50)
        next_host = lab.hosts[(turn + 2) % 3]
        here, there = there, standby(next_host, machine, options=VERIFY)
        here.protect(address(next_host))
        here.wait_protected()
    assert int(ask(lab, SMP, "REST", 30)[0]) > 10000
    load.check(counter.finish())


def typed_on(machine, host):
    """That machine with a virtio console and a random number device; the path of the console's socket."""
    path = os.path.join(host.folder, "console")
    bus = "device" if machine.kind == "microvm" else "pci"
    return dataclasses.replace(machine, typing=True, extra=(
        "-chardev", f"socket,id=console,path={path},server=on,wait=off",
        "-device", f"virtio-serial-{bus}", "-device", "virtconsole,chardev=console", "-device", f"virtio-rng-{bus}")), path


def check_devices(lab, host, virtio_console, name):
    """Both consoles take and give bytes, the clock is the host's, random numbers come."""
    for path in (serial_socket(host.folder), virtio_console):
        console = Console(path)
        for number in range(3):
            console.type(f"{name} {number}")
        console.close()
    asked = time.time()
    system, rtc, monotonic_ms = map(int, ask(lab, DEVICES, "TIME"))
    now = time.time()
    assert asked - 2 < rtc < now + 2, (asked, rtc, now)
    assert asked - 20 < system < now + 20, (asked, system, now)  # it was set when the kernel began to boot, and ticks were lost since
    first, second = ask(lab, DEVICES, "RANDOM")[0], ask(lab, DEVICES, "RANDOM")[0]
    assert first != second and len(first) == len(second) == 32
    return monotonic_ms


@pytest.mark.parametrize("kind", daily_and_long(["microvm", "q35"], ["pc"]))
def test_devices(lab, kind):
    """Serial and virtio console, RTC, random numbers: as before, on the twin's host, at once after the takeover."""
    ours, our_console = typed_on(Machine(kind=kind), lab.hosts[0])
    theirs, their_console = typed_on(Machine(kind=kind), lab.hosts[1])
    backup = standby(lab.hosts[1], theirs)
    active = primary(lab.hosts[0], ours)
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    before_ms = check_devices(lab, lab.hosts[0], our_console, "before")
    asked = time.monotonic()
    active.kill_qemu()
    backup.wait_running()
    after_ms = check_devices(lab, lab.hosts[1], their_console, "after")
    passed_ms = (time.monotonic() - asked) * 1000
    assert 0 <= after_ms - before_ms < passed_ms + 2000, (before_ms, after_ms, passed_ms)


def tap_packets(host, number):
    """Packets that passed a tap of the host: (to the guest, from the guest)."""
    statistics = json.loads(host.ns.ip(f"-j -s link show tap{number}"))[0]["stats64"]
    return statistics["tx"]["packets"], statistics["rx"]["packets"]


@pytest.mark.parametrize("kind", daily_and_long(["q35"], ["microvm", "pc"]))
def test_four_nics(lab, kind):
    """Clients on each; every packet through the NIC it belongs to, before and after the takeover."""
    active, backup = pair(lab, Machine(kind=kind, nics=4))
    counter = load.Counter(lab.client, GUEST_IPS[0])
    busy = [lab.client.spawn([load.paths.FUT_RR, ip, str(load.ECHO), "2", "3600"], "rr") for ip in GUEST_IPS[1:]]
    for vm in (active, backup):
        before = [tap_packets(vm.host, number) for number in range(4)]
        counter.wait_counts(100)
        for number, (into, out) in enumerate(before):
            wait_for(f"packets both ways on NIC {number}", lambda: all(
                now > then + 40 for now, then in zip(tap_packets(vm.host, number), (into, out))))
        if vm is active:
            active.kill_qemu()
            backup.wait_running()
    load.check(counter.finish())
    for rr in busy:
        assert rr.alive, rr.output()


MEMORY = {
    "memfd": Machine(memory_mb=MB, memory="memfd,share=on"),
    "memfd-private": Machine(memory_mb=MB, memory="memfd,share=off"),
    "file": Machine(kind="q35", memory_mb=MB, memory="file,mem-path={folder}/memory,share=on"),
    "file-private": Machine(memory_mb=MB, memory="file,mem-path={folder}/memory,share=off"),
    "ram": Machine(kind="pc", memory_mb=MB, memory="ram,prealloc=on"),
}


def count_and_kill(lab, machine):
    active, backup = pair(lab, machine, VERIFY, VERIFY)
    load.dirty(lab.client, 16, 20)
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.7)
    kill_and_check_image(active, backup)
    counter.wait_counts(100)
    load.check(counter.finish())


@pytest.mark.parametrize("what", daily_and_long(["memfd", "file"], ["memfd-private", "file-private", "ram"]))
def test_memory(lab, what):
    """The smallest memory that is promised, behind each kind of QEMU's backends."""
    count_and_kill(lab, MEMORY[what])


@contextlib.contextmanager
def huge_pages(megabytes):
    """So much memory in pages of 2 MB, on top of what the machine has; skips where it cannot be had."""
    path = "/proc/sys/vm/nr_hugepages"
    with open(path, encoding="ascii") as handle:
        before = int(handle.read())
    wanted = before + megabytes // 2
    try:
        with open(path, "w", encoding="ascii") as handle:
            handle.write(str(wanted))
        with open(path, encoding="ascii") as handle:
            if int(handle.read()) < wanted:
                pytest.skip(f"this machine gives no {megabytes} MB of huge pages")
        yield
    except PermissionError:
        pytest.skip("this machine gives no huge pages")
    finally:
        with contextlib.suppress(PermissionError), open(path, "w", encoding="ascii") as handle:
            handle.write(str(before))


@pytest.mark.long
def test_huge_pages(lab):
    with huge_pages(2 * MB + 16):
        count_and_kill(lab, Machine(kind="q35", memory_mb=MB, memory="memfd,hugetlb=on,hugetlbsize=2M"))
        lab.reset()


def resident_mb(vm):
    with open(f"/proc/{vm.qemu_pid}/status", encoding="ascii") as handle:
        return sum(int(line.split()[1]) for line in handle if line.startswith(("RssAnon", "RssShmem"))) // 1024


def test_much_memory_that_is_not_used(lab):
    """8 GB, of which the guest touched some hundred MB: neither host spends memory on the rest."""
    active, backup = pair(lab, Machine(kind="q35", memory_mb=8192))
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 0.5)
    used = resident_mb(active), resident_mb(backup)
    assert max(used) < 2048, used
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(100)
    load.check(counter.finish())
