"""The terse form of HTTP/2 messages in cases, and streams as records that can be compared.

What it leaves to others: connections (`http2_client.py`, `http2_origin.py`).

A head is that of HTTP/1.1 in `text.py`: `GET /path` or `200`, then fields as they are written. A
line that begins with `:` replaces a pseudo-header field or adds one, and `-:name` takes one away.
After a line `==` that ends the body come trailers.
"""
from .text import block

TRAILERS = "\n==\n"


def field(line):
    """`name: value`; the colon of a pseudo-header field's name is none."""
    if line.startswith("-:"):
        return line, ""
    at = line.index(":", 1) if ":" in line[1:] else len(line)
    return line[:at], line[at + 1:].removeprefix(" ")


def fields_of(given):
    """Fields exactly as they are given: lines of text, or pairs."""
    if isinstance(given, str):
        return [field(line) for line in given.rstrip("\n").split("\n")]
    return [tuple(pair) for pair in given]


def message(text, pseudo):
    """(fields, body, trailers) of a terse message; `pseudo` makes the pseudo-header fields of its
    first line."""
    text, _, trailers = text.partition(TRAILERS)
    start, lines, body = block(text)
    first, rest = dict(pseudo(start)), []
    for name, value in map(field, lines):
        if name.startswith("-:"):
            first.pop(name[1:], None)
        elif name.startswith(":"):
            first[name] = value
        else:
            rest.append((name, value))
    return [*first.items(), *rest], body, fields_of(trailers) if trailers else None


def request(text):
    """A terse request: `GET /path`, to `case.test` over http where it does not say so."""
    def pseudo(start):
        method, _, target = start.partition(" ")
        if method == "CONNECT":
            return [(":method", method), (":authority", target)]
        return [(":method", method), (":scheme", "http"), (":authority", "case.test"),
                (":path", target)]
    return message(text, pseudo)


def response(text):
    """A terse response: `200`; a reason after it, as in the form for HTTP/1.1, is left out."""
    return message(text, lambda start: [(":status", start.split(" ")[0])])


def record(stream, line):
    """A stream as plain values."""
    if stream.abandoned:
        return {"line": line, "headers": stream.fields or [], "end": "reset by the client"}
    found = {"line": line, "headers": stream.fields or [], "body": stream.body.decode("latin-1"),
             "end": "reset " + stream.reset if stream.reset else "open"}
    if stream.ended:
        found["end"] = "ended" if stream.reset is None else f"ended, then reset {stream.reset}"
    if stream.interim:
        found["interim"] = [{"headers": fields} for fields in stream.interim]
    if stream.trailers is not None:
        found["trailers"] = stream.trailers
    return found
