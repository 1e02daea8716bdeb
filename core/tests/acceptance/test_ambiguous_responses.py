"""Responses of an origin that two parsers may read in two ways: the client must not get them as
they came.

Each row is one response to one GET (or HEAD): the client gets 502, or a body that visibly does not
end, or, where a row says so, one normalised reading. What it leaves to others: requests
(`test_ambiguous_requests.py`).
"""
import time

from rig import Client, Closed, only

OK = b"HTTP/1.1 200 OK\r\n"
TE = b"Transfer-Encoding"
CHUNKED = OK + TE + b": chunked\r\n\r\n"
BODY_AB = b"2\r\nab\r\n0\r\n\r\n"

REFUSED = "502"
# 502, or a body cut off without its end (when the head had already gone out)
BROKEN = "502 or cut off"

# name, the origin's bytes, what the client must get: REFUSED, BROKEN or (status, body, values of
# fields)
ROWS = [
    ("CL and TE", OK + b"Content-Length: 4\r\n" + TE + b": chunked\r\n\r\n" + BODY_AB, REFUSED),
    ("two different CL", OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", REFUSED),
    ("the same CL twice", OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab",
     (REFUSED, (200, b"ab", {"content-length": ["2"]}))),
    ("CL list 2, 2", OK + b"Content-Length: 2, 2\r\n\r\nab",
     (REFUSED, (200, b"ab", {"content-length": ["2"]}))),
    ("CL +2", OK + b"Content-Length: +2\r\n\r\nab", REFUSED),
    ("CL 0x2", OK + b"Content-Length: 0x2\r\n\r\nab", REFUSED),
    ("CL -2", OK + b"Content-Length: -2\r\n\r\nab", REFUSED),
    ("CL empty", OK + b"Content-Length:\r\n\r\nab", REFUSED),
    ("CL 002", OK + b"Content-Length: 002\r\n\r\nab", ((200, b"ab", {"content-length": ["2"]}),)),
    ("CL 2^64", OK + b"Content-Length: 18446744073709551616\r\n\r\nab", REFUSED),
    ("TE ,chunked", OK + TE + b": ,chunked\r\n\r\n" + BODY_AB,
     (REFUSED, (200, b"ab", {"transfer-encoding": ["chunked"]}))),
    ("TE xchunked", OK + TE + b": xchunked\r\n\r\n" + BODY_AB, REFUSED),
    ("TE chunked, chunked", OK + TE + b": chunked, chunked\r\n\r\n" + BODY_AB, REFUSED),
    ("TE chunked, gzip", OK + TE + b": chunked, gzip\r\n\r\n" + BODY_AB, REFUSED),
    ("TE chunked, identity", OK + TE + b": chunked, identity\r\n\r\n" + BODY_AB, REFUSED),
    ("two TE lines", OK + TE + b": chunked\r\n" + TE + b": chunked\r\n\r\n" + BODY_AB, REFUSED),
    ("space before the colon of TE", OK + TE + b" : chunked\r\n\r\n" + BODY_AB,
     (REFUSED, (200, b"ab", {"transfer-encoding": ["chunked"]}))),
    ("VT before the value of TE", OK + TE + b": \x0bchunked\r\n\r\n" + BODY_AB, REFUSED),
    ("TE in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + TE + b": chunked\r\n\r\n" + BODY_AB, REFUSED),
    ("chunk size 0x0", CHUNKED + b"0x0\r\n\r\n", BROKEN),
    ("chunk size -1", CHUNKED + b"-1\r\nab\r\n0\r\n\r\n", BROKEN),
    ("chunk size 1_0", CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", BROKEN),
    ("spaces before the chunk size", CHUNKED + b"  0\r\n\r\n", BROKEN),
    ("chunk size 2^64+1", CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n", BROKEN),
    ("more data than the chunk size", CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n", BROKEN),
    ("CR CR in a chunk extension", CHUNKED + b"2\r\r;a\r\nab\r\n0\r\n\r\n", BROKEN),
    ("chunk line ended by LF", CHUNKED + b"2\nab\n0\n\n", BROKEN),
    ("chunk extension ended by LF", CHUNKED + b"2;a\nab\r\n0\r\n\r\n", BROKEN),
    ("header lines ended by LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", REFUSED),
    ("CR in a value", OK + b"X: a\rb\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("NUL in a value", OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("0x85 in a name", OK + b"X\x85: a\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("no colon", OK + b"X a\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("empty name", OK + b": a\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("folded line", OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nab",
     (REFUSED, (200, b"ab", {"x": ["a b"]}))),
    ("space before the first header", OK + b" X: a\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("field nominated by Connection",
     OK + b"Connection: x-h\r\nX-h: 1\r\nContent-Length: 2\r\n\r\nab",
     ((200, b"ab", {"x-h": [], "connection": []}),)),
    ("HTTP/1.32", b"HTTP/1.32 200 OK\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("no version", b"200 OK\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("status 000", b"HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("status 99", b"HTTP/1.1 99 No\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("status 1000", b"HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("status abc", b"HTTP/1.1 abc No\r\nContent-Length: 2\r\n\r\nab", REFUSED),
    ("101 that nobody asked for",
     b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", REFUSED),
]


@only("tidegate")
def test_matrix(rig):
    """Each response, whole."""
    script = {}

    def answer(connection):
        while (request := connection.request()) is not None:
            connection.send(script[request.target])

    origin = rig.raw_origin(answer)
    _, port = rig.front(origin.port)
    for number, (name, message, allowed) in enumerate(ROWS):
        with rig.case(name):
            script[f"/{number}"] = message
            with Client(port, 5) as client:
                check(client, f"/{number}", allowed)


def check(client, path, allowed):
    """What the client gets must be one of the outcomes allowed."""
    try:
        response = client.ask(path)
    except Closed as closed:
        assert allowed == BROKEN and closed.reason != "timeout", closed
        assert not closed.seen.endswith(b"0\r\n\r\n"), closed.seen
        return
    options = [allowed] if isinstance(allowed, str) else allowed
    if response.status == 502:
        assert REFUSED in options or BROKEN in options, f"answered 502: {response.body!r}"
        return
    for option in options:
        if not isinstance(option, str) and option[0] == response.status:
            assert response.body == option[1], response.body
            for field, values in option[2].items():
                assert response.all(field) == values, response.headers
            return
    raise AssertionError(f"the client got {response.raw_head!r} {response.body!r}")


@only("tidegate")
def test_bytes_after_a_response_are_not_the_next_response(rig):
    """Extra bytes after a response poison the connection, they answer nobody."""
    def answer(connection):
        while connection.request() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")

    origin = rig.raw_origin(answer)
    _, port = rig.front(origin.port, proxy={"concurrency": 1})
    with Client(port, 5) as client:
        for _ in range(20):
            response = client.ask()
            assert (response.status, response.body) == (200, b"ok"), response.body


@only("tidegate")
def test_bytes_after_a_response_do_not_answer_who_waits(rig):
    """The same while other requests wait for the one connection that there may be."""
    def answer(connection):
        while connection.request() is not None:
            time.sleep(0.01)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")

    breaker = {"circuit_breakers": {"thresholds": [{"max_connections": 1}]}}
    origin = rig.raw_origin(answer)
    _, port = rig.front(origin.port, cluster=breaker, proxy={"concurrency": 1})
    clients = [Client(port, 5) for _ in range(8)]
    for _ in range(5):
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        bodies = {client.final().body for client in clients}
        assert bodies == {b"ok"}, bodies
    for client in clients:
        client.close()


@only("tidegate")
def test_body_of_a_head_response_is_not_the_next_response(rig):
    """An origin that sends a body to HEAD cannot put it before the next answer."""
    def answer(connection):
        while (request := connection.request()) is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
                            + (b"EVIL" if request.method == "HEAD" else b"good"))

    origin = rig.raw_origin(answer)
    _, port = rig.front(origin.port, proxy={"concurrency": 1})
    with Client(port, 5) as client:
        for _ in range(10):
            head = client.ask(method="HEAD")
            assert (head.status, head.get("content-length")) == (200, "4")
            assert client.ask().body == b"good"
