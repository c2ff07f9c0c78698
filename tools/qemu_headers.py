#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn an unpacked Debian QEMU source into the headers a module is compiled with.

    qemu_headers.py SOURCE OUT VERSION PACKAGE

Neither configure nor a build of QEMU is needed: the QAPI headers come from QEMU's own generator, and the
configuration headers hold what Debian's packages are configured with wherever that reaches a header:
QAPI enumerators and structure members. VERSION and PACKAGE are what the QEMU binary says of itself
("7.2.22", "Debian 1:7.2+dfsg-7+deb12u18+b3"); the module's loader compares them with the running QEMU's.
"""
import os
import re
import shutil
import subprocess
import sys

# Only headers of these folders are kept.
FOLDERS = ["accel", "block", "chardev", "crypto", "disas", "ebpf", "host/include", "hw", "include", "io",
           "linux-headers", "migration", "monitor", "net", "softmmu", "target/i386", "tcg", "util"]
SUFFIXES = (".h", ".h.inc", ".def")

# What Debian's amd64 packages of every supported version are built with.
COMMON = """
    CONFIG_LINUX CONFIG_POSIX CONFIG_MODULES CONFIG_PLUGIN CONFIG_TCG CONFIG_IOVEC CONFIG_ATOMIC64
    CONFIG_INT128 CONFIG_MADVISE CONFIG_POSIX_MADVISE CONFIG_SYSMACROS CONFIG_MEMFD CONFIG_EVENTFD CONFIG_EPOLL
    CONFIG_EPOLL_CREATE1 CONFIG_PPOLL CONFIG_SIGNALFD CONFIG_CPUID_H
    CONFIG_LINUX_AIO CONFIG_LINUX_IO_URING CONFIG_REPLICATION CONFIG_ZSTD CONFIG_FDT CONFIG_TPM
    CONFIG_SECRET_KEYRING CONFIG_LIBPMEM CONFIG_FUSE CONFIG_VDUSE_BLK_EXPORT CONFIG_VHOST_USER_BLK_SERVER
    CONFIG_VHOST_KERNEL CONFIG_VHOST_NET CONFIG_VHOST_NET_USER CONFIG_VHOST_NET_VDPA CONFIG_VHOST_USER
    CONFIG_VHOST_VDPA CONFIG_VHOST_CRYPTO
    CONFIG_SLIRP CONFIG_VNC CONFIG_VNC_JPEG CONFIG_VNC_SASL CONFIG_SPICE CONFIG_SPICE_PROTOCOL CONFIG_OPENGL
    CONFIG_GBM CONFIG_GTK CONFIG_VTE CONFIG_SDL CONFIG_CURSES CONFIG_DBUS_DISPLAY CONFIG_BRLAPI
    CONFIG_AUDIO_ALSA CONFIG_AUDIO_OSS CONFIG_AUDIO_PA CONFIG_AUDIO_JACK CONFIG_AUDIO_SDL
    HAVE_CHARDEV_PARALLEL HAVE_CHARDEV_SERIAL HAVE_HOST_BLOCK_DEVICE HAVE_IPPROTO_MPTCP
    HAVE_STRCHRNUL HAVE_SYSTEM_FUNCTION HAVE_STRUCT_STAT_ST_ATIM HAVE_PTY_H HAVE_SPICE_GL
    HOST_X86_64
""".split()
BY_VERSION = {
    "7.2": ["CONFIG_LIVE_BLOCK_MIGRATION", "CONFIG_AUDIO_SNDIO"],
    "10.0": ["CONFIG_INT128_TYPE", "CONFIG_PIXMAN", "CONFIG_BLKIO", "CONFIG_BLKIO_VHOST_VDPA_FD", "CONFIG_EBPF",
             "CONFIG_AUDIO_PIPEWIRE", "CONFIG_VHOST", "HAVE_GLIB_WITH_ALIGNED_ALLOC"],
}
TARGET = """
    TARGET_X86_64 TARGET_I386 CONFIG_SOFTMMU CONFIG_SYSTEM_ONLY CONFIG_I386_DIS TARGET_SUPPORTS_MTTCG
    TARGET_KVM_HAVE_GUEST_DEBUG TARGET_KVM_HAVE_RESET_PARKED_VCPU CONFIG_KVM
