# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are. FUTAGO_BUILD names another Meson build folder than build/."""
import os

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BUILD = os.environ.get("FUTAGO_BUILD", os.path.join(ROOT, "build"))
GUEST = os.path.join(ROOT, "build", "guest")
KERNEL = os.path.join(GUEST, "vmlinuz")
PAGES_GUEST = os.path.join(BUILD, "tests", "guest", "pages.elf")
INITRD = os.path.join(GUEST, "initrd.img")
GENERIC_KERNEL = os.path.join(ROOT, "build", "guest-generic", "vmlinuz")
GENERIC_INITRD = os.path.join(ROOT, "build", "guest-generic", "initrd.img")
KERNEL13 = os.path.join(ROOT, "build", "guest13", "vmlinuz")
INITRD13 = os.path.join(ROOT, "build", "guest13", "initrd.img")
FUTAGO = os.path.join(BUILD, "src", "cli", "futago")
CLIENTS = os.path.join(BUILD, "tests", "integration", "client")
FUT_RR = os.path.join(CLIENTS, "fut-rr")
FUT_BULK = os.path.join(CLIENTS, "fut-bulk")
FUT_DELAY = os.path.join(CLIENTS, "fut-delay")
FUT_COUNT = os.path.join(CLIENTS, "fut-count")
FUT_BADPEER = os.path.join(CLIENTS, "fut-badpeer")
FUT_CLOCK_SHIM = os.path.join(CLIENTS, "fut-clock-shim.so")
FUT_ARBITER = os.path.join(CLIENTS, "fut-arbiter")
ETCD = os.path.join(ROOT, "build", "etcd", "usr", "bin", "etcd")
TGT = os.path.join(ROOT, "build", "tgt", "usr", "sbin")
DEBIAN_GUEST = os.path.join(ROOT, "build", "debian-guest")
DEBIAN_DISK = os.path.join(DEBIAN_GUEST, "disk.ext4")
LARGE_FILE = os.path.join(DEBIAN_GUEST, "large.bin")  # as the Debian guest's nginx serves it


def missing():
    """What is not built yet."""
    return [path for path in (KERNEL, INITRD, FUTAGO, FUT_RR, FUT_BULK, FUT_DELAY, FUT_COUNT, FUT_BADPEER) if not os.path.exists(path)]
