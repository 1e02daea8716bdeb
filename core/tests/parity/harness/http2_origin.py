"""An origin's connection that speaks HTTP/2, answering each stream as the case's script says.

What it leaves to others: the script, and what was seen of all connections (`origin.py`).

An answer is a terse response, or has `reply`, `delay`, `early` (before the request has ended),
`hang`, `rst`, `close`, `reset`, or `steps`, which say every move: `head` and `interim` (terse
responses that do not end the stream), `reply`, `close`, `reset`, `wait` (for the request's end) and
what a client's steps can send.
"""
import socket
import struct
import threading
import time

from rig import http2
from rig.http1 import Closed

from . import http2_text as text
from .http2_client import send_step


IDLE_S = 100


class Http2Handler:
    """One connection. `begin(record)` gives the answer to a request whose head has come."""

    def __init__(self, connection, begin, greeting):
        self.sock = connection.sock
        self.sock.settimeout(IDLE_S)
        self.peer = http2.Peer(self.sock, client=False)
        self.begin = begin
        self.greeting = greeting
        self.records = {}
        self.ended = {}

    def run(self):
        """Serves the connection to its end."""
        try:
            preface = self.peer.reader.take(len(http2.PREFACE))
            if preface != http2.PREFACE:
                self.begin({"cut": preface.decode("latin-1")})
                return
            self.peer.begin(**{"INITIAL_WINDOW_SIZE": 1 << 20, **self.greeting})
            while True:
                kind, number = self.peer.step()
                if kind in (http2.HEADERS, http2.DATA, http2.RST_STREAM):
                    self._note(number)
        except Closed:
            pass
        except AssertionError as error:
            self.begin({"unreadable": str(error)})
        finally:
            for number, record in self.records.items():
                if not self.peer.streams[number].done:
                    record["end"] = "connection"
            for event in self.ended.values():
                event.set()

    def _note(self, number):
        """What came on a stream, in its record; the answer begins with the head."""
        stream = self.peer.streams[number]
        found = text.record(stream, "HTTP/2")
        if number in self.records:
            self.records[number].update(found)
        else:
            self.records[number] = found
            self.ended[number] = threading.Event()
            answer = self.begin(found)
            threading.Thread(target=self._answer, args=(number, answer), daemon=True).start()
        if stream.done:
            self.ended[number].set()

    def _answer(self, number, answer):
        try:
            self._play(number, answer if isinstance(answer, dict) else {"reply": answer})
        except OSError:
            pass  # the proxy was faster

    def _play(self, number, answer):
        if "steps" in answer:
            for step in answer["steps"]:
                self._step(number, step)
            return
        if not answer.get("early"):
            self.ended[number].wait(5)
        time.sleep(answer.get("delay", 0))
        for key in ("interim", "rst", "close", "reset", "goaway"):
            if key in answer:
                self._step(number, {key: answer[key]})
        if not {"rst", "close", "reset", "hang"} & set(answer):
            self._step(number, {"reply": answer.get("reply")})

    def _step(self, number, step):
        kind, value = next(iter(step.items()))
        if kind in ("head", "interim"):
            fields, _, _ = text.response(str(value))
            self.peer.headers(fields, number)
        elif kind == "reply":
            self._reply(number, value)
        elif kind == "fields":
            self.peer.headers(text.fields_of(value), number, end=step.get("ends", False))
        elif kind == "wait":
            self.ended[number].wait(5)
        elif kind == "close":
            self.sock.shutdown(socket.SHUT_RDWR)
        elif kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.sock.shutdown(socket.SHUT_RD)  # wakes the reader, which closes
        elif not send_step(self.peer, number, step):
            raise ValueError(f"no step {kind}")

    def _reply(self, number, given):
        fields, body, trailers = text.response(given if given is not None else "200\n\norigin")
        head_only = self.peer.streams[number].get(":method") == "HEAD"
        body = "" if head_only else body
        with self.peer.together():
            self.peer.headers(fields, number, end=not body and trailers is None)
            if body:
                self.peer.data(number, body.encode("latin-1"), trailers is None)
            if trailers is not None:
                self.peer.headers(trailers, number, end=True)
