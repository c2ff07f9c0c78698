# SPDX-License-Identifier: GPL-2.0-or-later
"""The relocating disk on a block device (a loop device), and behind iSCSI (tgt, by way of nbdfuse)."""
import os
import random
import subprocess

import nbd
import pytest
from lab import paths, process
from lab.nbd_disk import MB, Disks, client_of, content_of, free_port, read_all, run, wait_complete


@pytest.fixture
def disks(tmp_path):
    disks = Disks(tmp_path)
    yield disks
    disks.close()


# -- a block device as cache --

@pytest.fixture
def device(tmp_path):
    """8 MiB of a loop device, full of rubbish: what has to be zero must be made so."""
    backing = tmp_path / "backing"
    backing.write_bytes(random.Random(60).randbytes(8 * MB))
    name = run("losetup", "--find", "--show", str(backing)).strip()
    yield name
    run("losetup", "--detach", name)


def test_block_device_as_cache(disks, device, tmp_path):
    """Reads, writes of any alignment, zeroes and discards, three kills; then the device holds exactly the disk."""
    content = bytearray(disks.make_image(content_of(61, 8)))
    source = disks.source()
    disks.cache = device
    bitmap = f"bitmap={disks.folder}/bitmap"
    assert "has, or may have, something in it" in disks.refused(f"cache={device}", bitmap, f"source={source.uri}")
    disk = disks.disk(source, bitmap, "overwrite=true", "rate=4M")
    rand = random.Random(62)
    for _ in range(3):
        handle = client_of(disk)
        for _ in range(60):
            offset, length = 512 * rand.randrange(16000), 512 * rand.randrange(1, 40)
            length = min(length, len(content) - offset)
            what = rand.randrange(4)
            if what == 0:
                assert handle.pread(length, offset) == content[offset:offset + length]
                continue
            data = rand.randbytes(length) if what == 1 else bytes(length)
            if what == 1:
                handle.pwrite(data, offset)
            else:
                handle.zero(length, offset, nbd.CMD_FLAG_NO_HOLE if what == 2 else 0)
            content[offset:offset + length] = data
        disk.kill()
        disk.start()
    wait_complete(disk)
    source.kill()
    handle = client_of(disk)
    assert read_all(handle) == content
    handle.shutdown()
    assert disk.end() == 0
    with open(device, "rb") as raw:
        assert raw.read() == content


def test_device_in_use_or_of_another_size_is_refused(disks, device, tmp_path):
    """By whatever name: a lock on a name is not one on the device."""
    disks.make_image(content_of(63, 8))
    source = disks.source()
    disks.cache = device
    bitmap = f"bitmap={disks.folder}/bitmap"
    disk = disks.disk(source, bitmap, "overwrite=true", "policy=none")
    other, number = str(tmp_path / "other-name"), os.stat(device).st_rdev
    os.mknod(other, 0o600 | 0o060000, number)
    for name in (device, other):
        said = disks.refused(f"cache={name}", f"bitmap={disks.folder}/second", f"source={source.uri}", "overwrite=true")
        assert f"{name} is in use by another process, or mounted" in said, said
    disk.kill()

    smaller = str(tmp_path / "smaller.img")
    with open(smaller, "wb") as handle:
        handle.truncate(4 * MB)
    small = disks.add("small", "--readonly", "file", smaller)
    assert "the cache has 8388608 bytes, the source 4194304" in \
        disks.refused(f"cache={device}", f"bitmap={disks.folder}/third", f"source={small.uri}", "overwrite=true")

    run("mke2fs", "-q", "-F", "-t", "ext4", device)
    place = tmp_path / "mounted"
    place.mkdir()
    run("mount", device, str(place))
    try:
        assert "or mounted" in disks.refused(f"cache={device}", f"bitmap={disks.folder}/fourth", f"source={source.uri}", "overwrite=true")
    finally:
        run("umount", str(place))


# -- iSCSI --

class Tgt:
    """Debian's tgt in user space, with one LUN over a file."""
    NAME = "iqn.2026-11.net.example:web"

    def __init__(self, folder, file):
        self.port = free_port()
        self.env = process.environment({"TGT_IPC_SOCKET": os.path.join(folder, "tgt")})
        self.log = open(os.path.join(folder, "tgt.log"), "wb")
        self.popen = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", os.path.join(paths.TGT, "tgtd"), "-f", "--iscsi",
                                       f"portal=127.0.0.1:{self.port}"], env=self.env, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        process.wait_for("tgt", lambda: self.admin("--mode", "target", "--op", "new", "--tid", "1", "-T", self.NAME))
        assert self.admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", file)
        assert self.admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")
        self.uri = f"iscsi://127.0.0.1:{self.port}/{self.NAME}/1"

    def admin(self, *words):
        assert self.popen.poll() is None, self.log.name
        return subprocess.run([os.path.join(paths.TGT, "tgtadm"), "--lld", "iscsi", *words], env=self.env, capture_output=True, timeout=30,
                              check=False).returncode == 0

    def close(self):
        self.popen.kill()
        self.popen.wait()
        self.log.close()


@pytest.fixture
def mounted(disks, tmp_path):
    """mounted(disk): the disk as a file."""
    place, children = tmp_path / "fuse", []
    place.mkdir()

    def mount(disk):
        children.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "nbdfuse", str(place / "disk"), disk.uri],
                                         env=process.environment(), stdin=subprocess.DEVNULL))
        process.wait_for("nbdfuse", lambda: (place / "disk").exists())
        return str(place / "disk")
    yield mount
    subprocess.run(["umount", "-l", place], check=False)
    for child in children:
        child.kill()
        child.wait()


def test_iscsi_in_front(disks, mounted, tmp_path):
    """QEMU's iSCSI initiator reads and writes while the disk is being brought here, and goes on when the source is gone."""
    content = bytearray(disks.make_image(content_of(64, 16)))
    source = disks.source("--filter=delay", "rdelay=2ms")
    disk = disks.disk(source, "rate=16M")
    target = Tgt(str(tmp_path), mounted(disk))
    try:
        assert run("qemu-io", "-f", "raw", "-r", "-c", "read -v 5M 512", target.uri).count("00500") > 1
        run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -P 8 12346880 1024", "-c", "flush", target.uri)
        content[MB:MB + 65536], content[12346880:12346880 + 1024] = b"\7" * 65536, b"\x08" * 1024
        wait_complete(disk)
        source.kill()
        with open(disks.image, "wb") as handle:
            handle.write(content)
        assert "Images are identical." in run("qemu-img", "compare", "-f", "raw", "-F", "raw", target.uri, disks.image)
    finally:
        target.close()
    disk.kill()  # what the initiator had flushed is in the cache
    disk.start()
    assert read_all(client_of(disk)) == content
