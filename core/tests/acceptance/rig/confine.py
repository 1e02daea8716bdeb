"""Runs a command with less than usual: resource limits, another user, io_uring refused by seccomp.

    confine.py [--memlock BYTES] [--nofile N] [--user NAME|NUMBER]
               [--no-io-uring EPERM|ENOSYS] -- command ...

What it leaves to others: what the command then does. It changes only its own process, so nothing
global is touched.
"""
import argparse
import ctypes
import errno
import os
import platform
import pwd
import resource
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ANSWER_ERRNO = 0x7FFF0000, 0x00050000
# io_uring_setup, io_uring_enter, io_uring_register: the same numbers on every architecture.
IO_URING_CALLS = (425, 426, 427)


def deny_io_uring(code):
    """Installs a filter that answers the three io_uring calls with `code`, as container runtimes
    do."""
    program = [(LOAD_WORD, 0, 0, 0)]
    for index, number in enumerate(IO_URING_CALLS):
        program.append((JUMP_EQUAL, len(IO_URING_CALLS) - index, 0, number))
    program += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ANSWER_ERRNO | code)]
    packed = b"".join(struct.pack("HBBI", *step) for step in program)
    steps = ctypes.create_string_buffer(packed, len(packed))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program),
                                                     ctypes.addressof(steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    for request in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                    (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)):
        words = [ctypes.c_ulong(w) if isinstance(w, int) else w for w in request[1:]]
        if libc.prctl(request[0], *words) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def main():
    """Applies the limits in the order in which they can still be applied, then becomes the
    command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--memlock", type=int)
    parser.add_argument("--nofile", type=int)
    parser.add_argument("--user")
    parser.add_argument("--no-io-uring", choices=["EPERM", "ENOSYS"])
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    if asked.memlock is not None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (asked.memlock, asked.memlock))
    if asked.nofile is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (asked.nofile, asked.nofile))
    if asked.user and os.getuid() == 0:
        number = int(asked.user) if asked.user.isdigit() else pwd.getpwnam(asked.user).pw_uid
        os.setgroups([])
        os.setgid(number)
        os.setuid(number)
    if asked.no_io_uring:
        assert platform.machine() in ("x86_64", "aarch64"), "numbers checked on these only"
        deny_io_uring(getattr(errno, asked.no_io_uring))
    os.execvp(asked.command[0], asked.command)


if __name__ == "__main__":
    sys.exit(main())
