"""Random traffic with every body's SHA-256 known on both sides: a client and an origin that compare
notes.

What it leaves to others: what to conclude (`test_mixed.py`). Every body is a slice of one block of
random bytes, so that both sides can make and check megabytes cheaply.
"""
import asyncio
import hashlib
import multiprocessing
import random
import time

BLOCK = random.Random(20).randbytes(4 << 20)
SIZES = (0, 1, 100, 1000, 5000, 16384, 16385, 65536, 200_000, 1_000_000, 3_000_000)
WEIGHTS = (10, 5, 20, 20, 15, 5, 5, 8, 5, 2, 1)
METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD")


def some_body(rng):
    """A slice of the block, of a size from one byte to megabytes."""
    size = rng.choices(SIZES, WEIGHTS)[0]
    size = max(0, size + rng.randint(-3, 3)) if size else 0
    start = rng.randrange(len(BLOCK) - size)
    return memoryview(BLOCK)[start:start + size]


def digest(body):
    """SHA-256 in hex."""
    return hashlib.sha256(body).hexdigest()


async def write_body(writer, body, chunked, rng):
    """Writes a body in random pieces: how many bytes that took on the wire."""
    wire, at = 0, 0
    while at < len(body):
        size = min(len(body) - at, rng.choice((1, 50, 1460, 16384, 65536, 1 << 20)))
        piece = body[at:at + size]
        at += size
        if chunked:
            head = b"%x\r\n" % size
            writer.write(head)
            writer.write(piece)
            writer.write(b"\r\n")
            wire += len(head) + 2
        else:
            writer.write(piece)
        wire += size
        await writer.drain()
        if rng.random() < 0.02:
            await asyncio.sleep(rng.random() / 50)
    if chunked:
        end = b"0\r\nX-Trailer: end\r\n\r\n" if rng.random() < 0.2 else b"0\r\n\r\n"
        writer.write(end)
        wire += len(end)
    await writer.drain()
    return wire


async def read_head(reader):
    """Start line and fields (lower-case names) of the next message."""
    raw = await reader.readuntil(b"\r\n\r\n")
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return start, fields


async def read_body(reader, fields):
    """Size and SHA-256 of the body that belongs to these fields."""
    total, size = hashlib.sha256(), 0

    async def take(count):
        nonlocal size
        while count:
            data = await reader.read(min(count, 1 << 18))
            if not data:
                raise EOFError("the body ends early")
            total.update(data)
            size += len(data)
            count -= len(data)

    if "transfer-encoding" in fields:
        while count := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(count)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("chunk data not followed by CRLF")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
    else:
        await take(int(fields.get("content-length", "0")))
    return size, total.hexdigest()


class Origin:
    """The origin, in a process of its own."""

    def __init__(self, seed):
        context = multiprocessing.get_context("fork")
        self.requests = context.Value("q", 0)
        self.mismatches = context.Value("q", 0)
        self.errors = context.Value("q", 0)
        ports = context.SimpleQueue()
        self.process = context.Process(target=self._main, args=(seed, ports), daemon=True)
        self.process.start()
        self.port = ports.get()

    def _main(self, seed, ports):
        self.rng = random.Random(seed)
        asyncio.run(self._serve(ports))

    async def _serve(self, ports):
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _connection(self, reader, writer):
        try:
            while True:
                try:
                    start, fields = await read_head(reader)
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                self.requests.value += 1
                await self._answer(start.split(" ")[0], fields, reader, writer)
        except (ConnectionError, BrokenPipeError):
            pass
        except (EOFError, ValueError, asyncio.IncompleteReadError):
            self.errors.value += 1
        finally:
            writer.close()

    async def _answer(self, method, fields, reader, writer):
        _, found = await read_body(reader, fields)
        if found != fields["x-body-sha256"]:
            self.mismatches.value += 1
        if self.rng.random() < 0.05:
            await asyncio.sleep(self.rng.random() / 20)
        body = some_body(self.rng)
        chunked = self.rng.random() < 0.5
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = f"HTTP/1.1 200 OK\r\n{framing}\r\nX-Answer-SHA256: {digest(body)}\r\n" \
               f"X-Seen-SHA256: {found}\r\n\r\n"
        writer.write(head.encode())
        if method != "HEAD":
            await write_body(writer, body, chunked, self.rng)


class Clients:
    """The clients: `connections` loops until `seconds` have passed."""

    def __init__(self, port, seed, connections, seconds):
        self.port = port
        self.rng = random.Random(seed)
        self.count = connections
        self.seconds = seconds
        self.opened = self.requests = self.answers = 0
        self.cut = self.half_heads = self.sent_bytes = 0
        self.failures = []

    async def run(self, watch):
        """Runs the clients, and `watch()` every half second beside them."""
        end = time.monotonic() + self.seconds
        loops = [asyncio.create_task(self._loop(end)) for _ in range(self.count)]
        while not all(task.done() for task in loops):
            watch()
            await asyncio.wait(loops, timeout=0.5)
        for task in loops:
            task.result()

    async def _loop(self, end):
        while time.monotonic() < end and len(self.failures) < 20:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 18)
            self.opened += 1
            try:
                for _ in range(self.rng.randint(1, 60)):
                    await asyncio.wait_for(self._request(reader, writer), 60)
                    if time.monotonic() > end:
                        break
                if self.rng.random() < 0.2:
                    await self._cut(reader, writer)
            except Exception as error:  # whatever it was, it is a failed request
                self.failures.append(f"{type(error).__name__}: {error}")
            finally:
                writer.close()

    def _write(self, writer, data):
        writer.write(data)
        self.sent_bytes += len(data)

    async def _send(self, writer, method, body):
        chunked = bool(body) and self.rng.random() < 0.5
        framing = "Transfer-Encoding: chunked\r\n" if chunked else \
            f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} /{self.requests} HTTP/1.1\r\nHost: mixed.test\r\n{framing}" \
               f"X-Body-SHA256: {digest(body)}\r\n\r\n"
        self.requests += 1
        self._write(writer, head.encode())
        if body:
            wire = await write_body(writer, body, chunked, self.rng)
            self.sent_bytes += wire
        else:
            await writer.drain()

    async def _request(self, reader, writer):
        method = self.rng.choice(METHODS)
        body = some_body(self.rng) if method in ("POST", "PUT") else memoryview(b"")
        await self._send(writer, method, body)
        start, fields = await read_head(reader)
        if not start.startswith("HTTP/1.1 200 "):
            raise ValueError(start)
        if fields["x-seen-sha256"] != digest(body):
            raise ValueError("the origin saw another body")
        if method != "HEAD":
            _, found = await read_body(reader, fields)
            if found != fields["x-answer-sha256"]:
                raise ValueError("another body came than the origin sent")
        self.answers += 1

    async def _cut(self, reader, writer):
        """Leaves in the middle of a head, or of a response."""
        self.cut += 1
        if self.rng.random() < 0.5:
            self.half_heads += 1
            self._write(writer, b"GET /never HTTP/1.1\r\nHost: mix")
            await writer.drain()
            return
        await self._send(writer, "GET", memoryview(b""))
        await read_head(reader)
