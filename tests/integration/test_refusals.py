# SPDX-License-Identifier: GPL-2.0-or-later
"""Refuse rather than pretend: twins that differ, and configurations that cannot be protected."""
import contextlib
import os

import pytest
from lab.machine import Machine
from lab.vhost_user import VhostUserBackend
from lab.vm import FutagoVm, address, primary, standby

DIFFERENT = {
    "memory": (Machine(memory_mb=320), ("mem", "block", "ram")),
    "cpu": (Machine(cpu="qemu64,+aes"), ("cpu",)),
    "cpu-model": (Machine(cpu="Nehalem"), ("cpu",)),
    "vcpus": (Machine(vcpus=2), ("cpu",)),
    "machine": (Machine(kind="q35"), ("machine",)),
    "nics": (Machine(nics=2), ("net", "nic", "section")),
    "device": (Machine(extra=("-device", "virtio-rng-device")), ("rng", "section", "device")),
}


@pytest.fixture(scope="module")
def lone(pairs):
    """A primary that keeps asking for a twin on host B."""
    vm = primary(pairs["lab"].hosts[0], protect_to=address(pairs["lab"].hosts[1]), options=("--retry-ms", "200"), wait=False)
    vm.wait_running()
    return vm


@contextlib.contextmanager
def offered(lab, vm, machine=Machine(), name="vm"):
    """A standby on host B that the primary is told to take; gone afterwards, and forgotten by the primary."""
    other = standby(lab.hosts[1], machine, name)
    if vm.status()["state"] == "alone":
        vm.call("protect", to=address(lab.hosts[1]))
    try:
        yield other
    finally:
        other.kill()
        vm.wait_status("the twin is gone", lambda s: s["state"] == "alone" or "nobody listens" in s["reason"])


@pytest.mark.parametrize("what", DIFFERENT)
def test_twins_that_differ(pairs, lone, what):
    """Refused, saying what differs; the guest runs on unprotected; both stay usable."""
    machine, words = DIFFERENT[what]
    with offered(pairs["lab"], lone, machine) as other:
        status = lone.wait_status("a reason", lambda s: "differ" in s["reason"], 10)
        assert any(word in status["reason"].lower() for word in words), status["reason"]
        assert status["running"] and status["state"] in ("alone", "connecting", "greeting"), status
        assert other.status()["state"] == "waiting"
        assert any(word in other.status()["reason"].lower() for word in words), other.status()


def test_other_vm_is_refused(pairs, lone):
    """A standby of another VM is not a twin, be its machine the same."""
    with offered(pairs["lab"], lone, name="other") as other:
        lone.wait_status("a reason that names the other", lambda s: "other" in s["reason"], 10)
        assert other.status()["state"] == "waiting"


def test_after_all_refusals_a_right_twin_is_taken(pairs, lone):
    with offered(pairs["lab"], lone):
        lone.wait_protected()


UNPROTECTABLE = {
    "iothread": (Machine(kind="q35", extra=("-object", "iothread,id=io0", "-blockdev", "null-co,node-name=d0",
                                            "-device", "virtio-blk-pci,drive=d0,iothread=io0")), "iothread"),
    "non-migratable": (Machine(kind="q35", extra=("-blockdev", "null-co,node-name=d0", "-device", "nvme,drive=d0,serial=1")),
                       "nvme"),
    # What the guest sends to these gets out at once.
    "usb-host": (Machine(kind="q35", extra=("-usb", "-device", "usb-host,vendorid=0x1234,productid=0x5678,id=stick")), '"stick"'),
    "usb-redir": (Machine(kind="q35", extra=("-usb", "-chardev", "null,id=far", "-device", "usb-redir,chardev=far,id=stick")),
                  '"stick"'),
    # Other VMs write to its memory unseen.
    "ivshmem": (Machine(kind="q35", extra=("-object", "memory-backend-ram,id=common,size=1M,share=on",
                                           "-device", "ivshmem-plain,memdev=common,master=on,id=window")), '"window"'),
}


@pytest.mark.parametrize("what", UNPROTECTABLE)
def test_what_cannot_be_protected(pairs, what):
    """Refused at the start, in one line with the culprit."""
    machine, culprit = UNPROTECTABLE[what]
    vm = FutagoVm(pairs["lab"].hosts[2], machine, "unprotectable")
    assert vm.process.wait(10) != 0
    refusal = [line for line in vm.process.output().splitlines() if line.startswith("futago: ")]
    assert len(refusal) == 1 and culprit in refusal[0], vm.process.output()


def test_vhost_is_refused(pairs):
    """A NIC whose packets another process (or the kernel) moves past QEMU cannot be held back."""
    lab = pairs["lab"]
    path = os.path.join(lab.hosts[2].folder, "vhost")
    lab.keep(VhostUserBackend(path))
    machine = Machine(kind="q35", extra=("-chardev", f"socket,id=c0,path={path}", "-netdev", "vhost-user,id=fast,chardev=c0",
                                         "-device", "virtio-net-pci,netdev=fast"))
    vm = FutagoVm(lab.hosts[2], machine, "unprotectable")
    assert vm.process.wait(10) != 0
    refusal = [line for line in vm.process.output().splitlines() if line.startswith("futago: ")]
    assert len(refusal) == 1 and "fast" in refusal[0] and "vhost" in refusal[0], vm.process.output()
