"""What a test function is given, and the marks that it can carry.

What it leaves to others: running tests (`run.py`).
"""
import contextlib
import random
import tempfile
import time
import traceback
from pathlib import Path

from . import config as configuration
from .origin import HttpOrigin, Nginx, RawOrigin
from .proxy import Proxy, can_bind


# Loopback ports outside the range that the kernel hands out by itself.
PORTS = range(20000, 32000)


def alone(test):
    """Marks a test that must not share the machine with another one (it measures or it loads)."""
    test.alone = True
    return test


def soak(test):
    """Marks a test that runs only with `--soak`."""
    test.soak = True
    return test


def once(test):
    """Marks a test that does not depend on the I/O backend."""
    test.once = True
    return test


def only(name):
    """Marks a test that makes sense for one kind of proxy."""
    def mark(test):
        test.only = name
        return test
    return mark


def limit(seconds):
    """Marks the time after which a test counts as hung (60 s when unmarked)."""
    def mark(test):
        test.limit = seconds
        return test
    return mark


class Rig:
    """Everything a test starts through it is stopped when the test ends."""

    def __init__(self, backend, long_run=False, ports=PORTS):
        self.backend = backend
        self.ports = ports
        self.given = set()
        self.soak = long_run
        self.stack = contextlib.ExitStack()
        self.tmp = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="accept-")))
        self.tmp.chmod(0o755)
        self.cases = []

    def port(self):
        """A free port, of those that no other test is given at the same time."""
        for _ in range(200):
            port = random.choice(self.ports)
            if port not in self.given and can_bind(port):
                self.given.add(port)
                return port
        raise AssertionError("no free port")

    def ports_in_a_row(self, count):
        """The first of as many free ports in a row."""
        for _ in range(200):
            first = self.port()
            others = range(first + 1, first + count)
            if all(port in self.ports and port not in self.given and can_bind(port)
                   for port in others):
                self.given.update(others)
                return first
        raise AssertionError(f"no {count} free ports in a row")

    def origin(self, answer=None, keep=True):
        """An `HttpOrigin`."""
        return self.keep(HttpOrigin(answer, keep))

    def raw_origin(self, handler, **options):
        """A `RawOrigin`."""
        return self.keep(RawOrigin(handler, **options))

    def nginx(self, body="hello from the origin\n", **options):
        """A fast origin."""
        return self.keep(Nginx(self.tmp, self.port(), body, **options))

    def keep(self, thing):
        """Something that is closed when the test ends."""
        self.stack.callback(thing.close)
        return thing

    def proxy(self, config, **options):
        """A proxy on a bootstrap value."""
        proxy = Proxy(self.tmp, config, backend=self.backend, **options)
        self.stack.callback(proxy.stop)
        return proxy

    def front(self, origin_port, cluster=None, proxy=None, **manager):
        """A proxy with one listener to one origin: (proxy, its port)."""
        port = self.port()
        config = configuration.bootstrap(
            [configuration.listener(port, **manager)],
            [configuration.cluster(origin_port, **(cluster or {}))], self.port())
        return self.proxy(config, **(proxy or {})), port

    @contextlib.contextmanager
    def case(self, name):
        """One row of a table: recorded by itself, so that the rows after a failed one still run."""
        start = time.monotonic()
        try:
            yield
            failure = None
        except Exception:  # whatever it was, it is this row's failure
            failure = traceback.format_exc()
        self.cases.append((name, time.monotonic() - start, failure))

    def close(self):
        """Stops everything."""
        self.stack.close()
