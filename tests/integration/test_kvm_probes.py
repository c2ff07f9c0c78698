# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes in a Linux guest under KVM: seen from outside, and no trace of them in the guest's memory."""
import os

import pytest
from lab import load, paths, snapshots
from lab.ctl import ControlError
from lab.machine import Machine
from lab.process import wait_for
from lab.qmp import Qmp
from lab.vm import pair, primary
from test_restore_vm import RestoredVm
from test_probes import GETPPID, Watch, crash, listed

TRACE = "cd /sys/kernel/tracing && echo '*sys_{}' > set_ftrace_filter && echo function > current_tracer"
FIELDS = {"signal": 11, "code": 1, "address": "0x1230", "comm": "webserver", "sender_comm": "webserver"}


def guest(vcpus=1, **more):
    return Machine(memory_mb=128, vcpus=vcpus, accel="kvm", cpu="host", **more)


def ask(vm, verb, **args):
    """As vm.call(), where all is slow."""
    control = vm.control(60)
    try:
        return control.call(verb, **args)
    finally:
        control.close()


def states(vm):
    return {probe["name"]: probe["state"] for probe in ask(vm, "probe-list")["probes"]}


def do(lab, command):
    """The guest's shell does that."""
    assert crash(lab, "DO " + command)[1] == 0, command


def count(lab, vm, name, calls):
    """So many calls are so many hits."""
    before = listed(vm, name)["hits"]
    crash(lab, f"GETPPID {calls}")
    assert listed(vm, name)["hits"] == before + calls


def shipped():
    folder = os.path.join(paths.ROOT, "probes")
    for name in sorted(os.listdir(folder)):
        if name.endswith(".probe"):
            with open(os.path.join(folder, name), encoding="utf-8") as definition:
                yield name[:-len(".probe")], definition.read()


def refused(vm, probe):
    with pytest.raises(ControlError) as refusal:
        ask(vm, "probe-add", probe=probe, name="refused")
    return str(refusal.value)


def within(lab, vm):
    """Within a function, where the instruction is one that can be carried out in its place: all others are refused."""
    for offset in range(5, 120):
        try:
            ask(vm, "probe-add", name="inside", probe=f"kprobe:__x64_sys_kill+{offset} {{ comm }}")
            break
        except ControlError as refusal:
            assert any(words in str(refusal) for words in ("within the first", "cannot be replaced", "bytes long")), refusal
    crash(lab, "KILL victim 15")
    assert listed(vm, "inside")["hits"] == 1, offset
    ask(vm, "probe-remove", name="inside")


def test_seen(lab):
    """All shipped probes find their places; SIGSEGV is seen; what cannot be probed is refused; nothing of a probe is in a snapshot."""
    vm = primary(lab.hosts[0], guest())
    for name, text in shipped():
        ask(vm, "probe-add", name=name, probe=text)
    assert set(states(vm)) == {name for name, _ in shipped()} and set(states(vm).values()) == {"in"}
    watch = Watch(vm)
    pid, signal = crash(lab, "SEGV webserver 0x1230")
    assert signal == 11
    found = {record["probe"]: record for record in (watch.next(), watch.next())}
    assert found["segv"]["fields"] == FIELDS | {"pid": pid, "thread": pid, "sender": pid}, found
    assert found["died"]["fields"]["pid"] == pid, found
    assert "TCG only" in refused(vm, "kretprobe:__x64_sys_getppid")
    assert "cannot be replaced" in refused(vm, "kprobe:do_syscall_64")
    assert "module virtio_net" in refused(vm, "kprobe:virtio_net:start_xmit")
    assert "within the first" in refused(vm, "kprobe:__x64_sys_getppid+2")
    within(lab, vm)
    ask(vm, "probe-add", name="parent", probe=GETPPID)

    store = f"{vm.host.folder}/store"
    snapshots.take(vm, store)
    assert snapshots.look(store)[0][2] == "same"
    vm.kill_qemu()
    restored = RestoredVm(vm.host, store, machine=vm.machine)
    restored.wait_running(60)
    assert ask(restored, "probe-list")["probes"] == []
    crash(lab, "GETPPID 1000")
    ask(restored, "probe-add", name="parent", probe=GETPPID)
    count(lab, restored, "parent", 1000)


