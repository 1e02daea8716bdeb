"""Origins: one that does exactly what a test scripts, one that answers HTTP, and nginx for load.

What it leaves to others: what to answer. All of them count what they saw, as the other side of the
ledger.
"""
import socket
import subprocess
import threading
import time
from pathlib import Path

from .http1 import Closed, Reader, Request


class Connection:
    """One accepted connection of a `RawOrigin`."""

    def __init__(self, sock):
        self.sock = sock
        self.reader = Reader(sock)
        self.raw = bytearray()
        self.ended = threading.Event()
        self.error = None

    def send(self, data):
        """Sends bytes as they are."""
        self.sock.sendall(data)

    def request(self, sink=None):
        """The next request, or None at a clean end."""
        return self.reader.request(sink)

    def record(self, idle=0.5):
        """Keeps everything that comes until nothing did for `idle` seconds, or the end."""
        self.sock.settimeout(idle)
        try:
            while data := self.sock.recv(65536):
                self.raw += data
        except OSError:
            return


class RawOrigin:
    """Listens on an ephemeral port and runs `handler(connection)` on a thread for each
    connection."""

    def __init__(self, handler, backlog=1024, timeout=30.0):
        self.handler = handler
        self.timeout = timeout
        self.connections = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self.timeout)
            connection = Connection(sock)
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            self.handler(connection)
        except (Closed, OSError, AssertionError, ValueError) as error:
            connection.error = error
        finally:
            connection.sock.close()
            connection.ended.set()

    def close(self):
        """Stops listening and drops what is connected."""
        self.listener.close()
        for connection in self.connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def recorded(self):
        """All bytes that `Connection.record` kept, connection by connection."""
        return [bytes(c.raw) for c in self.connections if c.raw]


class HttpOrigin(RawOrigin):
    """Answers each request with `answer(request) -> (status, headers, body)`; keeps the
    requests."""

    def __init__(self, answer=None, keep=True):
        self.answer = answer or (lambda request: (200, [], b"origin\n"))
        self.keep = keep
        self.requests = []
        self.count = 0
        self.lock = threading.Lock()
        super().__init__(self._answer_all)

    def _answer_all(self, connection):
        while (request := connection.request()) is not None:
            with self.lock:
                self.count += 1
                if self.keep:
                    self.requests.append(request)
            status, headers, body = self.answer(request)
            connection.send(reply(status, headers, body, head_only=request.method == "HEAD"))
            if "close" in request.tokens("connection"):
                return

    @property
    def last(self) -> Request:
        """The request seen last."""
        return self.requests[-1]


def reply(status=200, headers=(), body=b"", head_only=False):
    """The bytes of a response with a Content-Length."""
    lines = [f"HTTP/1.1 {status} Scripted"] + [f"{n}: {v}" for n, v in headers]
    if status >= 200 and status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if head_only else body)


class Nginx:
    """nginx answering 200 with a small body: fast enough not to be what a load test measures."""

    def __init__(self, directory: Path, port: int, body="hello from the origin\n", http2=False):
        self.port = port
        where = directory / f"nginx-{port}"
        where.mkdir(mode=0o755)
        temporary = " ".join(
            f"{name}_temp_path {where}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = body.replace("\n", "\\n")
        (where / "nginx.conf").write_text(f"""
worker_processes 1; daemon off; master_process off; pid {where}/pid; error_log {where}/error.log;
worker_rlimit_nofile 4096;
events {{ worker_connections 4000; }}
http {{
  {temporary}
  keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
  log_format plain '$status'; access_log {where}/access.log plain;
  server {{ listen 127.0.0.1:{port} backlog=4096 {"http2" if http2 else ""};
    location / {{ default_type text/plain; return 200 "{text}"; }} }}
}}
""")
        self.log = where / "access.log"
        self.process = subprocess.Popen(
            ["nginx", "-c", str(where / "nginx.conf")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.process)

    def served(self):
        """How many requests it has answered."""
        return self.log.read_bytes().count(b"\n")

    def close(self):
        """Stops it."""
        self.process.terminate()
        self.process.wait()


class Http2Front:
    """HAProxy before an origin of HTTP/1.1: together an origin of HTTP/2 that is not our code."""

    def __init__(self, directory: Path, port: int, origin_port: int):
        self.port = port
        path = directory / f"haproxy-{port}.cfg"
        path.write_text(f"""
global
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{port} proto h2
  default_backend b
backend b
  server origin 127.0.0.1:{origin_port}
""")
        self.process = subprocess.Popen(["haproxy", "-db", "-f", str(path)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self.process)

    def close(self):
        """Stops it."""
        self.process.terminate()
        self.process.wait()


def wait_for_port(port, process=None, seconds=10.0):
    """Waits until something listens on a loopback port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"exited with {process.returncode} before listening on {port}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"nothing listens on {port} after {seconds} s")
