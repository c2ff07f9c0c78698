#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the compiler does not check: layers, sizes, names and words in the tree.

    lint.py [--root FOLDER] [--junit FILE]

One check a line, in TAP; what is wrong is listed above its line. Exit status 1 if anything is.
"""
import argparse
import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# A folder uses only folders that stand after it. ALONE names what a folder may use where that is less.
LAYERS = ["qemu", "engine", "cli", "nbdkit", "arbiter", "pair", "store", "probe", "disk", "flow", "net", "control", "page", "base"]
ALONE = {"cli": {"arbiter", "store", "probe", "disk", "flow", "net", "control", "base"}}
# What .gitignore leaves out, and git's own (a file, in a work tree).
NOT_OURS = {".git", "build", ".cache", "__pycache__"}
FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
REPEATED_NAMES = {"meson.build", "README.md", "__init__.py", "conftest.py", "run", "dev"}
WITHOUT_LICENCE = (".md", ".json", ".txt", ".bin", ".seed", ".golden")
NO_LICENCE_NEEDED = {"LICENSE", ".editorconfig", ".gitignore"}
# Written apart, so that this file does not hold them.
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "not imple" + "mented", "H" + "ACK"]
REGISTRIES = ["deb.deb" + "ian.org", "pypi" + ".org", "snapshot.deb" + "ian.org", "security.deb" + "ian.org",
              "registry.npm" + "js.org", "crates" + ".io", "proxy.go" + "lang.org"]


def tree_files():
    names = []
    for base, folders, files in os.walk(ROOT):
        folders[:] = [folder for folder in folders if folder not in NOT_OURS]
        names += [os.path.relpath(os.path.join(base, name), ROOT) for name in files
                  if name not in NOT_OURS and not name.endswith(".pyc")]
    return sorted(names)


def text_of(name):
    with open(os.path.join(ROOT, name), "rb") as handle:
        data = handle.read()
    return "" if b"\0" in data else data.decode("utf-8", "replace")


def lower_layers(folder):
    return ALONE.get(folder, set(LAYERS[LAYERS.index(folder) + 1:]))


def layer_of(name):
    parts = name.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def check_folders(files):
    """every folder in src is a layer"""
    return [f"{name}: src/{layer_of(name)} is not in the list of layers" for name in files
            if layer_of(name) and layer_of(name) not in LAYERS]


def check_includes(files):
    """a folder includes headers of lower folders only"""
    homes = {os.path.basename(name): layer_of(name) for name in files if layer_of(name) and name.endswith(".h")}
    bad = []
    for name in files:
        folder = layer_of(name)
        if folder not in LAYERS or not name.endswith((".c", ".h")):
            continue
        allowed = lower_layers(folder) | {folder}
        for header in re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', text_of(name), re.M):
            home = homes.get(os.path.basename(header)) if "/" not in header or header.startswith("..") else None
            if home and home not in allowed:
                bad.append(f"{name}: includes {header} of src/{home}, which stands above src/{folder} or beside it")
    return bad


def check_qemu_headers(files):
    """only src/qemu sees QEMU's headers"""
    pattern = re.compile(r'^\s*#\s*include\s+"(qemu|qapi|qom|sysemu|system|exec|hw|migration|block|net|io|qobject)/', re.M)
    return [f"{name}: includes a QEMU header" for name in files
            if name.endswith((".c", ".h")) and layer_of(name) != "qemu" and pattern.search(text_of(name))]


def check_qemu_versions(files):
    """QEMU versions are compared in src/qemu/compat only"""
    pattern = re.compile(r"FUT_QEMU_AT_LEAST|QEMU_VERSION_(MAJOR|MINOR|MICRO)")
    return [f"{name}: compares QEMU versions" for name in files
            if name.startswith("src/") and name.endswith((".c", ".h"))
            and not name.startswith("src/qemu/compat/") and pattern.search(text_of(name))]


def check_meson_layers(files):
    """a folder's meson.build depends on lower folders only"""
    bad = []
    for name in files:
        folder = layer_of(name)
        if folder not in LAYERS or not name.endswith("meson.build"):
            continue
        used = set(re.findall(r"\b([a-z]+)_dep\b", re.sub(r"#.*", "", text_of(name)))) & set(LAYERS)
        for other in sorted(used - lower_layers(folder) - {folder}):
            bad.append(f"{name}: {other}_dep stands above src/{folder} or beside it")
    return bad


