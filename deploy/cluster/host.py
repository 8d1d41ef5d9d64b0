# SPDX-License-Identifier: MIT
"""A host: booted, shut down, killed, entered.

Its folder in MEMORY has `upper` (what it wrote, kept over boots), `boot_id` and
`pid`; its folder in DISK has var-lib-fleet.img.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid

import cgroups
import loops
import network
from names import BUILD, DISK, MEMORY, DemoError, run

STATE_SIZE = 64 * 1024 * 1024
READY_SECONDS = 30


def memory(host, *rest):
    return os.path.join(MEMORY, "hosts", host, *rest)


def state_image(host):
    return os.path.join(DISK, "state", f"{host}.img")


def array():
    return os.path.join(DISK, "array")


def layer():
    """The lower layer in which fleet is installed."""
    return os.path.join(MEMORY, "layer")


def pid_of(host):
    """Pid 1 of the host, as the machine sees it; None if it is off."""
    try:
        with open(memory(host, "pid"), encoding="utf-8") as file:
            pid = int(file.read())
    except (FileNotFoundError, ValueError):
        return None
    in_group = pid in cgroups.pids(host, "init")
    return pid if in_group else None


def make_disk(host):
    """What a host keeps: its root's upper layer and /var/lib/fleet."""
    for part in ("upper", "work", "root"):
        os.makedirs(memory(host, part), exist_ok=True)
    image = state_image(host)
    os.makedirs(os.path.dirname(image), exist_ok=True)
    with open(image, "wb") as file:
        file.truncate(STATE_SIZE)
    run("mke2fs", "-q", "-t", "ext4", "-F", "-m", "0", image)


