"""The origins of one side: a socket for each cluster, and one script for the case that runs.

What it leaves to others: what to script (the cases), and comparing what was seen.
"""
import collections
import copy
import socket
import struct
import threading
import time

from rig.http1 import Closed
from rig.origin import RawOrigin

from .http2_origin import Http2Handler
from .text import block, message_record

TIMEOUT_S = 4.0


class Origins:
    """All origins of a side. A case's script is a list of answers, one for each request in the
    order of arrival; the last one goes on answering."""

    def __init__(self, clusters, http2):
        self.http2 = http2
        self.lock = threading.Lock()
        self.script = collections.deque()
        self.seen = []
        self.connections = {}
        self.origins = {name: RawOrigin(self._handler(name), timeout=TIMEOUT_S)
                        for name in clusters}

    def ports(self):
        """Ports by name of the cluster."""
        return {name: origin.port for name, origin in self.origins.items()}

    def begin(self, script):
        """Begins a case: forgets what was seen."""
        script = script if isinstance(script, list) else [script]
        with self.lock:
            self.script = collections.deque(script)
            self.seen = []
            self.connections = {}

    def end(self):
        """What was seen since the case began."""
        with self.lock:
            return copy.deepcopy(self.seen)

    def close(self):
        """Closes all of them."""
        for origin in self.origins.values():
            origin.close()

    def _handler(self, cluster):
        def handler(connection):
            if cluster in self.http2:
                begin = lambda record: self._begin(cluster, connection, record)  # noqa: E731
                Http2Handler(connection, begin, self.http2[cluster]).run()
                return
            try:
                while (head := connection.reader.request_head()) is not None:
                    if not self._exchange(cluster, connection, head):
                        return
            except Closed as closed:
                if closed.seen:
                    self._note({"cluster": cluster, "cut": closed.seen.decode("latin-1")})
        return handler

    def _note(self, record):
        with self.lock:
            self.seen.append(record)
        return record

    def _begin(self, cluster, connection, record):
        """Notes a request whose head has come, and gives the answer to it."""
        with self.lock:
            answer = self.script[0]
            if len(self.script) > 1:
                self.script.popleft()
            number = self.connections.setdefault(id(connection), len(self.connections))
            record.update({"cluster": cluster, "connection": number})
            peer = connection.sock.getpeername()[0]
            if peer != "127.0.0.1":
                record["from"] = peer
            self.seen.append(record)
        return answer

    def _exchange(self, cluster, connection, head):
        """Answers one request; says whether the connection goes on."""
        record = message_record(head)
        answer = self._begin(cluster, connection, record)
        answer = answer if isinstance(answer, dict) else {"reply": answer}
        if answer.get("continue"):
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not answer.get("early"):
            self._body(connection, head, record)
        time.sleep(answer.get("delay", 0))
        if answer.get("hang"):
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.recv(1)
            return False
        if answer.get("reset"):
            return reset(connection)
        if "raw" in answer:
            connection.send(answer["raw"].encode("latin-1"))
        elif not answer.get("close"):
            connection.send(reply(answer.get("reply"), cluster, head.method))
        if answer.get("early"):
            self._body(connection, head, record)
        if answer.get("echo"):
            echo(connection)
            return False
        for part in answer.get("then", []):
            time.sleep(part.get("delay", 0))
            connection.send(part.get("raw", "").encode("latin-1"))
            if part.get("reset"):
                return reset(connection)
        return not answer.get("close") and not answer.get("end")

    @staticmethod
    def _body(connection, head, record):
        try:
            connection.reader.request_body(head)
        except Closed as closed:
            record["body"] = "cut"
            raise Closed(closed.reason) from None
        record.update(message_record(head))


def reset(connection):
    """Closes with a RST."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def echo(connection):
    """Sends back what comes, until the end."""
    buffered = bytes(connection.reader.buffer)
    connection.reader.buffer.clear()
    try:
        while True:
            if buffered:
                connection.send(buffered)
            buffered = connection.sock.recv(65536)
            if not buffered:
                return
    except OSError:
        return


def reply(text, cluster, method):
    """The bytes of a scripted response; its Content-Length is added where it says no framing."""
    start, headers, body = block(text if text is not None else f"200 OK\n\n{cluster}")
    start = start if start.startswith("HTTP/") else f"HTTP/1.1 {start}"
    names = {line.split(":")[0].strip().lower() for line in headers}
    status = int(start.split(" ")[1])
    framed = names & {"content-length", "transfer-encoding"} or "x-until-close" in names
    headers = [line for line in headers if not line.lower().startswith("x-until-close")]
    if not framed and status >= 200 and status not in (204, 304):
        headers.append(f"content-length: {len(body)}")
    head = "\r\n".join([start, *headers]) + "\r\n\r\n"
    return head.encode("latin-1") + (b"" if method == "HEAD" else body.encode("latin-1"))
