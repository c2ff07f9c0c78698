# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes: what happens in the guest's kernel is seen from outside, with nothing installed in the guest."""
import json
import os
import time

import pytest
from lab import load, paths
from lab.ctl import ControlError
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import pair, primary

CRASH = 7008
GETPPID = "kprobe:__x64_sys_getppid { pid, comm }"
LINUX = "Linux version "


class Watch:
    """futago probe watch --json at work."""

    def __init__(self, vm):
        self.process = vm.host.spawn([paths.FUTAGO, "probe", "watch", vm.name, "--json"], "watch")
        self.taken = 0

    def records(self):
        return [line for line in load.parsed(self.process.output().splitlines()) if line.get("event") == "PROBE"]

    def next(self, timeout=20):
        """The next record that was not taken yet."""
        wait_for(lambda: f"a record after {self.records()[-3:]}", lambda: len(self.records()) > self.taken, timeout)
        self.taken += 1
        return self.records()[self.taken - 1]


def crash(lab, line):
    """One order to the guest's service of failures; the words of its answer."""
    connection = load.Connection(lab.client, CRASH, timeout=60)
    answer = connection.order(line)
    assert answer.startswith("OK"), answer
    return [int(word) for word in answer.split()[1:]]


def listed(vm, name):
    """What `futago probe list --json` says of one probe."""
    result = json.loads(vm.host.futago("probe", "list", vm.name, "--json").stdout)
    return next(probe for probe in result["probes"] if probe["name"] == name)


def states(vm):
    """State of each probe by name."""
    return {probe["name"]: probe["state"] for probe in vm.call("probe-list")["probes"]}


WANTED = {"segv": "in", "asleep": "disabled", "parent": "in", "out": "in", "within": "in"}


def test_shipped_probes(lab):
    """Each shipped probe sees its failure, with its cause, and nothing else."""
    vm = primary(lab.hosts[0], Machine(memory_mb=128, append="panic=0"))
    for name in ("segv", "oom", "panic"):
        vm.host.futago("probe", "add", vm.name, name)
    watch = Watch(vm)

    begin = time.time()
    crash(lab, "EXIT gentle")
    crash(lab, "KILL ended 15")
    pid, signal = crash(lab, "SEGV webserver 0x1230")
    assert signal == 11
    record = watch.next()
    assert record["probe"] == "segv" and record["sequence"] == 0 and record["vcpu"] == 0, record
    assert begin - 1 < record["time"] < time.time() + 1 and record["guest_time"] > 0, record
    assert record["fields"] == {"signal": 11, "code": 1, "address": "0x1230", "comm": "webserver", "pid": pid, "thread": pid,
                                "sender": pid, "sender_comm": "webserver"}

    pid, signal = crash(lab, "KILL victim 11")
    fields = watch.next()["fields"]
    assert fields["code"] == 0 and fields["comm"] == "victim" and fields["pid"] == pid, fields
    assert fields["sender_comm"] == "guestd" and fields["sender"] != pid, fields

    pid, signal = crash(lab, "EAT glutton")
    assert signal == 9
    record = watch.next()
    assert record["probe"] == "oom", record
    assert record["fields"]["victim"] == "glutton" and record["fields"]["victim_pid"] == pid, record
    assert record["fields"]["message"] == "Out of memory", record

    load.Connection(lab.client, CRASH).socket.sendall(b"PANIC\n")
    record = watch.next()
    assert record["probe"] == "panic" and record["fields"]["comm"] == "guestd", record
    assert len(watch.records()) == 4


def test_newer_kernel(lab):
    """All shipped probes find their places and members in Debian 13's kernel; a crash, no memory and a full queue are seen there with their causes."""
    vm = primary(lab.hosts[0], Machine(memory_mb=192, debian13=True))
    shipped = sorted(name[:-len(".probe")] for name in os.listdir(os.path.join(paths.ROOT, "probes")) if name.endswith(".probe"))
    for name in shipped:
        vm.host.futago("probe", "add", vm.name, name)
    shown = vm.host.futago("probe", "list", vm.name, "--json").stdout
    assert LINUX + "6.12." in shown, shown
    assert set(states(vm)) == set(shipped) and set(states(vm).values()) == {"in"}
    vm.host.futago("probe", "add", vm.name, "kprobe:virtio_net:start_xmit /dev->name == \"none\"/", "--name", "out")
    # Behind endbr64 and the tracer's nop.
    vm.host.futago("probe", "add", vm.name, "kprobe:__x64_sys_getppid+9", "--name", "within")
    watch = Watch(vm)

    def take(*probes):
        found = {record["probe"]: record for record in (watch.next() for _ in probes)}
        assert set(found) == set(probes), found
        return found

    pid, signal = crash(lab, "SEGV webserver 0x1230")
    assert signal == 11
    found = take("segv", "died")
    assert found["segv"]["fields"] == {"signal": 11, "code": 1, "address": "0x1230", "comm": "webserver", "pid": pid, "thread": pid,
                                       "sender": pid, "sender_comm": "webserver"}
    assert found["segv"]["cause"] == f"webserver/{pid} gets SIGSEGV at 0x1230, sent by the kernel"
    assert found["died"]["fields"]["pid"] == pid
    pid, signal = crash(lab, "EAT glutton")
    assert signal == 9
    fields = take("oom", "died")["oom"]["fields"]
    assert (fields["victim"], fields["victim_pid"], fields["message"]) == ("glutton", pid, "Out of memory"), fields
    vm.host.futago("probe", "add", vm.name, "kretprobe:__x64_sys_getppid { retval, comm }", "--name", "parent")
    crash(lab, "GETPPID 100")
    assert listed(vm, "within")["hits"] == 100 and listed(vm, "out")["hits"] > 0
    parent = listed(vm, "parent")
    assert (parent["hits"], parent["missed"]) == (100, 0) and 0 < parent["records"] == 100 - parent["skipped"], parent


