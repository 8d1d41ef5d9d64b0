# SPDX-License-Identifier: MIT
"""Owners without a lease: what the set's definition says becomes of it (L2)."""

from cluster import equal, expect

CLUSTER = {"nodes": 2, "slots": 2, "sets": "www", "lease": "2s"}


def with_policy(cluster, policy):
    """Puts the set on node1, running by a definition with this policy."""
    text = cluster.demo("client", "--", "cat", "/etc/fleet/sets/www.yaml").out
    text = text.replace("resources:", f"without_lease: {policy}\nresources:")
    cluster.demo("client", "--", "sh", "-c", "cat > /tmp/policy.yaml", stdin=text)
    cluster.fleet("apply", "/tmp/policy.yaml", check=0)
    cluster.fleet("stop", "www", check=0)
    cluster.wait_ready("node1")
    cluster.fleet("start", "www", "node1", check=0)
    cluster.wait_set("running", "node1")


def answers(cluster, url="http://192.0.2.80/node"):
    return cluster.demo(
        "client", "--", "curl", "-gfsS", "-m", "1", url, check=False
    ).out.strip()  # fmt: skip


def test_both_families_answer(cluster):
    equal(answers(cluster), "node1", "IPv4")
    equal(answers(cluster, "http://[2001:db8::80]/node"), "node1", "IPv6")
    cluster.move("www", "node2")
    equal(answers(cluster), "node2", "IPv4")
    equal(answers(cluster, "http://[2001:db8::80]/node"), "node2", "IPv6")


def test_silence_when_the_bus_is_cut(cluster):
    with_policy(cluster, "silence")
    pid = cluster.sh("node1", "cat /run/nginx-www.pid").out
    cluster.demo("cut", "node1", "bus")
    cluster.wait("the address is silent", lambda: answers(cluster) == "")
    equal(cluster.sh("node1", "cat /run/nginx-www.pid").out, pid, "nginx runs on")
    cluster.demo("heal", "node1")
    cluster.wait("the address speaks again", lambda: answers(cluster) == "node1")
    equal(cluster.sh("node1", "cat /run/nginx-www.pid").out, pid, "the same nginx")


def test_silence_needs_no_agent(cluster):
    """The agent is stopped: the kernel's own timer silences the address."""
    cluster.wait_set("running", "node1")
    cluster.demo("pause", "node1")
    cluster.wait("the address is silent", lambda: answers(cluster) == "")
    neighbours = cluster.demo(
        "client", "--", "sh", "-c",
        "ip neigh flush dev eth1; ping -c1 -W1 192.0.2.80 >/dev/null; ip neigh show 192.0.2.80",
        check=False,
    ).out  # fmt: skip
    expect("lladdr" not in neighbours, "ARP is not answered either", neighbours)
    cluster.demo("resume", "node1")
    cluster.wait("the address speaks again", lambda: answers(cluster) == "node1")
    cluster.wait_set("running", "node1")
    cluster.audit()


def test_stop(cluster):
    with_policy(cluster, "stop")
    cluster.demo("cut", "node1", "bus")
    cluster.wait(
        "node1 has stopped it",
        lambda: cluster.sh("node1", "grep -q ' /srv/www ' /proc/self/mountinfo", check=False).status,
    )
    equal(answers(cluster), "", "nobody answers")
    cluster.demo("heal", "node1")
    row = cluster.wait_set("parked")
    equal(row["wanted"], "up", "it is meant to run")
    cluster.fleet("start", "www", "node2", check=0)
    cluster.audit()


def test_keep(cluster):
    with_policy(cluster, "keep")
    cluster.demo("cut", "node1", "bus")
    cluster.wait_node("node1", "silent")
    equal(answers(cluster), "node1", "it runs on")
    cluster.demo("heal", "node1")
    cluster.wait_set("running", "node1")
    cluster.audit()


def test_a_returning_cable_is_silent(cluster):
    """Bus and public cable cut, the lease lapsed: the link is down before the cable
    comes back, and comes up again once the broker has confirmed the set."""
    cluster.back_to("node1")
    cluster.demo("cut", "node1")
    cluster.wait_node("node1", "silent")
    cluster.wait(
        "the link of the set is down",
        lambda: " UP" not in cluster.sh("node1", "ip -br link show fl-www", check=False).out,
    )
    cluster.demo("heal", "node1")
    cluster.wait("it answers again", lambda: answers(cluster) == "node1")
    cluster.audit()
