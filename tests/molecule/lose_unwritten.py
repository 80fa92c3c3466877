"""Lose what a test host has not written to its disk, as a loss of power does: lose_unwritten.py NAME OF THE HOST. Runs
on it, before it is killed.

To kill a container loses nothing: the machine below writes all that the container had left when it unmounts the
container's file system. So every process is stopped here first, and then each file is cut where its part on the disk
ends. Names are not lost, as a file system may write a name long before the content. Prints the files that have lost
something, as JSON.
"""

import fcntl
import json
import os
import signal
import stat
import struct
import sys

# The kernel's table of a file's extents, <linux/fiemap.h>: no file here has more of them.
EXTENTS = 1000
HEADER, EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQ16xL12x")
FS_IOC_FIEMAP = 0xC020660B
# The extent has no place on the disk yet.
DELALLOC = 0x4
ANSWER = bytearray(HEADER.size + EXTENTS * EXTENT.size)
# In the file system of the host itself.
WITNESS = "/unwritten"


def end_on_disk(path):
    """Return the offset of the first byte that is not on the disk. None if there is no such byte."""
    HEADER.pack_into(ANSWER, 0, 0, 2**64 - 1, 0, 0, EXTENTS, 0)
    handle = os.open(path, os.O_RDONLY)
    fcntl.ioctl(handle, FS_IOC_FIEMAP, ANSWER)
    os.close(handle)
    for number in range(HEADER.unpack_from(ANSWER)[3]):
        begin, _place, _length, flags = EXTENT.unpack_from(ANSWER, HEADER.size + number * EXTENT.size)
        if flags & DELALLOC:
            return begin
    return None


def files():
    """Yield the files of the host's own file system. Docker writes some, such as /etc/hosts, and shares the volume with
    other hosts.
    """
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = {line.split()[1] for line in file}
    for directory, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(directory, name) not in mounts]
        for path in (os.path.join(directory, name) for name in names):
            if path not in mounts and stat.S_ISREG(os.lstat(path).st_mode):
                yield path


def main():
    """Stop all, then cut."""
    # On another machine this would be a disaster.
    if sys.argv[1:] != [os.uname().nodename]:
        sys.exit(
            "The program stops every process of a test host and damages files. Run it there, with the name of the host."
        )
    os.kill(-1, signal.SIGSTOP)
    with open(WITNESS, "w", encoding="utf-8") as file:
        file.write("never written to the disk")
    if end_on_disk(WITNESS) != 0:
        sys.exit(
            "The file system of this host does not tell what it has not written. Docker's directory has to be on one "
            "that does, such as ext4."
        )
    os.unlink(WITNESS)
    lost = []
    for path in files():
        end = end_on_disk(path)
        if end is not None:
            os.truncate(path, end)
            lost.append(path)
    print(json.dumps(lost))


if __name__ == "__main__":
    main()
