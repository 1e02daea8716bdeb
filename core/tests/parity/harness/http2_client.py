"""The client of a case that speaks HTTP/2: sends what the case says, on one connection, and records
every stream and how the connection ended.

What it leaves to others: comparing (`observation.py`). Boundaries of frames, windows and settings
are not recorded, except where a step asks for them.
"""
import socket
import struct
import time

from rig import http2
from rig.client import Client
from rig.http1 import Closed
from rig.http2 import Peer

from . import http2_text as text
from .client import END_WITHIN_S, OPEN_AFTER_S, READ_WITHIN_S, steps

SENDS = {"data", "end", "trailers", "rst", "window", "goaway", "settings", "ping", "frame", "raw",
         "fields", "open", "send", "fill"}


def send_step(peer, stream, step):
    """What both peers' scripts can send on a stream; says whether the step was one of these."""
    kind, value = next(iter(step.items()))
    stream = step.get("on", stream)
    if kind in ("data", "end"):
        peer.data(stream, (value or "").encode("latin-1"), kind == "end")
    elif kind == "fill":
        peer.data(stream, b"a" * value)
    elif kind == "trailers":
        peer.headers(text.fields_of(value), stream, end=True)
    elif kind == "rst":
        peer.send(http2.rst_stream(stream, value))
        peer.streams[stream].abandoned = peer.client
    elif kind == "window":
        peer.give(stream, value)
    elif kind == "goaway":
        given = value if isinstance(value, dict) else {"code": value}
        peer.send(http2.goaway(given["code"], given.get("last", stream or 0)))
    elif kind == "settings":
        peer.stream_window = value.get("INITIAL_WINDOW_SIZE", peer.stream_window)
        peer.send(http2.settings(**value))
    elif kind == "ping":
        peer.send(http2.frame(http2.PING, 0, 0, value.encode()))
    elif kind == "frame":
        name, flags, number, payload = value
        number = stream if number is None else number
        if name == "HEADERS" and peer.client and number % 2 and number not in peer.streams:
            peer.streams[number] = http2.Stream(number, peer.stream_window)
            peer.next = max(peer.next, number + 2)
        peer.send(http2.frame(http2.KINDS.index(name) if isinstance(name, str) else name, flags,
                              number, bytes.fromhex(payload)))
    elif kind == "raw":
        peer.send(value.encode("latin-1"))
    elif kind == "sleep":
        time.sleep(value)
    else:
        return False
    return True


class Http2Exchange:
    """One connection of a case."""

    def __init__(self, port, case, fill):
        self.given = case.given
        self.fill = fill
        self.client = Client(port, READ_WITHIN_S)
        self.client_port = self.client.sock.getsockname()[1]
        windows = self.given.get("windows", True)
        self.peer = Peer(self.client.sock, client=True, windows=windows)
        self.noted = []
        self.end = None

    def run(self):
        """Goes through the steps of the case: (streams and what else was seen, how it ended)."""
        with self.client:
            try:
                begin = self.given.get("begin", {})
                if begin != "nothing":
                    self.peer.begin(**{"INITIAL_WINDOW_SIZE": 1 << 20, **begin})
                for step in self._steps():
                    self._step(step)
                if self.end is None:
                    self._find_end(self.given.get("linger"))
            except OSError:
                self.end = self.end or "closed"  # found by the answer to a frame
            except AssertionError as error:
                self.end = f"unreadable: {error}"
        streams = [text.record(stream, "HTTP/2") for _, stream in sorted(self.peer.streams.items())]
        goaways = [{"goaway": code} for code, _ in self.peer.goaways]
        return streams + self.noted + goaways, self.end

    def _steps(self):
        if "fields" in self.given:
            return [{"fields": self.given["fields"], "ends": True}, {"read": 1}]
        return steps(self.given)

    def _step(self, step):
        kind = next(iter(step))
        value = step[kind]
        if isinstance(value, str):
            value = self.fill(value)
        last = max(self.peer.streams, default=None)
        try:
            if kind in ("ask", "send", "open"):
                self._request(value, ends=kind != "open")
            elif kind == "fields":
                self._open(text.fields_of(value), step.get("ends", False))
            elif send_step(self.peer, last, {**step, kind: value}):
                return
        except OSError:
            return  # what the peer answered before it closed is still to be read
        stream = self.peer.streams.get(last)
        if kind in ("ask", "read"):
            self._until(lambda: all(stream.done for stream in self.peer.streams.values()))
        elif kind == "read_head":
            self._until(lambda: stream.done or stream.fields)
        elif kind == "interim":
            self._until(lambda: stream.done or len(stream.interim) >= value)
        elif kind == "read_bytes":
            self._until(lambda: stream.done or len(stream.body) >= value)
        elif kind == "read_pong":
            self._until(lambda: self.peer.pongs)
            self.noted.append({"pong": [pong.decode("latin-1") for pong in self.peer.pongs]})
        elif kind == "read_settings":
            self._until(lambda: self.peer.settings)
            self.noted += [{"settings": values} for values in self.peer.settings]
        elif kind == "read_goaway":
            self._until(lambda: self.peer.goaways)
        elif kind == "read_rest":
            self._find_end(value if isinstance(value, float) else END_WITHIN_S)
            self.end = None if self.end == "open" else self.end
        elif kind == "half_close":
            self.client.sock.shutdown(socket.SHUT_WR)
        elif kind == "close":
            self._abandon(value)
        elif kind not in ("send", "open", "fields"):
            raise ValueError(f"no step {kind}")

    def _request(self, given, ends):
        fields, body, trailers = text.request(given)
        with self.peer.together():
            number = self._open(fields, ends and not body and trailers is None)
            if body:
                self.peer.data(number, body.encode("latin-1"), ends and trailers is None)
            if trailers is not None:
                self.peer.headers(trailers, number, end=True)

    def _open(self, fields, ends):
        number = self.peer.next
        self.peer.streams[number] = http2.Stream(number, self.peer.stream_window)
        self.peer.next += 2
        self.peer.headers(fields, number, ends)
        return number

    def _until(self, condition):
        """Reads until the condition holds, or the connection ends."""
        while self.end is None and not condition():
            try:
                self.peer.step()
            except Closed as closed:
                self.end = "no answer" if closed.reason == "timeout" else "closed"

    def _abandon(self, how):
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.client.close()
        self.end = "ours"

    def _find_end(self, seconds):
        """Whether the connection is open; for long, when a GOAWAY has said that it closes."""
        if seconds is None:
            seconds = END_WITHIN_S if self.peer.goaways else OPEN_AFTER_S
        end = time.monotonic() + seconds
        while self.end is None:
            self.client.sock.settimeout(max(end - time.monotonic(), 0.001))
            try:
                self.peer.step()
            except Closed as closed:
                self.end = "open" if closed.reason == "timeout" else "closed"
