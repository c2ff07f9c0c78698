# SPDX-License-Identifier: GPL-2.0-or-later
"""The same guest in three ways: in QEMU as it is, with the module loaded but no twin, and protected."""
from lab.machine import Machine
from lab.vm import StockVm, pair, primary

STOCK, IDLE, PROTECTED = "stock", "idle", "protected"
ALL = (STOCK, IDLE, PROTECTED)
RATIOS = (("ratio", STOCK), ("same_path_ratio", IDLE))  # protected against each of these

SMALL = [Machine(kind=kind) for kind in ("microvm", "q35")]
SIZES = [Machine(kind=kind, memory_mb=megabytes) for kind in ("microvm", "q35") for megabytes in (256, 1024)]


def each(lab, machines, effort, say, one):
    """one(lab, machine, effort, say) for each machine; {configuration: figures}."""
    found = {}
    for machine in effort.of(machines):
        name = f"{machine.kind}-{machine.memory_mb}"
        found[name] = one(lab, machine, effort, lambda text, at=name: say(f"{at} {text}"))
    return found


def start(lab, machine, variant, options=()):
    """A fresh guest; the primary of a pair where there is one."""
    if variant == STOCK:
        return StockVm(lab.hosts[0], machine).wait_ready()
    if variant == IDLE:
        return primary(lab.hosts[0], machine, options=("--send-at-kick",))
    return pair(lab, machine, options=options)[0]


class ProtectionLost(RuntimeError):
    """While something was measured."""


def check(vm):
    """A figure of a protected guest counts only if it still is."""
    status = vm.status()
    if status["state"] != "protected":
        raise ProtectionLost(f"protection was lost while measuring: {status['reason']}")


def in_turn(lab, machine, effort, measure, say, unit, options=()):
    """Rounds of all variants in turn, each freshly started. measure(vm) gives {what: value}.
    Returns {what: {variant: [value of each round]}}."""
    results = {}
    for number in range(effort.repeats):
        for variant in ALL:
            vm = start(lab, machine, variant, options)
            for what, value in measure(vm).items():
                results.setdefault(what, {}).setdefault(variant, []).append(value)
            if variant == PROTECTED:
                check(vm)
            lab.reset()
        say(f"{number + 1}/{effort.repeats}: " + ", ".join(
            f"{what} " + " / ".join(f"{results[what][v][-1]:.0f}" for v in ALL) for what in results) + f" {unit}")
    return results


def ratios(results, below):
    """Of neighbours: protected against another variant."""
    return [above / under for above, under in zip(results[PROTECTED], results[below])]
