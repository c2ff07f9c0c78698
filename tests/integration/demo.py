#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The demonstration: a guest outlives its host, twice, and the client at its one TCP connection does not notice."""
import sys
import time

from lab import load, paths
from lab.network import Lab, end_on_signals
from lab.vm import address, primary, standby

COUNT_BEFORE_KILL_S = 6.0
COUNT_AFTER_KILL_S = 4.0
PROGRESS_EVERY_S = 0.25


class Screen:
    """Numbered steps, and under the present one a progress line that is rewritten (or, not on a terminal, printed once a second)."""

    def __init__(self):
        self.began = time.monotonic()
        self.live = sys.stdout.isatty()
        self.width = 0
        self.last = 0.0

    def _clock(self):
        return f"{time.monotonic() - self.began:6.1f} s"

    def say(self, text):
        self._clear()
        print(f"{self._clock()}  {text}", flush=True)
        self.last = 0.0

    def progress(self, text):
        now = time.monotonic()
        if self.live:
            line = f"{self._clock()}    {text}"
            print("\r" + line.ljust(self.width), end="", flush=True)
            self.width = len(line)
        elif now - self.last >= 1.0:
            print(f"{self._clock()}    {text}", flush=True)
            self.last = now

    def _clear(self):
        if self.live and self.width:
            print("\r" + " " * self.width + "\r", end="")
            self.width = 0


class Demo:
    def __init__(self, lab, screen):
        self.lab, self.screen = lab, screen
        self.counter = None
        self.kills = []        # (time, host name)
        self.measures = []     # (primary's name, its status just before it died)

    def start(self):
        here, there = self.lab.hosts[0], self.lab.hosts[1]
        self.screen.say("three hosts (hostA, hostB, hostC) and a client, each a network namespace of this machine")
        backup = standby(there)
        self.screen.say(f"{there.name}: QEMU waits as the standby of 'vm'")
        active = primary(here)
        self.screen.say(f"{here.name}: guest booted: Debian cloud kernel, 256 MB, microvm, QEMU with futago.so")
        self.counter = load.Counter(self.lab.client)
        self.screen.say("client: counts over one TCP connection to the guest, which is not protected yet")
        self.protect(active, backup)
        return active, backup

    def protect(self, active, backup):
        active.protect(address(backup.host))
        status = active.wait_protected()
        self.screen.say(f"protected: {active.host.name} → {backup.host.name}, generation {status['generation']}; "
                        "nothing leaves the guest before its twin holds the state it came from")

    def watch(self, vm, seconds):
        """Shows for a while what happens; the counter must get on."""
        before, end = self.counter.count(), time.monotonic() + seconds
        taken, looked = vm.status()["checkpoints"], time.monotonic()
        while time.monotonic() < end:
            time.sleep(PROGRESS_EVERY_S)
            status, seen, now = vm.status(), self.counter.progress(), time.monotonic()
            rate, taken, looked = (status["checkpoints"] - taken) / (now - looked), status["checkpoints"], now
            state = f"epoch {status['epoch']}, {rate:.0f} checkpoints/s" if status["state"] == "protected" else "unprotected"
            self.screen.progress(f"{seen['n']} counted, {seen['lost']} lost, {seen['doubled']} doubled    "
                                 f"{vm.host.name}: {state}")
            if not self.counter.process.alive:
                raise RuntimeError(f"the counter ended: {self.counter.process.output()[-300:]}")
        if self.counter.count() <= before:
            raise RuntimeError("the counter stands still")

    def kill(self, active, backup):
        self.measures.append((active.host.name, active.status()))
        at = active.kill_qemu()
        self.kills.append((at, active.host.name))
        self.screen.say(f"{active.host.name}: kill -9 of its QEMU")
        status = backup.wait_running()
        self.screen.say(f"{backup.host.name}: goes on as generation {status['generation']}, "
                        f"running {status['takeover_us'] / 1000:.1f} ms after the arbiter's grant")
        self.watch(backup, COUNT_AFTER_KILL_S)

    def run(self):
        active, backup = self.start()
        self.watch(active, COUNT_BEFORE_KILL_S)
        self.kill(active, backup)
        third = standby(self.lab.hosts[2])
        self.screen.say(f"{third.host.name}: QEMU waits as the new standby")
        self.protect(backup, third)
        self.watch(backup, COUNT_BEFORE_KILL_S)
        self.kill(backup, third)
        result = self.counter.finish()
        self.screen.say("client: stops counting")
        return result

    def table(self, result):
        rows = [("transactions", result["transactions"]), ("lost", result["lost"]), ("doubled", result["doubled"]),
                ("the one connection", "lived" if result["alive"] else "broke")]
        for at, name in self.kills:
            rows.append((f"longest gap at the kill of {name}", f"{load.gap_after(result, at):.1f} ms"))
        for name, status in self.measures:
            rows += [(f"{name}: checkpoints", status["checkpoints"]),
                     (f"{name}: pause p50 / p99", microseconds(status["pause_us"])),
                     (f"{name}: commit p50 / p99", microseconds(status["commit_us"]))]
        width = max(len(name) for name, _ in rows)
        print()
        for name, value in rows:
            print(f"  {name.ljust(width)}  {value}")
        print()


def microseconds(pair):
    return f"{pair['p50']:.0f} / {pair['p99']:.0f} µs"


def good(result):
    return result["alive"] and result["exit"] == 0 and result["lost"] == 0 and result["doubled"] == 0 and \
        result["transactions"] > 0


def main():
    missing = paths.missing()
    if missing:
        sys.exit(f"demo: not built: {', '.join(missing)} (run ./dev build)")
    end_on_signals()
    lab = Lab()
    try:
        demo = Demo(lab, Screen())
        result = demo.run()
        demo.table(result)
        if not good(result):
            sys.exit("demo: failed: something was lost or doubled, or the connection broke")
    except (RuntimeError, TimeoutError, OSError) as error:
        sys.exit(f"\ndemo: failed: {error}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted")
    finally:
        lab.close()
    print("demo: ok")


if __name__ == "__main__":
    main()
