# SPDX-License-Identifier: GPL-2.0-or-later
"""Case probe: how fast a failure inside a guest is known, by probes and by polling; what probes cost."""
import random
import statistics
import threading
import time

import plots
from lab import load
from lab.machine import Machine
from lab.process import wait_for
from lab.vm import primary

NAME = "probe"
TITLE = "Failures inside a guest"
ABOUT = ("A service of the guest dies of SIGSEGV; a process eats all memory. Known by probes, and by monitors that ask the service every second and "
         "every ten, all in one run. The fault's time is the guest's time-stamp counter read by the instruction before it, put on the host's clock by "
         "asking for that counter many times, the quickest answer counting. Cost: the same work without probes and with all shipped ones in (cold), or "
         "one on its way (hot), in pairs.")
IN_CORE = False  # a monitor that asks every ten seconds takes its time
MACHINE = Machine(memory_mb=128)
CRASH, SERVICE = 7008, 7990
CLOCK_ASKS = 300
TSC_MASK = (1 << 40) - 1  # what of the counter is in the address
POLLS_S = (10.0, 1.0)
POLL_TIMEOUT_S = 1.0
SETTLE_S = 0.5
FAST_ROUNDS, OOM_ROUNDS = 30, 10
# Pairs of short runs: what the machine does beside is about the same in both of a pair.
COST_PAIRS, COLD_CALLS, HOT_CALLS, WARM_CALLS = 60, 100000, 20000, 5000
# On a slow machine there are fewer rounds, so that all of it ends within four minutes.
FAST_S, POLL_S, OOM_S, COST_S = 30, 80, 30, 60
SHIPPED = ("died", "oops", "panic", "warning", "kernel-fault", "hung-task", "soft-lockup", "rcu-stall", "io-error", "ext4-error", "ext4-readonly",
           "disk-full", "reboot", "poweroff", "listen-overflow", "segv", "oom")


def within(limit_s, rounds):
    """Numbers of rounds, as long as there is time for another; one in any case."""
    begin = time.time()
    for number in range(rounds):
        if number and time.time() - begin >= limit_s:
            return
        yield number


class Guest:
    """Orders to the guest's service of failures, over one connection."""

    def __init__(self, client):
        self.connection = load.Connection(client, CRASH, timeout=60)

    def order(self, line):
        answer = self.connection.order(line)
        if not answer.startswith("OK"):
            raise RuntimeError(f"{line}: {answer}")
        return [int(word) for word in answer.split()[1:]]

    def clock(self):
        """(the host's time, the guest's counter then, how far that may be off), from the quickest of many questions."""
        def ask():
            before = time.time()
            counter, = self.order("CLOCK")
            after = time.time()
            return after - before, (before + after) / 2, counter
        took, at, counter = min(ask() for _ in range(CLOCK_ASKS))
        return at, counter, took / 2


class Watch(threading.Thread):
    """What `futago probe watch` gets, each record with the time when it was here."""

    def __init__(self, vm):
        super().__init__(daemon=True)
        self.control = vm.control(timeout=None)
        self.control.call("probe-watch")
        self.seen = []
        self.start()

    def run(self):
        try:
            while True:
                record = self.control.read()
                self.seen.append((time.time(), record))
        except (OSError, ValueError):
            pass

    def wait(self, since, probe):
        """The first record of that probe after a number of others: (when it was here, the record)."""
        def found():
            return next((each for each in self.seen[since:] if each[1].get("probe") == probe), None)
        return wait_for(f"a record of {probe}", found, 30)


class Monitor(threading.Thread):
    """Asks the service every so often, as a cluster manager's monitor does, and notes when it found it dead."""

    def __init__(self, client, every_s):
        super().__init__(daemon=True)
        self.client, self.every_s, self.dead, self.ending = client, every_s, [], threading.Event()
        self.start()

    def alive(self):
        try:
            connection = load.Connection(self.client, SERVICE, timeout=POLL_TIMEOUT_S)
            connection.socket.sendall(b"P")
            answer = connection.socket.recv(1)
            connection.close()
            return answer == b"P"
        except (OSError, TimeoutError):
            return False

    def run(self):
        at = time.time()
        while not self.ending.wait(max(at - time.time(), 0)):
            if not self.alive():
                self.dead.append(time.time())
            at += self.every_s


def crash_service(lab):
    """The service dies of bad memory access."""
    try:
        load.Connection(lab.client, SERVICE, timeout=5).socket.sendall(b"X")
    except OSError:
        pass


