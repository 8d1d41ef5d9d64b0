# SPDX-License-Identifier: MIT
"""Daemons that end and come back: nothing stops, nothing is missed."""

import json

from cluster import equal, expect

CLUSTER = {"nodes": 2, "slots": 2, "sets": "www,mail", "lease": "3s"}


def test_a_restarted_node_adopts(cluster):
    cluster.back_to("node1")
    pid = cluster.sh("node1", "cat /run/nginx-www.pid").out
    reader = cluster.reader()
    token = cluster.set()["token"]
    cluster.demo("restart", "node1")
    cluster.wait_node("node1", "online")
    cluster.wait_set("running", "node1")
    equal(cluster.sh("node1", "cat /run/nginx-www.pid").out, pid, "the same nginx")
    equal(cluster.set()["token"], token, "the same token")
    summary = reader.stop()
    equal(summary["failed"], 0, "requests that failed")
    cluster.audit()


def test_a_broker_that_is_down_stops_nothing(cluster):
    pid = cluster.sh("node1", "cat /run/nginx-www.pid").out
    address = cluster.address()
    term = cluster.status()["broker"]["term"]
    cluster.demo("kill", "broker")
    lost = cluster.fleet("status", "--timeout", "1s", "--json", check=69).json
    equal(lost["error"]["code"], "no-broker", "code")
    page = cluster.demo("client", "--", "curl", "-fsS", f"http://{address}/node").out
    equal(page.strip(), "node1", "it runs on")
    equal(cluster.on("node1", "fleet", "owns", "www", check=False).status, 0, "owns, without a broker")
    local = cluster.on("node1", "fleet", "status", "--local").out
    expect("www" in local, "status --local, without a broker", local)
    cluster.demo("boot", "broker")
    for node in ("node1", "node2"):
        cluster.wait_node(node, "online")
    equal(cluster.sh("node1", "cat /run/nginx-www.pid").out, pid, "the same nginx")
    expect(cluster.status()["broker"]["term"] > term, "a larger term", term)
    cluster.audit()


def test_a_broker_that_restarts_in_the_middle_of_a_move(cluster):
    cluster.back_to("node1")
    for _ in range(3):
        target = "node2" if cluster.set()["owner"] == "node1" else "node1"
        moving = cluster.start("fleet", "move", "www", target, "--json")
        cluster.demo("restart", "broker")
        out, err = moving.communicate(timeout=60)
        # It may come so early that the nodes have not said hello yet: ask again.
        expect(moving.returncode in (0, 2, 75), "how it ended", moving.returncode, out, err)
        outcome = json.loads(out)["outcome"]
        expect(outcome in ("moved", "returned", "refused"), "outcome", out)
        cluster.wait_set("running", target if outcome == "moved" else None)
        cluster.audit()


def test_a_node_that_restarts_in_the_middle_of_a_move(cluster):
    cluster.back_to("node1")
    for victim in ("node1", "node2"):
        target = "node2" if cluster.set()["owner"] == "node1" else "node1"
        moving = cluster.start("fleet", "move", "www", target, "--json")
        cluster.demo("restart", victim)
        out, err = moving.communicate(timeout=60)
        expect(moving.returncode in (0, 2, 3), "an end state", moving.returncode, out, err)
        cluster.wait_node("node1", "online")
        cluster.wait_node("node2", "online")
        if cluster.set()["state"] == "parked":
            cluster.fleet("start", "www", check=0)
        cluster.wait_set("running")
        cluster.audit()


def test_watch_misses_nothing(cluster):
    """Moves and restarts of the broker under a watcher: each seq once, in order."""
    cluster.back_to("node1")
    since = cluster.status()["broker"]["seq"]
    watch = cluster.start("fleet", "watch", "--since", str(since), "--json")
    for target in ("node2", "node1"):
        cluster.move("www", target)
        cluster.demo("restart", "broker")
        cluster.wait_node("node1", "online")
        cluster.wait_node("node2", "online")
    cluster.move("www", "node2")
    last = cluster.status()["broker"]["seq"]
    seen = []
    while not seen or seen[-1] < last:
        event = json.loads(watch.stdout.readline())
        if event["seq"] is not None:
            seen.append(event["seq"])
    watch.terminate()
    watch.communicate()
    equal(seen, list(range(since + 1, last + 1)), "sequence numbers")


