# SPDX-License-Identifier: GPL-2.0-or-later
"""A NIC that is plugged in later would be a hole in the output rule, and unknown to the twin: refused."""
import os
import time

from lab import load
from lab.machine import GUEST_IP1, Machine, guest_mac
from lab.qmp import Qmp
from lab.sniffer import Sniffer
from lab.vm import StockVm, address, primary, standby


def machine_with_room(host):
    return Machine(kind="q35", append=f"futlate={GUEST_IP1}/24",
                   extra=("-device", "pcie-root-port,id=late",
                          "-qmp", f"unix:{os.path.join(host.folder, 'qmp')},server=on,wait=off"))


def plug_nic(qmp):
    """Adds tap1 as the guest's eth1; the answers' errors, empty when both were accepted."""
    backend = qmp.command("netdev_add", type="tap", id="net1", ifname="tap1", script="no", downscript="no", vhost=False)
    device = backend if "error" in backend else qmp.command(
        "device_add", driver="virtio-net-pci", id="nic1", netdev="net1", bus="late", mac=guest_mac(1))
    return device.get("error", {}).get("desc", "")


def try_late_nic(lab):
    """Somebody tries to reach the guest through the new NIC."""
    try:
        connection = load.Connection(lab.client, load.ECHO, GUEST_IP1, timeout=1.5)
        connection.close()
        return True
    except OSError:
        return False


def test_late_nic_works_in_stock_qemu(lab):
    """The test's own proof: there the same NIC can be plugged in and is reached."""
    vm = StockVm(lab.hosts[0], machine_with_room(lab.hosts[0])).wait_ready()
    qmp = Qmp(os.path.join(lab.hosts[0].folder, "qmp"))
    assert plug_nic(qmp) == ""
    deadline = time.monotonic() + 15
    while not try_late_nic(lab):
        assert time.monotonic() < deadline, vm.console()
    qmp.close()


def test_late_nic_is_refused(lab):
    """Refused with a word from us; the pair goes on, and the survivor refuses as well."""
    backup = standby(lab.hosts[1], machine_with_room(lab.hosts[1]))
    active = primary(lab.hosts[0], machine_with_room(lab.hosts[0]))
    active.protect(address(lab.hosts[1]))
    active.wait_protected()
    counter = load.Counter(lab.client)
    for vm in (active, backup):
        sniffer = lab.keep(Sniffer(vm.host.ns, "tap1", guest_mac(1)))
        qmp = Qmp(os.path.join(vm.host.folder, "qmp"))
        assert "futago" in plug_nic(qmp)
        qmp.close()
        assert not try_late_nic(lab)
        assert sniffer.since(0) == 0
        counter.wait_counts(50)
        if vm is active:
            assert vm.status()["state"] == "protected"
            active.kill_qemu()
            backup.wait_running()
    load.check(counter.finish())
