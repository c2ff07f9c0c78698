#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that futago-qemu.so leaves to others is there: in the installed QEMU or in a library the module names.

QEMU binds late, so that a function it does not export would end the VM only when it is first called.

    module_symbols.py MODULE [QEMU]
"""
import re
import subprocess
import sys


def symbols(path, which):
    """The names in a file's dynamic table, without their versions; weak wishes are left out."""
    listing = subprocess.run(["nm", "-D", which, path], check=True, capture_output=True, text=True).stdout
    fields = [line.split() for line in listing.splitlines()]
    return {field[-1].split("@")[0] for field in fields if field[-2] not in ("w", "v") or which == "--defined-only"}


def libraries(path):
    listing = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    return re.findall(r"(/\S+) \(0x", listing)


def missing(module, providers):
    wanted = symbols(module, "--undefined-only")
    for provider in providers:
        wanted -= symbols(provider, "--defined-only")
    return sorted(wanted)


def main():
    module = sys.argv[1]
    qemu = sys.argv[2] if len(sys.argv) > 2 else "/usr/bin/qemu-system-x86_64"
    print("1..2")
    left = missing(module, libraries(module) + [qemu])
    for name in left:
        print(f"# {name}: exported neither by {qemu} nor by a library")
    print(f"{'not ' if left else ''}ok 1 - nothing is missing")
    # The check's own proof: without QEMU there would be much.
    alone = missing(module, libraries(module))
    print(f"{'' if 'pause_all_vcpus' in alone else 'not '}ok 2 - it is QEMU that gives its functions")
    return bool(left) or "pause_all_vcpus" not in alone


if __name__ == "__main__":
    sys.exit(main())