def test_exact(lab):
    """Each call is one hit of each probe there, also while the guest's own tracer writes its code beside, and where it has put a call of its own."""
    vm = primary(lab.hosts[0], guest())
    ask(vm, "probe-add", name="parent", probe=GETPPID)
    ask(vm, "probe-add", name="never", probe=GETPPID, filter='comm == "nobody"')
    count(lab, vm, "parent", 1000)
    assert listed(vm, "never")["hits"] == 1000 and listed(vm, "never")["records"] == 0
    ask(vm, "probe-add", name="beside", probe="kprobe:__x64_sys_gettid", disabled=True)
    assert listed(vm, "beside")["address"][:-3] == listed(vm, "parent")["address"][:-3]
    do(lab, "mount -t tracefs trace /sys/kernel/tracing")
    do(lab, TRACE.format("gettid"))
    count(lab, vm, "parent", 100)
    do(lab, "echo nop > /sys/kernel/tracing/current_tracer")
    count(lab, vm, "parent", 100)
    ask(vm, "probe-disable", name="parent")
    ask(vm, "probe-disable", name="never")
    before = listed(vm, "parent")["hits"]
    do(lab, TRACE.format("getppid"))
    crash(lab, "GETPPID 100")
    assert listed(vm, "parent")["hits"] == before
    ask(vm, "probe-enable", name="parent")
    count(lab, vm, "parent", 100)
    do(lab, 'test "$(grep -c getppid /sys/kernel/tracing/trace)" -ge 200')


@pytest.mark.long
def test_protected(lab):
    """A pair of two vCPUs with probes in: the backup's memory is exact; the host dies, and the twin has the probes, which see."""
    options = ("--verify", "1", "--timeout-ms", "60000")
    active, backup = pair(lab, guest(2), options, options)
    counter = load.Counter(lab.client)
    ask(active, "probe-add", name="segv", probe=dict(shipped())["segv"])
    ask(active, "probe-add", name="parent", probe=GETPPID)
    ask(active, "probe-add", name="asleep", probe=GETPPID, disabled=True)
    count(lab, active, "parent", 1000)
    wanted = {"segv": "in", "parent": "in", "asleep": "disabled"}
    wait_for("the twin has the probes", lambda: states(backup) == wanted, 60)
    counter.wait_counts(3)
    status = backup.status()
    assert status["verified"] > 0 and status["verify_failed"] == 0, status
    watch = Watch(backup)
    active.kill_qemu()
    status = backup.wait_running()
    assert status["memory_hash"] == status["committed_hash"] != "0" * 16, status
    counter.wait_counts(3)
    assert states(backup) == wanted
    crash(lab, "SEGV webserver 0")
    assert watch.next()["fields"]["comm"] == "webserver"
    count(lab, backup, "parent", 1000)
    assert listed(backup, "asleep")["hits"] == 0
    for name in wanted:
        ask(backup, "probe-remove", name=name)
    crash(lab, "GETPPID 100")
    load.check(counter.finish())


def test_from_the_start(lab):
    """Probes that wait are in while the kernel boots, early enough to see its first program; and again after a restart."""
    path = f"{lab.hosts[0].folder}/qmp"
    vm = primary(lab.hosts[0], guest(extra=("-S", "-qmp", f"unix:{path},server=on,wait=off", "-action", "reboot=reset")), wait=False)
    wait_for("the VM is there", vm.try_status)
    assert "no Linux kernel is up" in refused(vm, GETPPID)
    ask(vm, "probe-add", name="programs", probe="kprobe:load_elf_binary", wait=True)
    qmp = Qmp(path)
    qmp.command("cont")
    vm.wait_ready(240)
    assert states(vm) == {"programs": "in"} and listed(vm, "programs")["records"] > 0
    qmp.command("system_reset")
    wait_for("the guest boots again", lambda: vm.console().count("GUEST-READY") == 2, 240)
    wait_for("the probe is in again", lambda: states(vm) == {"programs": "in"}, 60)
    before = listed(vm, "programs")["hits"]
    do(lab, "cat /proc/version")
    assert listed(vm, "programs")["hits"] > before
