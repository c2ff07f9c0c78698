# SPDX-License-Identifier: GPL-2.0-or-later
"""Where probes can stand: within functions, and in the kernel's modules."""
import json

from lab import disks, load
from lab.disks import Disk
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import primary
from test_probes import Watch, crash, listed, states

CALL = "__x64_sys_getppid"
QUEUE = "kprobe:virtio_blk:virtio_queue_rq { disk=bd->rq->q->disk->disk_name, last=bd->last }"
READ = "dd if=/dev/vda of=/dev/null bs=64k count=1"


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
    # Behind the tracer's nop: some pushes, then the current task is loaded; all of it before the first branch.
    offsets = accepted(vm, range(5, 24))
    assert offsets[0] == 5 and len(offsets) > 2, offsets
    watch = Watch(vm)
    crash(lab, "GETPPID 50")
    for name in ["entry"] + [f"at{offset}" for offset in offsets]:
        assert listed(vm, name)["hits"] == 50, name
    assert listed(vm, "at5")["function"] == f"{CALL}+0x5"
    wait_for("all records", lambda: len(watch.records()) == 50 * (1 + len(offsets)), 30)
    records = [record for record in watch.records() if record["probe"] != "entry"]
    assert {record["fields"]["comm"] for record in records} == {"guestd"}
    # Registers are those of the place: the stack as at the entry or below, and the task in a register somewhere behind its load.
    tops = {}
    for record in records:
        tops.setdefault(record["probe"], []).append(record["fields"])
    assert all(int(fields["rsp"], 0) <= int(tops["at5"][i]["rsp"], 0) for name in tops for i, fields in enumerate(tops[name]))
    assert any(all(fields["rax"] == int(fields["task"], 0) or fields["rax"] == fields["task"] for fields in tops[name]) for name in tops), tops
    for offset in offsets:
        vm.host.futago("probe", "remove", "vm", f"at{offset}")
    crash(lab, "GETPPID 50")
    assert listed(vm, "entry")["hits"] == 100


def test_modules(lab):
    """Functions of modules: found by name with their types, refused where that is not enough; a module that goes takes its probe's sight, and gives it back."""
    machine = Machine(vcpus=2, disks=(Disk(),))
    disks.make_images(lab.hosts[0], machine.disks)
    vm = primary(lab.hosts[0], machine)
    assert "more than one module" in refused(vm, "kprobe:cleanup_module")
    assert "it has virtio_net" in refused(vm, "kprobe:virtio_nets:start_xmit")
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
    assert listed(vm, "queue")["records"] > 0 and watch.next()["fields"]["disk"] == "vda"
    do(lab, "busybox rmmod virtio_blk")
    wait_for("it waits for its module", lambda: states(vm) == {"queue": "waiting", "once": "stale"}, 30)
    assert "no module 'virtio_blk'" in listed(vm, "queue")["reason"]
    assert "no module 'virtio_blk'" in refused(vm, "kprobe:virtio_blk:virtio_queue_rq")
    do(lab, "insmod /modules/virtio_blk.ko")
    wait_for("it is in again", lambda: states(vm)["queue"] == "in", 60)
    do(lab, READ)
    assert listed(vm, "queue")["records"] > 0
    assert listed(vm, "once")["state"] in ("in", "stale")
    vm.host.futago("probe", "remove", "vm", "once")
    vm.host.futago("probe", "remove", "vm", "queue")
    do(lab, READ)
