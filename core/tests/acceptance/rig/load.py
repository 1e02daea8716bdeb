"""Steady load that counts every failed request and forgives none.

What it leaves to others: speed (wrk). A request failed when its connection broke after the request
was sent, when its answer is not the expected one, or when nothing accepted it although something
should have.
"""
import threading

from .client import Client
from .http1 import Closed


class Load:
    """Threads that each send requests one after the other on kept connections."""

    def __init__(self, port, threads=6, path="/", body=None, per_connection=40, check=None):
        self.port = port
        self.path = path
        self.body = body
        self.per_connection = per_connection
        self.check = check or (lambda response: response.status == 200)
        self.ending = False
        self.done = 0
        self.refused = 0
        self.failures = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.stopping.is_set():
            try:
                client = Client(self.port, 10)
            except OSError as error:
                # Once the proxy was told to end, nobody has to listen any more.
                with self.lock:
                    self.refused += 1
                    if not self.ending:
                        self.failures.append(f"connect: {error}")
                return
            with client:
                if not self._converse(client):
                    return

    def _converse(self, client):
        """Requests on one connection; whether to open another one."""
        method = "GET" if self.body is None else "POST"
        for number in range(self.per_connection):
            last = number + 1 == self.per_connection
            headers = [("Connection", "close")] if last else []
            try:
                response = client.ask(self.path, headers, method, self.body)
            except (Closed, OSError, AssertionError) as error:
                with self.lock:
                    self.failures.append(f"request {number} of a connection: {error}")
                return not self.ending
            with self.lock:
                self.done += 1
                if not self.check(response):
                    self.failures.append(f"{response.start} {response.body[:100]!r}")
            if "close" in response.tokens("connection") or self.stopping.is_set():
                break
        return True

    def expect_end(self):
        """From now on a refused connection is no failure (a request lost on an open one still
        is)."""
        self.ending = True

    def stop(self):
        """Lets each thread finish its request; fails when any request failed. How many were
        done."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads), "a request hangs"
        assert not self.failures, \
            f"{len(self.failures)} of {self.done} failed: {self.failures[:4]}"
        return self.done
