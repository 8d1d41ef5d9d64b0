# SPDX-License-Identifier: MIT
"""Control groups (version 2) of the hosts: one subtree each.

HOST/init holds pid 1, HOST/daemon the fleet daemon, HOST/shell what people run with
`exec`; the daemon makes groups of its own for what its sets run.
"""

import errno
import os
import signal
import time

from names import INSTANCE, DemoError


def mount_point():
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2" and fields[3] == "/":
                return fields[4]
    raise DemoError("no cgroup version 2 hierarchy is mounted on this machine")


def folder(host, part=""):
    return os.path.join(mount_point(), "fleet-demo", INSTANCE, host, part)


def make(host):
    for part in ("init", "daemon", "shell"):
        os.makedirs(folder(host, part), exist_ok=True)


def join(host, part, pid=0):
    with open(os.path.join(folder(host, part), "cgroup.procs"), "w") as file:
        file.write(str(pid or os.getpid()))


def pids(host, part):
    try:
        with open(os.path.join(folder(host, part), "cgroup.procs")) as file:
            return [int(line) for line in file]
    except FileNotFoundError:
        return []


def signal_all(host, part, number):
    for pid in pids(host, part):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def kill(path):
    """Ends every process at and below a group, at once."""
    try:
        with open(os.path.join(path, "cgroup.kill"), "w") as file:
            file.write("1")
    except FileNotFoundError:
        for root, _, _ in os.walk(path):
            with open(os.path.join(root, "cgroup.procs")) as file:
                for line in file:
                    os.kill(int(line), signal.SIGKILL)


def populated(path):
    try:
        with open(os.path.join(path, "cgroup.events")) as file:
            return "populated 1" in file.read()
    except FileNotFoundError:
        return False


def wait_empty(path, seconds, what):
    end = time.monotonic() + seconds
    while populated(path):
        if time.monotonic() > end:
            left = []
            for root, _, _ in os.walk(path):
                with open(os.path.join(root, "cgroup.procs")) as file:
                    left += file.read().split()
            raise DemoError(f"{what}: still there after {seconds} s: pids {left}")
        time.sleep(0.002)


def remove(path):
    """Removes a group with everything below it; they must be empty."""
    end = time.monotonic() + 5
    for root, folders, _ in os.walk(path, topdown=False):
        for name in folders + ([""] if root == path else []):
            while True:
                try:
                    os.rmdir(os.path.join(root, name) if name else root)
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > end:
                        raise
                    time.sleep(0.002)
