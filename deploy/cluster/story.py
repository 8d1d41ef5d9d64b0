# SPDX-License-Identifier: MIT
"""`deploy/demo` alone: a web site moves while a client reads it."""

import json
import subprocess
import sys
import time

import host as hosts
import layout
from names import DemoError, load_site

TARGET = "node3"


def say(text=""):
    print(text, flush=True)


def start_client(address):
    """The client's reader as a process, once it has been answered."""
    pid = hosts.need_pid("client")
    reader = subprocess.Popen(
        [
            *hosts.enter_words(pid),
            "/usr/bin/python3", "/usr/lib/fleet-demo/poll", address, "5",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=hosts.environment("client"),
    )  # fmt: skip
    first = json.loads(reader.stdout.readline())
    return reader, first["node"]


def move(address):
    """The move itself, as an operator types it, with its own words on our screen."""
    pid = hosts.need_pid("client")
    done = subprocess.run(
        [*hosts.enter_words(pid), "/usr/bin/fleet", "move", "www", TARGET,
         "--reason", "to show it"],
        env=hosts.environment("client") | {"FLEET_CONFIG": "/etc/fleet/operator.yaml"},
        check=False,
    )  # fmt: skip
    return done.returncode


def tell(up, down):
    say("A broker, three nodes, a client and a switch come up as hosts of this machine.")
    began = time.monotonic()
    up([])
    try:
        say(f"They are up after {time.monotonic() - began:.1f} s.\n")
        sys.stdout.write(layout.fleet("operator", "status"))
        address = load_site()["addresses"]["www"]
        reader, first = start_client(address)
        say(f"\nA client reads http://{address}/ every 5 ms; {first} answers. Now:\n")
        say(f"$ fleet move www {TARGET}")
        status = move(address)
        # Some answers from the new node, then the reader's summary.
        second = json.loads(reader.stdout.readline())["node"] if status == 0 else "-"
        time.sleep(0.3)
        hosts.end_inside("client", "fleet-demo/poll")
        summary = json.loads(reader.stdout.readlines()[-1])
        reader.wait()
        say()
        sys.stdout.write(layout.fleet("operator", "status"))
        say("\nWhat the client saw:")
        say(f"  answered by       {first}, then {second}")
        say(f"  requests          {summary['asked']}, of which {summary['failed']} failed")
        for error, number in sorted(summary["errors"].items()):
            say(f"                    {number} x {error}")
        say(f"  longest pause     {summary['longest_gap_ms']} ms")
        if status != 0:
            raise DemoError(f"the move ended with exit status {status}")
    finally:
        down([])
    say("\nEverything is taken down again. To try things yourself: deploy/demo up")
