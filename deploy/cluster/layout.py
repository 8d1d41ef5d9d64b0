# SPDX-License-Identifier: MIT
"""What is on the hosts: configuration files, keys, sets; and how they come up."""

import json
import os
import shutil
import time

import host as hosts
from names import (
    BUILD,
    BUS_NETWORK,
    HERE,
    SET_NETWORK,
    SET_NETWORK6,
    DemoError,
    run,
)

SITE_NAME = "demo"
BROKER_USER = 64087  # "fleet" on the broker's host
FIRST_ADDRESS = 80
SET_SIZE = 64 * 1024 * 1024
LABEL_SIZE = 1024 * 1024  # of the image driver; the file system begins behind it
PEOPLE = {"admin": "adm1", "operator": "op1", "monitor": "mon1"}
ROLES = [*PEOPLE, "stranger"]

PROGRAMS = {
    "broker/fleet-broker": "usr/sbin/fleet-broker",
    "node/fleet-node": "usr/sbin/fleet-node",
    "cli/fleet": "usr/bin/fleet",
}


def describe(nodes, slots, sets, lease):
    """The site as a value; everything else is computed from it."""
    described = {"lease": lease, "slots": slots, "sets": sets, "hosts": {}}
    described["hosts"]["broker"] = {"kind": "broker", "bus": 1, "public": False}
    for number in range(1, nodes + 1):
        described["hosts"][f"node{number}"] = {
            "kind": "node",
            "bus": 10 + number,
            "public": True,
        }
    described["hosts"]["client"] = {"kind": "client", "bus": 2, "public": True}
    for facts in described["hosts"].values():
        facts["cut"] = []
    return described


def nodes_of(site):
    return [name for name, facts in site["hosts"].items() if facts["kind"] == "node"]


def address_of(index):
    return f"{SET_NETWORK}{FIRST_ADDRESS + index}"


def address6_of(index):
    return f"{SET_NETWORK6}{FIRST_ADDRESS + index}"


