# SPDX-License-Identifier: GPL-2.0-or-later
"""futago check: everything that stands in the way, at once, without touching what a running VM uses."""
import json
import os

from lab.disks import Disk, image, make_images
from lab.machine import Machine
from lab.vm import primary

CULPRITS = {
    "vhost": ("-netdev", "tap,id=fast,vhost=on", "-device", "virtio-net-pci,netdev=fast"),
    "vhost-user": ("-chardev", "socket,id=c0,path=/no/such", "-netdev", "vhost-user,id=user0,chardev=c0",
                   "-device", "virtio-net-pci,netdev=user0"),
    "iothread": ("-object", "iothread,id=io0", "-blockdev", "null-co,node-name=d0",
                 "-device", "virtio-blk-pci,drive=d0,iothread=io0,id=threaded"),
    "nvme": ("-blockdev", "null-co,node-name=d1", "-device", "nvme,drive=d1,serial=1"),
    "vfio-pci": ("-device", "vfio-pci,host=01:00.0"),
    "vhost-vsock": ("-device", "vhost-vsock-pci,guest-cid=3"),
    "taken out": ("-fda", "/etc/hostname"),
    "no/such.img": ("-drive", "file=/no/such.img,if=virtio"),
    "vmdk": ("-drive", "file=/etc/hostname,format=vmdk,if=virtio"),
    "is empty": ("-drive", "file=/dev/null,if=none,id=hollow,format=raw,driver=null-co", "-blockdev",
                 "raw,node-name=e0,file.driver=file,file.filename={empty}", "-device", "virtio-blk-pci,drive=e0"),
    "-incoming": ("-incoming", "tcp:127.0.0.1:4444"),
    "-icount": ("-icount", "shift=auto"),
}


def check(lab, *words):
    return lab.hosts[0].futago("check", "--json", "--", *words, check=False)


def test_all_problems_at_once(lab):
    empty = os.path.join(lab.hosts[0].folder, "empty.raw")
    open(empty, "wb").close()
    words = [word.format(empty=empty) for words in CULPRITS.values() for word in words]
    done = check(lab, "qemu-system-x86_64", "-M", "q35", "-nodefaults", *words)
    problems = json.loads(done.stdout)["problems"]
    assert done.returncode == 1 and f"{len(problems)} things to change" in done.stderr, done.stderr
    for culprit in CULPRITS:
        assert any(culprit in problem for problem in problems), (culprit, problems)
    assert all(": " in problem and "\n" not in problem for problem in problems), problems
    assert len(problems) == len(CULPRITS), problems


def test_nothing_is_touched(lab):
    """The very command line of a VM that runs: fine, and that VM does not notice."""
    machine = Machine(kind="q35", disks=(Disk(format="qcow2"),))
    make_images(lab.hosts[0], machine.disks)
    vm = primary(lab.hosts[0], machine)
    said, taps = vm.console(), lab.hosts[0].ns.ip("-o link")
    before = os.stat(image(lab.hosts[0], 0, machine.disks[0]))
    pidfile, made = (os.path.join(lab.hosts[0].folder, name) for name in ("pid", "memory"))
    extra = ("-pidfile", pidfile, "-daemonize", "-netdev", "tap,id=more,ifname=tap77", "-device", "e1000,netdev=more",
             "-object", f"memory-backend-file,id=m0,size=1M,share=on,mem-path={made}")
    done = check(lab, *machine.qemu(vm.serial, lab.hosts[0].taps()), *extra)
    assert done.returncode == 0 and json.loads(done.stdout) == {"protectable": True, "problems": []}, done
    assert vm.console() == said and lab.hosts[0].ns.ip("-o link") == taps
    assert not os.path.exists(pidfile) and not os.path.exists(made)
    after = os.stat(image(lab.hosts[0], 0, machine.disks[0]))
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert vm.status()["running"]


def test_what_qemu_refuses(lab):
    done = check(lab, "qemu-system-x86_64", "-device", "nonesuch")
    assert done.returncode == 1 and "nonesuch" in json.loads(done.stdout)["problems"][0], done
    for words in ((), ("nonesuch-qemu",)):
        done = check(lab, *words)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
