# SPDX-License-Identifier: MIT
"""The main job: planned moves, what they leave, what the client sees."""

from cluster import equal, expect

CLUSTER = {"nodes": 3, "slots": 2, "sets": "www", "lease": "5s"}

TRANSFER_FIELDS = {
    "v", "site", "transfer", "request", "kind", "set", "from", "to", "token", "evidence",
    "by", "reason", "requested", "ended", "outcome", "changed", "reasons", "ignored",
    "steps", "pause_ms", "total_ms",
}  # fmt: skip


def test_status_after_up(cluster):
    status = cluster.status()
    equal([n["state"] for n in status["nodes"]], ["online"] * 3, "states of the nodes")
    row = cluster.set()
    equal(row["state"], "running", "state of www")
    equal(row["owner"], "node1", "owner of www")
    equal(row["mac"], "02:00:c0:00:02:50", "MAC from 192.0.2.80")
    equal(row["wanted"], "up", "www is wanted")
    equal(status["problems"], [], "problems of a healthy cluster")
    equal(cluster.answer(), "node1", "who answers")
    cluster.audit()


def test_move_while_a_client_reads(cluster):
    before = cluster.set()["token"]
    reader = cluster.reader()
    transfer = cluster.move("www", "node3", "--reason", "firmware")
    reader.wait_node("node3")
    summary = reader.stop()
    missing = TRANSFER_FIELDS - set(transfer)
    expect(not missing, "fields of TRANSFER", missing)
    equal(transfer["outcome"], "moved", "outcome")
    equal(transfer["changed"], True, "changed")
    equal(transfer["evidence"], "released", "evidence")
    equal(transfer["reason"], "firmware", "reason")
    equal(transfer["by"], "operator:op1", "who")
    equal((transfer["from"], transfer["to"]), ("node1", "node3"), "from and to")
    expect(transfer["token"] > before, "a larger token", before, transfer["token"])
    expect(0 < transfer["pause_ms"] <= transfer["total_ms"], "pause within the whole", transfer)
    steps = {(s["node"], s["step"]) for s in transfer["steps"]}
    for step in (("node1", "stop"), ("node1", "release"), ("node3", "acquire"), ("node3", "start")):
        expect(step in steps, f"a step {step}", steps)
    expect(all(s["ok"] for s in transfer["steps"]), "every step ok", transfer["steps"])
    expect(summary["longest_gap_ms"] < 5000, "the client's pause", summary)
    equal(cluster.answer(path="/"), "This is www, from its own disk group.", "the page")
    cluster.audit()


def test_the_switch_has_learned(cluster):
    """The set's MAC is at its owner's port, and nowhere else."""
    cluster.back_to("node2")
    fdb = cluster.on("switch", "bridge", "fdb", "show", "br", "public").out
    mac = cluster.set()["mac"]
    ports = [line.split()[2] for line in fdb.splitlines() if line.startswith(mac)]
    equal(ports, ["node2"], "ports of the set's MAC")


def test_data_travels(cluster):
    cluster.back_to("node1")
    cluster.sh("node1", "echo written on node1 > /srv/www/page")
    cluster.move("www", "node2")
    equal(cluster.answer(path="/page"), "written on node1", "a page written before the move")


def test_move_to_where_it_is(cluster):
    cluster.back_to("node2")
    seq = cluster.status()["broker"]["seq"]
    token = cluster.set()["token"]
    transfer = cluster.move("www", "node2")
    equal(transfer["outcome"], "moved", "outcome")
    equal(transfer["changed"], False, "changed")
    equal(transfer["token"], token, "token")
    equal(cluster.status()["broker"]["seq"], seq, "no event")


def test_the_same_request_twice(cluster):
    cluster.back_to("node1")
    first = cluster.move("www", "node2", "--request", "once-1")
    cluster.move("www", "node3")
    again = cluster.fleet("move", "www", "node2", "--request", "once-1", "--json", check=0).json
    equal(again["transfer"], first["transfer"], "the same transfer")
    equal(cluster.set()["owner"], "node3", "nothing was done twice")


def test_stop_and_start(cluster):
    cluster.back_to("node1")
    stopped = cluster.fleet("stop", "www", "--json", check=0).json
    equal(stopped["outcome"], "parked", "outcome of a stop")
    row = cluster.set()
    equal((row["state"], row["owner"], row["wanted"]), ("parked", None, "down"), "a parked set")
    equal(cluster.answer(), None, "nobody answers")
    cluster.audit()
    again = cluster.fleet("stop", "www", "--json", check=0).json
    equal(again["changed"], False, "already parked")
    started = cluster.fleet("start", "www", "node2", "--json", check=0).json
    equal(started["outcome"], "moved", "outcome of a start")
    equal(started["from"], None, "from nobody")
    equal(cluster.answer(), "node2", "who answers")


