#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Write a source list for one apt call, derived from this machine's own apt configuration.

    apt_sources.py TYPE [SUITE]

TYPE is "deb" or "deb-src". Only entries whose Release file says "Origin: Debian" are kept, so that a
third party's archive is never asked for Debian's packages. With SUITE (say, trixie) the entries are
turned to that suite of the same mirrors. The system's own lists are only read.
"""
import glob
import re
import subprocess
import sys


def apt_path(name):
    out = subprocess.run(["apt-config", "shell", "p", name + "/f"], stdout=subprocess.PIPE, check=True, text=True)
    match = re.search(r"p='(.*)'", out.stdout)
    return match.group(1) if match else ""


def debian_targets():
    """The (address, suite) pairs that really are Debian, by their fetched Release files."""
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages",
                          "Origin: Debian"], stdout=subprocess.PIPE, check=True, text=True)
    return {(uri.rstrip("/"), suite) for uri, suite in map(str.split, out.stdout.splitlines())}


def one_line_entries(text):
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if match:
            options = dict(o.split("=", 1) for o in (match.group(1) or "").split() if "=" in o)
            yield {"uris": [match.group(2)], "suites": [match.group(3)], "components": match.group(4).split(),
                   "signed-by": options.get("signed-by", "")}


def deb822_entries(text):
    for stanza in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields, name = {}, None
        for line in stanza.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false"):
            yield {"uris": fields.get("uris", "").split(), "suites": fields.get("suites", "").split(),
                   "components": fields.get("components", "").split(), "signed-by": fields.get("signed-by", "")}


def entries():
    parts = apt_path("Dir::Etc::sourceparts")
    for path in [apt_path("Dir::Etc::sourcelist")] + sorted(glob.glob(parts + "/*.list") + glob.glob(parts + "/*.sources")):
        try:
            with open(path, encoding="utf-8") as handle:
                text = handle.read()
        except OSError:
            continue
        yield from (deb822_entries if path.endswith(".sources") else one_line_entries)(text)


def main():
    kind, suite = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    known, written = debian_targets(), set()
    for entry in entries():
        for uri in entry["uris"]:
            for own in entry["suites"]:
                if (uri.rstrip("/"), own) not in known:
                    continue
                wanted = re.sub(r"^[a-z]+", suite, own) if suite else own
                if (uri, wanted) in written:
                    continue
                written.add((uri, wanted))
                print(f"Types: {kind}\nURIs: {uri}\nSuites: {wanted}\nComponents: main")
                if entry["signed-by"]:
                    print("Signed-By: " + entry["signed-by"])
                print()
    if not written:
        sys.exit("apt_sources: no Debian archive in this machine's apt configuration; add one and run apt-get update")


if __name__ == "__main__":
    main()
