# SPDX-License-Identifier: MIT
"""Where an instance of the cluster keeps its things, and how they are called.

Everything of an instance carries its name, so that several fit on one machine and
`down` finds all of it, also after a crash of this program.
"""

import json
import os
import re
import subprocess
import sys

INSTANCE = os.environ.get("FLEET_DEMO", "demo")
HERE = os.path.dirname(os.path.realpath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("FLEET_BUILD") or os.path.join(SOURCE, "build")

MEMORY = f"/run/fleet-demo/{INSTANCE}"  # a tmpfs: the hosts' roots
DISK = f"/var/lib/fleet-demo/{INSTANCE}"  # images: the array, /var/lib/fleet
SITE = f"{MEMORY}/site.json"
PREFIX = f"fleet-{INSTANCE}-"  # of network namespaces

SET_NETWORK = "192.0.2."  # RFC 5737
BUS_NETWORK = "10.77.0."
SET_NETWORK6 = "2001:db8::"  # RFC 3849


class DemoError(Exception):
    """Something that the person at the keyboard has to know; a sentence."""


def check_instance():
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,15}", INSTANCE):
        raise DemoError(
            f'FLEET_DEMO="{INSTANCE}" is no name: 1 to 16 of a-z 0-9 -'
        )


def run(*words, check=True, quiet=False, stdin=None):
    """Runs a program; its output as text. A failure is a DemoError with its words."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL if stdin is None else None,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if check and done.returncode != 0:
        raise DemoError(
            f"{' '.join(words)}: exit {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    if done.stderr and not quiet and check:
        sys.stderr.write(done.stderr)
    return done.stdout


def load_site():
    try:
        with open(SITE, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise DemoError(
            "the cluster is not up; bring it up with: deploy/demo up"
        ) from None


def save_site(site):
    with open(SITE + ".new", "w", encoding="utf-8") as file:
        json.dump(site, file, indent=1)
    os.rename(SITE + ".new", SITE)
