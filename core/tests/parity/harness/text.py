"""The terse form of messages in cases, and messages as records that can be compared.

What it leaves to others: sockets, and what differs in every run (`observation.py`).
"""


def block(text):
    """`start line`, header lines and, after an empty line, a body: (start, headers, body). The last
    line end, which a YAML block adds, does not count; CR LF, which stands in chunks, does."""
    text = text[:-1] if text.endswith("\n") and not text.endswith("\r\n") else text
    head, _, body = text.partition("\n\n")
    start, *headers = head.split("\n")
    return start, headers, body


def request_bytes(text):
    """The bytes of a terse request: `GET /path`, with a Host of `case.test`, an HTTP version and a
    Content-Length where it says none."""
    start, headers, body = block(text)
    words = start.split(" ")
    version = words.pop() if words[-1].startswith("HTTP/") else "HTTP/1.1"
    names = {line.split(":")[0].strip().lower() for line in headers}
    if "host" not in names:
        headers.insert(0, "Host: case.test")
    if body and not names & {"content-length", "transfer-encoding"}:
        headers.append(f"Content-Length: {len(body)}")
    lines = [" ".join([*words, version]), *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def message_record(message):
    """A message as plain values."""
    framing = "chunked" if message.chunked else "none"
    if not message.chunked and message.all("content-length"):
        framing = "length"
    if getattr(message, "until_close", False):
        framing = "close"
    record = {
        "line": message.start,
        "headers": message.headers,
        "body": message.body.decode("latin-1"),
        "framing": framing,
    }
    if message.trailers:
        record["trailers"] = message.trailers
    return record
