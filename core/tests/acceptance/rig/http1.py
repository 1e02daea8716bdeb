"""A small, strict HTTP/1.1 reader, independent of the proxy's codec.

What it leaves to others: sockets' life (`client.py`, `origin.py`). It reads exactly one message at
a time and keeps what follows, so that a test can see bytes which should not be there.
"""
import socket


class Closed(Exception):
    """The peer closed or reset; `seen` holds what had come of the message until then."""

    def __init__(self, reason, seen=b""):
        super().__init__(f"{reason} after {len(seen)} bytes {bytes(seen[:120])!r}")
        self.reason = reason
        self.seen = bytes(seen)


class Message:
    """A request or a response as it came: start line, header lines in order, body, trailers."""

    def __init__(self, raw_head):
        self.raw_head = raw_head
        lines = raw_head[:-4].split(b"\r\n")
        self.start = lines[0].decode("latin-1")
        self.headers = [_field(line) for line in lines[1:]]
        self.body = b""
        self.trailers = []
        self.chunked = False

    def all(self, name):
        """Values of every line of that name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name, default=None):
        """Value of the only line of that name; `default` when there is none."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{len(values)} lines of {name}: {values}")
        return values[0] if values else default

    def tokens(self, name):
        """Comma-separated members of all lines of that name, in lower case."""
        return [t.strip().lower() for v in self.all(name) for t in v.split(",") if t.strip()]


class Request(Message):
    """A request, with its start line taken apart."""

    def __init__(self, raw_head):
        super().__init__(raw_head)
        self.method, self.target, self.version = self.start.split(" ")


class Response(Message):
    """A response, with its start line taken apart; `until_close` when the end of the body was a
    close."""

    def __init__(self, raw_head):
        super().__init__(raw_head)
        self.version, status, self.reason = self.start.split(" ", 2)
        self.status = int(status)
        self.until_close = False


def _field(line):
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not name or name != name.strip():
        raise AssertionError(f"malformed header line {line!r}")
    return name, value.strip(" \t")


class Reader:
    """Reads messages from a connected socket."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = bytearray()

    def _more(self, seen=b""):
        try:
            data = self.sock.recv(262144)
        except socket.timeout:
            raise Closed("timeout", bytes(seen) + bytes(self.buffer)) from None
        except OSError as error:
            raise Closed(error.strerror, bytes(seen) + bytes(self.buffer)) from None
        if not data:
            raise Closed("end", bytes(seen) + bytes(self.buffer))
        self.buffer += data

    def take(self, count, seen=b""):
        """Exactly `count` bytes."""
        while len(self.buffer) < count:
            self._more(seen)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def until(self, end, seen=b""):
        """Everything up to and including `end`."""
        start = 0
        while True:
            at = self.buffer.find(end, start)
            if at >= 0:
                return self.take(at + len(end))
            start = max(0, len(self.buffer) - len(end) + 1)
            self._more(seen)

    def rest(self):
        """Everything until the peer closes."""
        try:
            while True:
                self._more()
        except Closed as closed:
            self.buffer.clear()
            if closed.reason != "end":
                raise
            return closed.seen

    def request(self, sink=None):
        """The next request, or None when the peer closed before its first byte."""
        message = self.request_head()
        if message is not None:
            self.request_body(message, sink)
        return message

    def request_head(self):
        """The head of the next request, or None when the peer closed before its first byte."""
        try:
            return Request(self.until(b"\r\n\r\n"))
        except Closed as closed:
            if closed.reason == "end" and not closed.seen:
                return None
            raise

    def request_body(self, message, sink=None):
        """Reads the body that follows a request's head."""
        if message.tokens("transfer-encoding"):
            self._chunked(message, sink)
        elif message.all("content-length"):
            self._counted(message, int(message.get("content-length")), sink)

    def response(self, head_only=False, sink=None):
        """The next response (interim ones are returned like others)."""
        message = Response(self.until(b"\r\n\r\n"))
        if head_only or message.status < 200 or message.status in (204, 304):
            return message
        if message.tokens("transfer-encoding"):
            self._chunked(message, sink)
        elif message.all("content-length"):
            self._counted(message, int(message.get("content-length")), sink)
        else:
            message.until_close = True
            message.body = self.rest()
        return message

    def _counted(self, message, size, sink):
        if sink is None:
            message.body = self.take(size, message.raw_head)
            return
        while size:
            if not self.buffer:
                self._more(message.raw_head)
            part = self.take(min(size, len(self.buffer)))
            size -= len(part)
            sink(part)

    def _chunked(self, message, sink):
        message.chunked = True
        body = bytearray()
        while True:
            line = self.until(b"\r\n", message.raw_head + body)
            size = int(line[:-2].split(b";")[0], 16)
            if size == 0:
                break
            data = self.take(size, message.raw_head + body)
            if self.take(2, message.raw_head + body) != b"\r\n":
                raise AssertionError("chunk data not followed by CRLF")
            if sink is None:
                body += data
            else:
                sink(data)
        while (line := self.until(b"\r\n", message.raw_head + body)) != b"\r\n":
            message.trailers.append(_field(line[:-2]))
        message.body = bytes(body)
