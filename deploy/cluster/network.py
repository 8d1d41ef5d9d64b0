# SPDX-License-Identifier: MIT
"""The switch: two learning bridges in a namespace of its own.

`public` has a port for each host that is on the public network, named after it;
`bus` is the private network, with ports bus-HOST. On a host eth0 is the private
interface and eth1 the public one.
"""

import os

from names import (
    BUS_NETWORK,
    PREFIX,
    SET_NETWORK,
    SET_NETWORK6,
    run,
)

SWITCH = PREFIX + "switch"


def namespace(host):
    return PREFIX + host


def path(host):
    return f"/run/netns/{namespace(host)}"


def exists(host):
    return os.path.exists(path(host))


def make_switch():
    run("ip", "netns", "add", SWITCH)
    # A host's link is up long before a spanning tree would let it through.
    batch(
        SWITCH,
        "link set lo up",
        "link add public type bridge forward_delay 0 mcast_snooping 0",
        "link set public up",
        "link add bus type bridge forward_delay 0 mcast_snooping 0",
        "link set bus up",
    )


def batch(netns, *lines):
    run("ip", "-n", netns, "-batch", "-", stdin="\n".join(lines) + "\n")


def public_of(host):
    """The public address of the client; nodes have none of their own."""
    return f"{SET_NETWORK}10/24" if host == "client" else None


def mac_of(kind, number):
    """A host's interfaces keep their addresses over boots, as real ones do."""
    return f"02:fe:{kind}:00:00:{number:02x}"


def plug(host, bus_number, public):
    """Makes the host's namespace with its interfaces, cabled to the switch."""
    netns = namespace(host)
    run("ip", "netns", "add", netns)
    # ARP and routing must not mix a host's two networks.
    run(
        "ip", "netns", "exec", netns, "sysctl", "-qw",
        "net.ipv4.conf.all.arp_ignore=1",
        "net.ipv6.conf.default.accept_dad=0",
        "net.ipv6.conf.all.accept_dad=0",
        "net.ipv4.ping_group_range=0 2147483647",
    )  # fmt: skip
    lines = [
        "link set lo up",
        f"link add eth0 address {mac_of('00', bus_number)} "
        f"type veth peer name bus-{host} netns {SWITCH}",
        f"addr add {BUS_NETWORK}{bus_number}/24 dev eth0",
        "link set eth0 up",
    ]
    ports = [f"link set bus-{host} master bus up"]
    if public:
        lines.append(
            f"link add eth1 address {mac_of('01', bus_number)} "
            f"type veth peer name {host} netns {SWITCH}"
        )
        if public_of(host):
            lines.append(f"addr add {public_of(host)} dev eth1")
            lines.append(f"addr add {SET_NETWORK6}10/64 dev eth1 nodad")
        else:
            # The parent of macvlans says nothing for itself.
            lines.append("link set eth1 addrgenmode none")
        lines.append("link set eth1 up")
        ports.append(f"link set {host} master public up")
    batch(netns, *lines)
    batch(SWITCH, *ports)


def unplug(host):
    """Takes the host's cables and namespace away, at once."""
    for port in (host, f"bus-{host}"):
        run("ip", "-n", SWITCH, "link", "del", port, check=False)
    if exists(host):
        run("ip", "netns", "del", namespace(host), check=False)


def set_port(host, network, up):
    """Pulls or plugs the cable of a host: its carrier goes or comes."""
    port = host if network == "public" else f"bus-{host}"
    run("ip", "-n", SWITCH, "link", "set", port, "up" if up else "down")


def remove_all():
    for name in sorted(os.listdir("/run/netns") if os.path.isdir("/run/netns") else []):
        if name.startswith(PREFIX):
            run("ip", "netns", "del", name, check=False)
