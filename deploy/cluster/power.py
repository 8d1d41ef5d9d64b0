# SPDX-License-Identifier: MIT
"""The power switches of the hosts: what a fence command reaches over the network in
a real site is a socket here, in a folder that only the broker's host has.

One request a connection: "off HOST\\n", answered "ok\\n" or "no: why\\n".
"""

import os
import re
import socket
import sys

import host as hosts
from names import MEMORY, DemoError, load_site

FOLDER = os.path.join(MEMORY, "power")
SOCKET = os.path.join(FOLDER, "socket")


def start():
    """Starts the server in the background; its pid."""
    os.makedirs(FOLDER, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    os.chmod(SOCKET, 0o666)
    listener.listen(16)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            serve(listener)
        finally:
            os._exit(1)
    listener.close()
    return pid


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(5)
            try:
                connection.sendall(answer(connection.recv(256)).encode())
            except OSError:
                pass


def answer(request):
    match = re.fullmatch(rb"off ([a-z0-9-]+)\n", request)
    if not match:
        return 'no: expected "off HOST"\n'
    name = match[1].decode()
    try:
        site = load_site()
        if name not in site["hosts"]:
            return f"no: no host is called {name}\n"
        with hosts.lock(name):
            hosts.power_off(site, name)
        return "ok\n"
    except (DemoError, OSError) as error:
        return f"no: {error}\n"
