"""The client of a case: sends what the case says, on one connection, and records what comes back.

What it leaves to others: comparing (`observation.py`).
"""
import socket
import struct
import time

from rig.client import Client
from rig.http1 import Closed, Response

from .text import message_record, request_bytes

OPEN_AFTER_S = 0.04
END_WITHIN_S = 3.0
READ_WITHIN_S = 4.0


class Exchange:
    """One connection of a case."""

    def __init__(self, port, case, fill):
        self.given = case.given
        self.fill = fill
        self.messages = []
        self.end = None
        self.client = Client(port, READ_WITHIN_S)
        self.client_port = self.client.sock.getsockname()[1]

    def run(self):
        """Goes through the steps of the case: (messages, how the connection ended)."""
        with self.client:
            try:
                for step in steps(self.given):
                    self._step(step)
                if self.end is None:
                    self._find_end(self.given.get("linger"))
            except OSError as error:
                self.end = self.end or f"closed ({error.strerror or error})"
            except AssertionError as error:
                self.end = f"unreadable: {error}"
        return self.messages, self.end

    def _step(self, step):
        (kind, value), = step.items()
        if self.end and kind in ("read", "read_bytes", "read_rest"):
            return
        if kind == "ask":
            text = self.fill(value)
            self._send(request_bytes(text))
            self._read(1, text.startswith("HEAD "))
        elif kind == "raw":
            self._send(self.fill(value).encode("latin-1"))
        elif kind == "fill":
            self._send(b"a" * value)
        elif kind == "lines":
            self._send(b"".join(b"x-%d: a\r\n" % number for number in range(value)))
        elif kind == "read":
            self._read(value, False)
        elif kind in ("interim", "head"):
            for _ in range(value):
                self._note(lambda: self.client.response(True))
        elif kind == "read_bytes":
            self._note(lambda: {"bytes": self.client.reader.take(value).decode("latin-1")})
        elif kind == "read_rest":
            self._find_end(value if isinstance(value, float) else END_WITHIN_S)
        elif kind == "sleep":
            time.sleep(value)
        elif kind == "half_close":
            self.client.sock.shutdown(socket.SHUT_WR)
        elif kind == "close":
            self._abandon(value)
        else:
            raise ValueError(f"no step {kind}")

    def _abandon(self, how):
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.client.close()
        self.end = "ours"

    def _send(self, data):
        try:
            self.client.send(data)
        except OSError:
            pass  # what the peer answered before it closed is still to be read

    def _read(self, count, head_only):
        for _ in range(count):
            while not self.end:
                message = self._note(lambda: self.client.response(head_only))
                if message is None or message.status >= 200 or message.status == 101:
                    break

    def _note(self, read):
        """Reads one thing, and keeps what had come when it did not come in whole."""
        try:
            message = read()
        except Closed as closed:
            if closed.seen:
                self.messages.append(cut_record(closed.seen))
            self.end = "no answer" if closed.reason == "timeout" else "closed"
            return None
        record = message if isinstance(message, dict) else message_record(message)
        self.messages.append(record)
        return None if isinstance(message, dict) else message

    def _find_end(self, seconds):
        """Whether the connection is open; for long, when the last response said that it closes."""
        last = self.messages[-1] if self.messages else {}
        closing = any(name.lower() == "connection" and value.lower() == "close"
                      for name, value in last.get("headers", []))
        closing = closing or last.get("framing") == "close"
        if seconds is None:
            seconds = END_WITHIN_S if closing else OPEN_AFTER_S
        self.client.sock.settimeout(seconds)
        try:
            more = self.client.reader.rest()
            self.end = "closed"
        except Closed as closed:
            more = closed.seen
            self.end = "open" if closed.reason == "timeout" else "closed"
        if more:
            self.messages.append({"more": more.decode("latin-1")})


def cut_record(seen):
    """A response that did not come to its end."""
    head, end, rest = seen.partition(b"\r\n\r\n")
    if not end:
        return {"cut": seen.decode("latin-1")}
    try:
        record = message_record(Response(head + end))
    except (AssertionError, ValueError):
        return {"cut": seen.decode("latin-1")}
    return {**record, "body": rest.decode("latin-1"), "cut": "within the body"}


def steps(given):
    """The steps of a case, whichever short form it has."""
    if "steps" in given:
        return given["steps"]
    if "spread" in given:
        return [{"ask": "GET /"}] * given["spread"]
    if "raw" in given:
        return [{"raw": given["raw"]}, {"read": given.get("responses", 1)}]
    asked = given["ask"] if isinstance(given["ask"], list) else [given["ask"]]
    return [{"ask": text} for text in asked]
