# SPDX-License-Identifier: MIT
"""The one-machine cluster as a test sees it: its verbs, and waiting for conditions."""

import contextlib
import json
import os
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DEMO = os.path.join(ROOT, "deploy/demo")
DEADLINE_S = 30


class Failure(Exception):
    """An expectation that does not hold; says what was seen."""


def expect(condition, text, *seen):
    if not condition:
        raise Failure("\n".join([text, *[f"  seen: {thing}" for thing in seen]]))


def equal(seen, wanted, what):
    expect(seen == wanted, f"{what}: wanted {wanted!r}", repr(seen))


class Result:
    """What a command left: exit status, output, and its JSON if it is JSON."""

    def __init__(self, done, words):
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        self.words = words

    @property
    def json(self):
        try:
            return json.loads(self.out)
        except ValueError:
            raise Failure(f"{self} printed no JSON") from None

    def __str__(self):
        return (
            f"{' '.join(self.words)}: exit {self.status}\n"
            f"  stdout: {self.out.strip()}\n  stderr: {self.err.strip()}"
        )

    def exits(self, *statuses):
        expect(self.status in statuses, f"wanted exit status {statuses}", self)
        return self


class Reader:
    """The client's poller: who answers, and how long nobody did."""

    def __init__(self, cluster, address):
        self.process = cluster.start(
            "client", "--", "/usr/bin/python3", "/usr/lib/fleet-demo/poll", address, "5"
        )
        self.first = json.loads(self.process.stdout.readline())["node"]
        self.cluster = cluster

    def wait_node(self, node):
        """Until this node answers."""
        while True:
            line = json.loads(self.process.stdout.readline())
            if line["node"] == node:
                return

    def stop(self):
        """Ends the poller; its summary."""
        self.cluster.demo("client", "--", "pkill", "-TERM", "-f", "fleet-demo/poll")
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        return json.loads(out.splitlines()[-1])


class Cluster:
    def __init__(self, name):
        self.name = name
        self.env = dict(os.environ, FLEET_DEMO=name)
        sanitized = os.environ.get("FLEET_SANITIZED")
        if sanitized:
            self.env["FLEET_BUILD"] = sanitized

    # The verbs of deploy/demo.

    def demo(self, *words, check=True, stdin=None, timeout=120):
        done = subprocess.run(
            [DEMO, *words],
            env=self.env,
            stdin=subprocess.DEVNULL if stdin is None else None,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=False,
        )
        result = Result(done, ["demo", *words])
        if check:
            result.exits(0)
        return result

    def start(self, *words):
        """A verb as a process that goes on beside the test."""
        return subprocess.Popen(
            [DEMO, *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def up(self, nodes=3, slots=2, sets="www", lease="5s"):
        self.demo(
            "up", "--nodes", str(nodes), "--slots", str(slots), "--sets", sets,
            "--lease", lease,
        )  # fmt: skip

    def down(self):
        self.demo("down")

    def fleet(self, *words, role="operator", check=None, stdin=None):
        """The command line; check: the exit statuses that are expected."""
        result = self.demo("fleet", "--as", role, *words, check=False, stdin=stdin)
        if check is not None:
            result.exits(*([check] if isinstance(check, int) else check))
        return result

    def on(self, host, *words, check=True):
        return self.demo("exec", host, "--", *words, check=check)

    def sh(self, host, script, check=True):
        return self.on(host, "sh", "-c", script, check=check)

    # What is.

    def status(self):
        return self.fleet("status", "--json", check=0).json

    def set(self, name="www"):
        for row in self.status()["sets"]:
            if row["name"] == name:
                return row
        raise Failure(f"no set {name} in the status")

    def node(self, name):
        for row in self.status()["nodes"]:
            if row["name"] == name:
                return row
        raise Failure(f"no node {name} in the status")

    def address(self, name="www"):
        return self.set(name)["addresses"][0].split("/")[0]

    def answer(self, name="www", path="/node"):
        """What the set's web server says to the client, or None."""
        result = self.demo(
            "client", "--", "curl", "-fsS", "-m", "2",
            f"http://{self.address(name)}{path}", check=False,
        )  # fmt: skip
        return result.out.strip() if result.status == 0 else None

    def last_words(self):
        words = []
        for host in ("broker", "node1", "node2", "node3"):
            with contextlib.suppress(Exception):
                log = self.demo("log", host, check=False).out
                words.append(f"--- log of {host}\n" + "\n".join(log.splitlines()[-40:]))
        return "\n".join(words) + "\n"

    # Waiting: for a condition, with a deadline, never for luck.

    def wait(self, what, condition, seconds=DEADLINE_S):
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise Failure(f"after {seconds} s still not: {what}")
            time.sleep(0.02)

    def wait_set(self, state, owner=None, name="www", seconds=DEADLINE_S):
        def reached():
            row = self.set(name)
            return row["state"] == state and (owner is None or row["owner"] == owner) and row

        return self.wait(f"{name} {state} on {owner or 'any node'}", reached, seconds)

    def wait_node(self, node, state, seconds=DEADLINE_S):
        return self.wait(
            f"{node} {state}", lambda: self.node(node)["state"] == state, seconds
        )

    def wait_ready(self, node, name="www", seconds=DEADLINE_S):
        return self.wait(
            f"{name} ready on {node}",
            lambda: node in self.set(name)["ready_nodes"]
            or self.set(name)["owner"] == node,
            seconds,
        )

    def move(self, name, node, *words):
        """A move that is expected to succeed; its TRANSFER."""
        return self.fleet("move", name, node, "--json", *words, check=0).json

    def back_to(self, node, name="www"):
        """Puts the set where the next test expects it."""
        self.wait_ready(node, name)
        if self.set(name)["owner"] != node or self.set(name)["state"] != "running":
            self.fleet("move", name, node, check=0)
        self.wait_set("running", node, name)

    def reader(self, name="www"):
        return Reader(self, self.address(name))

    def audit(self, name="www"):
        """What must hold whenever nothing is under way: one owner, and only it has
        the mount, the address, the MAC and the daemon."""
        row = self.set(name)
        owner = row["owner"]
        for node in [n["name"] for n in self.status()["nodes"]]:
            seen = self.sh(
                node,
                f"grep -c ' /srv/{name} ' /proc/self/mountinfo;"
                f"ip -o addr | grep -c {self.address(name)}/;"
                f"ip -o link | grep 'LOWER_UP' | grep -ci {row['mac']};"
                f"pgrep -fc '[n]ginx: master.*{name}.conf'; true",
                check=False,
            )
            if seen.status != 0:
                continue  # it is off
            counts = seen.out.split()
            wanted = ["1"] * 4 if node == owner else ["0"] * 4
            equal(counts, wanted, f"mount, address, MAC, nginx of {name} on {node}")
        verified = self.fleet("journal", "verify", "--json")
        verified.exits(0)


def stop_process(process):
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_S)
