#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does lint.py see what it is for? Each check is given a small tree that breaks its rule, and only that rule.

    lint_selftest.py --junit FILE
"""
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
C_HEAD = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n"
SH_HEAD = "# SPDX-License-Identifier: GPL-2.0-or-later\n"
SOUND = {"src/base/a.h": C_HEAD, "src/page/b.h": C_HEAD + '#include "a.h"\n', "src/base/meson.build": SH_HEAD,
         "src/page/meson.build": SH_HEAD + "x = [base_dep]\n"}

# What lint.py calls the check, and the files that break its rule.
BROKEN = [
    ("every folder in src is a layer", {"src/attic/x.c": C_HEAD}),
    ("a folder includes headers of lower folders only", {"src/base/x.c": C_HEAD + '#include "b.h"\n'}),
    ("only src/qemu sees QEMU's headers", {"src/page/x.c": C_HEAD + '#include "qemu/osdep.h"\n'}),
    ("QEMU versions are compared in src/qemu/compat only", {"src/qemu/x.h": C_HEAD + "#if FUT_QEMU_AT_LEAST(8, 0)\n#endif\n"}),
    ("a folder's meson.build depends on lower folders only", {"src/base/meson.build": SH_HEAD + "x = [page_dep]\n"}),
    ("files are short enough to know", {"src/base/x.h": C_HEAD + "int x;\n" * 801}),
    ("functions are short enough to see whole",
     {"src/base/x.c": C_HEAD + "void f(void)\n{\n" + "    f();\n" * 70 + "}\n"}),
    ("every source file names its licence first", {"tools/x.sh": "true\n"}),
    ("nothing is left unfinished", {"src/base/x.h": C_HEAD + "/* TO" + "DO */\n"}),
    ("no file names a package registry's host", {"tools/x.sh": SH_HEAD + "# pypi" + ".org\n"}),
    ("file names are unique", {"src/base/x.h": C_HEAD, "src/page/x.h": C_HEAD}),
    ("shell files are well-formed", {"tools/x.sh": SH_HEAD + "if\n"}),
    ("C files are formatted (./dev fmt)", {"src/base/x.h": C_HEAD + "int   x  ;\n"}),
]


def failed_checks(files):
    """The titles of the checks that a tree of SOUND and these files does not pass."""
    with tempfile.TemporaryDirectory() as root:
        shutil.copy(os.path.join(HERE, "../../.clang-format"), root)
        for name, text in {**SOUND, **files}.items():
            os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as handle:
                handle.write(text)
        out = subprocess.run([sys.executable, "-B", os.path.join(HERE, "lint.py"), "--root", root], check=False, text=True,
                             stdout=subprocess.PIPE)
    return [line.split(" - ", 1)[1] for line in out.stdout.splitlines() if line.startswith("not ok")]


def main():
    suite, bad = ElementTree.Element("testsuite", name="lint_selftest"), False
    for title, files, expected in [("a sound tree", {}, [])] + [(t, f, [t]) for t, f in BROKEN]:
        found = failed_checks(files)
        case = ElementTree.SubElement(suite, "testcase", classname="lint_selftest", name=title)
        if found != expected:
            bad = True
            print(f"# lint_selftest: {title}: expected {expected}, found {found}")
            ElementTree.SubElement(case, "failure").text = f"expected {expected}, found {found}"
    print(f"lint_selftest: {len(suite)} trees, {'as expected' if not bad else 'NOT as expected'}")
    ElementTree.ElementTree(suite).write(sys.argv[2], encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
