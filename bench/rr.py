# SPDX-License-Identifier: GPL-2.0-or-later
"""Case rr: what protection costs a service that answers requests. Stock QEMU and a protected pair in turn."""
import statistics

from lab import load
from lab.vm import StockVm, pair

NAME = "rr"
CONNECTIONS = (1, 32)


def unprotected(lab, machine, effort):
    """One fresh guest in stock QEMU; {connections: transactions a second}."""
    StockVm(lab.hosts[0], machine).wait_ready()
    rates = {n: load.rr(lab.client, n, effort.seconds)["tps"] for n in CONNECTIONS}
    lab.reset()
    return rates


def protected(lab, machine, effort):
    """One fresh pair, counted only once it is protected."""
    active, _ = pair(lab, machine)
    rates = {}
    for n in CONNECTIONS:
        rates[n] = load.rr(lab.client, n, effort.seconds)["tps"]
        status = active.status()
        if status["state"] != "protected":
            raise RuntimeError(f"protection was lost while measuring: {status['reason']}")
    lab.reset()
    return rates


def run(lab, machine, effort, say):
    """Figures of one configuration."""
    stock, twin = [], []
    for number in range(effort.repeats):
        stock.append(unprotected(lab, machine, effort))
        twin.append(protected(lab, machine, effort))
        say(f"{NAME} {number + 1}/{effort.repeats}: " + ", ".join(
            f"{n} conn {twin[-1][n]:.0f} of {stock[-1][n]:.0f}/s" for n in CONNECTIONS))
    figures = {f"rr.ratio_{n}conn": round(statistics.median(t[n] / s[n] for s, t in zip(stock, twin)), 3) for n in CONNECTIONS}
    for kind, rates in (("unprotected", stock), ("protected", twin)):
        for n in CONNECTIONS:
            key = f"rr.{kind}_tps" + ("" if n == 1 else f"_{n}conn")
            figures[key] = round(statistics.median(r[n] for r in rates))
    return figures
