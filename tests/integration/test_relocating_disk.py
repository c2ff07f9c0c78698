# SPDX-License-Identifier: GPL-2.0-or-later
"""The relocating disk between real NBD servers and clients: what it fetches, keeps, refuses and survives."""
import errno
import os
import random
import re
import signal
import subprocess
import threading
import time

import nbd
import pytest
from lab import process
from lab.nbd_disk import MB, Disks, client_of, content_of, futago, read_all, status_of, timed, wait_complete


@pytest.fixture
def disks(tmp_path):
    disks = Disks(tmp_path)
    yield disks
    disks.close()


# -- fetching and keeping --

def test_reads_are_fetched_once_and_kept(disks):
    content = disks.make_image(content_of(1, holes=False))
    source = disks.source("--filter=log", f"logfile={disks.folder}/reads")
    disk = disks.disk(source, "policy=none")
    handle = client_of(disk)
    for _ in range(2):
        assert handle.pread(4096, 8192) == content[8192:12288]
        assert handle.pread(70000, 100000) == content[100000:170000]
    assert disks.read_log("reads") == [(8192, 4096), (98304, 73728)]
    source.kill()
    assert handle.pread(4096, 8192) == content[8192:12288]


def test_many_who_want_one_block_cause_one_fetch(disks):
    content = disks.make_image(content_of(2, holes=False))
    source = disks.source("--filter=log", "--filter=delay", f"logfile={disks.folder}/reads", "rdelay=300ms")
    disk = disks.disk(source, "policy=none")
    handles = [client_of(disk) for _ in range(8)]
    found = []
    threads = [threading.Thread(target=lambda at=at: found.append(bytes(at.pread(4096, 4096)))) for at in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [content[4096:8192]] * 8
    assert disks.read_log("reads") == [(4096, 4096)]


def test_holes_are_not_fetched(disks):
    content = disks.make_image(content_of(3, 16))
    data = sum(65536 for at in range(0, len(content), 65536) if content[at:at + 65536].strip(b"\0"))
    source = disks.source("--filter=log", f"logfile={disks.folder}/reads")
    disk = disks.disk(source)
    wait_complete(disk)
    assert read_all(client_of(disk)) == content
    assert sum(length for _, length in disks.read_log("reads")) == data
    assert os.stat(disks.cache).st_blocks * 512 < data + MB


@pytest.mark.parametrize("policy", ["hot-first", "sequential", "idle-only"])
def test_detaches_by_itself_and_is_an_ordinary_disk_then(disks, policy):
    content = disks.make_image(content_of(4, 16))
    source = disks.source()
    disk = disks.disk(source, f"policy={policy}")
    handle = client_of(disk)
    handle.pwrite(b"here" * 1024, 8 * MB)
    content = content[:8 * MB] + b"here" * 1024 + content[8 * MB + 4096:]
    wait_complete(disk)
    source.kill()
    assert read_all(handle) == content
    handle.shutdown()
    assert disk.end() == 0
    for parameters in ([], [f"source={source.uri}"]):  # without a source, or with one that is gone
        disk = disks.disk(None, *parameters, name="again")
        handle = client_of(disk)
        assert read_all(handle) == content
        handle.shutdown()
        assert disk.end() == 0


def test_source_that_answers_out_of_order_and_knows_no_extents(disks):
    content = disks.make_image(content_of(5, 1))
    source = disks.add("source", "--readonly", "eval", f"get_size=stat -c %s {disks.image}", "thread_model=echo parallel",
                       f"pread=sleep 0.0$(($4 / 4096 % 7)); dd iflag=count_bytes,skip_bytes if={disks.image} count=$3 skip=$4 status=none")
    disk = disks.disk(source, "policy=none")
    handle = client_of(disk)
    places = random.Random(5).sample(range(0, len(content), 4096), 60)
    buffers = [(place, nbd.Buffer(4096)) for place in places]
    cookies = [handle.aio_pread(buffer, place) for place, buffer in buffers]
    while cookies:
        handle.poll(1000)
        cookies = [cookie for cookie in cookies if not handle.aio_command_completed(cookie)]
    for place, buffer in buffers:
        assert buffer.to_bytearray() == content[place:place + 4096]


def test_source_with_errors_and_delays(disks):
    content = disks.make_image(content_of(6, 16))
    source = disks.source("--filter=error", "--filter=delay", "error-pread-rate=20%", "error=EIO", "rdelay=5ms")
    disk = disks.disk(source)
    handle, refused = client_of(disk), 0
    for place in random.Random(6).sample(range(0, len(content), 65536), 40):
        try:
            assert handle.pread(65536, place) == content[place:place + 65536]
        except nbd.Error as error:
            assert error.errnum == errno.EIO
            refused += 1
    assert refused < 5  # a read is tried again before the VM hears of it
    wait_complete(disk, timeout=60)
    assert read_all(handle) == content


# -- a source that goes away --

def test_source_lost_and_back(disks):
    content = bytearray(disks.make_image(content_of(7, holes=False)))
    source = disks.source()
    disk = disks.disk(source, "policy=none", "wait=5")
    handle, other = client_of(disk), client_of(disk)
    assert handle.pread(65536, 0) == content[:65536]
    source.kill()

    waiting = []
    def remote():
        try:
            other.pread(4096, MB)
        except nbd.Error as error:
            waiting.append(error.errnum)
    thread, took = threading.Thread(target=lambda: took.append(timed(remote)[1])), []
    thread.start()
    for place, length in ((0, 4096), (2 * MB, 4096), (3 * MB + 512, 512), (3 * MB + 4096 - 512, 2048)):
        data = os.urandom(length)
        _, write_s = timed(handle.pwrite, data, place)
        content[place:place + length] = data
        read, read_s = timed(handle.pread, length, place)
        assert read == data and thread.is_alive() and write_s < 1 and read_s < 1
    handle.flush()
    thread.join()
    assert waiting == [errno.EIO] and 4 < took[0] < 20

    found = []
    thread = threading.Thread(target=lambda: found.append(bytes(other.pread(4096, MB))))
    thread.start()
    time.sleep(0.5)  # it waits
    source.start()
    thread.join()
    assert found == [content[MB:MB + 4096]]
    assert read_all(handle) == content
    process.wait_for("complete", lambda: "FUT-304" in disk.output())


def test_source_that_freezes_does_not_hold_up_the_end(disks):
    disks.make_image(content_of(8, holes=False))
    source = disks.source()
    disk = disks.disk(source, "policy=none", "wait=300")
    handle = client_of(disk)
    source.freeze()
    cookie = handle.aio_pread(nbd.Buffer(4096), 0)
    handle.pwrite(bytes(4096), MB)
    assert not handle.aio_command_completed(cookie)
    disk.popen.send_signal(signal.SIGTERM)
    with pytest.raises(nbd.Error):
        while not handle.aio_command_completed(cookie):
            assert handle.poll(10000) == 1
    del handle  # nbdkit waits for its clients
    assert disk.end() == 0  # not after 300 s


def test_small_writes_need_no_source_and_are_merged(disks):
    content = bytearray(disks.make_image(content_of(9, 1, holes=False)))
    source = disks.source()
    disk = disks.disk(source, "policy=none", "wait=1")
    handle = client_of(disk)
    source.kill()
    rand = random.Random(9)
    for place in [512 * rand.randrange(2000) for _ in range(300)]:
        data = rand.randbytes(512 * rand.randrange(1, 20))
        handle.pwrite(data, place)
        content[place:place + len(data)] = data
        assert handle.pread(len(data), place) == data
    handle.flush()
    disk.kill()
    source.start()
    disk.start()
    assert read_all(client_of(disk)) == content


# -- kills --

class Writer(threading.Thread):
    """Writes and reads stripes of its own until its server is gone; knows what has to be there."""
    STRIPE, WRITERS = 6144, 4

    def __init__(self, server, number, content, seed):
        super().__init__(daemon=True)
        self.server, self.number, self.content = server, number, content
        self.rand, self.doubt, self.wrong = random.Random(seed), None, None
        self.done = 0

    def place(self):
        stripes = len(self.content) // self.STRIPE
        stripe = self.rand.randrange(stripes // self.WRITERS) * self.WRITERS + self.number
        first = self.rand.randrange(11)
        return stripe * self.STRIPE + 512 * first, 512 * self.rand.randrange(1, 13 - first)

    def step(self, handle):
        offset, length = self.place()
        what = self.rand.random()
        if what < 0.4:
            found = handle.pread(length, offset)
            if found != self.content[offset:offset + length]:
                self.wrong = (offset, length)
            return
        if what < 0.45:
            handle.flush()
            return
        data = bytes(length) if what < 0.55 else self.rand.randbytes(512) * (length // 512)
        self.doubt = (offset, data)
        if what < 0.55:
            handle.zero(length, offset)
        else:
            handle.pwrite(data, offset)
        self.content[offset:offset + length] = data
        self.doubt = None
        self.done += 1

    def run(self):
        try:
            handle = client_of(self.server)
            while handle and not self.wrong:
                self.step(handle)
        except nbd.Error:
            pass


def one_life(disk, content, seed):
    """Until a SIGKILL at a random instant. Returns what was written when it came."""
    writers = [Writer(disk, number, content, seed * 10 + number) for number in range(Writer.WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(random.Random(seed).uniform(0.005, 0.25))
    disk.kill()
    for writer in writers:
        writer.join(20)
        assert not writer.is_alive() and not writer.wrong, writer.wrong
    return writers


def settle(found, content, writers):
    """A write that was under way may be there, or not, or in part: by sectors."""
    for writer in writers:
        if writer.doubt:
            offset, data = writer.doubt
            for at in range(0, len(data), 512):
                here = found[offset + at:offset + at + 512]
                assert here in (data[at:at + 512], content[offset + at:offset + at + 512]), (offset, at)
                content[offset + at:offset + at + 512] = here
    assert found == content


def kills(disks, lives, seed):
    content = bytearray(disks.make_image(content_of(seed, 6)))
    filters = ["--filter=error", "--filter=delay", "error-pread-rate=2%", "rdelay=2ms"]
    source = disks.source(*filters)
    disk = disks.disk(source, "rate=4M", "wait=30")
    written = 0
    for life in range(lives):
        writers = one_life(disk, content, seed * 1000 + life)
        written += sum(writer.done for writer in writers)
        disk.start()
        settle(read_all(client_of(disk)) if life % 4 == 3 else look_at_doubts(disk, content, writers), content, writers)
    wait_complete(disk, timeout=60)
    source.kill()
    assert read_all(client_of(disk)) == content
    assert written > lives


def look_at_doubts(disk, content, writers):
    """The expected content, but with what is there where a write was under way: most of the disk stays unfetched."""
    found, handle = bytearray(content), client_of(disk)
    for writer in writers:
        if writer.doubt:
            offset, data = writer.doubt
            found[offset:offset + len(data)] = handle.pread(len(data), offset)
    return found


def test_killed_at_any_instant_nothing_is_stale_or_lost(disks):
    kills(disks, 12, seed=11)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 30))
def test_killed_hundreds_of_times(disks, seed):
    kills(disks, 60, seed)


# -- full disk --

@pytest.fixture
def small_room(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", room], check=True)
    yield room
    subprocess.run(["umount", "-l", room], check=True)


def test_no_room_to_keep_what_is_fetched(disks, small_room):
    content = bytearray(disks.make_image(content_of(12, 8, holes=False)))
    disks.cache = str(small_room / "cache")
    disk = disks.disk(disks.source(), "policy=none", f"bitmap={disks.folder}/bitmap")
    handle, refused = client_of(disk), 0
    assert read_all(handle) == content  # more than there is room for
    for place in range(0, len(content), 65536):
        data = os.urandom(4096)
        try:
            handle.pwrite(data, place)
            content[place:place + 4096] = data
        except nbd.Error as error:
            assert error.errnum == errno.ENOSPC
            refused += 1
    assert refused > 0
    handle.flush()
    assert read_all(handle) == content
    disk.kill()
    disk.start()
    assert read_all(client_of(disk)) == content


# -- what is refused --

def test_what_is_refused(disks):
    disks.make_image(content_of(13, 1))
    source = disks.source()
    disk = disks.disk(source, "policy=none")
    assert "in use by another process" in disks.refused(f"cache={disks.cache}", f"source={source.uri}")
    assert disk.end() == 0

    cache = f"cache={disks.cache}"
    assert re.search(r"MiB of the disk are not here: say where they are", disks.refused(cache))
    assert "is of source nbd+unix" in disks.refused(cache, "source=nbd://elsewhere")
    assert "where is the disk to be kept" in disks.refused(f"source={source.uri}")
    assert "use hot-first" in disks.refused(cache, "policy=best")
    assert "unknown parameter 'colour'" in disks.refused(cache, "colour=red")
    assert "cannot open" in disks.refused(f"cache={disks.folder}/no/such/folder", f"source={source.uri}")
    assert "has, or may have, something in it" in disks.refused(f"cache={disks.image}", f"source={source.uri}")

    other, empty = f"{disks.folder}/other", f"{disks.folder}/empty"
    subprocess.run(["cp", disks.cache, other], check=True)
    assert "another cache" in disks.refused(f"cache={other}", f"bitmap={disks.cache}.bitmap", f"source={source.uri}")
    with open(other, "ab") as handle:
        handle.truncate(2 * MB)
    assert "bring the right files together" in disks.refused(f"cache={other}", f"bitmap={disks.cache}.bitmap", f"source={source.uri}")
    with open(empty, "wb") as handle:
        handle.truncate(512 << 10)
    assert "the source 1048576: they must be alike" in disks.refused(f"cache={empty}", f"source={source.uri}")

    with open(f"{disks.folder}/rubbish", "wb") as handle:
        handle.write(os.urandom(65536))
    assert "not a bitmap of Futago" in disks.refused(cache, f"bitmap={disks.folder}/rubbish", f"source={source.uri}")
    source.kill()
    assert "source nbd+unix" in disks.refused(f"cache={disks.folder}/new", f"source={source.uri}")


def test_files_that_were_moved_together_are_adopted(disks):
    content = disks.make_image(content_of(14, 1))
    source = disks.source()
    disk = disks.disk(source, "policy=none")
    handle = client_of(disk)
    assert handle.pread(4096, 0) == content[:4096]
    handle.shutdown()
    assert disk.end() == 0
    for suffix in ("", ".bitmap"):
        subprocess.run(["cp", "--sparse=always", disks.cache + suffix, f"{disks.folder}/moved{suffix}"], check=True)
    disks.cache = f"{disks.folder}/moved"
    assert "another cache" in disks.refused(f"cache={disks.cache}", f"source={source.uri}")
    disk = disks.disk(source, "adopt=true", name="adopted")
    handle = client_of(disk)
    assert read_all(handle) == content
    handle.shutdown()
    assert disk.end() == 0
    disks.disk(source, name="known")


# -- other people's tools --

def test_other_tools_agree(disks):
    content = disks.make_image(content_of(15, 8))
    source = disks.add("source", "--readonly", "file", disks.image)
    disk = disks.disk(source)

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
        return done.stdout
    assert run("nbdinfo", "--size", disk.uri).strip() == str(len(content))
    assert run("qemu-img", "compare", "-f", "raw", "-F", "raw", f"nbd+unix:///?socket={disk.socket}", disks.image).strip() == \
        "Images are identical."
    run("qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "write -z 2M 1M", "-c", "discard 4M 1M", "-c", "flush", disk.uri)
    run("nbdcopy", disk.uri, f"{disks.folder}/copy")
    content = content[:MB] + b"\7" * 65536 + content[MB + 65536:2 * MB] + bytes(MB) + content[3 * MB:4 * MB] + bytes(MB) + content[5 * MB:]
    with open(f"{disks.folder}/copy", "rb") as handle:
        assert handle.read() == content
    kinds = run("nbdinfo", "--map", disk.uri)
    assert "hole,zero" in kinds and "data" in kinds


def test_qemu_nbd_as_source(disks):
    content = disks.make_image(content_of(16, 8))
    socket = f"{disks.folder}/qemu.sock"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", disks.image, f"{disks.folder}/source.qcow2"], check=True)
    server = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "qemu-nbd", "--read-only", "--persistent", "--shared=4", "-f", "qcow2",
                               "-k", socket, f"{disks.folder}/source.qcow2"], env=process.environment())
    try:
        process.wait_for("qemu-nbd", lambda: os.path.exists(socket))
        disk = disks.disk(f"nbd+unix:///?socket={socket}")
        wait_complete(disk)
        assert read_all(client_of(disk)) == content
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


# -- control --

def test_control(disks):
    content = disks.make_image(content_of(17, 8, holes=False))
    source = disks.source()
    disk = disks.disk(source, "name=web", "rate=64K", "adaptive=false")
    handle = client_of(disk)
    assert futago(disks, "pause", "web").returncode == 0
    process.wait_for("the copy rests", lambda: status_of(disks)["state"] == "paused")
    time.sleep(0.3)
    before = status_of(disks)
    assert handle.pread(65536, 4 * MB) == content[4 * MB:4 * MB + 65536]
    assert handle.pread(65536, 4 * MB) == content[4 * MB:4 * MB + 65536]
    now = status_of(disks)
    assert now["here"] == before["here"] + 65536 and now["copied"] == before["copied"]
    assert (now["reads"], now["read_misses"], now["rate_limit"], now["adaptive"]) == (2, 1, 65536, False)

    assert futago(disks, "rate", "web", "1M", "--adaptive", "on").returncode == 0
    assert futago(disks, "policy", "web", "idle-only").returncode == 0
    now = status_of(disks)
    assert (now["rate_limit"], now["adaptive"], now["policy"]) == (MB, True, "idle-only")
    assert "web [" in futago(disks, "status").stdout
    for words, culprit in ((["rate", "web", "much"], "much"), (["policy", "web", "best"], "policy: use"), (["pause", "other"], "other"),
                           (["status", "web", "x"], "'x'"), (["detach"], "name")):
        done = futago(disks, *words)
        assert done.returncode in (1, 2) and culprit in done.stderr and done.stderr.count("\n") == 1, done
    assert "another name" in disks.refused(f"cache={disks.folder}/second", f"source={source.uri}", "name=web")

    source.kill()
    process.wait_for("news of the source", lambda: status_of(disks)["state"] == "no source")
    source.start()
    done = futago(disks, "detach", "web", "--wait", "60")
    assert done.returncode == 0 and "100.0 % complete" in done.stdout, done
    assert read_all(handle) == content
    handle.shutdown()
    assert disk.end() == 0
    assert futago(disks, "status", "web").returncode == 1
