# SPDX-License-Identifier: GPL-2.0-or-later
"""The relocating disk and others: sources over TLS and bad ones, the order and limits of the copy, what its control tells, other
people's programs."""
import json
import os
import socket
import subprocess
import threading
import time
import xml.dom.minidom

import nbd
import pytest
from lab import process
from lab.certificates import make_authority, make_host, tool
from lab.nbd_disk import MB, Disks, client_of, content_of, free_port, futago, read_all, run, status_of, wait_complete

UNIT = 256 << 10  # what the copy fetches at once


@pytest.fixture
def disks(tmp_path):
    disks = Disks(tmp_path)
    yield disks
    disks.close()


# -- TLS to the source --

@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    root = tmp_path_factory.mktemp("keys with a space")
    for name in ("ours", "others"):
        make_authority(str(root / name))
        make_host(str(root / name), str(root / f"{name} host"), "localhost")
    for name in ("keys.psk", "wrong.psk"):
        tool("psktool", "--username", "futago", "--pskfile", str(root / name), "--keysize", "32")
    return root


def quoted(path):
    return str(path).replace(" ", "%20")


def tls_source(disks, keys, kind):
    """A source that answers nobody without TLS; what our URI has to say beyond its address, and what is refused."""
    port = free_port()
    how = [f"--tls-psk={keys}/keys.psk"] if kind == "psk" else [f"--tls-certificates={keys}/ours host", "--tls-verify-peer"]
    source = disks.add("source", "--readonly", "--tls=require", *how, "--ip-addr", "127.0.0.1", "--port", str(port), "file", disks.image,
                       tcp=f"127.0.0.1:{port}")
    if kind == "psk":
        return source, f"nbds://futago@localhost:{port}?tls-psk-file={quoted(keys)}/keys.psk", \
            f"nbds://futago@localhost:{port}?tls-psk-file={quoted(keys)}/wrong.psk"
    return source, f"nbds://localhost:{port}?tls-certificates={quoted(keys)}/ours%20host", \
        f"nbds://localhost:{port}?tls-certificates={quoted(keys)}/others%20host"


@pytest.mark.parametrize("kind", ["psk", "x509"])
def test_tls_to_the_source(disks, keys, kind):
    content = disks.make_image(content_of(41, 4))
    source, uri, wrong = tls_source(disks, keys, kind)
    for bad in (wrong, f"nbd://{source.tcp}"):
        said = disks.refused(f"cache={disks.folder}/other", f"source={bad}")
        assert f"source {bad}: " in said, said
    disk = disks.disk(uri, "rate=1", "adaptive=false", "wait=60", "name=web")
    handle = client_of(disk)
    assert handle.pread(4096, MB) == content[MB:MB + 4096]
    source.kill()  # it comes back, and TLS with it
    found = []
    thread = threading.Thread(target=lambda: found.append(bytes(client_of(disk).pread(4096, 2 * MB))))
    thread.start()
    process.wait_for("news of the source", lambda: status_of(disks)["state"] == "no source")
    source.start()
    thread.join()
    assert found == [content[2 * MB:2 * MB + 4096]]
    assert futago(disks, "rate", "web", "none").returncode == 0
    wait_complete(disk)
    source.kill()
    assert read_all(handle) == content


# -- sources that are none --

def serve_once(answer):
    """A TCP server that says the same to everybody; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    connection.sendall(answer)
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it did not like what it heard
    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20, b"", os.urandom(4096)], ids=["http", "nothing", "noise"])
def test_source_that_is_no_nbd_server(disks, answer):
    listener, port = serve_once(answer)
    cache = f"{disks.folder}/cache"
    try:
        said = disks.refused(f"cache={cache}", f"source=nbd://127.0.0.1:{port}")
    finally:
        listener.close()
    assert f"source nbd://127.0.0.1:{port}: " in said and len(said) < 400, said
    assert os.path.getsize(cache) == 0  # nothing was begun with


def test_source_that_has_nothing_or_not_that_export(disks):
    source = disks.add("source", "--readonly", "--exportname", "web", "memory", "size=0")
    assert "the source is empty" in disks.refused(f"cache={disks.folder}/a", f"source={source.uri}")
    port = free_port()
    disks.add("other", "--readonly", "--ip-addr", "127.0.0.1", "--port", str(port), "--filter=exportname", "memory", "size=1M", "exportname=web",
              "exportname-strict=true", tcp=f"127.0.0.1:{port}")
    other = f"nbd://127.0.0.1:{port}/mail"
    assert f"source {other}: " in disks.refused(f"cache={disks.folder}/b", f"source={other}")


def test_source_that_comes_back_with_another_size(disks):
    """What was read stays, the rest is not mixed with another disk's; the right one is taken again."""
    content = disks.make_image(content_of(42, 2, holes=False))
    source = disks.source()
    disk = disks.disk(source, "policy=none", "wait=1", "name=web")
    handle = client_of(disk)
    assert handle.pread(4096, 0) == content[:4096]
    source.kill()
    os.truncate(disks.image, MB)
    source.start()
    process.wait_for("its size was noticed", lambda: "it has 1048576 bytes now, and had 2097152" in status_of(disks)["reason"])
    assert status_of(disks)["state"] == "no source" and "FUT-301" in disk.output()
    with pytest.raises(nbd.Error):
        handle.pread(4096, 8192)
    assert handle.pread(4096, 0) == content[:4096]
    source.kill()
    disks.make_image(content)
    source.start()
    assert futago(disks, "detach", "web", "--wait", "60").returncode == 0
    assert read_all(handle) == content


