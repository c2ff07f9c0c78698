# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU command lines of the test guests."""
import dataclasses
import os
import re

from . import paths

GUEST_IPS = ("10.77.0.2", "10.77.2.2", "10.77.3.2", "10.77.4.2")  # of the NICs
GUEST_IP, GUEST_IP1 = GUEST_IPS[:2]


def tsc_khz():
    """The host's clock rate: a guest that has to measure it on a busy machine may fail."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:
        match = re.search(r"^cpu MHz\s*:\s*([\d.]+)", handle.read(), re.M)
    return int(float(match.group(1)) * 1000) if match else 2500000


def guest_mac(nic):
    return f"52:54:00:77:00:{nic + 2:02x}"


def serial_socket(folder):
    return os.path.join(folder, "serial")


@dataclasses.dataclass(frozen=True)
class Machine:
    kind: str = "microvm"  # microvm, q35, pc
    memory_mb: int = 256
    vcpus: int = 1
    nics: int = 1
    nic_models: tuple = () # of the first NICs; the others are virtio-net
    cpu: str = "qemu64"
    extra: tuple = ()      # further QEMU arguments
    netdev: str = ""       # further properties of each netdev, with a leading comma
    append: str = ""       # further words on the kernel's command line
    disks: tuple = ()      # of disks.Disk
    memory: str = ""       # the memory's backend: memfd, file or ram, with further properties
    typing: bool = False   # the serial console can be typed on, at the socket serial_socket()
    accel: str = os.environ.get("FUTAGO_ACCEL", "tcg")
    kernel: str = ""       # a Multiboot image in place of Linux
    generic: bool = False  # Debian's generic kernel, which has drivers for AHCI and e1000
    debian13: bool = False # Debian 13's kernel, whatever this host is

    def _kind_args(self):
        # A Multiboot image is loaded by one of the option ROMs.
        kinds = {"microvm": "microvm,pit=on" if self.kernel else "microvm,x-option-roms=off,rtc=on", "q35": "q35", "pc": "pc"}
        # Debian 12's microvm has qboot by itself; Debian 13's has SeaBIOS, which wants an option ROM to boot Linux.
        firmware = ["-bios", "qboot.rom"] if self.kind == "microvm" and not self.kernel else []
        return ["-M", kinds[self.kind] + (",memory-backend=memory" if self.memory else "")] + firmware

    def _memory_args(self, folder):
        if not self.memory:
            return []
        backend, _, options = self.memory.partition(",")
        return ["-object", f"memory-backend-{backend},id=memory,size={self.memory_mb}M"
                f"{',' if options else ''}{options.format(folder=folder)}"]

    def _serial_args(self, log):
        if not self.typing:
            return ["-serial", f"file:{log}"]
        path = serial_socket(os.path.dirname(log))
        return ["-chardev", f"socket,id=serial,path={path},server=on,wait=off,logfile={log}", "-serial", "chardev:serial"]

    def _nic_args(self, taps):
        virtio = "virtio-net-device" if self.kind == "microvm" else "virtio-net-pci"
        args = []
        for number, tap in enumerate(taps[:self.nics]):
            device = self.nic_models[number] if number < len(self.nic_models) else virtio
            args += ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no,vhost=off{self.netdev}",
                     "-device", f"{device},id=nic{number},netdev=net{number},mac={guest_mac(number)}"]
        return args

    def _disk_args(self, folder):
        """Images lie where the host keeps its logs."""
        return [word for number, disk in enumerate(self.disks) for word in disk.args(number, folder, self.kind)]

    def _append(self):
        words = ["console=ttyS0", "quiet", "panic=-1", f"tsc_early_khz={tsc_khz()}"]
        words += [f"futip{number or ''}={GUEST_IPS[number]}/24" for number in range(self.nics)]
        return " ".join(words + self.append.split())

    def _kernel_args(self):
        if self.kernel:
            return ["-kernel", self.kernel]
        kernel, initrd = ((paths.GENERIC_KERNEL, paths.GENERIC_INITRD) if self.generic else
                          (paths.KERNEL13, paths.INITRD13) if self.debian13 else (paths.KERNEL, paths.INITRD))
        return ["-kernel", kernel, "-initrd", initrd, "-append", self._append()]

    def qemu(self, serial, taps):
        """The whole command line; `serial` is the file for the guest's console."""
        folder = os.path.dirname(serial)
        return (["qemu-system-x86_64"] + self._kind_args() +
                ["-accel", self.accel, "-cpu", self.cpu, "-m", str(self.memory_mb), "-smp", str(self.vcpus),
                 "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"] + self._kernel_args() +
                self._memory_args(folder) + self._serial_args(serial) + self._nic_args(taps) +
                self._disk_args(folder) + list(self.extra))
