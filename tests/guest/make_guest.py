#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the guest that tests, demo and benchmarks boot: OUT/vmlinuz and OUT/initrd.img.

    make_guest.py TREE OUT

TREE is an unpacked Debian cloud kernel package (boot/vmlinuz-*, lib/modules/*). The initramfs holds busybox, the
virtio modules in the order they must be loaded, guestd and its init. Nothing else is in the guest.
"""
import glob
import lzma
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ["virtio_mmio", "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "ata_piix", "sd_mod",
           "virtio_console", "virtio_rng"]
APPLETS = ["sh", "mount", "insmod", "ip", "usleep", "poweroff", "cat", "ls", "echo", "dmesg", "ps", "free",
           "mkdir", "cp", "umount", "switch_root"]


def fail(message):
    sys.exit("make_guest: " + message)


def one(pattern):
    found = sorted(glob.glob(pattern))
    if len(found) != 1:
        fail(f"expected one {pattern}, found {len(found)}: run ./dev setup again")
    return found[0]


class ModuleTree:
    """The modules below one lib/modules/<release>, by name as the kernel writes it (underscores)."""

    def __init__(self, folder):
        self.paths = {}
        for base, _, files in os.walk(folder):
            for name in files:
                match = re.fullmatch(r"(.+)\.ko(\.xz)?", name)
                if match:
                    self.paths[match.group(1).replace("-", "_")] = os.path.join(base, name)
        with open(os.path.join(folder, "modules.builtin"), encoding="ascii") as handle:
            self.builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in handle}

    def read(self, name):
        path = self.paths[name]
        with (lzma.open if path.endswith(".xz") else open)(path, "rb") as handle:
            return handle.read()

    def needs(self, name):
        match = re.search(rb"\0depends=([^\0]*)\0", self.read(name))
        return [d for d in match.group(1).decode().replace("-", "_").split(",") if d] if match else []

    def in_order(self, names):
        """These modules and what they need, each after what it needs. What the kernel has built in is left out."""
        ordered = []

        def add(name):
            if name in ordered or name in self.builtin:
                return
            if name not in self.paths:
                fail(f"the kernel package has no module {name}")
            for needed in self.needs(name):
                add(needed)
            ordered.append(name)

        for name in names:
            add(name)
        return ordered


def make_folders(root, folders):
    for folder in folders:
        os.makedirs(os.path.join(root, folder))


def add_busybox(root, applets):
    shutil.copy("/bin/busybox", os.path.join(root, "bin/busybox"))
    for applet in applets:
        os.symlink("busybox", os.path.join(root, "bin", applet))


def add_modules(root, modules, names):
    order = modules.in_order(names)
    for name in order:
        with open(os.path.join(root, "modules", name + ".ko"), "wb") as handle:
            handle.write(modules.read(name))
    with open(os.path.join(root, "modules/order"), "w", encoding="ascii") as handle:
        handle.writelines(name + ".ko\n" for name in order)


def fill_root(root, modules, more):
    make_folders(root, ("bin", "dev", "proc", "sys", "modules"))
    add_busybox(root, APPLETS)
    shutil.copy(os.path.join(HERE, "guest-init"), os.path.join(root, "init"))
    os.chmod(os.path.join(root, "init"), 0o755)
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-static", "-pthread", "-s",
                    "-o", os.path.join(root, "bin/guestd")] + sorted(glob.glob(os.path.join(HERE, "guest*.c"))), check=True)
    add_modules(root, modules, MODULES + more)


def pack(root, image):
    """Uncompressed: the guest's emulated CPU would spend longer on unpacking than the host does on loading."""
    names = sorted(os.path.relpath(os.path.join(base, name), root)
                   for base, folders, files in os.walk(root) for name in folders + files)
    with open(image, "wb") as handle:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root, check=True,
                       input="\n".join(names).encode() + b"\n", stdout=handle)


def modules_of(tree):
    """Of an unpacked kernel package."""
    below = "lib/modules/*" if os.path.isdir(os.path.join(tree, "lib")) else "usr/lib/modules/*"
    return ModuleTree(one(os.path.join(tree, below)))


def main():
    if len(sys.argv) < 3:
        fail("usage: make_guest.py TREE OUT [MODULE...]")
    tree, out, *more = sys.argv[1:]
    root = os.path.join(out, "root")
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(root)
    fill_root(root, modules_of(tree), more)
    # A guest may be booting from the old files: each is replaced whole.
    pack(root, os.path.join(out, "initrd.new"))
    shutil.copy(one(os.path.join(tree, "boot/vmlinuz-*")), os.path.join(out, "vmlinuz.new"))
    os.replace(os.path.join(out, "vmlinuz.new"), os.path.join(out, "vmlinuz"))
    os.replace(os.path.join(out, "initrd.new"), os.path.join(out, "initrd.img"))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
