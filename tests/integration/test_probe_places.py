# SPDX-License-Identifier: GPL-2.0-or-later
"""Where probes can stand: within functions, and in the kernel's modules."""
import json
import os
import shutil

from lab import disks, load, paths
from lab.disks import Disk
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import primary
from test_probes import CRASH, Watch, crash, listed, states

CALL = "__x64_sys_getppid"
QUEUE = "kprobe:virtio_blk:virtio_queue_rq { disk=bd->rq->q->disk->disk_name, last=bd->last }"
READ = "busybox dd if=/dev/vda of=/dev/null bs=64k count=1"


def add(vm, probe, *words):
    return json.loads(vm.host.futago("probe", "add", "vm", probe, "--json", *words).stdout)


def refused(vm, probe, status=2):
    done = vm.host.futago("probe", "add", "vm", probe, check=False)
    assert done.returncode == status and done.stderr.count("\n") == 1, (probe, done)
    return done.stderr


def do(lab, command):
    assert crash(lab, "DO " + command)[1] == 0, command


def accepted(vm, offsets):
    """Offsets where an instruction begins; at each stands a probe of that name then."""
    found = []
    for offset in offsets:
        done = vm.host.futago("probe", "add", "vm", f"kprobe:{CALL}+{offset} {{ rax, rsp, task=curtask, comm }}", "--name", f"at{offset}",
                              check=False)
        assert done.returncode == 0 or "within the first" in done.stderr, done
        found += [offset] if done.returncode == 0 else []
    return found


def test_within(lab):
    """A probe at an instruction within a function is hit once a call, with the registers as they are there, and costs nothing when it is gone."""
    vm = primary(lab.hosts[0], Machine(vcpus=2))
    assert "within the first" in refused(vm, f"kprobe:{CALL}+2")
    assert "at the entry" in refused(vm, f"kprobe:{CALL}+5 {{ arg0 }}")
    assert "bytes long" in refused(vm, f"kprobe:{CALL}+0xffff")
    assert "character" in refused(vm, f"kretprobe:{CALL}+5")
    add(vm, f"kprobe:{CALL}", "--name", "entry")
    # Behind the tracer's nop, and before the first branch.
    offsets = accepted(vm, range(5, 24))
    assert offsets[0] == 5 and len(offsets) > 2, offsets
    watch = Watch(vm)
    crash(lab, "GETPPID 1")
    fields = {record["probe"]: record["fields"] for record in (watch.next() for _ in range(1 + len(offsets)))}
    assert set(fields) == {"entry"} | {f"at{offset}" for offset in offsets}, fields
    assert all(fields[f"at{offset}"]["comm"] == "guestd" for offset in offsets), fields
    # Registers are those of the place: behind the push the stack is lower, and what the function has put into rax is there.
    first, *others = [fields[f"at{offset}"] for offset in offsets]
    lower = [one for one in others if int(one["rsp"], 0) == int(first["rsp"], 0) - 8]
    assert lower and any(one["rax"] != first["rax"] for one in lower), fields
    crash(lab, "GETPPID 499")
    for name in fields:
        assert listed(vm, name)["hits"] == 500, name
    assert listed(vm, "at5")["function"] == f"{CALL}+0x5"
    for offset in offsets:
        vm.host.futago("probe", "remove", "vm", f"at{offset}")
    crash(lab, "GETPPID 500")
    assert listed(vm, "entry")["hits"] == 1000


