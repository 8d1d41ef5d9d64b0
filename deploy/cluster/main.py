# SPDX-License-Identifier: MIT
"""The verbs of deploy/demo."""

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys

import cgroups
import host as hosts
import layout
import loops
import network
import power
import story
from names import (
    DISK,
    INSTANCE,
    MEMORY,
    DemoError,
    check_instance,
    load_site,
    run,
    save_site,
)

USAGE = """\
deploy/demo                     show a move: up, move www while a client reads, down
deploy/demo up [--nodes N] [--slots M] [--sets a,b,c] [--lease D]
                                bring a cluster up (3 nodes, 2 slots, set www, lease 5s)
deploy/demo fleet [--as operator|monitor|admin|stranger] ARGS...
                                the command line, on the client
deploy/demo exec HOST -- CMD    a command on a host (broker node1.. client switch)
deploy/demo client -- CMD       a command on the client
deploy/demo kill HOST           a power cut; what was not synced is lost
deploy/demo boot HOST           switch it on again
deploy/demo shutdown HOST       in order
deploy/demo restart HOST        SIGKILL of its fleet daemon, and start
deploy/demo pause|resume HOST   SIGSTOP and SIGCONT of it
deploy/demo cut HOST [bus|public|disk]   pull cables (default: bus and public)
deploy/demo heal HOST           plug them in again
deploy/demo log HOST            what its fleet daemon said
deploy/demo down                take everything away
FLEET_DEMO=NAME names the cluster, so that several fit on one machine."""


def usage_error(text):
    print(f"deploy/demo: {text}", file=sys.stderr)
    print("the verbs are listed by: deploy/demo help", file=sys.stderr)
    sys.exit(64)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        usage_error(message)


def update_site(change):
    """Changes the site's file under its lock; for verbs that run side by side."""
    with hosts.file_lock(os.path.join(MEMORY, "site.lock")):
        site = load_site()
        change(site)
        save_site(site)


def check_host(site, name):
    if name == "switch":
        usage_error("the switch can only be entered: deploy/demo exec switch -- CMD")
    if name not in site["hosts"]:
        usage_error(f'no host is called "{name}"; there are: switch {" ".join(site["hosts"])}')


def parse_up(words):
    parser = Parser(prog="deploy/demo up", add_help=False)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--sets", default="www")
    parser.add_argument("--lease", default="5s")
    options = parser.parse_args(words)
    sets = [name for name in options.sets.split(",") if name]
    if not 1 <= options.nodes <= 100:
        usage_error("--nodes: expected 1 to 100")
    if not 1 <= options.slots <= 64:
        usage_error("--slots: expected 1 to 64")
    if not re.fullmatch(r"[0-9]+(ms|s|m|h)", options.lease):
        usage_error(f'--lease: "{options.lease}" is no duration; expected 500ms 5s 1m')
    for name in sets:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
            usage_error(f'--sets: "{name}" is no name')
    if len(sets) > options.nodes * options.slots:
        usage_error(
            f"--sets: {len(sets)} sets do not fit into {options.nodes} nodes "
            f"with {options.slots} slots"
        )
    return options, sets


def up(words):
    options, sets = parse_up(words)
    if os.path.ismount(MEMORY):
        raise DemoError(
            f'the cluster "{INSTANCE}" is up already; take it down with: deploy/demo down'
        )
    site = layout.describe(options.nodes, options.slots, sets, options.lease)
    try:
        os.makedirs(MEMORY, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "fleet-demo", MEMORY)
        for folder in (hosts.array(), hosts.layer()):
            os.makedirs(folder, exist_ok=True)
        save_site(site)
        network.make_switch()
        layout.install_programs()
        site["power"] = power.start()
        save_site(site)
        layout.bring_up(site)
        save_site(site)
    except BaseException:
        if not os.environ.get("FLEET_DEMO_KEEP"):
            with contextlib.suppress(DemoError):
                down([])
        raise


