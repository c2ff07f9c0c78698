#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Run pytest files where there is KVM: in a machine that QEMU emulates, AMD's virtualisation included.

    kvm_host.py KERNEL INITRD RESULTS NAME WORD...   RESULTS, NAME and the words as for tools/run_integration.py, which runs inside
    kvm_host.py --make TREE INITRD                   its initramfs, from an unpacked Debian kernel package

The machine sees this host's files through a layer in memory, so that nothing it does remains, but for what it writes to RESULTS. It
has no network. The exit status is that of tools/run_integration.py, or 3 if the machine did not come so far.
"""
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "guest"))
import make_guest  # noqa: E402

MODULES = ["virtio_mmio", "9pnet_virtio", "9p", "overlay", "kvm", "kvm_amd", "bridge", "veth", "tun"]
APPLETS = ["sh", "mount", "insmod", "ip", "cat", "echo", "mkdir", "chroot", "reboot"]
FOLDERS = ["bin", "dev", "proc", "sys", "modules", "lower", "upper", "root", "tree"]
MEMORY_MB = 4096
VCPUS = 2
BEGINS = "kvm-host: begins"
BOOT_S = 240       # until BEGINS
NO_MACHINE = 3     # exit status


def make(tree, image):
    with tempfile.TemporaryDirectory() as root:
        make_guest.make_folders(root, FOLDERS)
        make_guest.add_busybox(root, APPLETS)
        shutil.copy(os.path.join(ROOT, "tools", "kvm_host_init"), os.path.join(root, "init"))
        os.chmod(os.path.join(root, "init"), 0o755)
        make_guest.add_modules(root, make_guest.modules_of(tree), MODULES)
        make_guest.pack(root, image)


def write_job(results, name, words):
    """What the machine runs. The status is written last: without it the machine has not ended by itself."""
    command = shlex.join(["/usr/bin/python3", "-B", "tools/run_integration.py", results, name] + words)
    kept = "".join(f"export {key}={shlex.quote(os.environ[key])}\n" for key in ("CI", "FUTAGO_KEEP_LOGS") if key in os.environ)
    with open(os.path.join(results, f"{name}.job"), "w", encoding="utf-8") as job:
        job.write(f"export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 FUTAGO_ACCEL=kvm,dirty-ring-size=65536\n{kept}"
                  f"cd {shlex.quote(ROOT)} && echo {shlex.quote(BEGINS)} && {command}\necho $? > {shlex.quote(results)}/{name}.status\n")


def shared(tag, folder, number, more=""):
    return ["-fsdev", f"local,id={tag},path={folder},security_model=none,multidevs=remap{more}",
            "-device", f"virtio-9p-device,fsdev={tag},mount_tag={tag},id=share{number}"]


def tsc_khz():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:
        speeds = [line.split(":")[1] for line in handle if line.startswith("cpu MHz")]
    return int(float(speeds[0]) * 1000) if speeds else 2500000


def machine(kernel, initrd, results, name):
    words = ["console=ttyS0", "quiet", "loglevel=2", "panic=-1", "reboot=t", "mitigations=off", "nokaslr", f"tsc_early_khz={tsc_khz()}",
             f"futtree={ROOT}", f"futresults={results}", f"futjob={name}.job"]
    return (["qemu-system-x86_64", "-M", "microvm,x-option-roms=off,rtc=on", "-bios", "qboot.rom", "-accel", "tcg,thread=multi",
             "-cpu", "max", "-smp", str(VCPUS), "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none",
             "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append", " ".join(words)] +
            shared("files", "/", 0, ",readonly=on") + shared("results", results, 1))


class Console:
    """What the machine says: shown from where the job begins, kept before."""

    def __init__(self, process):
        self.process, self.before, self.begun = process, [], False

    def follow(self):
        for line in self.process.stdout:
            line = line.decode(errors="replace").rstrip("\r\n")
            if self.begun:
                print(line, flush=True)
            elif BEGINS in line:
                self.begun = True
                signal.alarm(0)
                return True
            else:
                self.before.append(line)
        return False


def too_late(_number, _frame):
    raise TimeoutError


def run(kernel, initrd, results, name, words):
    write_job(results, name, words)
    status = os.path.join(results, f"{name}.status")
    began = time.monotonic()
    print(f"starting a machine that emulates KVM's hardware: {VCPUS} processors, {MEMORY_MB} MiB", flush=True)
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + machine(kernel, initrd, results, name),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    console = Console(process)
    signal.signal(signal.SIGALRM, too_late)
    try:
        signal.alarm(BOOT_S)
        if console.follow():
            print(f"it runs after {time.monotonic() - began:.0f} s", flush=True)
            console.follow()
    except TimeoutError:
        print(f"it did not run after {BOOT_S} s", flush=True)
    finally:
        process.kill()
        process.wait()
    if not os.path.exists(status):
        print("\n".join(["the machine ended before the tests did; it said:"] + console.before[-40:]), flush=True)
        return NO_MACHINE
    with open(status, encoding="ascii") as handle:
        return int(handle.read())


def leave(number, _frame):
    raise SystemExit(128 + number)


def main():
    if sys.argv[1] == "--make":
        make(*sys.argv[2:])
        return 0
    kernel, initrd, results, name, *words = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    return run(kernel, initrd, os.path.abspath(results), name, words)


if __name__ == "__main__":
    sys.exit(main())
