# SPDX-License-Identifier: MIT
"""Owners that are gone: evidence, fencing by the disk group, boots, debts."""

from cluster import equal, expect

CLUSTER = {"nodes": 3, "slots": 2, "sets": "www", "lease": "2s"}


def lose_owner(cluster, verb):
    """Takes node1 away while it owns www; returns when its lease has lapsed."""
    cluster.back_to("node1")
    cluster.demo(verb, "node1")
    cluster.wait_node("node1", "silent")


def test_a_plain_move_of_a_silent_owner_is_refused(cluster):
    lose_owner(cluster, "kill")
    row = cluster.set()
    equal((row["state"], row["owner"]), ("unknown", "node1"), "a set of a silent owner")
    result = cluster.fleet("move", "www", "node2", "--json", check=1)
    codes = [r["code"] for r in result.json["reasons"]]
    expect("owner-silent" in codes, "owner-silent", result)
    expect("--force" in result.json["reasons"][0]["hint"], "what to do", result)


def test_forced_after_a_power_cut(cluster):
    token = cluster.set()["token"]
    transfer = cluster.fleet("move", "www", "node3", "--force", "--json", check=0).json
    equal(transfer["kind"], "forced", "kind")
    equal(transfer["outcome"], "moved", "outcome")
    equal(transfer["evidence"], "preempted", "evidence")
    expect(transfer["token"] > token, "a larger token", transfer)
    equal(cluster.answer(), "node3", "who answers")


def test_the_old_owner_boots_and_owns_nothing(cluster):
    cluster.demo("boot", "node1")
    cluster.wait_node("node1", "online")
    cluster.wait(
        "the debt of node1 is paid",
        lambda: not [p for p in cluster.status()["problems"] if p["code"] == "debt"],
    )
    equal(cluster.set()["owner"], "node3", "owner")
    cluster.audit()
    cluster.back_to("node1")


def test_forced_from_a_paused_owner(cluster):
    """The owner's daemon is stopped, its kernel and nginx go on: the disk is evicted."""
    cluster.back_to("node1")
    cluster.sh(
        "node1",
        "(while echo x >> /srv/www/late && sync /srv/www/late; do echo ok > /tmp/wrote; sleep 0.01; done;"
        " date > /tmp/refused) >/dev/null 2>&1 &",
    )
    cluster.demo("pause", "node1")
    cluster.wait_node("node1", "silent")
    transfer = cluster.fleet("move", "www", "node2", "--force", "--json", check=0).json
    equal(transfer["evidence"], "preempted", "evidence")
    cluster.wait(
        "the old owner's writes are refused",
        lambda: cluster.sh("node1", "test -e /tmp/refused", check=False).status == 0,
    )
    before = cluster.sh("node2", "wc -c < /srv/www/late").out
    cluster.demo("resume", "node1")
    cluster.wait_node("node1", "online")
    cluster.wait(
        "node1 has dropped www",
        lambda: cluster.sh("node1", "grep -q ' /srv/www ' /proc/self/mountinfo", check=False).status != 0
        and not [p for p in cluster.status()["problems"] if p["code"] == "debt"],
    )
    equal(cluster.sh("node2", "wc -c < /srv/www/late").out, before, "the file did not grow")
    cluster.audit()
    events = cluster.fleet("history", "--all", "--json", check=0)
    expect("preempted" in events.out, "the evidence is on record", events)


def test_the_bus_is_cut(cluster):
    """The owner runs on (keep); after the heal it goes on owning, nothing restarted."""
    cluster.back_to("node1")
    pid = cluster.sh("node1", "cat /run/nginx-www.pid").out
    token = cluster.set()["token"]
    cluster.demo("cut", "node1", "bus")
    cluster.wait_node("node1", "silent")
    equal(cluster.answer(), "node1", "it runs on")
    cluster.demo("heal", "node1")
    cluster.wait_node("node1", "online")
    cluster.wait_set("running", "node1")
    equal(cluster.sh("node1", "cat /run/nginx-www.pid").out, pid, "the same nginx")
    equal(cluster.set()["token"], token, "the same token")
    cluster.audit()