def test_words(lab):
    """What cannot be a probe is refused in one line that says why and what instead, and leaves nothing in."""
    vm = primary(lab.hosts[0])

    def refused(*words, status=2):
        done = vm.host.futago("probe", *words, check=False)
        assert done.returncode == status, (words, done)
        assert done.stderr.startswith("futago: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    assert "__send_signal_locked" in refused("add", "vm", "kprobe:send_signal_lock")
    assert "sig, info, t" in refused("add", "vm", "kprobe:__send_signal_locked { signal }")
    assert "'nothing'" in refused("add", "vm", "kprobe:__send_signal_locked { t->nothing }")
    assert "name a member" in refused("add", "vm", "kprobe:__send_signal_locked { t->signal->rlim }")
    assert "bit field" in refused("add", "vm", "kprobe:__send_signal_locked { t->in_execve }")
    assert "is a text" in refused("add", "vm", "kprobe:__send_signal_locked /t->comm == 3/")
    assert "not a function" in refused("add", "vm", "kprobe:linux_banner")
    assert "__send_signal_locked" in refused("add", "vm", "kprobe:__send_singal_locked")
    assert "it has comm" in refused("add", "vm", "kprobe:__send_signal_locked { t->com }")
    assert "retval" in refused("add", "vm", "kprobe:__send_signal_locked { retval }")
    assert "returns nothing" in refused("add", "vm", "kretprobe:schedule { retval }")
    assert "kernel is entered" in refused("add", "vm", "kprobe:entry_SYSCALL_64")
    assert "not called" in refused("add", "vm", "kretprobe:__x86_indirect_thunk_rax")
    assert "not in memory" in refused("add", "vm", "kprobe:start_kernel")
    assert "at character 34" in refused("add", "vm", "kprobe:__send_signal_locked /sig = 3/")
    assert "man futago-probe" in refused("add", "vm", "no-such-probe")
    assert "no probe 'x'" in refused("remove", "vm", "x")
    assert "no VM" in refused("list", "nobody", status=1)
    vm.host.futago("probe", "add", "vm", GETPPID)
    assert "already" in refused("add", "vm", GETPPID, status=1)
    shown = vm.host.futago("probe", "list", "vm").stdout
    assert LINUX in shown and shown.count("__x64_sys_getppid") == 2, shown
    assert "__send_signal_locked" not in shown
    assert "suggest only" in refused("list", "vm", "--vm", "vm")
    assert "and no function of the guest's kernel" in refused("suggest", "xyzzy", "--vm", "vm", status=1)
    found = json.loads(vm.host.futago("probe", "suggest", "send", "signal", "locked", "--vm", "vm", "--json").stdout)
    assert {"function": "__send_signal_locked", "parameters": "sig, info, t, type, force"} in found, found
    shown = vm.host.futago("probe", "suggest", "getppid", "--vm", "vm").stdout
    assert "kprobe:__x64_sys_getppid" in shown.splitlines(), shown
    with pytest.raises(ControlError, match="missing"):
        vm.call("probe-add", name="x")
    with pytest.raises(ControlError, match="name"):
        vm.call("probe-add", name="../x", probe=GETPPID)


def test_hot_probe(lab):
    """A probe that is hit all the time costs the guest a bounded share, is told of by counts, and the VM lives."""
    vm = primary(lab.hosts[0], Machine(vcpus=2))
    vm.host.futago("probe", "add", "vm", GETPPID, "--name", "hot")
    vm.host.futago("probe", "add", "vm", GETPPID, "--name", "never", "--filter", 'comm == "nobody"')
    crash(lab, "GETPPID 300000")
    hot, never = listed(vm, "hot"), listed(vm, "never")
    assert hot["hits"] == never["hits"] == 300000
    assert never["records"] == 0
    assert 0 < hot["records"] < 300000 and hot["records"] + hot["skipped"] == hot["hits"], hot
    place = Watch(vm)
    assert place.next()["fields"]["comm"] == "guestd"
    wait_for("all that is kept", lambda: place.records() and place.records()[-1]["sequence"] == hot["records"] - 1)
    sequences = [record["sequence"] for record in place.records()]
    lost = sum(line["lost"] for line in load.parsed(place.process.output().splitlines()) if line["event"] == "PROBE-LOST")
    assert sequences == list(range(lost, hot["records"])), (lost, hot)


def test_returns(lab):
    """What functions return is seen with the arguments they had, on whichever of four processors, and what is not seen is counted."""
    vm = primary(lab.hosts[0], Machine(vcpus=4))
    vm.host.futago("probe", "add", "vm", "kretprobe:__x64_sys_kill { retval, comm, number=arg0 }", "--name", "kill")
    vm.host.futago("probe", "add", "vm", "kretprobe:__x64_sys_getppid { retval, comm }", "--name", "parent")
    vm.host.futago("probe", "add", "vm", "kretprobe:schedule /pid == 0x7fffffff/", "--name", "often")
    vm.host.futago("probe", "add", "vm", "kretprobe:do_exit", "--name", "never")
    watch = Watch(vm)
    crash(lab, "KILL victim 15")
    fields = watch.next()["fields"]
    assert fields["retval"] == 0 and fields["comm"] == "guestd", fields
    threads = load.Connection(lab.client, 7006)
    assert threads.order("WORK 4 8").startswith("OK")
    crash(lab, "GETPPID 20000")
    wait_for("calls that sleep", lambda: listed(vm, "often")["hits"] > 1000)
    assert threads.order("REST").startswith("OK")
    parent = listed(vm, "parent")
    assert parent["hits"] == 20000 and parent["missed"] == 0, parent
    assert 0 < parent["records"] and parent["records"] + parent["skipped"] == 20000, parent
    crash(lab, "EXIT gentle")
    never = listed(vm, "never")
    assert never["hits"] > 0 and never["records"] == 0, never
    for name in ("kill", "parent", "often", "never"):
        vm.host.futago("probe", "remove", "vm", name)
    load.Connection(lab.client, load.ECHO).echo()


def come_and_go(lab, vm, times):
    """Probes come and go at functions that all vCPUs run through, while they do."""
    threads = load.Connection(lab.client, 7006)
    assert threads.order("WORK 4 8").startswith("OK")
    kinds = ("kprobe", "kretprobe")
    busy = ("__x64_sys_getppid", "schedule", "__x64_sys_futex", "handle_mm_fault", "try_to_wake_up", "tick_sched_timer")
    control = vm.control(60)
    for number in range(times):
        name = control.call("probe-add", probe=f"{kinds[number // 2 % 2]}:{busy[number % len(busy)]} {{ comm, pid }}")["name"]
        if number % 3 == 0:
            control.call("probe-add", probe=f"kprobe:{busy[number % len(busy)]} /pid != 1/", name="second")
            control.call("probe-remove", name="second")
        control.call("probe-remove", name=name)
    control.close()
    assert vm.call("probe-list")["probes"] == []
    assert threads.order("REST").startswith("OK")


def test_come_and_go(lab):
    """Probes come and go while four vCPUs are busy with what is probed."""
    vm = primary(lab.hosts[0], Machine(vcpus=4))
    come_and_go(lab, vm, 200)
    load.Connection(lab.client, load.ECHO).echo()


@pytest.mark.long
def test_come_and_go_often(lab):
    """As above, 10,000 times."""
    vm = primary(lab.hosts[0], Machine(vcpus=4))
    come_and_go(lab, vm, 10000)
    load.Connection(lab.client, load.ECHO).echo()


def test_protected(lab):
    """Probes in a protected guest: they see, the backup's memory stays exact, and the twin lives when the host dies."""
    options = ("--verify", "5", "--timeout-ms", "5000")
    active, backup = pair(lab, Machine(vcpus=2, memory_mb=128), options, options)
    counter = load.Counter(lab.client)
    active.host.futago("probe", "add", "vm", "segv")
    active.host.futago("probe", "add", "vm", GETPPID, "--name", "hot")
    watch = Watch(active)
    crash(lab, "SEGV webserver 0")
    assert watch.next()["fields"]["comm"] == "webserver"
    crash(lab, "GETPPID 20000")
    active.host.futago("probe", "remove", "vm", "hot")
    active.host.futago("probe", "add", "vm", GETPPID, "--name", "asleep", "--disabled")
    program = f"{active.host.folder}/program"
    with open(program, "w", encoding="utf-8") as script:
        script.write("#!/bin/sh\n")
    os.chmod(program, 0o700)
    active.host.futago("probe", "add", "vm", "kretprobe:__x64_sys_getppid { retval }", "--name", "parent", "--on", f"command:{program}")
    # The next set finds it gone: the twin would not be able to run it.
    os.remove(program)
    active.host.futago("probe", "disable", "vm", "asleep")
    active.host.futago("probe", "add", "vm", "kprobe:virtio_net:start_xmit /dev->name == \"none\"/", "--name", "out")
    active.host.futago("probe", "add", "vm", "kprobe:__x64_sys_getppid+5", "--name", "within")
    counter.wait_counts(50)
    assert active.status()["state"] == "protected"
    status = backup.status()
    assert status["verified"] > 0 and status["verify_failed"] == 0, status
    theirs = wait_for("the twin has the probes", lambda: states(backup) == WANTED and WANTED)
    assert theirs == states(active)
    said = "parent, sent by the primary: probe: on=command:"
    wait_for("the backup says what it cannot run", lambda: said in backup.process.output())
    done = backup.host.futago("probe", "remove", "vm", "segv", check=False)
    assert done.returncode == 1 and "on the primary" in done.stderr, done
    watch = Watch(backup)
    active.kill_qemu()
    backup.wait_running()
    counter.wait_counts(50)
    # Nobody has put them in here: they came with the guest.
    assert states(backup) == WANTED
    crash(lab, "SEGV webserver 0")
    assert watch.next()["fields"]["comm"] == "webserver"
    crash(lab, "GETPPID 100")
    assert listed(backup, "parent")["hits"] == listed(backup, "within")["hits"] == 100
    assert listed(backup, "out")["hits"] > 0
    assert listed(backup, "asleep")["hits"] == 0
    backup.host.futago("probe", "remove", "vm", "segv")
    load.check(counter.finish())


def test_guest_starts_anew(lab):
    """A probe of a kernel that is gone sees nothing, and says so, although the new one is at the same place; added again it is one of the new kernel."""
    path = f"{lab.hosts[0].folder}/qmp"
    vm = primary(lab.hosts[0], Machine(append="nokaslr", extra=("-qmp", f"unix:{path},server=on,wait=off", "-action", "reboot=reset")))
    vm.host.futago("probe", "add", "vm", "segv")
    assert not listed(vm, "segv")["stale"]
    qmp = Qmp(path)
    qmp.command("system_reset")
    wait_for("the guest boots again", lambda: vm.console().count("GUEST-READY") == 2, 60)
    assert listed(vm, "segv")["stale"]
    assert "stale" in vm.host.futago("probe", "list", "vm").stdout
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["hits"] == 0
    vm.host.futago("probe", "remove", "vm", "segv")
    vm.host.futago("probe", "add", "vm", "segv")
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["records"] == 1


def test_no_kernel_yet(lab):
    """Before the guest has booted: refused, or put in when its kernel is up, early enough to see it boot; and again after a restart."""
    path = f"{lab.hosts[0].folder}/qmp"
    vm = primary(lab.hosts[0], Machine(extra=("-S", "-qmp", f"unix:{path},server=on,wait=off", "-action", "reboot=reset")), wait=False)
    wait_for("the VM is there", vm.try_status)
    done = vm.host.futago("probe", "add", "vm", "segv", check=False)
    assert done.returncode == 1 and "no Linux kernel is up" in done.stderr and "--wait" in done.stderr, done
    done = vm.host.futago("probe", "add", "vm", "segv", "--wait")
    assert "waits: no Linux kernel is up" in done.stdout, done
    vm.host.futago("probe", "add", "vm", "kretprobe:load_elf_binary { retval }", "--name", "programs", "--wait")
    assert states(vm) == {"segv": "waiting", "programs": "waiting"}
    qmp = Qmp(path)
    qmp.command("cont")
    vm.wait_ready()
    wait_for("the probes are in", lambda: states(vm) == {"segv": "in", "programs": "in"})
    wait_for("programs start", lambda: listed(vm, "programs")["records"] > 0)
    qmp.command("system_reset")
    wait_for("the guest boots again", lambda: vm.console().count("GUEST-READY") == 2, 60)
    wait_for("the probes are in again", lambda: states(vm) == {"segv": "in", "programs": "in"})
    before = listed(vm, "segv")["records"]
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["records"] == before + 1
    vm.host.futago("probe", "disable", "vm", "segv")
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["records"] == before + 1 and states(vm)["segv"] == "disabled"
    vm.host.futago("probe", "enable", "vm", "segv")
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["records"] == before + 2