def test_restart_in_place(cluster):
    cluster.back_to("node2")
    master = "cat /run/nginx-www.pid"
    before = cluster.sh("node2", master).out
    token = cluster.set()["token"]
    transfer = cluster.fleet("restart", "www", "--json", check=0).json
    equal(transfer["outcome"], "moved", "outcome")
    expect(cluster.sh("node2", master).out != before, "a new nginx", before)
    equal(cluster.set()["token"], token, "the token stays")
    cluster.audit()


def test_wait_and_history(cluster):
    cluster.back_to("node1")
    transfer = cluster.move("www", "node3")
    waited = cluster.fleet("wait", transfer["transfer"], "--json", check=0).json
    equal(waited["outcome"], "moved", "the outcome, asked for again")
    history = cluster.fleet("history", "www", "--json", check=0).json["transfers"]
    equal(history[-1]["transfer"], transfer["transfer"], "the newest is last")
    equal(history[-1]["steps"], transfer["steps"], "with its steps")


def test_no_wait(cluster):
    cluster.back_to("node1")
    result = cluster.fleet("move", "www", "node2", "--no-wait", "--json", check=5).json
    equal(result["outcome"], "unfinished", "outcome of a wait that was not")
    ended = cluster.fleet("wait", "www", "--json", check=0).json
    equal(ended["transfer"], result["transfer"], "the same transfer")
    equal(cluster.set()["owner"], "node2", "it went on")


def test_piped_steps(cluster):
    cluster.back_to("node1")
    result = cluster.fleet("move", "www", "node2", check=0)
    lines = [line for line in result.out.splitlines() if line.strip()]
    expect(any("stop" in line and "node1" in line for line in lines), "a line per step", result)
    expect(lines[-1].startswith(("moved", "  undo")), "the end says how it ended", result)
    expect("\x1b" not in result.out and "\r" not in result.out, "no redraw in a pipe", result)


def test_check(cluster):
    """Would it start on each node? A node on which it would not is named, with why."""
    cluster.back_to("node1")
    rows = cluster.fleet("check", "www", "--json", check=0).json["sets"][0]["nodes"]
    equal([(row["node"], row["ready"]) for row in rows],
          [("node1", True), ("node2", True), ("node3", True)], "ready everywhere")  # fmt: skip
    cluster.sh("node3", "mv /usr/sbin/nginx /usr/sbin/nginx.off")
    try:
        rows = cluster.wait(
            "node3 is found not ready",
            lambda: (r := cluster.fleet("check", "www", "--json")).status == 1 and r.json,
        )["sets"][0]["nodes"]
        equal([row["node"] for row in rows if row["ready"] is False], ["node3"], "not ready")
        problems = rows[2]["problems"]
        expect("nginx" in problems[0]["text"], "what is missing", problems)
        refused = cluster.fleet("move", "www", "node3", "--json", check=1).json
        equal([r["code"] for r in refused["reasons"]], ["not-ready"], "codes")
        equal(refused["reasons"][0]["waivable"], True, "it can be waived")
        waived = cluster.fleet("move", "www", "node3", "--ignore", "not-ready", "--json", check=2)
        equal(waived.json["outcome"], "returned", "told otherwise, it was tried")
        equal(waived.json["ignored"], ["not-ready"], "what was waived is on record")
    finally:
        cluster.sh("node3", "mv /usr/sbin/nginx.off /usr/sbin/nginx")
    cluster.wait_ready("node3")
    cluster.audit()


def test_events_of_a_move(cluster):
    cluster.back_to("node1")
    seq = cluster.status()["broker"]["seq"]
    cluster.move("www", "node3")
    watch = cluster.start("fleet", "watch", "--since", str(seq), "--json")
    import json

    names = []
    while "transfer.ended" not in names:
        event = json.loads(watch.stdout.readline())
        if event["seq"] is not None:
            names.append(event["event"])
            expect(event["site"] == "demo", "site in every event", event)
    watch.terminate()
    watch.communicate()
    equal(
        names,
        ["transfer.requested", "set.released", "set.granted", "set.acquired", "transfer.ended"],
        "events of a move",
    )
