# SPDX-License-Identifier: MIT
"""The pause of a planned move as a client sees it that asks every 5 ms, by fleet and
by hand, in turn on one cluster."""

import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

from cluster import Cluster, Reader, expect  # noqa: E402

ROUNDS = 6
HAND = "192.0.2.90"

NGINX = """user www-data;
worker_processes 1;
pid /run/nginx-hand.pid;
error_log /var/log/nginx/hand.log;
events { worker_connections 512; }
http { access_log off; server { listen 192.0.2.90:80; root /srv/hand;
  location = /node { default_type text/plain; return 200 "$hostname\\n"; } } }
"""

# What an administrator's script does on the one side ...
RELEASE = """set -e
kill $(cat /run/nginx-hand.pid)
while [ -e /run/nginx-hand.pid ]; do sleep 0.001; done
umount /srv/hand
losetup -d $(cat /run/hand.loop)
ip link del hand
"""

# ... and on the other; a ping stands for notify_switch.
ACQUIRE = """set -e
losetup -f --show --direct-io=on -o 1048576 /array/hand.img > /run/hand.loop
e2fsck -p $(cat /run/hand.loop) > /dev/null
mount -t ext4 -o noatime $(cat /run/hand.loop) /srv/hand
ip link add hand link eth1 address 02:00:c0:00:02:5a type macvlan mode bridge
ip addr add 192.0.2.90/24 dev hand
ip link set hand up
ping -c 1 -W 1 -I hand 192.0.2.10 > /dev/null 2>&1 &
/usr/sbin/nginx -c /etc/nginx/hand.conf
"""


def prepare(cluster):
    """The set by hand: an image beside the others, and its files on both nodes."""
    cluster.fleet("stop", "www", check=0)
    cluster.sh(
        "node1",
        "cp /array/www.img /array/hand.img &&"
        " dd if=/dev/zero of=/array/hand.img bs=1M count=1 conv=notrunc 2>/dev/null",
    )
    for node in ("node1", "node3"):
        cluster.demo("exec", node, "--", "sh", "-c", "cat > /etc/nginx/hand.conf", stdin=NGINX)
        cluster.demo("exec", node, "--", "sh", "-c", "cat > /root/release", stdin=RELEASE)
        cluster.demo("exec", node, "--", "sh", "-c", "cat > /root/acquire", stdin=ACQUIRE)
        cluster.sh(node, "mkdir -p /srv/hand")
    cluster.sh("node1", "sh /root/acquire")
    cluster.fleet("start", "www", "node1", check=0)


def pause_of(cluster, address, target, move):
    reader = Reader(cluster, address)
    move()
    reader.wait_node(target)
    return reader.stop()["longest_gap_ms"]


def move_by_hand(cluster, source, target):
    """One script with a hand on each host already: no login is counted."""
    enter = os.path.join(os.environ["FLEET_BUILD"], "deploy/fleet-demo-enter")
    hosts = f"/run/fleet-demo/{cluster.name}/hosts"
    script = (
        f"{enter} $(cat {hosts}/{source}/pid) sh /root/release &&"
        f" {enter} $(cat {hosts}/{target}/pid) sh /root/acquire"
    )
    subprocess.run(["sh", "-c", script], check=True, stdin=subprocess.DEVNULL)


def main():
    cluster = Cluster("bench")
    cluster.down()
    cluster.up(nodes=3, slots=2, sets="www", lease="5s")
    by_fleet, by_hand = [], []
    try:
        prepare(cluster)
        address = cluster.address()
        for number in range(ROUNDS):
            source, target = ("node1", "node3") if number % 2 == 0 else ("node3", "node1")
            cluster.wait_ready(target)
            by_fleet.append(
                pause_of(cluster, address, target, lambda: cluster.move("www", target))
            )

            by_hand.append(
                pause_of(cluster, HAND, target, lambda: move_by_hand(cluster, source, target))
            )
    finally:
        cluster.down()
    expect(len(by_fleet) == len(by_hand) == ROUNDS, "every round was measured")
    fleet, hand = statistics.median(by_fleet), statistics.median(by_hand)
    print(f"pause of a planned move, median of {ROUNDS}, ms")
    print(f"  fleet    {fleet:7.1f}   {sorted(by_fleet)}")
    print(f"  by hand  {hand:7.1f}   {sorted(by_hand)}")
    print(f"  ratio    {fleet / hand:7.2f}")
    print("bench: 1 passed, 0 skipped, 0 failed")


if __name__ == "__main__":
    main()