def test_forced_from_a_cut_owner(cluster):
    """Bus and public cable are out; after the heal it must not take the MAC back."""
    cluster.back_to("node1")
    cluster.demo("cut", "node1")
    cluster.wait_node("node1", "silent")
    cluster.fleet("move", "www", "node2", "--force", check=0)
    equal(cluster.answer(), "node2", "who answers")
    cluster.demo("heal", "node1")
    cluster.wait_node("node1", "online")
    cluster.wait(
        "the debt of node1 is paid",
        lambda: not [p for p in cluster.status()["problems"] if p["code"] == "debt"],
    )
    fdb = cluster.on("switch", "bridge", "fdb", "show", "br", "public").out
    mac = cluster.set()["mac"]
    equal([l.split()[2] for l in fdb.splitlines() if l.startswith(mac)], ["node2"], "port of the MAC")
    cluster.audit()


def test_attested(cluster):
    """The operator's word is on record under their name."""
    lose_owner(cluster, "kill")
    transfer = cluster.fleet(
        "move", "www", "node2", "--force", "--owner-is-down", "node1", "--reason", "I pulled the plug",
        "--yes", "--json", check=0,
    ).json  # fmt: skip
    expect(transfer["evidence"] in ("preempted", "attested"), "evidence", transfer)
    equal(transfer["reason"], "I pulled the plug", "reason")
    equal(cluster.node("node1")["state"], "down", "node1 is said to be down")
    cluster.demo("boot", "node1")
    cluster.wait_node("node1", "online")
    cluster.audit()


def test_unlock(cluster):
    lose_owner(cluster, "kill")
    transfer = cluster.fleet("unlock", "www", "--force", "--json", check=0).json
    equal(transfer["outcome"], "parked", "outcome")
    equal(cluster.set()["owner"], None, "nobody")
    cluster.fleet("start", "www", "node2", check=0)
    cluster.demo("boot", "node1")
    cluster.wait_node("node1", "online")
    cluster.audit()


def test_fence(cluster):
    cluster.back_to("node1")
    cluster.fleet("fence", "node1", "--reason", "wedged", check=64)
    cluster.fleet("fence", "node1", "--reason", "wedged", "--yes", "--json", check=0)
    equal(cluster.node("node1")["state"], "down", "a fenced node")
    equal(cluster.on("node1", "true", check=False).status, 1, "it is off")
    transfer = cluster.fleet("move", "www", "node3", "--force", "--json", check=0).json
    expect(transfer["evidence"] in ("preempted", "fenced"), "evidence", transfer)
    cluster.demo("boot", "node1")
    cluster.wait_node("node1", "online")
    cluster.audit()


def test_boot_brings_back_what_ran(cluster):
    """The paper's rule: it starts again there, if nobody else has it."""
    lose_owner(cluster, "kill")
    token = cluster.set()["token"]
    cluster.demo("boot", "node1")
    row = cluster.wait_set("running", "node1")
    expect(row["token"] > token, "a larger token", token, row["token"])
    equal(cluster.answer(), "node1", "who answers")
    last = cluster.fleet("history", "www", "--json", check=0).json["transfers"][-1]
    equal((last["kind"], last["evidence"]), ("boot", "rebooted"), "kind and evidence")
    cluster.audit()


def test_shutdown_in_order(cluster):
    cluster.back_to("node1")
    cluster.demo("shutdown", "node1")
    equal(cluster.node("node1")["state"], "down", "shut down in order")
    row = cluster.set()
    equal((row["state"], row["wanted"]), ("parked", "up"), "parked, but wanted")
    cluster.demo("boot", "node1")
    cluster.wait_set("running", "node1")
    cluster.audit()
