"""Memory of a running proxy, watched all the time.

What it leaves to others: CPU time, which `proxy.py` reads.
"""
import contextlib
import threading
import time
from pathlib import Path

from .tools import run

INTERVAL_S = 0.004
BACK_WITHIN_S = 20
# What is kept for the next time, of what grew with the first.
BACK_KB = 1024


def warm_up(port, path="/"):
    """Lets a proxy take the memory that it keeps: for connections, streams and buffers."""
    run("h2load", "-n", 4000, "-c", 50, "-m", 20, f"http://127.0.0.1:{port}{path}")


class Memory:
    """Memory that is the process's own (not its files'), from now on."""

    def __init__(self, proxy):
        self.path = Path(f"/proc/{proxy.pid}/status")
        self.before = self.highest = self.now()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def now(self):
        """KiB at this moment."""
        text = self.path.read_text()
        return sum(int(line.split()[1]) for line in text.splitlines()
                   if line.startswith(("RssAnon:", "RssShmem:")))

    def _watch(self):
        with contextlib.suppress(FileNotFoundError):  # it has ended
            while not self.stopping.wait(INTERVAL_S):
                self.highest = max(self.highest, self.now())

    def peak(self):
        """By how many KiB it had grown at most, until now; ends the watch."""
        self.stopping.set()
        self.thread.join()
        return self.highest - self.before

    def comes_back(self, to=BACK_KB):
        """Waits until it is what it was, but for so many KiB; fails when that does not happen."""
        end = time.monotonic() + BACK_WITHIN_S
        while (grown := self.now() - self.before) > to:
            assert time.monotonic() < end, f"{grown} KiB did not come back in {BACK_WITHIN_S} s"
            time.sleep(0.05)
