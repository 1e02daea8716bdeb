"""What the tests of `tune` share: running it, in this process or another, with and without faults.

What it leaves to others: the machines that it runs on.
"""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

TUNING = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TUNING))
# Where many small files are quick.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

import places  # noqa: E402  (the path is set above)


def load(name):
    """A script of this folder as a module."""
    loader = importlib.machinery.SourceFileLoader(Path(name).name, str(TUNING / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


TUNE = load("tune")
# Processes die here, and not the machine.
os.fsync = lambda descriptor: None


def tune(*words):
    """Runs it in this process: (exit status, what it wrote)."""
    said = io.StringIO()
    with mock.patch.object(sys, "argv", ["tune", *map(str, words)]), \
            contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = TUNE.main()
        except SystemExit as ending:
            status = ending.code
    return status, said.getvalue()


def rows(*words):
    """Runs it with --json: (exit status, rows by name)."""
    status, said = tune(*words, "--json")
    return status, {row["name"]: row for row in json.loads(said)}


def run(*words):
    """Runs it as people do: (exit status, what it wrote)."""
    done = subprocess.run([TUNING / "tune", *map(str, words)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    return done.returncode, done.stdout


def killed_at(count, after, *words):
    """Runs it in a process that dies at the write of this number, before or after it. Answers
    whether it got so far."""
    child = os.fork()
    if child == 0:
        with writes(count, lambda: os._exit(9), after):
            tune(*words)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@contextlib.contextmanager
def writes(count, happens, after=False):
    """Lets something happen before or after the write of this number, to any place."""
    left = [count]

    def watched(original):
        def write(place, value):
            left[0] -= 1
            now = left[0] == -1
            if now and not after:
                happens()
            original(place, value)
            if now and after:
                happens()
        return write

    with contextlib.ExitStack() as stack:
        for kind in (places.FilePlace, places.OwnPlace, places.DevicePlace):
            stack.enter_context(mock.patch.object(kind, "write", watched(kind.write)))
        yield


def refused(code):
    """For `writes`: the kernel says no."""
    def refuse():
        raise OSError(code, os.strerror(code))
    return refuse


def snapshot(host):
    """What every knob of a host is now."""
    now = {}
    for setting in host.settings():
        try:
            now[setting.name] = setting.place.read()
        except OSError as error:
            now[setting.name] = f"errno {error.errno}"
    return now
