# SPDX-License-Identifier: MIT
"""A client that reads a web page again and again and says what it saw.

  poll.py ADDRESS EVERY_MS    until SIGTERM; a JSON line per change of what it sees,
                              and a summary at its end

Each request is a connection of its own, given up if it is not there after 20 ms (on a
host next door it takes less than one), or has no answer after 250; one that fails
is made again at once.
"""

import json
import signal
import socket
import sys
import time

CONNECT_S = 0.02
GIVE_UP_S = 0.25
stopping = False


def stop(_number, _frame):
    global stopping
    stopping = True


def ask(address):
    """(node that answered, None) or (None, why not)."""
    try:
        with socket.create_connection((address, 80), CONNECT_S) as connection:
            connection.settimeout(GIVE_UP_S)
            connection.sendall(
                f"GET /node HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()
            )
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
    except OSError as error:
        return None, type(error).__name__
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        return None, head.split(b"\r\n")[0].decode(errors="replace")
    return body.decode(errors="replace").strip(), None


def main(address, every_s):
    asked = failed = 0
    errors = {}
    last_node = None
    last_good = None
    longest = 0.0
    longest_to = None
    while not stopping:
        begin = time.monotonic()
        node, error = ask(address)
        end = time.monotonic()
        asked += 1
        if node is None:
            failed += 1
            errors[error] = errors.get(error, 0) + 1
            time.sleep(0.001)
            continue
        if last_good is not None and end - last_good > longest:
            longest, longest_to = end - last_good, node
        last_good = end
        if node != last_node:
            print(json.dumps({"at": time.time(), "node": node}), flush=True)
            last_node = node
        rest = every_s - (time.monotonic() - begin)
        if rest > 0:
            time.sleep(rest)
    print(
        json.dumps(
            {
                "asked": asked,
                "failed": failed,
                "errors": errors,
                "longest_gap_ms": round(longest * 1000, 1),
                "after_it": longest_to,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    main(sys.argv[1], int(sys.argv[2]) / 1000)