def check_file_lengths(files):
    """files are short enough to know"""
    bad = []
    for name in files:
        lines = text_of(name).count("\n")
        if name.endswith((".c", ".h", ".py", ".sh")) and lines > FILE_LINES_MAX:
            bad.append(f"{name}: {lines} lines, the limit is {FILE_LINES_MAX}")
    return bad


def c_functions(text):
    """(name, first line, length) of each function: our layout has its braces alone in the first column."""
    start, name = None, ""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line == "{" and number > 1:
            start = number
            above = " ".join(lines[max(0, number - 6):number - 1])
            names = re.findall(r"(\w+)\s*\(", above)
            name = names[-1] if names else "?"
        elif line == "}" and start:
            yield name, start, number - start + 1
            start = None


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def check_function_lengths(files):
    """functions are short enough to see whole"""
    bad = []
    for name in files:
        if name.endswith((".c", ".h")):
            functions = c_functions(text_of(name))
        elif name.endswith(".py"):
            functions = python_functions(text_of(name))
        else:
            continue
        bad += [f"{name}:{line}: {function} has {length} lines, the limit is {FUNCTION_LINES_MAX}"
                for function, line, length in functions if length > FUNCTION_LINES_MAX]
    return bad


def check_licences(files):
    """every source file names its licence first"""
    return [f"{name}: no SPDX line" for name in files
            if not name.endswith(WITHOUT_LICENCE) and name not in NO_LICENCE_NEEDED and "/corpus/" not in name
            and text_of(name) and "SPDX-License-Identifier: GPL-2.0-or-later" not in text_of(name)[:400]]


def check_words(files):
    """nothing is left unfinished"""
    pattern = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in UNFINISHED))
    return [f"{name}:{number}: {match.group(0)}" for name in files if name != "LICENSE"
            for number, line in enumerate(text_of(name).split("\n"), 1) for match in pattern.finditer(line)]


def check_registries(files):
    """no file names a package registry's host"""
    return [f"{name}: names {host}" for name in files for host in REGISTRIES if host in text_of(name)]


def check_names(files):
    """file names are unique"""
    homes = {}
    for name in files:
        if "/corpus/" not in name:
            homes.setdefault(os.path.basename(name), []).append(name)
    return [f"the same name twice: {', '.join(paths)}" for base, paths in sorted(homes.items())
            if len(paths) > 1 and base not in REPEATED_NAMES]


def check_shell(files):
    """shell files are well-formed"""
    bad = []
    for name in files:
        if name.endswith(".sh") or text_of(name).startswith(("#!/bin/sh", "#!/bin/bash")):
            result = subprocess.run(["bash", "-n", os.path.join(ROOT, name)], stderr=subprocess.PIPE, check=False, text=True)
            if result.returncode:
                bad.append(f"{name}: {result.stderr.strip()}")
    return bad


def check_format(files):
    """C files are formatted (./dev fmt)"""
    names = [name for name in files if name.endswith((".c", ".h"))]
    if not names:
        return []
    result = subprocess.run(["clang-format", "--dry-run", "-Werror"] + names, cwd=ROOT, stderr=subprocess.PIPE, check=False,
                            text=True)
    wrong = sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", result.stderr, re.M)))
    return [f"{name}: run ./dev fmt" for name in wrong]


CHECKS = [check_folders, check_includes, check_qemu_headers, check_qemu_versions, check_meson_layers, check_file_lengths,
          check_function_lengths, check_licences, check_words, check_registries, check_names, check_shell, check_format]


def write_junit(path, results):
    suite = ElementTree.Element("testsuite", name="lint")
    for title, problems in results:
        case = ElementTree.SubElement(suite, "testcase", classname="lint", name=title)
        if problems:
            ElementTree.SubElement(case, "failure").text = "\n".join(problems)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8")


def main():
    global ROOT
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=ROOT)
    parser.add_argument("--junit")
    options = parser.parse_args()
    ROOT = os.path.abspath(options.root)
    files, results = tree_files(), []
    print(f"1..{len(CHECKS)}")
    for number, check in enumerate(CHECKS, 1):
        problems = check(files)
        results.append((check.__doc__, problems))
        for problem in problems:
            print("# " + problem)
        print(f"{'not ok' if problems else 'ok'} {number} - {check.__doc__}")
    if options.junit:
        write_junit(options.junit, results)
    return 1 if any(problems for _, problems in results) else 0


if __name__ == "__main__":
    sys.exit(main())