""".split()


def fail(message):
    sys.exit("qemu_headers: " + message)


def copy_headers(source, out):
    for folder in FOLDERS:
        for base, _, files in os.walk(os.path.join(source, folder)):
            wanted = [f for f in files if f.endswith(SUFFIXES)]
            target = os.path.join(out, os.path.relpath(base, source))
            if wanted:
                os.makedirs(target, exist_ok=True)
            for name in wanted:
                shutil.copyfile(os.path.join(base, name), os.path.join(target, name))
    # The compiler looks for <asm/...> of the kernel headers QEMU carries under this name.
    os.symlink("asm-x86", os.path.join(out, "linux-headers", "asm"))


def generate_qapi(source, out):
    scratch = os.path.join(out, "qapi-generated")
    subprocess.run([sys.executable, "-B", os.path.join(source, "scripts/qapi-gen.py"), "-o", scratch,
                    "-b", os.path.join(source, "qapi/qapi-schema.json")], check=True)
    os.makedirs(os.path.join(out, "qapi"))
    for name in os.listdir(scratch):
        if name.endswith(".h"):
            shutil.move(os.path.join(scratch, name), os.path.join(out, "qapi", name))
    shutil.rmtree(scratch)


def write_header(path, lines):
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("\n".join(lines) + "\n")


def plugin_api(source):
    with open(os.path.join(source, "include/qemu/qemu-plugin.h"), encoding="utf-8") as handle:
        match = re.search(r"#define\s+QEMU_PLUGIN_VERSION\s+(\d+)", handle.read())
    return match.group(1) if match else fail("no plugin API version in qemu-plugin.h")


def write_configuration(source, out, version, package):
    numbers = version.split(".")
    series = ".".join(numbers[:2])
    if series not in BY_VERSION:
        fail(f"QEMU {version} is not supported: Debian 12 with QEMU 7.2, Debian 13 with QEMU 10.0, x86-64")
    host = [f"#define {name} 1" for name in COMMON + BY_VERSION[series]]
    host += [f'#define QEMU_VERSION "{version}"', '#define CONFIG_HOST_DSOSUF ".so"', "#define CONFIG_COROUTINE_POOL 1"]
    host += [f"#define QEMU_VERSION_{part} {number}" for part, number in zip(("MAJOR", "MINOR", "MICRO"), numbers)]
    write_header(os.path.join(out, "config-host.h"), host)
    target = [f"#define {name} 1" for name in TARGET]
    target += ['#define TARGET_NAME "x86_64"', '#define TARGET_ARCH "x86_64"', "#define TARGET_LONG_BITS 64", "#define TARGET_BIG_ENDIAN 0"]
    write_header(os.path.join(out, "x86_64-softmmu-config-target.h"), target)
    write_header(os.path.join(out, "x86_64-softmmu-config-devices.h"),
                 [f"#define CONFIG_{d} 1" for d in ("PCI", "VIRTIO", "VIRTIO_PCI", "VIRTIO_MMIO", "MICROVM", "Q35", "I440FX", "SEV")])
    write_header(os.path.join(out, "config-poison.h"), ["/* nothing: the module is compiled for one target */"])
    write_header(os.path.join(out, "qemu-build.h"),
                 [f'#define FUT_QEMU_VERSION "{version}"', f'#define FUT_QEMU_PACKAGE "{package}"',
                  f"#define FUT_QEMU_PLUGIN_API {plugin_api(source)}"])


def main():
    if len(sys.argv) != 5:
        fail("usage: qemu_headers.py SOURCE OUT VERSION PACKAGE")
    source, out, version, package = sys.argv[1:]
    with open(os.path.join(source, "VERSION"), encoding="utf-8") as handle:
        written = handle.read().strip()
    if written != version:
        fail(f"the source is QEMU {written}, the binary is {version}: update the packages qemu-system-x86 and try again")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    copy_headers(source, out)
    generate_qapi(source, out)
    write_configuration(source, out, version, package)


if __name__ == "__main__":
    main()
