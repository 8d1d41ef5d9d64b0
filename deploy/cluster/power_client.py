#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The fence command of the one-machine cluster: power off HOST."""

import socket
import sys

if len(sys.argv) != 3 or sys.argv[1] != "off":
    sys.exit("usage: power off HOST")
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as switch:
    switch.settimeout(20)
    switch.connect("/run/power/socket")
    switch.sendall(f"off {sys.argv[2]}\n".encode())
    answer = switch.recv(4096).decode().strip()
print(answer)
sys.exit(0 if answer == "ok" else 1)
