#!/usr/bin/env python3
"""A few seconds of requests on kept connections, and a table of what they took.

    traffic.py PORT PATH...

What it leaves to others: measuring (`scripts/compare`). One Python process is far slower than the
proxy: the table shows that it works and what a small client sees, not what it can do.
"""
import asyncio
import sys
import time

SECONDS, CONNECTIONS = 3, 8


async def ask(port, path, end, took):
    """Requests on one connection until `end`; appends (status, seconds) of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    while (began := time.perf_counter()) < end:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        size = int(head.split("content-length:")[1].split("\r\n")[0])
        await reader.readexactly(size)
        took.append((head.split(" ", 2)[1], time.perf_counter() - began))
    writer.close()


async def main():
    """Sends, and prints one row per path."""
    port, paths = int(sys.argv[1]), sys.argv[2:]
    end = time.perf_counter() + SECONDS
    results = {path: [] for path in paths}
    await asyncio.gather(*(ask(port, path, end, results[path])
                           for path in paths for _ in range(CONNECTIONS)))
    print(f"{'path':14s} {'requests':>9s}" +
          "".join(f"{name:>9s}" for name in ("not 2xx", "p50 ms", "p99 ms", "max ms")))
    for path, took in results.items():
        bad = sum(not status.startswith("2") for status, _ in took)
        times = sorted(seconds * 1000 for _, seconds in took)
        row = [times[int(len(times) * share)] for share in (0.5, 0.99)] + [times[-1]]
        print(f"{path:14s} {len(took):9d} {bad:8d} " + " ".join(f"{ms:8.2f}" for ms in row))


asyncio.run(main())