def test_kexec(lab):
    """The guest starts a kernel in place of its own, at the very same address: a probe that may wait is put into that, another is stale."""
    machine = Machine(append="nokaslr", disks=(Disk(), Disk()))
    for number, path in enumerate((paths.KERNEL, paths.INITRD)):
        shutil.copy(path, disks.image(lab.hosts[0], number, machine.disks[number]))
    vm = primary(lab.hosts[0], machine)
    add(vm, "segv", "--wait")
    add(vm, "segv", "--name", "once")
    crash(lab, "SEGV webserver 0")
    assert listed(vm, "segv")["records"] == listed(vm, "once")["records"] == 1
    for device, path, name in (("vda", paths.KERNEL, "kernel"), ("vdb", paths.INITRD, "initrd")):
        do(lab, f"busybox head -c {os.path.getsize(path)} /dev/{device} > /{name}")
    load.Connection(lab.client, CRASH).socket.sendall(b"KEXEC\n")
    wait_for("the guest boots again", lambda: vm.console().count("GUEST-READY") == 2, 60)
    wait_for("the probe is in again", lambda: states(vm) == {"segv": "in", "once": "stale"}, 30)
    watch = Watch(vm)
    pid, signal = crash(lab, "SEGV webserver 0x1230")
    assert signal == 11
    record = wait_for("the record", lambda: next((one for one in watch.records() if one["fields"]["address"] == "0x1230"), None))
    assert record["probe"] == "segv" and record["fields"]["pid"] == pid, record
    assert listed(vm, "segv")["records"] == 1 and listed(vm, "once")["records"] == 1


def test_modules(lab):
    """Functions of modules: found by name with their types, refused where that is not enough; a module that goes takes its probe's sight, and gives it back."""
    machine = Machine(vcpus=2, disks=(Disk(),))
    disks.make_images(lab.hosts[0], machine.disks)
    vm = primary(lab.hosts[0], machine)
    assert "more than one module" in refused(vm, "kprobe:cleanup_module")
    assert "it has virtio_net" in refused(vm, "kprobe:virtio_nets:start_xmit", status=1)
    assert "it has start_xmit" in refused(vm, "kprobe:virtio_net:start_xmt")
    assert "it has skb, dev" in refused(vm, "kprobe:virtio_net:start_xmit { packet }")
    add(vm, "kprobe:start_xmit { length=skb->len, name=dev->name }", "--name", "out")
    add(vm, "kretprobe:virtio_net:start_xmit { retval, name=dev->name }", "--name", "sent")
    add(vm, "kprobe:virtio_net:start_xmit+5", "--name", "behind")
    load.Connection(lab.client, load.ECHO).echo()
    watch = Watch(vm)
    found = {}
    while set(found) != {"out", "sent"}:
        record = watch.next()
        if record["probe"] != "behind":
            found[record["probe"]] = record["fields"]
    assert found["out"]["name"] == "eth0" and found["out"]["length"] >= 42, found
    assert found["sent"] == {"retval": 0, "name": "eth0"}, found
    assert listed(vm, "behind")["hits"] > 0
    for name in ("out", "sent", "behind"):
        vm.host.futago("probe", "remove", "vm", name)

    add(vm, QUEUE, "--name", "queue", "--wait")
    add(vm, QUEUE, "--name", "once")
    do(lab, READ)
    assert listed(vm, "queue")["records"] > 0
    record = wait_for("a record of the disk", lambda: next((one for one in watch.records() if one["probe"] == "queue"), None))
    assert record["fields"]["disk"] == "vda", record
    do(lab, "busybox rmmod virtio_blk")
    wait_for("it waits for its module", lambda: states(vm) == {"queue": "waiting", "once": "stale"}, 30)
    assert "no module 'virtio_blk'" in listed(vm, "queue")["reason"]
    assert "no module 'virtio_blk'" in refused(vm, "kprobe:virtio_blk:virtio_queue_rq", status=1)
    assert "no module 'virtio_blk'" in add(vm, QUEUE, "--name", "late", "--wait")["reason"]
    do(lab, "insmod /modules/virtio_blk.ko")
    wait_for("they are in", lambda: states(vm)["queue"] == states(vm)["late"] == "in", 60)
    do(lab, READ)
    assert listed(vm, "queue")["records"] > 0 and listed(vm, "late")["records"] > 0
    # Loaded at the same place or not.
    assert (listed(vm, "once")["state"] == "in") == (listed(vm, "once")["address"] == listed(vm, "late")["address"])
    for name in ("once", "queue", "late"):
        vm.host.futago("probe", "remove", "vm", name)
    do(lab, READ)