class Clock:
    """The guest's counter on the host's clock, between two looks at it."""

    def __init__(self, first, last):
        (self.at, self.counter, error), (at, counter, last_error) = first, last
        self.hz = (counter - self.counter) / (at - self.at)
        self.error_s = max(error, last_error)

    def time_of(self, address, near):
        """Host time of a fault at that address, which is the one closest to `near`."""
        expected = self.counter + (near - self.at) * self.hz
        low = (address & TSC_MASK) - int(expected) & TSC_MASK
        return near + (low - (TSC_MASK + 1 if low > TSC_MASK // 2 else 0)) / self.hz


def segv_rounds(lab, guest, watch, rounds):
    """[(when it was here, the record)]"""
    found = []
    for _ in within(FAST_S, rounds):
        guest.order(f"SERVE webserver {SERVICE}")
        before = len(watch.seen)
        crash_service(lab)
        found.append(watch.wait(before, "segv"))
        time.sleep(SETTLE_S)  # until it is gone altogether
    return found


def poll_rounds(lab, guest, watch, rounds, say):
    """The same with monitors beside it: each found record with {period: when that monitor knew}."""
    found = []
    for number in within(POLL_S, rounds):
        guest.order(f"SERVE webserver {SERVICE}")
        monitors = {every: Monitor(lab.client, every) for every in POLLS_S}
        time.sleep(random.uniform(0.5, 0.5 + max(POLLS_S)))
        for monitor in monitors.values():
            monitor.dead.clear()
        before = len(watch.seen)
        crash_service(lab)
        record = watch.wait(before, "segv")
        for monitor in monitors.values():
            wait_for("every monitor knows", lambda monitor=monitor: monitor.dead, 60)
            monitor.ending.set()
        found.append(record + ({every: monitor.dead[0] for every, monitor in monitors.items()},))
        say(f"polling {number + 1}/{rounds}: " + ", ".join(f"every {every:g} s {monitor.dead[0] - record[0]:.2f} s" for every, monitor in monitors.items()))
        for monitor in monitors.values():
            monitor.join()
        time.sleep(SETTLE_S)
    return found


def oom_rounds(guest, watch, rounds):
    """(ms from the kernel's out_of_memory() to the reader, ms from the reader's knowing to the victim's end)"""
    known, ahead = [], []
    for _ in within(OOM_S, rounds):
        before = len(watch.seen)
        guest.order("EAT glutton")
        here, _ = watch.wait(before, "oom")
        _, begins = watch.wait(before, "begins")
        _, died = watch.wait(before, "died")
        known.append(1e3 * (here - begins["time"]))
        ahead.append(1e3 * (died["time"] - here))
    return known, ahead


def timed_calls(guest, calls):
    """Seconds for that many system calls, once their code is translated."""
    guest.order(f"GETPPID {WARM_CALLS}")
    begin = time.monotonic()
    guest.order(f"GETPPID {calls}")
    return time.monotonic() - begin


def add(vm, *words):
    vm.host.futago("probe", "add", vm.name, *words)


def remove(vm, *names):
    for name in names:
        vm.host.futago("probe", "remove", vm.name, name)


def cost_rounds(guest, vm, names, calls, rounds):
    """Seconds for the same system calls, [(without these probes, with them)]; which of a pair comes first is drawn."""
    control, found = vm.control(), []

    def with_probes():
        for name in names:
            control.call("probe-enable", name=name)
        took = timed_calls(guest, calls)
        for name in names:
            control.call("probe-disable", name=name)
        return took

    for _ in within(COST_S / 2, rounds):
        if random.random() < 0.5:
            found.append((timed_calls(guest, calls), with_probes()))
        else:
            took = with_probes()
            found.append((timed_calls(guest, calls), took))
    control.close()
    return found


def ratio_of_medians(pairs):
    without, with_probes = zip(*pairs)
    return statistics.median(with_probes) / statistics.median(without)


def interval(pairs, draws=2000):
    """Where the ratio of medians is with a probability of 95 %, by drawing from the pairs again and again."""
    random.seed(1)
    found = sorted(ratio_of_medians(random.choices(pairs, k=len(pairs))) for _ in range(draws))
    return found[draws * 25 // 1000], found[draws * 975 // 1000]


def cost(guest, vm, rounds):
    for name in SHIPPED:
        add(vm, name, "--disabled")
    add(vm, "kprobe:__x64_sys_getppid /pid == 1/", "--name", "hot", "--disabled")
    cold = cost_rounds(guest, vm, SHIPPED, COLD_CALLS, rounds)
    hot = cost_rounds(guest, vm, ("hot",), HOT_CALLS, rounds)
    low, high = interval(cold)
    return {"probe.cold_overhead": ratio_of_medians(cold) - 1, "probe.cold_overhead_low": low - 1, "probe.cold_overhead_high": high - 1,
            "probe.cold_pairs": len(cold), "probe.call_ns": [1e9 * without / COLD_CALLS for without, _ in cold],
            "probe.hot_ns": [1e9 * (took - without) / HOT_CALLS for without, took in hot]}


def milliseconds(values):
    return [1e3 * value for value in values]


def detection(lab, vm, guest, effort, say):
    add(vm, "segv")
    watch = Watch(vm)
    first = guest.clock()
    segv_rounds(lab, guest, watch, 3)  # what the guest's kernel does then was translated once
    fast = segv_rounds(lab, guest, watch, 3 if effort.quick else FAST_ROUNDS)
    slow = poll_rounds(lab, guest, watch, 1 if effort.quick else 2 * effort.repeats, say)
    clock = Clock(first, guest.clock())
    def fault(record):
        return clock.time_of(int(record["fields"]["address"], 16), record["time"])
    known = milliseconds(here - fault(record) for here, record in fast)
    figures = {"probe.sigsegv_ms_p50": known, "probe.sigsegv_ms_max": max(known),
               "probe.sigsegv_guest_ms": milliseconds(record["time"] - fault(record) for _, record in fast),
               "probe.sigsegv_to_reader_ms": milliseconds(here - record["time"] for here, record in fast),
               "probe.clock_error_ms": 1e3 * clock.error_s}
    for every in POLLS_S:
        found = milliseconds(dead[every] - fault(record) for _, record, dead in slow)
        figures[f"probe.poll{every:g}s_ms"] = found
        figures[f"probe.poll{every:g}s_ms_mean"] = statistics.mean(found)
        figures[f"probe.poll{every:g}s_ms_max"] = max(found)
    figures["probe.sigsegv_beside_polling_ms"] = milliseconds(here - fault(record) for here, record, _ in slow)
    add(vm, "oom")
    add(vm, "died")
    add(vm, "kprobe:out_of_memory { order=oc->order }", "--name", "begins")
    oom, ahead = oom_rounds(guest, watch, 1 if effort.quick else OOM_ROUNDS)
    figures.update({"probe.oom_ms_p50": oom, "probe.oom_ms_max": max(oom), "probe.oom_before_death_ms": ahead})
    remove(vm, "segv", "oom", "died", "begins")
    say(f"SIGSEGV {statistics.median(known):.2f} ms, OOM {statistics.median(oom):.2f} ms, clock ±{1e3 * clock.error_s:.3f} ms")
    return figures


def run(lab, effort, say):
    vm = primary(lab.hosts[0], MACHINE)
    guest = Guest(lab.client)
    figures = detection(lab, vm, guest, effort, say)
    figures.update(cost(guest, vm, 4 if effort.quick else COST_PAIRS))
    say(f"cold {figures['probe.cold_overhead']:.2%} ({figures['probe.cold_overhead_low']:.2%} to {figures['probe.cold_overhead_high']:.2%}), "
        f"hot {statistics.median(figures['probe.hot_ns']):.0f} ns a hit")
    return {f"{MACHINE.kind}-{MACHINE.memory_mb}": figures}


def plot(folder, result):
    name = next(each for each in result["configurations"] if "probe.sigsegv_ms_p50" in result[each])
    figures, samples = result[name], result["samples"][name]
    ways = ["polling, 10 s", "polling, 1 s", "probe"]
    means = [statistics.mean(samples[key]) / 1e3 for key in ("probe.poll10s_ms", "probe.poll1s_ms", "probe.sigsegv_beside_polling_ms")]
    worst = [max(samples[key]) / 1e3 for key in ("probe.poll10s_ms", "probe.poll1s_ms", "probe.sigsegv_beside_polling_ms")]
    steps = ["SIGSEGV: fault → record", "SIGSEGV: fault → reader", "OOM: out_of_memory() → reader"]
    values = [figures["probe.sigsegv_guest_ms"], figures["probe.sigsegv_ms_p50"], figures["probe.oom_ms_p50"]]
    return [plots.bars(folder, "probe-detection", "From the fault of a service to somebody's knowing", "seconds", ways, {"mean": means, "longest": worst}),
            plots.bars(folder, "probe-steps", "Known by probe, medians", "ms", steps, {"median": values})]
