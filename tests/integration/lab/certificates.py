# SPDX-License-Identifier: GPL-2.0-or-later
"""Certificates as certtool makes them: an authority, and hosts that it signs."""
import os
import shutil
import subprocess

PURPOSES = {"server": "tls_www_server", "client": "tls_www_client"}


def tool(*args):
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def make_certificate(folder, role, template, *signed):
    """A key and its certificate, as certtool makes them."""
    key, config = os.path.join(folder, f"{role}-key.pem"), os.path.join(folder, "template")
    tool("certtool", "--generate-privkey", "--key-type", "ecdsa", "--outfile", key)
    with open(config, "w", encoding="ascii") as handle:
        handle.write("\n".join(template) + "\n")
    how = ["--generate-certificate", *signed] if signed else ["--generate-self-signed"]
    tool("certtool", *how, "--load-privkey", key, "--template", config, "--outfile", os.path.join(folder, f"{role}-cert.pem"))


def make_host(authority, folder, name, days=1, ip=None):
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.path.join(authority, "ca-cert.pem"), folder)
    signed = ("--load-ca-certificate", os.path.join(authority, "ca-cert.pem"),
              "--load-ca-privkey", os.path.join(authority, "ca-key.pem"))
    number = [f'ip_address = "{ip}"'] if ip else []
    for role, purpose in PURPOSES.items():
        make_certificate(folder, role, [f'cn = "{name}"', f'dns_name = "{name}"', f"expiration_days = {days}", purpose,
                                        "signing_key", *number], *signed)


def make_authority(folder):
    os.makedirs(folder)
    make_certificate(folder, "ca", ['cn = "lab"', "ca", "cert_signing_key", "expiration_days = 1"])
