#!/usr/bin/env python3
"""Two origins for `scripts/run`: `service 1` on the first port, `service 2` on the second.

What it leaves to others: everything else. It reads heads only, so it is for requests without a
body.
"""
import asyncio
import signal
import sys


async def serve(port, body):
    """Answers every request on a port with `body`."""
    reply = (f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
             f"{body}").encode()

    async def connection(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(connection, "127.0.0.1", port, backlog=512)


async def main():
    """Runs both until SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    for index, port in enumerate(sys.argv[1:], 1):
        await serve(int(port), f"hello from service {index}\n")
    await ended.wait()


asyncio.run(main())
