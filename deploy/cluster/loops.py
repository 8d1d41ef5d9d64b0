# SPDX-License-Identifier: MIT
"""Loop devices, by the file that they are on; and how to cut them.

Loop devices belong to the machine, not to a host. A device whose size limit is one
sector refuses every write that does not lie in its first 512 bytes: that is how
power and cables are cut here, since ending processes alone lets the kernel write
out what they left behind.
"""

import collections
import errno
import fcntl
import glob
import os
import struct

LOOP_SET_STATUS64 = 0x4C04
LOOP_GET_STATUS64 = 0x4C05
LOOP_CLR_FD = 0x4C01
INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")  # struct loop_info64
CUT = 512


def info(device):
    """The loop_info64 of a device as a list, or None if it is not attached."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        buffer = bytearray(INFO.size)
        fcntl.ioctl(fd, LOOP_GET_STATUS64, buffer)
        return list(INFO.unpack(buffer))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    finally:
        os.close(fd)


class Loop(collections.namedtuple("Loop", "device file")):
    """A device and the file that it was seen on. Devices are handed out again at
    once, so whatever is done to one is done only while it is on that file."""

    def info(self):
        status = info(self.device)
        on_it = status is not None and (status[0], status[1]) == self.file
        return status if on_it else None

    def set_limit(self, limit):
        """Bytes of the file that the device may use; 0: all of it."""
        status = self.info()
        if status is None:
            return
        status[4] = limit
        self._control(LOOP_SET_STATUS64, INFO.pack(*status))

    def detach(self):
        """At once, or, while it is mounted, with its last user."""
        if self.info() is not None:
            self._control(LOOP_CLR_FD)

    def _control(self, request, argument=0):
        fd = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, request, argument)
        except OSError as error:
            if error.errno != errno.ENXIO:  # gone meanwhile
                raise
        finally:
            os.close(fd)


def attached():
    """Every device that is on a file."""
    found = []
    for path in glob.glob("/dev/loop[0-9]*"):
        status = info(path)
        if status is not None:
            found.append(Loop(path, (status[0], status[1])))
    return found


def encode_dev(st_dev):
    """st_dev as the kernel writes it into lo_device (huge_encode_dev)."""
    major, minor = os.major(st_dev), os.minor(st_dev)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def of_file(path):
    """The devices on a file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return []
    wanted = (encode_dev(status.st_dev), status.st_ino)
    plain = (status.st_dev, status.st_ino)
    return [loop for loop in attached() if loop.file in (wanted, plain)]