def down(_words):
    """Finds everything by its name, so that it also ends what a crash left."""
    try:
        pid = load_site().get("power")
        if pid:
            os.kill(pid, signal.SIGKILL)
    except (DemoError, ProcessLookupError):
        pass
    group = os.path.join(cgroups.mount_point(), "fleet-demo", INSTANCE)
    images = []
    for folder, _, files in os.walk(DISK):
        images += [os.path.join(folder, name) for name in files]
    site_loops = [loop for image in images for loop in loops.of_file(image)]
    for loop in site_loops:
        loop.set_limit(loops.CUT)
    if os.path.isdir(group):
        cgroups.kill(group)
        cgroups.wait_empty(group, 20, "taking the cluster down")
        cgroups.remove(group)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(group))  # the last instance's parent
    network.remove_all()
    hosts.wait_detached(site_loops)
    if os.path.ismount(MEMORY):
        run("umount", MEMORY)
    for folder in (MEMORY, DISK):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(folder))


def after_dashes(words, verb):
    if words and words[0] == "--":
        words = words[1:]
    if not words:
        usage_error(f"{verb}: expected a command")
    return words


def exec_on(words):
    if not words:
        usage_error("exec: expected HOST -- CMD")
    host, command = words[0], after_dashes(words[1:], "exec")
    if host == "switch":
        load_site()
        os.execvp("ip", ["ip", "netns", "exec", network.SWITCH, *command])
    check_host(load_site(), host)
    hosts.become(host, command)


def client(words):
    hosts.become("client", after_dashes(words, "client"))


def fleet(words):
    role = "operator"
    if words and words[0] == "--as":
        if len(words) < 2 or words[1] not in layout.ROLES:
            usage_error(f"--as: expected one of {' '.join(layout.ROLES)}")
        role, words = words[1], words[2:]
    hosts.become(
        "client",
        ["/usr/bin/fleet", *words],
        {"FLEET_CONFIG": f"/etc/fleet/{role}.yaml"},
    )


def on_host(action):
    def verb(words):
        if len(words) != 1:
            usage_error("expected one HOST")
        site = load_site()
        check_host(site, words[0])
        with hosts.lock(words[0]):
            action(site, words[0])

    return verb


def cut(words):
    site = load_site()
    if not words:
        usage_error("cut: expected HOST [bus|public|disk]")
    check_host(site, words[0])
    parts = words[1:] or ["bus", "public"]
    for part in parts:
        if part not in ("bus", "public", "disk"):
            usage_error(f'cut: "{part}" is none of: bus public disk')
        if part == "public" and not site["hosts"][words[0]]["public"]:
            if words[1:]:
                usage_error(f"{words[0]} has no public interface")
            parts = ["bus"]
    with hosts.lock(words[0]):
        update_site(lambda now: hosts.cut(now, words[0], parts))


def heal(words):
    site = load_site()
    if len(words) != 1:
        usage_error("heal: expected HOST")
    check_host(site, words[0])
    with hosts.lock(words[0]):
        update_site(lambda now: hosts.heal(now, words[0]))


def log(words):
    if len(words) != 1:
        usage_error("log: expected HOST")
    check_host(load_site(), words[0])
    sys.stdout.write(hosts.tail_log(words[0], 100000))


VERBS = {
    "up": up,
    "down": down,
    "exec": exec_on,
    "client": client,
    "fleet": fleet,
    "kill": on_host(hosts.power_off),
    "boot": on_host(hosts.boot),
    "shutdown": on_host(hosts.shutdown),
    "restart": on_host(hosts.restart),
    "pause": on_host(lambda site, host: hosts.pause(host)),
    "resume": on_host(lambda site, host: hosts.resume(host)),
    "cut": cut,
    "heal": heal,
    "log": log,
}


def main(words):
    check_instance()
    if words and words[0] in ("help", "--help", "-h"):
        print(USAGE)
        return
    if not words:
        story.tell(up, down)
        return
    verb = VERBS.get(words[0])
    if verb is None:
        usage_error(f'"{words[0]}" is no verb')
    verb(words[1:])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DemoError as error:
        print(f"deploy/demo: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