# -- bad caches --

def test_cache_that_cannot_be_written(disks, tmp_path):
    disks.make_image(content_of(43, 1))
    source = disks.source()
    room = tmp_path / "read-only"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", room], check=True)
    try:
        (room / "cache").touch()
        subprocess.run(["mount", "-o", "remount,ro", room], check=True)
        said = disks.refused(f"cache={room}/cache", f"source={source.uri}")
        assert f"cannot open {room}/cache: Read-only file system: it must be writable" in said, said
    finally:
        subprocess.run(["umount", "-l", room], check=True)
    for path, culprit in ((disks.folder, "Is a directory"), ("/dev/null", "neither a regular file nor a block device")):
        assert culprit in disks.refused(f"cache={path}", f"bitmap={disks.folder}/b", f"source={source.uri}")


def test_bitmap_has_no_room(disks, tmp_path):
    """All its room is taken at the start: later a full disk must not keep it from being written."""
    disks.make_image(content_of(44, 1))
    source = disks.source()
    room = tmp_path / "small"
    room.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", room], check=True)
    try:
        said = disks.refused(f"cache={disks.folder}/cache", f"bitmap={room}/bitmap", f"source={source.uri}")
        assert "cannot make room for the bitmap: No space left" in said, said
    finally:
        subprocess.run(["umount", "-l", room], check=True)


# -- order and limits of the copy --