def test_owns_ends_its_command(cluster):
    cluster.back_to("node1")
    guarded = cluster.start("exec", "node1", "--", "fleet", "owns", "www", "--", "sleep", "300")
    cluster.wait(
        "the command runs",
        lambda: cluster.sh("node1", "pgrep -f '^sleep 300'", check=False).status == 0,
    )
    cluster.move("www", "node2")
    guarded.communicate(timeout=20)
    equal(guarded.returncode, 75, "exit status when ownership is lost")
    equal(cluster.on("node1", "fleet", "owns", "www", "--", "false", check=False).status, 0, "not run")
    equal(cluster.on("node1", "fleet", "owns", "www", check=False).status, 1, "not the owner")
    equal(cluster.on("node1", "fleet", "owns", "nope", check=False).status, 64, "unknown set")
    cluster.on("node2", "fleet", "owns", "www", "--", "true")


def test_the_papers_verbs(cluster):
    cluster.on("node1", "fleet", "acquire", "www")
    cluster.wait_set("running", "node1")
    refused = cluster.on("node2", "fleet", "release", "www", check=False)
    expect(refused.status == 1, "release of what is not owned here", refused)
    cluster.on("node1", "fleet", "release", "www")
    equal(cluster.set()["state"], "parked", "state")
    cluster.on("node2", "fleet", "acquire", "www")
    equal(cluster.set()["owner"], "node2", "owner")
    last = cluster.fleet("history", "www", "--json", check=0).json["transfers"][-1]
    equal(last["by"], "node:node2", "who asked")


def test_keys(cluster):
    """A key that is admitted gets in, one that is revoked is cut off at once."""
    made = cluster.demo("client", "--", "fleet", "keys", "make", "/tmp/new.key").out
    digits = [word for word in made.split() if len(word) == 64][0]
    cluster.demo(
        "client", "--", "sh", "-c",
        "sed 's#^key: .*#key: /tmp/new.key#' /etc/fleet/monitor.yaml > /tmp/new.yaml",
    )  # fmt: skip

    def as_new(*words):
        return cluster.demo("client", "--", "fleet", "--config", "/tmp/new.yaml", *words, check=False)

    as_new("status", "--timeout", "1s").exits(69, 78)
    cluster.fleet("keys", "admit", "monitor", "new", digits, role="admin", check=0)
    as_new("status").exits(0)
    watch = cluster.start("client", "--", "fleet", "--config", "/tmp/new.yaml", "watch", "--json")
    json.loads(watch.stdout.readline())
    cluster.fleet("keys", "revoke", "new", role="admin", check=0)
    cluster.move("www", "node1" if cluster.set()["owner"] == "node2" else "node2")
    as_new("status", "--timeout", "1s").exits(69, 78)
    watch.terminate()
    out, _ = watch.communicate()
    expect("transfer.ended" not in out, "nothing after the revocation", out)
    listed = cluster.fleet("keys", "list", "--json", role="admin", check=0)
    expect(digits not in listed.out, "not on the list", listed)


def test_moves_side_by_side(cluster):
    """Two sets swap their nodes at once."""
    cluster.back_to("node1", "www")
    cluster.back_to("node2", "mail")
    one = cluster.start("fleet", "move", "www", "node2", "--json")
    two = cluster.start("fleet", "move", "mail", "node1", "--json")
    for moving in (one, two):
        out, err = moving.communicate(timeout=60)
        expect(moving.returncode == 0, "moved", out, err)
    cluster.audit("www")
    cluster.audit("mail")
