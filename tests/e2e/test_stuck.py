# SPDX-License-Identifier: MIT
"""What cannot start, and what cannot be let go: returned, parked, stuck; who holds it."""

from cluster import equal, expect

CLUSTER = {"nodes": 2, "slots": 2, "sets": "www", "lease": "5s"}

HOLD = (
    "truncate -s 1M /srv/www/held.img && losetup -f --show /srv/www/held.img > /tmp/held"
)
LET_GO = "losetup -d $(cat /tmp/held); rm -f /srv/www/held.img"


def test_a_target_that_cannot_start(cluster):
    """nginx cannot bind there: the set is returned, with the daemon's own words."""
    cluster.back_to("node1")
    squatter = cluster.start(
        "exec", "node2", "--", "/usr/bin/python3", "-c",
        "import socket,time\n"
        "s=socket.socket(); s.setsockopt(0, 15, 1)\n"  # IP_FREEBIND
        "s.setsockopt(1, 15, 0)\n"
        "s.bind(('192.0.2.80', 80)); s.listen(); print('bound', flush=True)\n"
        "time.sleep(300)",
    )  # fmt: skip
    equal(squatter.stdout.readline().strip(), "bound", "the squatter")
    token = cluster.set()["token"]
    result = cluster.fleet("move", "www", "node2", "--json", check=2)
    cluster.sh("node2", "pkill -f '[i]mport socket'", check=False)
    squatter.communicate()
    transfer = result.json
    equal(transfer["outcome"], "returned", "outcome")
    reasons = transfer["reasons"]
    expect(any(r["code"] == "start-failed" for r in reasons), "start-failed", reasons)
    expect("bind()" in result.out, "nginx's own words", result)
    row = cluster.wait_set("running", "node1")
    expect(row["token"] >= token + 2, "a larger token for each grant", token, row["token"])
    equal(cluster.answer(), "node1", "who answers")
    cluster.audit()


def test_a_start_that_fails_is_parked(cluster):
    cluster.fleet("stop", "www", check=0)
    cluster.sh("node2", "mv /etc/nginx/www.conf /etc/nginx/www.off")
    result = cluster.fleet("start", "www", "node2", "--json", "--ignore", "not-ready")
    result.exits(3)
    equal(result.json["outcome"], "parked", "outcome")
    cluster.sh("node2", "mv /etc/nginx/www.off /etc/nginx/www.conf")
    equal(cluster.set()["state"], "parked", "state")
    cluster.audit()
    cluster.fleet("start", "www", "node1", check=0)


def test_users_of_the_file_system_are_ended(cluster):
    """A process with its folder there, also through a bind mount and in another mount
    namespace, gets SIGTERM, then SIGKILL; others do not."""
    cluster.back_to("node1")
    cluster.sh(
        "node1",
        "mkdir -p /tmp/elsewhere && mount --bind /srv/www /tmp/elsewhere;"
        "(cd /tmp/elsewhere && exec setsid sleep 1000) >/dev/null 2>&1 &"
        "(cd /srv/www && trap '' TERM; exec setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done') >/dev/null 2>&1 &"
        "(unshare -m sh -c 'cd /srv/www && exec sleep 1001') >/dev/null 2>&1 &"
        "(cd /srv && exec setsid sleep 1002) >/dev/null 2>&1 &",
    )
    cluster.wait(
        "all four run",
        lambda: cluster.sh(
            "node1", "pgrep -fc '[s]leep 100[0-2]$|trap .. [T]ERM; while'", check=False
        ).out.strip() == "4",
    )  # fmt: skip
    transfer = cluster.move("www", "node2")
    equal(transfer["outcome"], "moved", "outcome")
    left = cluster.sh("node1", "pgrep -af '[s]leep 100[0-9]'; true").out.split("\n")
    equal([line.split()[-1] for line in left if line], ["1002"], "who is left")
    cluster.sh("node1", "pkill -f '[s]leep 1002'; true")
    cluster.audit()


def test_a_move_that_cannot_let_go_is_returned(cluster):
    """A loop device on a file of the set holds it with no process at all."""
    cluster.back_to("node1")
    cluster.sh("node1", HOLD)
    reader = cluster.reader()
    result = cluster.fleet("move", "www", "node2", "--json", check=2)
    equal(result.json["outcome"], "returned", "outcome")
    reasons = result.json["reasons"]
    expect(any(r["code"] == "held" for r in reasons), "held", reasons)
    expect("loop" in result.out and "held.img" in result.out, "who holds it", result)
    cluster.wait_set("running", "node1")
    equal(cluster.answer(), "node1", "who answers")
    reader.stop()
    cluster.sh("node1", LET_GO)
    cluster.audit()
    transfer = cluster.move("www", "node2")
    equal(transfer["outcome"], "moved", "once nothing holds it")


def test_a_stop_that_cannot_let_go_is_stuck(cluster):
    cluster.back_to("node1")
    cluster.sh("node1", HOLD)
    result = cluster.fleet("stop", "www", "--json", check=4)
    equal(result.json["outcome"], "stuck", "outcome")
    row = cluster.set()
    equal((row["state"], row["owner"]), ("stuck", "node1"), "a stuck set")
    problems = [p for p in cluster.status()["problems"] if p["set"] == "www"]
    expect(any("held.img" in p["text"] for p in problems), "the holder is named", problems)
    token = row["token"]
    started = cluster.fleet("start", "www", "--json", check=0).json
    equal(started["outcome"], "moved", "brought up where it is")
    equal(started["to"], "node1", "where it is")
    expect(started["token"] > token, "a larger token", started)
    equal(cluster.answer(), "node1", "who answers")
    cluster.sh("node1", LET_GO)
    equal(cluster.fleet("stop", "www", "--json", check=0).json["outcome"], "parked", "and down")
    cluster.fleet("start", "www", "node1", check=0)
    cluster.audit()
