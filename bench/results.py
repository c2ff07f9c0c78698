# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured, as a whole: figures of each configuration, their samples, the machine and the method."""
import json
import os
import platform
import statistics
import subprocess
import time

from lab import paths

COLUMN = 16  # characters of the table

def rounded(value):
    """Four digits that say something; whole numbers and words stay what they are."""
    if isinstance(value, (int, str)):
        return value
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _figure(value):
    """Samples stand for their median."""
    return rounded(statistics.median(value) if isinstance(value, list) else value)


def _first_line(command, fallback="unknown"):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return fallback


def _processor():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:
        names = [line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")]
    return names[0] if names else "unknown"


def machine():
    return {"processor": _processor(), "cores": os.cpu_count(), "kernel": platform.release(),
            "qemu": _first_line(["qemu-system-x86_64", "--version"]),
            "commit": _first_line(["git", "-C", paths.ROOT, "describe", "--always", "--dirty"]),
            "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}


def whole(by_case, effort):
    """One object of {case: {configuration: figures}}: the first configuration's figures at the top, each configuration's under its
    name, the samples, which figures are of which case, the machine."""
    found = {}
    for of_case in by_case.values():
        for name, values in of_case.items():
            found.setdefault(name, {}).update(values)
    figures = {name: {key: _figure(value) for key, value in values.items()} for name, values in found.items()}
    result = {}
    for values in reversed(list(figures.values())):
        result.update(values)
    result.update(figures)
    result["configurations"] = list(figures)
    result["of_case"] = {case: list(dict.fromkeys(key for values in of_case.values() for key in values)) for case, of_case in by_case.items()}
    result["samples"] = {name: {key: [rounded(each) for each in value] for key, value in values.items() if isinstance(value, list)}
                         for name, values in found.items()}
    result["method"] = dict(machine(), repeats=effort.repeats, seconds=effort.seconds, quick=effort.quick)
    return result


def keys_of(result):
    """Names of all figures, in the order they were taken."""
    return list(dict.fromkeys(key for name in result["configurations"] for key in result[name]))


def print_table(result):
    """A table of each case: figures down, configurations across."""
    for case, keys in result["of_case"].items():
        names = [name for name in result["configurations"] if any(key in result[name] for key in keys)]
        if not names:
            continue
        width = max(len(key) for key in keys + [case])
        print(case.ljust(width) + "".join(name.rjust(COLUMN) for name in names))
        for key in keys:
            values = [result[name].get(key, "") for name in names]
            if any(len(str(value)) > COLUMN for value in values):
                print("\n".join([key] + [f"  {name}: {value}" for name, value in zip(names, values) if value != ""]))
            else:
                print(key.ljust(width) + "".join(f"{value:>{COLUMN}}" for value in values))
        print()


def write_json(path, result):
    partial = path + ".part"
    with open(partial, "w", encoding="ascii") as handle:
        json.dump(result, handle, indent=2)
        handle.write("\n")
    os.replace(partial, path)


def read_json(path):
    """ValueError with one line if that is no result of ours."""
    try:
        with open(path, encoding="ascii") as handle:
            result = json.load(handle)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(result, dict) or not isinstance(result.get("samples"), dict):
        raise ValueError(f"{path}: no samples in it: it must have been written by ./dev bench --json")
    return result
