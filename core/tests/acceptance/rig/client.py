"""A raw client: sends the bytes it is told to, and reads what comes.

What it leaves to others: load (wrk and h2load do that better).
"""
import socket

from .http1 import Closed, Reader


class Client:
    """One connection."""

    def __init__(self, port, timeout=10.0, host="127.0.0.1"):
        self.sock = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the connection."""
        self.sock.close()

    def send(self, data):
        """Sends bytes as they are."""
        self.sock.sendall(data)

    def response(self, head_only=False, sink=None):
        """The next response."""
        return self.reader.response(head_only, sink)

    def final(self, head_only=False):
        """The next response that is not interim."""
        while True:
            response = self.response(head_only)
            if response.status >= 200 or response.status == 101:
                return response

    def ask(self, path="/", headers=(), method="GET", body=None):
        """Sends one request and reads its response."""
        lines = [f"{method} {path} HTTP/1.1"]
        if not any(name.lower() == "host" for name, _ in headers):
            lines.append("Host: acceptance.test")
        lines += [f"{name}: {value}" for name, value in headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        return self.final(head_only=method == "HEAD")

    def closed(self, timeout=5.0):
        """Whether the peer closes (or resets) within `timeout` without sending anything more."""
        self.sock.settimeout(timeout)
        try:
            return self.reader.rest() == b""
        except Closed as closed:
            return closed.reason != "timeout" and not closed.seen


def get(port, path="/", headers=(), method="GET", body=None, timeout=10.0):
    """One request on a connection of its own."""
    with Client(port, timeout) as client:
        return client.ask(path, headers, method, body)
