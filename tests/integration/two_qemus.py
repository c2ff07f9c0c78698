# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair is of one QEMU: this machine's QEMU and the Debian 13 root's refuse each other, whichever is the primary, and
neither opens the other's module. Not part of the ordinary run: ./dev test qemu10 makes the root and starts this."""
import os
import shutil

import pytest
from lab import load, paths
from lab.vm import FutagoVm, address

ROOT13 = os.path.join(paths.ROOT, "build", "host-13")
IN_ROOT13 = [os.path.join(paths.ROOT, "tools", "in_root.sh"), ROOT13]
QEMU = {"here": "7.2.", "root": "10.0."}
MODULES = {"here": os.path.join(paths.BUILD, "src", "qemu"), "root": os.path.join(ROOT13, "build", "src", "qemu")}


class RootVm(FutagoVm):
    """A member of a pair that runs in the Debian 13 root: the same words, another file system."""

    def command(self, qemu):
        return IN_ROOT13 + super().command(qemu)


def start(where, host, **words):
    return (RootVm if where == "root" else FutagoVm)(host, **words)


def lines_with(vm, words):
    return [line for line in vm.process.output().splitlines() if words in line]


@pytest.mark.parametrize("where", ["here", "root"])
def test_pair_of_two_qemus(lab, where):
    """Refused in one line on either side; the guest runs on, the standby waits; the right QEMU is taken afterwards."""
    first, second = lab.hosts[:2]
    other = "root" if where == "here" else "here"
    wrong = start(other, second, listen=address(second))
    wrong.wait_state("waiting")
    vm = start(where, first, protect_to=address(second), options=("--retry-ms", "100"))
    vm.wait_ready()
    for member in (vm, wrong):
        status = member.wait_status("a reason", lambda s: "differ in qemu" in s["reason"])
        text = status["reason"]
        assert f"here {QEMU[where]}" in text and f"there {QEMU[other]}" in text, text
        assert "install the same QEMU on both hosts" in text, text
    counter = load.Counter(lab.client)
    load.sleep_counting(counter, 1)  # ten more tries
    assert wrong.status()["state"] == "waiting"
    assert not vm.status()["linked"]
    for member in (vm, wrong):
        assert len(lines_with(member, "differ in qemu")) == 1, member.process.output()
    wrong.kill()
    start(where, second, listen=address(second)).wait_state("standby", timeout=60)
    vm.wait_protected()
    load.check(counter.finish())


@pytest.mark.parametrize("where", ["here", "root"])
def test_module_of_the_other_qemu(lab, where):
    """One line, and QEMU ends before it has done anything."""
    other = "root" if where == "here" else "here"
    folder = os.path.join(lab.hosts[0].folder, f"module-of-{other}")  # below /tmp, which the root sees as well
    os.makedirs(folder)
    for name in ("futago.so", "futago-qemu.so"):
        shutil.copy(os.path.join(MODULES[other], name), folder)
    qemu = ["qemu-system-x86_64", "-M", "microvm", "-display", "none", "-plugin", f"file={folder}/futago.so"]
    done = lab.hosts[0].run((IN_ROOT13 if where == "root" else []) + qemu)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1, done
    assert lines[0].startswith(f"futago: built for QEMU {QEMU[other]}") and f"this is QEMU {QEMU[where]}" in lines[0], lines
