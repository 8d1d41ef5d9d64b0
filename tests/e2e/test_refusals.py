# SPDX-License-Identifier: MIT
"""What fleet says no to: every reason at once, and nothing is touched."""

import json

from cluster import equal, expect

CLUSTER = {"nodes": 3, "slots": 1, "sets": "www,mail", "lease": "3s"}


def codes(result):
    return sorted(reason["code"] for reason in result.json["reasons"])


def refused(cluster, wanted, *words, status=1, role="operator"):
    """A refusal: exit status, outcome, codes; and that nothing changed."""
    before = cluster.status()
    result = cluster.fleet(*words, "--json", role=role, check=status)
    equal(result.json["outcome"], "refused", "outcome")
    equal(codes(result), sorted(wanted), "codes")
    for reason in result.json["reasons"]:
        expect(reason["text"], "a sentence in each reason", reason)
    equal(cluster.status()["broker"]["seq"], before["broker"]["seq"], "nothing in the journal")
    return result.json


def test_unknown_names(cluster):
    refused(cluster, ["set-unknown"], "move", "wwx", "node2")
    refused(cluster, ["node-unknown"], "move", "www", "node9")
    text = cluster.fleet("move", "wwx", "node2", check=1).err
    expect("fleet move www node2" in text, "the nearest name", text)


def test_no_slot(cluster):
    """www is on node1, mail on node2, each with one slot."""
    refused(cluster, ["no-slot"], "move", "www", "node2")


def test_every_reason(cluster):
    """A node that is down and full has more than one reason."""
    cluster.demo("kill", "node2")
    cluster.wait_node("node2", "silent")
    result = cluster.fleet("move", "www", "node2", "--json")
    result.exits(1)
    expect({"node-offline"} <= set(codes(result)), "node-offline", result)
    cluster.demo("boot", "node2")
    cluster.wait_set("running", "node2", "mail")


def test_roles(cluster):
    refused(cluster, ["not-permitted"], "move", "www", "node3", role="monitor", status=77)
    cluster.fleet("status", role="monitor", check=0)
    error = cluster.fleet("status", "--timeout", "2s", "--json", role="stranger")
    error.exits(69, 78)
    expect(error.json["error"]["code"] in ("no-broker", "bad-key"), "a stranger gets nowhere", error)
    result = cluster.fleet("keys", "admit", "operator", "evil", "ab" * 32, role="operator")
    result.exits(77)


def test_force_while_the_owner_is_online(cluster):
    refused(cluster, ["owner-online"], "move", "www", "node3", "--force")


def test_attestation_of_the_wrong_node(cluster):
    words = ("move", "www", "node3", "--owner-is-down", "node2", "--reason", "dark", "--yes")
    result = cluster.fleet(*words, "--json", check=1)
    expect("not-owner" in codes(result), "not-owner", result)
    words = ("move", "www", "node3", "--owner-is-down", "node1", "--reason", "dark", "--yes")
    result = cluster.fleet(*words, "--json", check=1)
    expect("not-down" in codes(result), "not-down", result)


def test_a_question_without_a_terminal(cluster):
    cluster.fleet(
        "move", "www", "node3", "--owner-is-down", "node1", "--reason", "dark", check=64
    )
    cluster.fleet("remove", "www", check=64)


def test_dry_run(cluster):
    seq = cluster.status()["broker"]["seq"]
    cluster.fleet("move", "www", "node3", "--dry-run", check=0)
    cluster.fleet("move", "www", "node2", "--dry-run", check=1)
    equal(cluster.status()["broker"]["seq"], seq, "a dry run changes nothing")


def test_arguments(cluster):
    for words in (["move", "www"], ["move"], ["nonsense"], ["status", "--nope"], []):
        result = cluster.fleet(*words)
        result.exits(64)
        expect(result.err.strip(), "a sentence", result)
    error = cluster.fleet("move", "www", "--json", check=64).json
    equal(error["error"]["code"], "bad-argument", "code")
    reversed_words = cluster.fleet("move", "node3", "www")
    expect("fleet move www node3" in reversed_words.err, "the other way round?", reversed_words)


def test_wrong_definitions(cluster):
    """File, line and what is expected; nothing of the call is applied."""
    wrong = (
        "format: 1\nset: www\nresources:\n  - filesystem:\n      moutn: /srv/www\n"
    )
    cluster.demo("client", "--", "sh", "-c", "cat > /tmp/wrong.yaml", stdin=wrong)
    seq = cluster.status()["broker"]["seq"]
    result = cluster.fleet("apply", "/tmp/wrong.yaml", "/etc/fleet/sets/mail.yaml", check=64)
    expect("/tmp/wrong.yaml:5:" in result.err, "file and line", result)
    expect('"mount"' in result.err, "what was meant", result)
    equal(cluster.status()["broker"]["seq"], seq, "nothing was applied")


def test_an_address_that_another_set_has(cluster):
    text = cluster.demo("client", "--", "cat", "/etc/fleet/sets/mail.yaml").out
    text = text.replace("set: mail", "set: post").replace("mail", "post")
    cluster.demo("client", "--", "sh", "-c", "cat > /tmp/post.yaml", stdin=text)
    result = cluster.fleet("apply", "/tmp/post.yaml", "--json", check=64)
    expect("address-taken" in result.out, "address-taken", result)


def test_busy_and_cancel(cluster):
    """While a slow move runs another is refused, with its number; cancel goes back."""
    text = cluster.demo("client", "--", "cat", "/etc/fleet/sets/www.yaml").out
    slow = text + "      stop: /bin/sh -c 'while test ! -e /tmp/go; do sleep 0.05; done; kill $(cat /run/nginx-www.pid)'\n"
    cluster.demo("client", "--", "sh", "-c", "cat > /tmp/slow.yaml", stdin=slow)
    cluster.fleet("apply", "/tmp/slow.yaml", check=0)
    cluster.fleet("stop", "www", check=0)
    cluster.fleet("start", "www", "node1", check=0)
    running = cluster.start("fleet", "move", "www", "node3", "--json")
    transfer = cluster.wait("a running transfer", lambda: cluster.set()["transfer"])
    busy = cluster.fleet("move", "www", "node3", "--json", check=75)
    equal(codes(busy), ["busy"], "codes")
    expect(f"{transfer}" in busy.out, "the transfer in the way", busy)
    cancelling = cluster.start("fleet", "cancel", "www")
    cluster.wait(
        "the cancel is on record",
        lambda: "cancel-requested" in cluster.fleet("journal", "export").out,
    )
    cluster.sh("node1", "touch /tmp/go")
    out, _ = running.communicate(timeout=30)
    cancelling.communicate(timeout=30)
    equal(cancelling.returncode, 0, "exit status of the cancel")
    equal(running.returncode, 2, "exit status of a move that was called off")
    equal(json.loads(out)["outcome"], "returned", "outcome")
    cluster.wait_set("running", "node1")
    cluster.fleet("cancel", "www", check=1)
    cluster.sh("node1", "rm -f /tmp/go; touch /tmp/go")
    cluster.fleet("apply", "/etc/fleet/sets/www.yaml", check=0)


def test_remove(cluster):
    result = cluster.fleet("remove", "mail", "--yes", "--json", check=1)
    expect("not-parked" in result.out, "not-parked", result)
    cluster.fleet("stop", "mail", check=0)
    cluster.fleet("remove", "mail", "--yes", check=0)
    names = [row["name"] for row in cluster.status()["sets"]]
    equal(names, ["www"], "sets that are left")
