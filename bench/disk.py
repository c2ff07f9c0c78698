# SPDX-License-Identifier: GPL-2.0-or-later
"""Case disk: a disk that is elsewhere, 20 ms and 1 Gbit/s away. Futago's relocating disk, and what else one could do."""
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

import disk_guest
import plots
from lab import paths, process
from lab.nbd_disk import free_port, wait_complete
from lab.nbd_disk import Disks as Folder
from lab.qmp import Qmp

NAME = "disk"
TITLE = "A disk that is elsewhere"
ABOUT = ("The source is 20 ms of round trip and 1 Gbit/s away; half of its 1 GiB are holes. 4 KiB requests by fio. Foreground figures are those of "
         "400 requests a second, seven in ten of them reads, while the disk is being brought here.")
IN_CORE = False
SIZE, DATA, PIECE = 1 << 30, 512 << 20, 1 << 20  # the second half is a hole
ONE_WAY_US, MBIT = 10000, 1000
WARM = 64 << 20  # bytes that are here already when what is here is read
GIVE_UP_S = 60   # a disk that is not here by then
IN_TIME_S = 660  # no round begins that would not end by then, and nothing that is not the relocating disk's own


class Site:
    """The source behind its long wire. Every measure begins with an empty cache in a folder of its own."""

    def __init__(self, effort):
        self.folder, self.effort, self.children = tempfile.mkdtemp(prefix="futago-disk-"), effort, []
        self.image = os.path.join(self.folder, "source.img")
        self.number = 0
        with open(self.image, "wb") as handle:
            handle.truncate(SIZE)
            for _ in range(DATA // PIECE):
                handle.write(os.urandom(PIECE))
        self.uri = self.far_away(self.image)

    def far_away(self, image):
        """The URI of that image behind the long wire."""
        near, far = free_port(), free_port()
        self.spawn("nbdkit", "--foreground", "--readonly", "--threads", "64", "--ip-addr", "127.0.0.1", "--port", str(near), "file", image)
        self.wait_for_source(f"nbd://127.0.0.1:{near}")  # the wire gives up when nobody listens behind it
        self.spawn(paths.FUT_DELAY, "127.0.0.1", str(far), "127.0.0.1", str(near), str(ONE_WAY_US), str(MBIT))
        uri = f"nbd://127.0.0.1:{far}"
        self.wait_for_source(uri)
        return uri

    @staticmethod
    def wait_for_source(uri):
        process.wait_for(f"the source at {uri}", lambda: subprocess.run(["nbdinfo", "--size", uri], capture_output=True, check=False).returncode == 0)

    def spawn(self, *words):
        self.children.append(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL, env=process.environment()))
        return self.children[-1]

    def room(self):
        self.number += 1
        path = os.path.join(self.folder, str(self.number))
        os.mkdir(path)
        return path

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# -- those that are compared: each gives a URI, may bring the rest, and knows when it is done --

class Futago:
    """The relocating disk."""
    brings = writes = True
    name = "futago"

    def __init__(self, site, copy):
        self.disks = Folder(site.room())
        self.server = self.disks.disk(site.uri, f"policy={'hot-first' if copy else 'none'}", "name=bench")
        self.uri = self.server.uri

    def bring(self):
        wait_complete(self.server, GIVE_UP_S / process.PATIENCE)

    def share(self):
        env = {**process.environment(), "FUTAGO_RUNDIR": self.disks.rundir}
        done = subprocess.run([paths.FUTAGO, "disk", "status", "bench", "--json"], capture_output=True, check=True, env=env)
        return json.loads(done.stdout)["share"]

    def close(self):
        self.disks.close()


class Filter:
    """nbdkit's nbd plugin under one of its filters. What is brought is temporary."""
    brings = writes = True
    words = ()

    def __init__(self, site, copy):
        self.disks = Folder(site.room())
        self.server = self.disks.add("peer", *self.words[:1], "nbd", f"uri={site.uri}", *self.words[1:])
        self.uri = self.server.uri

    def bring(self):
        subprocess.run(["nbdcopy", "--requests=16", self.uri, "null:"], check=True, timeout=GIVE_UP_S)

    def close(self):
        self.disks.close()


class Cow(Filter):
    """nbdkit's cow filter with blocks of 4 KiB."""
    name, words = "nbdkit-cow", ("--filter=cow", "cow-block-size=4096", "cow-on-read=true")


class Cache(Filter):
    """nbdkit's cache filter. It makes a round trip for each of its blocks, one after the other: nobody would bring a disk with it."""
    brings = writes = False  # it hands writes on to the source
    name, words = "nbdkit-cache", ("--filter=cache", "cache-on-read=true")


