"""Request messages that two parsers may read in two ways: none reaches the origin as it came.

Each row is one message on a connection of its own; the origin keeps the requests that reach it.
What is asked: a 4xx or 501 with the connection closed and no complete request at the origin, or,
where a row says so, one normalised reading at the origin. What it leaves to others: grammar corner
by corner (the codec's own tests).
"""
from rig import Client, limit, only
from rig.http1 import Request

H = b"Host: a.test\r\n"
POST = b"POST /x HTTP/1.1\r\n" + H
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\n" + H
END = b"\r\n"
TE = b"Transfer-Encoding"
BODY_AB = b"2\r\nab\r\n0\r\n\r\n"
REFUSE = (400,)


def sends(body, **fields):
    """The one request that the origin may see: its body, and values that its head must or must not
    have."""
    return {"body": body, **fields}


# name, message, statuses that refuse it, the normalised reading that may be forwarded instead
ROWS = [
    ("CL and TE", POST + b"Content-Length: 4\r\n" + TE + b": chunked\r\n\r\n" + BODY_AB,
     REFUSE, None),
    ("two different CL", POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", REFUSE, None),
    ("the same CL twice", POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", REFUSE,
     sends(b"ab", content_length=["2"])),
    ("CL list 2, 2", POST + b"Content-Length: 2, 2\r\n\r\nab", REFUSE,
     sends(b"ab", content_length=["2"])),
    ("CL +2", POST + b"Content-Length: +2\r\n\r\nab", REFUSE, None),
    ("CL 0x2", POST + b"Content-Length: 0x2\r\n\r\nab", REFUSE, None),
    ("CL empty", POST + b"Content-Length:\r\n\r\nab", REFUSE, None),
    ("CL 002", POST + b"Content-Length: 002\r\n\r\nab", (), sends(b"ab", content_length=["2"])),
    ("TE ,chunked", POST + TE + b": ,chunked\r\n\r\n" + BODY_AB, REFUSE + (501,),
     sends(b"ab", transfer_encoding=["chunked"])),
    ("TE xchunked", POST + TE + b": xchunked\r\n\r\n" + BODY_AB, (400, 501), None),
    ("TE chunked, chunked", POST + TE + b": chunked, chunked\r\n\r\n" + BODY_AB, (400, 501), None),
    ("TE chunked, identity", POST + TE + b": chunked, identity\r\n\r\n" + BODY_AB,
     (400, 501), None),
    ("two TE lines", POST + TE + b": chunked\r\n" + TE + b": chunked\r\n\r\n" + BODY_AB,
     (400, 501), None),
    ("space before the colon of TE", POST + TE + b" : chunked\r\n\r\n" + BODY_AB, REFUSE, None),
    ("VT before the value of TE", POST + TE + b": \x0bchunked\r\n\r\n" + BODY_AB, (400, 501), None),
    ("TE in HTTP/1.0", b"POST /x HTTP/1.0\r\n" + H + TE + b": chunked\r\n\r\n" + BODY_AB,
     (400, 426), None),
    ("chunk size 0x0", CHUNKED + b"0x0\r\n\r\n", REFUSE, None),
    ("chunk size -1", CHUNKED + b"-1\r\nab\r\n0\r\n\r\n", REFUSE, None),
    ("chunk size 1_0", CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", REFUSE, None),
    ("spaces before the chunk size", CHUNKED + b"  0\r\n\r\n", REFUSE, None),
    ("chunk size 2^64+1", CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n", REFUSE, None),
    ("more data than the chunk size", CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n", REFUSE, None),
    ("CR CR LF in a chunk extension", CHUNKED + b"2\r\r;a\r\nab\r\n0\r\n\r\n", REFUSE, None),
    ("chunk line ended by LF", CHUNKED + b"2\nab\n0\n\n", REFUSE, None),
    ("chunk extension ended by LF", CHUNKED + b"2;a\nab\r\n0\r\n\r\n", REFUSE, None),
    ("header lines ended by LF", b"GET /x HTTP/1.1\nHost: a.test\n\n", REFUSE, None),
    ("CR in a value", GET + b"X: a\rb\r\n\r\n", REFUSE, None),
    ("NUL in a value", GET + b"X: a\0b\r\n\r\n", REFUSE, None),
    ("0x85 in a name", GET + b"X\x85: a\r\n\r\n", REFUSE, None),
    ("no colon", GET + b"X a\r\n\r\n", REFUSE, None),
    ("empty name", GET + b": a\r\n\r\n", REFUSE, None),
    ("folded line", GET + b"X: a\r\n b\r\n\r\n", REFUSE, sends(b"", x=["a b"])),
    ("space before the first header", b"GET /x HTTP/1.1\r\n " + H + END, REFUSE, None),
    ("two Host", GET + b"Host: b.test\r\n\r\n", REFUSE, None),
    ("no Host", b"GET /x HTTP/1.1\r\n\r\n", REFUSE, None),
    ("absolute URI against Host", b"GET http://uri.test/x HTTP/1.1\r\n" + H + END, (),
     sends(b"", host=["uri.test"])),
    ("field nominated by Connection", GET + b"Connection: x-h\r\nX-h: 1\r\n\r\n", (),
     sends(b"", x_h=[], connection=[])),
    ("TE gzip", GET + b"TE: gzip\r\n\r\n", (), sends(b"", te=[])),
    ("TE gzip, nominated", GET + b"TE: gzip\r\nConnection: TE\r\n\r\n", (),
     sends(b"", te=[], connection=[])),
    ("Transfer_Encoding", POST + b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\nab",
     REFUSE, sends(b"ab", transfer_encoding=[], content_length=["2"])),
    ("Expect x 100-continue", POST + b"Expect: x 100-continue\r\nContent-Length: 2\r\n\r\nab",
     (417,), sends(b"ab", content_length=["2"])),
    ("fragment in the target", b"GET /a#b HTTP/1.1\r\n" + H + END, REFUSE, None),
    ("HTTP/1.32", b"GET /x HTTP/1.32\r\n" + H + END, (400, 505), None),
    ("HTTP/0.9", b"GET /x\r\n", (400, 426), None),
]
assert len(ROWS) == 44


def recording_origin(rig):
    """An origin that answers every complete request, and the list in which it keeps them."""
    complete = []

    def answer(connection):
        while (request := connection.request()) is not None:
            complete.append(request)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return rig.raw_origin(answer), complete


@only("tidegate")
@limit(150)
def test_matrix(rig):
    """Each of the 44 messages, whole and byte by byte."""
    origin, complete = recording_origin(rig)
    _, port = rig.front(origin.port)
    for split in (False, True):
        for name, message, refusals, normalised in ROWS:
            with rig.case(name + (", byte by byte" if split else "")):
                complete.clear()
                check_row(port, message, refusals, normalised, split)
                check_origin(list(complete), refusals, normalised)


def check_row(port, message, refusals, normalised, split):
    """The client's side of a row."""
    with Client(port, 5) as client:
        try:
            for part in ([message[i:i + 1] for i in range(len(message))] if split else [message]):
                client.send(part)
        except (ConnectionResetError, BrokenPipeError):
            pass  # it was refused before its end: the answer tells
        response = client.final()
        if response.status == 200:
            assert normalised is not None, "answered 200"
            return
        assert response.status in refusals, f"answered {response.start}"
        if response.status != 417:
            assert response.tokens("connection") == ["close"], response.headers
            assert client.closed(), "the connection stays open"


def check_origin(new, refusals, normalised):
    """The origin's side of a row: nothing complete, or exactly the normalised request."""
    if not new:
        assert refusals, "the normalised request did not arrive"
        return
    assert normalised is not None, f"reached the origin: {new[0].raw_head!r} {new[0].body!r}"
    assert len(new) == 1, [r.raw_head for r in new]
    request: Request = new[0]
    assert request.body == normalised["body"], request.body
    for field, values in normalised.items():
        if field != "body":
            found = request.all(field.replace("_", "-"))
            assert found == values, f"{field}: {found} at the origin, not {values}"


@only("tidegate")
def test_nothing_is_hidden_behind_a_refused_message(rig):
    """What follows a refused message on its connection is never read as a request."""
    origin = rig.origin()
    _, port = rig.front(origin.port)
    hidden = b"GET /hidden HTTP/1.1\r\n" + H + END
    for name, message, refusals, normalised in ROWS:
        if normalised is None:
            with rig.case(name):
                with Client(port, 5) as client:
                    client.send(message + hidden)
                    assert client.final().status in refusals
                    assert client.closed(), "the connection stays open"
                reached = [r.target for r in origin.requests]
                origin.requests.clear()
                assert "/hidden" not in reached


@only("tidegate")
def test_upstream_connection_of_a_broken_body_is_not_reused(rig):
    """A body that turns out bad after its head was forwarded costs the upstream connection too."""
    origin, complete = recording_origin(rig)
    _, port = rig.front(origin.port, proxy={"concurrency": 1})
    with Client(port, 5) as client:
        client.send(CHUNKED + b"2\r\nab\r\n")
        client.send(b"zz\r\n")
        assert client.final().status == 400
    with Client(port, 5) as client:
        assert client.ask("/next").status == 200
    assert [r.target for r in complete] == ["/next"], complete
    broken = origin.connections[:-1]
    assert all(c.ended.wait(3) for c in broken), "the broken upstream connection stays open"