@pytest.mark.parametrize("policy, order", [("sequential", [0, 1, 2]), ("hot-first", [26, 9, 0])])
def test_order_of_the_copy(disks, policy, order):
    content = disks.make_image(content_of(45, 8, holes=False))
    source = disks.source("--filter=log", f"logfile={disks.folder}/reads", threads=1)  # takes what it is asked for in order
    disk = disks.disk(source, f"policy={policy}", "rate=1", "adaptive=false", "name=web")
    handle = client_of(disk)
    handle.pwrite(b"\1" * 4096, 9 * UNIT)  # written places are not hot: nothing is missing there that was wanted
    for unit in (9, 26):
        assert handle.pread(4096, unit * UNIT + 8192) == content[unit * UNIT + 8192:unit * UNIT + 12288]
    assert futago(disks, "rate", "web", "none").returncode == 0
    wait_complete(disk)
    # Units 9 and 26 are broken by what is here already: their pieces are told by where they begin.
    begun = [offset // UNIT for offset, length in disks.read_log("reads") if length > 4096]
    assert list(dict.fromkeys(begun))[:3] == order, begun
    assert sorted(set(begun)) == list(range(32))


def test_idle_only_waits_for_the_vm(disks):
    content = disks.make_image(content_of(46, 2, holes=False))
    disk = disks.disk(disks.source(), "policy=idle-only", "rate=1", "adaptive=false", "name=web")
    handle = client_of(disk)
    assert handle.pread(4096, 0) == content[:4096]
    # The rate goes while reads come all the time; a machine that stood still for half a second proves nothing, and it is tried again.
    for _ in range(20):
        before, longest, last = status_of(disks)["copied"], 0, time.monotonic()
        handle.pread(4096, 0)
        assert futago(disks, "rate", "web", "64K").returncode == 0
        for _ in range(60):
            handle.pread(4096, 0)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            time.sleep(0.02)
        if longest < 0.3:
            break
    else:
        pytest.fail("reads could not be made often enough")
    assert status_of(disks)["copied"] == before
    assert futago(disks, "rate", "web", "none").returncode == 0
    wait_complete(disk)


def test_rate_is_kept(disks):
    disks.make_image(content_of(47, 4, holes=False))
    start = time.monotonic()
    disk = disks.disk(disks.source(), "rate=3M")
    wait_complete(disk)
    assert time.monotonic() - start > 1.1  # 4 MiB, of which some may come in one burst


# -- what control tells --

KEYS = {"disk", "state", "reason", "source", "size", "here", "share", "policy", "adaptive", "rate_limit", "rate", "copy_rate", "demand_rate",
        "left_s", "age_s", "hit_ratio", "reads", "read_misses", "writes", "flushes", "fetches", "fetch_ms", "fetched", "copied", "holes",
        "partial_blocks", "window", "under_way", "store_errors"}


def test_status_is_complete_and_the_curve_is_drawn(disks):
    disks.make_image(content_of(48, 4, holes=False))
    source = disks.source()
    disk = disks.disk(source, "rate=1", "adaptive=false", "name=web")
    handle = client_of(disk)
    handle.pread(65536, 0)
    handle.pread(65536, 0)
    handle.pwrite(b"\2" * 512, MB)
    handle.flush()
    now = status_of(disks)
    assert set(now) == KEYS
    assert (now["source"], now["reads"], now["read_misses"], now["hit_ratio"], now["writes"], now["flushes"]) == (source.uri, 2, 1, 0.5, 1, 2)
    assert (now["fetches"], now["fetched"], now["partial_blocks"], now["here"]) == (1, 65536, 1, 65536)
    assert now["left_s"] is None or now["left_s"] > 0
    assert futago(disks, "rate", "web", "8M").returncode == 0
    curve = f"{disks.folder}/curve.svg"
    done = futago(disks, "status", "web", "--watch", "--plot", curve)
    assert done.returncode == 0 and "100.0 % complete" in done.stdout, done
    now = status_of(disks)
    assert (now["state"], now["share"], now["left_s"], now["rate"], now["source"]) == ("complete", 1.0, 0.0, 0, "")
    with xml.dom.minidom.parse(curve) as picture:
        points = picture.getElementsByTagName("polyline")[0].getAttribute("points").split()
        assert "web: share of the disk that is here" in picture.documentElement.toxml()
    heights = [float(point.split(",")[1]) for point in points]
    assert len(points) > 3 and heights == sorted(heights, reverse=True) and heights[0] > heights[-1] == 44.0
    for words, culprit in ((["status", "web", "--plot", "curve.png"], ".svg"), (["status", "--plot", curve], "of which disk"),
                           (["status", "web", "--plot", f"{disks.folder}/no/such.svg"], "no/such.svg")):
        done = futago(disks, *words)
        assert done.returncode in (1, 2) and culprit in done.stderr and done.stderr.count("\n") == 1, done
    handle.shutdown()


# -- other people's programs --

def test_fio_writes_and_verifies(disks):
    """fio's NBD engine over four connections, with checksums of its own, while the copy runs; verified again on what is here at the end."""
    disks.make_image(content_of(49, 32))
    source = disks.source("--filter=delay", "rdelay=2ms")
    disk = disks.disk(source, "rate=16M")
    words = ["fio", "--thread", "--ioengine=nbd", "--name=job", "--numjobs=4", "--size=8m", "--offset_increment=8m", "--rw=randwrite", "--randseed=7",
             "--bsrange=512-64k", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1",
             "--verify_state_save=0", "--output-format=json"]

    def jobs_of(*more):
        said = run(*words, *more, f"--uri={disk.uri}")
        return json.loads(said[said.index("{"):])["jobs"]
    done = jobs_of()
    assert sum(job["write"]["total_ios"] for job in done) > 500 and all(job["error"] == 0 for job in done)
    wait_complete(disk)
    source.kill()
    assert all(job["error"] == 0 for job in jobs_of("--verify_only=1"))


def test_connections_and_promises(disks):
    """What nbdinfo reads from the handshake: several connections, flush, FUA, trim, zero, block sizes."""
    disks.make_image(content_of(50, 2))
    disk = disks.disk(disks.source(), "policy=none")
    told = json.loads(run("nbdinfo", "--json", disk.uri))["exports"][0]
    for promise in ("can_multi_conn", "can_flush", "can_fua", "can_trim", "can_zero", "can_cache"):
        assert told[promise] is True, (promise, told)
    assert told["is_read_only"] is False and told["block_size_preferred"] == 4096 and told["export-size"] == 2 * MB


def test_nbdcopy_brings_a_disk_in(disks):
    """A write of the whole disk asks the source for nothing."""
    disks.make_image(content_of(51, 8, holes=False))
    other = content_of(52, 8)
    with open(f"{disks.folder}/other", "wb") as handle:
        handle.write(other)
    source = disks.source("--filter=log", f"logfile={disks.folder}/reads")
    disk = disks.disk(source, "policy=none", "name=web")
    run("nbdcopy", "--connections=4", f"{disks.folder}/other", disk.uri)
    assert disks.read_log("reads") == []
    wait_complete(disk)
    assert read_all(client_of(disk)) == other