def write_file(host, path, text, mode=0o644, owner=0):
    """Puts a file into a host's root, also while it is off."""
    full = memory(host, "upper") + path
    folder = os.path.dirname(full)
    made = []
    while not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    for folder in reversed(made):
        os.mkdir(folder, 0o755)
    fd = os.open(full + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(full + ".new", mode)
    os.chown(full + ".new", owner, owner)
    os.rename(full + ".new", full)


def power_on(site, host):
    """Boots a host up to its pid 1, with a new boot id; starts no daemon."""
    if pid_of(host):
        raise DemoError(f"{host} runs already")
    facts = site["hosts"][host]
    cgroups.make(host)
    network.plug(host, facts["bus"], facts["public"])
    for part in facts["cut"]:
        if part in ("bus", "public"):
            network.set_port(host, part, False)
    with open(memory(host, "boot_id"), "w", encoding="utf-8") as file:
        file.write(f"{uuid.uuid4()}\n")
    # An overlay's work folder cannot be used again while an old mount lingers.
    work = memory(host, "work")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)

    binds = []
    if facts["kind"] == "node":
        binds.append(f"{array()}:/array")
    if facts["kind"] == "broker":
        binds.append(f"{MEMORY}/power:/run/power")
    done = subprocess.run(
        [
            os.path.join(BUILD, "deploy/fleet-demo-host"),
            host,
            network.path(host),
            layer(),
            memory(host, "upper"),
            work,
            memory(host, "root"),
            memory(host, "boot_id"),
            *binds,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=environment(host),
        preexec_fn=lambda: cgroups.join(host, ""),
    )
    if done.returncode != 0 or not done.stdout.startswith("ready "):
        raise DemoError(f"cannot boot {host}: {done.stderr.strip()}")
    pid = int(done.stdout.split()[1])
    cgroups.join(host, "init", pid)
    with open(memory(host, "pid"), "w", encoding="utf-8") as file:
        file.write(str(pid))

    mount_state(host)
    if "disk" in facts["cut"]:
        cover_array(host)


def mount_state(host):
    """Mounts the host's /var/lib/fleet; the loop device goes with the mount."""
    device = run("losetup", "--find", "--show", "--direct-io=on", state_image(host)).strip()
    try:
        inside(host, "mkdir", "-p", "/var/lib/fleet")
        inside(host, "mount", "-t", "ext4", device, "/var/lib/fleet")
    finally:
        for loop in loops.of_file(state_image(host)):
            loop.detach()  # with its last user


def enter_words(pid):
    """What stands before a command that is to run inside the host of this pid 1."""
    return [os.path.join(BUILD, "deploy/fleet-demo-enter"), str(pid)]


def environment(host):
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "FLEET_HOST": host,
        # Leaks are looked for in unit tests; the search for them at an end does not
        # work across pid namespaces.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def need_pid(host):
    pid = pid_of(host)
    if pid is None:
        raise DemoError(f"{host} is off; switch it on with: deploy/demo boot {host}")
    return pid


def become(host, words, extra=None):
    """Replaces this process by a command inside a host: everything passes through."""
    pid = need_pid(host)
    cgroups.join(host, "shell")
    entering = [*enter_words(pid), *words]
    os.execve(entering[0], entering, environment(host) | (extra or {}))


def inside(host, *words, check=True, stdin=None, extra=None):
    """Runs a command inside a host; its output as text."""
    pid = need_pid(host)
    done = subprocess.run(
        enter_words(pid) + list(words),
        stdin=subprocess.DEVNULL if stdin is None else None,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(host) | (extra or {}),
        preexec_fn=lambda: cgroups.join(host, "shell"),
        check=False,
    )
    if check and done.returncode != 0:
        raise DemoError(
            f"on {host}: {' '.join(words)}: exit {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


DAEMONS = {
    "node": ["/usr/sbin/fleet-node", "--config", "/etc/fleet/node.yaml"],
    "broker": [
        "setpriv", "--reuid=fleet", "--regid=fleet", "--clear-groups",
        "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--",
        "/usr/sbin/fleet-broker", "--config", "/etc/fleet/broker.yaml",
    ],
}  # fmt: skip


def start_daemon(site, host):
    """Starts the host's fleet daemon and returns when it says that it is ready."""
    words = DAEMONS.get(site["hosts"][host]["kind"])
    if words is None:
        return
    pid = need_pid(host)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    outside = f"/proc/{pid}/root/run/notify"
    if os.path.exists(outside):
        os.unlink(outside)
    listener.bind(outside)
    os.chmod(outside, 0o777)
    os.makedirs(memory(host, "upper/var/log"), exist_ok=True)
    log = open(f"/proc/{pid}/root/var/log/fleet.log", "ab")
    daemon = subprocess.Popen(
        enter_words(pid) + words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=environment(host) | {"NOTIFY_SOCKET": "/run/notify"},
        preexec_fn=lambda: cgroups.join(host, "daemon"),
        start_new_session=True,
    )
    log.close()
    end = time.monotonic() + READY_SECONDS
    with listener:
        while True:
            listener.settimeout(0.05)
            try:
                if b"READY=1" in listener.recv(4096).split(b"\n"):
                    return
            except TimeoutError:
                pass
            if daemon.poll() is not None:
                raise DemoError(
                    f"the daemon of {host} ended with {daemon.returncode}:\n"
                    + tail_log(host)
                )
            if time.monotonic() > end:
                raise DemoError(
                    f"the daemon of {host} is not ready after {READY_SECONDS} s:\n"
                    + tail_log(host)
                )


def tail_log(host, lines=15):
    pid = pid_of(host)
    if pid is None:
        return ""
    try:
        with open(f"/proc/{pid}/root/var/log/fleet.log", errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except FileNotFoundError:
        return ""


def daemon_pids(host):
    """The daemon and its helpers; not the program that waits for it outside."""
    pids = []
    for pid in cgroups.pids(host, "daemon"):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                if file.read().strip() != "fleet-demo-ente":
                    pids.append(pid)
        except FileNotFoundError:
            pass
    return pids


def boot(site, host):
    power_on(site, host)
    start_daemon(site, host)


def disk_loops(host):
    """Loop devices of disk groups that this host has."""
    pid = pid_of(host)
    devices = set()
    if pid is None:
        return []
    disk = f"/proc/{pid}/root/run/fleet/disk"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(disk):
            devices.add(os.readlink(os.path.join(disk, name)))
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
        for line in file:
            major, minor = line.split()[2].split(":")
            if major == "7":
                devices.add(f"/dev/loop{minor}")
    images = []
    for name in os.listdir(array()):
        images += loops.of_file(os.path.join(array(), name))
    return [loop for loop in images if loop.device in devices]


def power_off(site, host):
    """A power cut. Returns when nothing of the host is left."""
    del site
    cut_loops = [*disk_loops(host), *loops.of_file(state_image(host))]
    for loop in cut_loops:
        loop.set_limit(loops.CUT)
    group = cgroups.folder(host)
    cgroups.kill(group)
    cgroups.wait_empty(group, 20, f"killing {host}")
    after_off(host, cut_loops)


def after_off(host, host_loops):
    """The kernel's own part of an end: mounts and devices that nobody has now."""
    network.unplug(host)
    cgroups.remove(cgroups.folder(host))
    wait_detached(host_loops)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(memory(host, "pid"))


def wait_detached(host_loops):
    end = time.monotonic() + 10
    for loop in host_loops:
        loop.detach()
        while loop.info() is not None:
            if time.monotonic() > end:
                raise DemoError(f"{loop.device} is still attached")
            time.sleep(0.002)


def shutdown(site, host):
    """In order: the node's sets stop and are released, then the machine ends."""
    facts = site["hosts"][host]
    need_pid(host)
    if facts["kind"] == "node" and daemon_pids(host):
        inside(host, "/usr/sbin/fleet-node", "--config", "/etc/fleet/node.yaml", "--leave", check=False)
    for pid in daemon_pids(host):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    end = time.monotonic() + 20
    while daemon_pids(host) and time.monotonic() < end:
        time.sleep(0.005)
    host_loops = [*disk_loops(host), *loops.of_file(state_image(host))]
    inside(host, "sync")
    inside(host, "umount", "/var/lib/fleet", check=False)
    group = cgroups.folder(host)
    cgroups.kill(group)
    cgroups.wait_empty(group, 20, f"shutting {host} down")
    after_off(host, host_loops)


def restart(site, host):
    """SIGKILL of the fleet daemon, then its start."""
    need_pid(host)
    cgroups.signal_all(host, "daemon", signal.SIGKILL)
    end = time.monotonic() + 10
    while cgroups.pids(host, "daemon"):
        if time.monotonic() > end:
            raise DemoError(f"the daemon of {host} does not end")
        time.sleep(0.002)
    start_daemon(site, host)


def pause(host):
    need_pid(host)
    pids = daemon_pids(host)
    if not pids:
        raise DemoError(f"no fleet daemon runs on {host}")
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)


def resume(host):
    need_pid(host)
    for pid in daemon_pids(host):
        os.kill(pid, signal.SIGCONT)


def cover_array(host):
    inside(host, "mount", "-t", "tmpfs", "-o", "ro,size=4k", "unplugged", "/array")


def cut(site, host, parts):
    facts = site["hosts"][host]
    for part in parts:
        if part in facts["cut"]:
            continue
        if part == "disk":
            # What the label says now: an eviction meanwhile must stay one.
            facts["disk_labels"] = {}
            for loop in disk_loops(host):
                facts["disk_labels"][loop.device] = label_of(loop)
                loop.set_limit(loops.CUT)
            if pid_of(host):
                cover_array(host)
        elif pid_of(host):
            network.set_port(host, part, False)
        facts["cut"].append(part)


def label_of(loop):
    """The image under a device, and its label area's hash."""
    for name in os.listdir(array()):
        path = os.path.join(array(), name)
        if loop in loops.of_file(path):
            with open(path, "rb") as file:
                return f"{name} {hashlib.sha256(file.read(1024 * 1024)).hexdigest()}"
    return ""


def heal(site, host):
    facts = site["hosts"][host]
    for part in facts["cut"]:
        if part == "disk":
            if pid_of(host):
                inside(host, "umount", "/array", check=False)
                labels = facts.get("disk_labels", {})
                for loop in disk_loops(host):
                    if labels.get(loop.device) == label_of(loop):
                        loop.set_limit(0)
        elif pid_of(host):
            network.set_port(host, part, True)
    facts["cut"] = []


def lock(host):
    """One verb at a time for one host."""
    return file_lock(memory(host, "lock"))


@contextlib.contextmanager
def file_lock(path):
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_inside(host, word):
    """SIGTERM to the host's processes that were started with this word."""
    inside(host, "pkill", "-TERM", "-f", word, check=False)
