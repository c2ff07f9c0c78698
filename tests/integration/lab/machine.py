# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU command lines of the test guests."""
import dataclasses
import os
import re

from . import paths

GUEST_IP = "10.77.0.2"
GUEST_IP1 = "10.77.2.2"


def tsc_khz():
    """The host's clock rate: a guest that has to measure it on a busy machine may fail."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:
        match = re.search(r"^cpu MHz\s*:\s*([\d.]+)", handle.read(), re.M)
    return int(float(match.group(1)) * 1000) if match else 2500000


def guest_mac(nic):
    return f"52:54:00:77:00:{nic + 2:02x}"


@dataclasses.dataclass(frozen=True)
class Machine:
    kind: str = "microvm"  # microvm, q35, pc
    memory_mb: int = 256
    vcpus: int = 1
    nics: int = 1
    cpu: str = "qemu64"
    extra: tuple = ()      # further QEMU arguments
    netdev: str = ""       # further properties of each netdev, with a leading comma
    append: str = ""       # further words on the kernel's command line
    disks: tuple = ()      # of disks.Disk

    def _kind_args(self):
        kinds = {"microvm": "microvm,x-option-roms=off,rtc=on", "q35": "q35", "pc": "pc"}
        return ["-M", kinds[self.kind]]

    def _nic_args(self, taps):
        device = "virtio-net-device" if self.kind == "microvm" else "virtio-net-pci"
        args = []
        for number, tap in enumerate(taps[:self.nics]):
            args += ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no,vhost=off{self.netdev}",
                     "-device", f"{device},id=nic{number},netdev=net{number},mac={guest_mac(number)}"]
        return args

    def _disk_args(self, folder):
        """Images lie where the host keeps its logs."""
        return [word for number, disk in enumerate(self.disks) for word in disk.args(number, folder, self.kind)]

    def _append(self):
        words = ["console=ttyS0", "quiet", "panic=-1", f"tsc_early_khz={tsc_khz()}", f"futip={GUEST_IP}/24"]
        if self.nics > 1:
            words.append(f"futip1={GUEST_IP1}/24")
        return " ".join(words + self.append.split())

    def qemu(self, serial, taps):
        """The whole command line; `serial` is the file for the guest's console."""
        return (["qemu-system-x86_64"] + self._kind_args() +
                ["-accel", "tcg", "-cpu", self.cpu, "-m", str(self.memory_mb), "-smp", str(self.vcpus),
                 "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                 "-kernel", paths.KERNEL, "-initrd", paths.INITRD, "-append", self._append(),
                 "-serial", f"file:{serial}"] + self._nic_args(taps) +
                self._disk_args(os.path.dirname(serial)) + list(self.extra))