def install_programs():
    """Puts fleet into the hosts' lower layer, where its packages would."""
    for program, place in PROGRAMS.items():
        target = os.path.join(hosts.layer(), place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        source = os.path.join(BUILD, program)
        if not os.path.exists(source):
            raise DemoError(f"{source} is not built; build it with: deploy/build")
        shutil.copy2(source, target)
    helpers = os.path.join(hosts.layer(), "usr/lib/fleet-demo")
    os.makedirs(helpers, exist_ok=True)
    for script, name in (("power_client.py", "power"), ("poll.py", "poll")):
        shutil.copy2(os.path.join(HERE, script), os.path.join(helpers, name))
        os.chmod(os.path.join(helpers, name), 0o755)


def broker_yaml(site):
    fences = "".join(
        f"  - node: {node}\n"
        f"    command: /usr/lib/fleet-demo/power off {node}\n"
        f"    limit: 20s\n"
        for node in nodes_of(site)
    )
    return f"""format: 1
site: {SITE_NAME}
broker: b1
listen:
  control: tcp://{BUS_NETWORK}1:7471
  events: tcp://{BUS_NETWORK}1:7472
key: /etc/fleet/keys/broker.key
store:
  kind: sqlite
  path: /var/lib/fleet/journal.db
lease:
  length: {site["lease"]}
  margin: 1s
fence:
{fences}"""


def node_yaml(site, node, broker_key):
    return f"""format: 1
node: {node}
site: {SITE_NAME}
brokers:
  - control: tcp://{BUS_NETWORK}1:7471
    key: {broker_key}
key: /etc/fleet/keys/{node}.key
private: eth0
slots:
  parent: eth1
  room: {site["slots"]}
state: /var/lib/fleet
run: /run/fleet
"""


def client_yaml(role, broker_key):
    return f"""format: 1
site: {SITE_NAME}
brokers:
  - control: tcp://{BUS_NETWORK}1:7471
    events: tcp://{BUS_NETWORK}1:7472
    key: {broker_key}
key: /etc/fleet/keys/{role}.key
"""


def set_yaml(site, name):
    index = site["sets"].index(name)
    return f"""format: 1
set: {name}
about: A web site with its own disk, address and MAC address
resources:
  - disk_group:
      driver: image
      path: /array/{name}.img
  - filesystem:
      mount: /srv/{name}
      type: ext4
      options: noatime
      fsck: preen
  - address:
      needs: []
      ip: [{address_of(index)}/24, "{address6_of(index)}/64"]
  - service:
      name: nginx
      start: /usr/sbin/nginx -c /etc/nginx/{name}.conf
      test: /usr/sbin/nginx -t -q -c /etc/nginx/{name}.conf
"""


def nginx_conf(site, name):
    index = site["sets"].index(name)
    return f"""user www-data;
worker_processes 1;
pid /run/nginx-{name}.pid;
error_log /var/log/nginx/{name}.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    server {{
        listen {address_of(index)}:80;
        listen [{address6_of(index)}]:80;
        root /srv/{name};
        location = /node {{
            default_type text/plain;
            return 200 "$hostname\\n";
        }}
    }}
}}
"""


def make_disk_group(name):
    """An image as the driver wants it: room for the label, then an ext4."""
    path = os.path.join(hosts.array(), f"{name}.img")
    content = os.path.join(hosts.memory("", "content"))
    shutil.rmtree(content, ignore_errors=True)
    os.makedirs(content)
    os.chmod(content, 0o755)
    with open(os.path.join(content, "index.html"), "w", encoding="utf-8") as file:
        file.write(f"This is {name}, from its own disk group.\n")
    with open(path, "wb") as file:
        file.truncate(LABEL_SIZE + SET_SIZE)
    run(
        "mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", "-d", content,
        "-E", f"offset={LABEL_SIZE},lazy_itable_init=0,lazy_journal_init=0",
        path, f"{SET_SIZE // 1024}k",
    )  # fmt: skip
    shutil.rmtree(content)


def with_user(text, line):
    return text if "\nfleet:" in text else text.rstrip("\n") + "\n" + line + "\n"


def prepare_files(site):
    """Everything on the hosts that needs no key."""
    with open("/etc/passwd", encoding="utf-8") as file:
        passwd = file.read()
    with open("/etc/group", encoding="utf-8") as file:
        group = file.read()
    passwd = with_user(
        passwd, f"fleet:x:{BROKER_USER}:{BROKER_USER}::/var/lib/fleet:/usr/sbin/nologin"
    )
    group = with_user(group, f"fleet:x:{BROKER_USER}:")
    hosts.write_file("broker", "/etc/passwd", passwd)
    hosts.write_file("broker", "/etc/group", group)
    hosts.write_file("broker", "/etc/fleet/broker.yaml", broker_yaml(site))
    for name, facts in site["hosts"].items():
        hosts.write_file(name, "/etc/hostname", name + "\n")
        if facts["kind"] == "node":
            for set_name in site["sets"]:
                hosts.write_file(
                    name, f"/etc/nginx/{set_name}.conf", nginx_conf(site, set_name)
                )
            for folder in ("array", "srv", "var/log/nginx"):
                os.makedirs(hosts.memory(name, "upper", folder), exist_ok=True)
    for set_name in site["sets"]:
        hosts.write_file("client", f"/etc/fleet/sets/{set_name}.yaml", set_yaml(site, set_name))
    for index, set_name in enumerate(site["sets"]):
        site.setdefault("addresses", {})[set_name] = address_of(index)


def as_fleet(words):
    return ["setpriv", "--reuid=fleet", "--regid=fleet", "--clear-groups", "--", *words]


def make_site(site):
    """The broker's and the first admin's key; then everybody else's."""
    hosts.inside("broker", "mkdir", "-p", "-m", "700", "/etc/fleet/keys")
    hosts.inside("broker", "chown", "fleet:fleet", "/etc/fleet/keys", "/var/lib/fleet")
    hosts.inside(
        "broker",
        *as_fleet([
            "/usr/sbin/fleet-broker", "--config", "/etc/fleet/broker.yaml",
            "--make-site", PEOPLE["admin"], "--admin-key", "/etc/fleet/keys/admin.key",
        ]),
    )  # fmt: skip
    broker_key = hosts.inside(
        "broker", *as_fleet(["/usr/sbin/fleet-broker", "--config", "/etc/fleet/broker.yaml", "--print-key"])
    ).split()[0]
    admin_key = hosts.inside("broker", "cat", "/etc/fleet/keys/admin.key")
    hosts.inside("broker", "rm", "/etc/fleet/keys/admin.key")

    keys = []
    hosts.inside("client", "mkdir", "-p", "-m", "700", "/etc/fleet/keys")
    hosts.inside("client", "sh", "-c", "umask 077; cat > /etc/fleet/keys/admin.key", stdin=admin_key)
    for role in ROLES:
        if role != "admin":
            digits = make_key("client", role)
            if role in PEOPLE:
                keys.append((role, PEOPLE[role], digits))
        hosts.write_file("client", f"/etc/fleet/{role}.yaml", client_yaml(role, broker_key))
    hosts.write_file("client", "/etc/fleet/client.yaml", client_yaml("operator", broker_key))
    for node in nodes_of(site):
        hosts.inside(node, "mkdir", "-p", "-m", "700", "/etc/fleet/keys")
        keys.append(("node", node, make_key(node, node)))
        hosts.write_file(node, "/etc/fleet/node.yaml", node_yaml(site, node, broker_key))
    return keys


def make_key(host, name):
    out = hosts.inside(host, "/usr/bin/fleet", "keys", "make", f"/etc/fleet/keys/{name}.key")
    for word in out.split():
        if len(word) == 64:
            return word
    raise DemoError(f"fleet keys make on {host} printed no key: {out.strip()}")


def fleet(role, *words, check=True):
    return hosts.inside(
        "client", "/usr/bin/fleet", *words, check=check,
        extra={"FLEET_CONFIG": f"/etc/fleet/{role}.yaml"},
    )  # fmt: skip


def status():
    return json.loads(fleet("operator", "status", "--json"))


def wait_for(what, seconds, condition):
    end = time.monotonic() + seconds
    while True:
        now = status()
        missing = condition(now)
        if not missing:
            return
        if time.monotonic() > end:
            raise DemoError(f"after {seconds} s still {what}: {', '.join(missing)}")
        time.sleep(0.02)


def bring_up(site):
    for name in site["hosts"]:
        hosts.make_disk(name)
    for name in site["sets"]:
        make_disk_group(name)
    prepare_files(site)
    for name in site["hosts"]:
        hosts.power_on(site, name)
    keys = make_site(site)
    hosts.start_daemon(site, "broker")
    for role, name, digits in keys:
        fleet("admin", "keys", "admit", role, name, digits)
    for node in nodes_of(site):
        hosts.start_daemon(site, node)
    wait_for(
        "not online", 20,
        lambda now: [n["name"] for n in now["nodes"] if n["state"] != "online"],
    )  # fmt: skip
    if not site["sets"]:
        return
    fleet("operator", "apply", *[f"/etc/fleet/sets/{name}.yaml" for name in site["sets"]])
    nodes = nodes_of(site)
    wait_for("not ready", 20, lambda now: not_ready(site, nodes, now))
    for index, name in enumerate(site["sets"]):
        fleet("operator", "start", name, nodes[index % len(nodes)])
    wait_for(
        "not running", 20,
        lambda now: [s["name"] for s in now["sets"] if s["state"] != "running"],
    )  # fmt: skip


def not_ready(site, nodes, now):
    """Sets that their node has not yet looked at and found good."""
    ready = {s["name"]: s["ready_nodes"] for s in now["sets"]}
    return [
        f"{name} on {nodes[index % len(nodes)]}"
        for index, name in enumerate(site["sets"])
        if nodes[index % len(nodes)] not in ready.get(name, [])
    ]