class Overlay:
    """QEMU: a qcow2 overlay over the source that keeps what is read, and block-stream."""
    brings = writes = True
    name = "qemu-overlay"

    def __init__(self, site, copy):
        self.site, room = site, site.room()
        overlay, self.monitor, nbd = (os.path.join(room, name) for name in ("overlay", "qmp", "nbd"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", site.uri, overlay], check=True)
        self.process = site.spawn("qemu-storage-daemon", "--chardev", f"socket,id=m,path={self.monitor},server=on,wait=off",
                                  "--monitor", "chardev=m", "--blockdev",
                                  f"driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={overlay}",
                                  "--blockdev", "driver=copy-on-read,node-name=keeping,file=disk",
                                  "--nbd-server", f"addr.type=unix,addr.path={nbd}",
                                  "--export", "type=nbd,id=e,node-name=keeping,name=,writable=on")
        self.uri = f"nbd+unix:///?socket={nbd}"
        process.wait_for("qemu-storage-daemon", lambda: os.path.exists(nbd))

    def bring(self):
        qmp = Qmp(self.monitor)
        answer = qmp.command("block-stream", **{"job-id": "stream", "device": "disk", "auto-dismiss": False})
        if "error" in answer:
            raise RuntimeError(f"block-stream: {answer}")

        def ended():
            jobs = qmp.command("query-jobs")["return"]
            return any(job["id"] == "stream" and job["status"] == "concluded" for job in jobs)
        process.wait_for("block-stream", ended, GIVE_UP_S / process.PATIENCE, 0.05)
        qmp.close()

    def close(self):
        self.process.kill()
        self.process.wait()


RIVALS = (Futago, Cow, Cache, Overlay)


# -- load --

def fio_words(uri, name, seconds, *words):
    return ["setpriv", "--pdeathsig", "KILL", "fio", "--thread", f"--name={name}", "--ioengine=nbd", f"--uri={uri}", "--bs=4k", "--time_based", f"--runtime={seconds}",
            "--output-format=json", "--randrepeat=0", "--norandommap", *words]


def fio(uri, seconds, *words):
    done = subprocess.run(fio_words(uri, "job", seconds, *words), capture_output=True, text=True, check=False, timeout=seconds + 120)
    if done.returncode:
        raise RuntimeError(f"fio: {done.stderr or done.stdout}")
    return json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]


def mean_ms(part):
    return part["clat_ns"]["mean"] / 1e6


def uncached(site, rival, seconds):
    """Reads and writes of what is not here, where the source has data: a hole would be cheap."""
    found = {}
    for figure, words in (("uncached_read_qd1_ms", ("--rw=randread", "--iodepth=1")), ("uncached_read_qd32_iops", ("--rw=randread", "--iodepth=32")),
                          ("uncached_write_qd1_iops", ("--rw=randwrite", "--iodepth=1")),
                          ("uncached_write_qd32_iops", ("--rw=randwrite", "--iodepth=32"))):
        if "write" in figure and not rival.writes:
            continue
        disk = rival(site, False)
        try:
            job = fio(disk.uri, seconds, *words, f"--size={DATA}")
            part = job["read" if "read" in figure else "write"]
            found[f"disk.{figure}"] = mean_ms(part) if figure.endswith("ms") else part["iops"]
        finally:
            disk.close()
    return found


def beside(site, rival, seconds):
    """Reads of what is here: alone, and beside eight readers of what is not."""
    disk = rival(site, False)
    here = ("--rw=randread", "--iodepth=1", f"--size={WARM}")
    try:
        subprocess.run(["fio", "--thread", "--name=warm", "--ioengine=nbd", f"--uri={disk.uri}", "--rw=read", "--bs=1m", "--iodepth=8", f"--size={WARM}"],
                       check=True, stdout=subprocess.DEVNULL, timeout=120)
        alone = fio(disk.uri, seconds, *here)["read"]["iops"]
        other = subprocess.Popen(fio_words(disk.uri, "other", seconds + 2, "--rw=randread", "--iodepth=8", f"--offset={WARM}",
                                           f"--size={DATA - WARM}"), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        time.sleep(1)
        both = fio(disk.uri, seconds, *here)["read"]["iops"]
        other.wait(60)
        return {"disk.cached_read_iops": alone, "disk.cached_beside_uncached_ratio": both / alone}
    finally:
        disk.close()


def relocate(site, rival, loaded):
    """Seconds until everything is here; with `loaded` also what the foreground saw."""
    start, load = time.monotonic(), None
    disk = rival(site, True)
    try:
        load = subprocess.Popen(fio_words(disk.uri, "vm", GIVE_UP_S, "--rw=randrw", "--rwmixread=70", "--iodepth=8", "--rate_iops=280,120",
                                          "--rate_process=poisson"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) if loaded else None
        disk.bring()
        took = time.monotonic() - start
        if not loaded:
            return {"disk.relocate_idle_s": took}
        load.send_signal(2)  # fio ends and reports
        out = load.communicate(timeout=60)[0]
        job = json.loads(out[out.index("{"):])["jobs"][0]
        return {"disk.relocate_loaded_s": took, "disk.fg_read_ms": mean_ms(job["read"]), "disk.fg_write_ms": mean_ms(job["write"])}
    finally:
        if load and load.poll() is None:
            load.kill()
            load.wait()
        disk.close()


def relocate_in_time(site, rival, loaded, say):
    """Nothing for a rival that takes too long."""
    try:
        return relocate(site, rival, loaded)
    except (TimeoutError, subprocess.TimeoutExpired):
        say(f"{rival.name}: not here after {GIVE_UP_S} s{' under load' if loaded else ''}")
        return {}


def plain_copy(site):
    """The disk is copied first, and nothing can be done with it meanwhile."""
    start = time.monotonic()
    target = os.path.join(site.room(), "copy")
    subprocess.run(["nbdcopy", site.uri, target], check=True, timeout=GIVE_UP_S)
    with open(target, "rb") as handle:
        os.fsync(handle.fileno())
    os.unlink(target)
    return {"disk.relocate_idle_s": time.monotonic() - start}


def cached_curve(site, rival):
    """[[seconds, share]] of a relocation under load."""
    disk, points, start = rival(site, True), [], time.monotonic()
    bringer = threading.Thread(target=disk.bring, daemon=True)
    bringer.start()
    try:
        load = subprocess.Popen(fio_words(disk.uri, "vm", GIVE_UP_S, "--rw=randrw", "--rwmixread=70", "--iodepth=8", "--rate_iops=280,120"),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not points or points[-1][1] < 1:
            points.append((time.monotonic() - start, disk.share()))
            time.sleep(0.1)
            if points[-1][0] > GIVE_UP_S:
                raise TimeoutError("the disk is not here in time")
        load.kill()
        load.wait()
        bringer.join(10)
        return points
    finally:
        disk.close()


def compile_job(lab, site, say):
    """The job on the same disk: all here, and while it comes here."""
    trouble = disk_guest.missing()
    if trouble:
        say(f"no compile job: {trouble}")
        return {}
    image, took = disk_guest.make_disk(site.room()), {}
    for place, uri in (("relocating", site.far_away(image)), ("local", None)):
        disks = Folder(site.room())
        disks.cache = disks.cache if uri else image  # what it writes there goes with it
        try:
            took[place] = disk_guest.compile_on(lab, disks.disk(uri).socket)
        finally:
            disks.close()
        say(f"compile job, {place}: {took[place]:.1f} s")
    return {"disk.compile_local_s": took["local"], "disk.compile_s": took["relocating"], "disk.compile_slowdown": took["relocating"] / took["local"]}


def one_rival(site, rival, seconds, say):
    values = {**uncached(site, rival, seconds), **beside(site, rival, seconds)}
    for loaded in (False, True) if rival.brings else ():
        values.update(relocate_in_time(site, rival, loaded, say))
    return values


def one_round(site, effort, found, say, label):
    def keep(name, values):
        for key, value in values.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)
        say(f"{label}, {name}: " + ", ".join(f"{key[5:]} {value:.4g}" for key, value in values.items()))
    for rival in effort.of(RIVALS):
        keep(rival.name, one_rival(site, rival, 1 if effort.quick else 3, say))
    if not effort.quick:
        keep("copy-first", plain_copy(site))


def guests(lab, site, found, say):
    figures = found["futago"]
    for key, value in compile_job(lab, site, say).items():
        figures.setdefault(key, []).append(value)
    downtime, took = disk_guest.move(lab)
    say(f"futago relocate: {took:.1f} s, the client's longest wait {downtime:.1f} ms")
    figures["disk.move_gap_ms"], figures["disk.move_s"] = [downtime], [took]


def run(lab, effort, say):
    """Rounds until they are enough, or the time is over."""
    begun, site, found, longest = time.monotonic(), Site(effort), {}, 0.0
    try:
        for number in range(effort.repeats):
            started = time.monotonic()
            if number and started - begun + longest > IN_TIME_S:
                say(f"{number} rounds: there is no time for more")
                break
            one_round(site, effort, found, say, f"round {number + 1} of {effort.repeats}")
            longest = max(longest, time.monotonic() - started)
        curve = cached_curve(site, Futago)
        found["futago"]["disk.curve_s"] = [at for at, _ in curve]
        found["futago"]["disk.curve_share"] = [share for _, share in curve]
        if not effort.quick:
            guests(lab, site, found, say)  # last: the laboratory's reset ends the site's servers, too
    finally:
        site.close()
    return found


def plot(folder, result):
    samples = result["samples"]["futago"]
    return [plots.lines(folder, "disk-curve", "Share of the disk that is here, under 400 requests a second", "s", "share",
                        samples["disk.curve_s"], {"futago": samples["disk.curve_share"]})]
