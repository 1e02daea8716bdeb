"""HTTP/2 as frames: a peer that sends what it is told to, right or wrong, and reads strictly.

What it leaves to others: what to send (tests), and its use of a socket's life (`client.py`,
`origin.py`). HPACK is the package `hpack`'s; frames are made here, because every library for them
refuses those that a test needs.
"""
import contextlib
import struct
import threading

import hpack

from .http1 import Reader

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
KINDS = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY",
         "WINDOW_UPDATE", "CONTINUATION"]
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
 CONTINUATION) = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, WITH_PRIORITY = 0x4, 0x8, 0x20
CODES = ["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
         "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
         "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]
SETTING = {"HEADER_TABLE_SIZE": 1, "ENABLE_PUSH": 2, "MAX_CONCURRENT_STREAMS": 3,
           "INITIAL_WINDOW_SIZE": 4, "MAX_FRAME_SIZE": 5, "MAX_HEADER_LIST_SIZE": 6,
           "ENABLE_CONNECT_PROTOCOL": 8}
SETTING_NAMES = {number: name for name, number in SETTING.items()}
FRAME_MAX = 16384
DEFAULT_WINDOW = 65535


def frame(kind, flags=0, stream=0, payload=b""):
    """The bytes of a frame; nothing about it is checked."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    """A SETTINGS frame."""
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", SETTING[name], value)
                                            for name, value in values.items()))


def window_update(stream, increment):
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream, code="CANCEL"):
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code_number(code)))


def goaway(code="NO_ERROR", last=0, debug=b""):
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code_number(code)) + debug)


def code_number(code):
    """An error code by name, or the number itself."""
    return code if isinstance(code, int) else CODES.index(code)


def code_name(number):
    """An error code's name, or its number where it has none."""
    return CODES[number] if number < len(CODES) else str(number)


def in_bytes(fields):
    """Fields as hpack takes them."""
    return [(name.encode("latin-1") if isinstance(name, str) else name,
             value.encode("latin-1") if isinstance(value, str) else value)
            for name, value in fields]


class Stream:
    """What came on a stream: heads, body, trailers, and how it ended."""

    def __init__(self, number, window):
        self.number = number
        self.interim = []
        self.fields = None
        self.body = bytearray()
        self.trailers = None
        self.ended = False
        self.reset = None
        self.abandoned = False
        self.window = window

    @property
    def done(self):
        """Whether nothing more is to come, or is waited for."""
        return self.over or self.abandoned

    @property
    def over(self):
        """Whether the peer has ended or reset it."""
        return self.ended or self.reset is not None

    def get(self, name, default=None):
        """The first value of that name in the head."""
        return next((value for key, value in self.fields or () if key == name), default)

    @property
    def status(self):
        """The number in `:status`, when there is one."""
        return int(self.get(":status", 0))

    def take(self, fields, ended):
        """A field section."""
        self.ended = self.ended or ended
        status = next((value for name, value in fields if name == ":status"), "")
        if self.fields is None and status.startswith("1"):
            self.interim.append(fields)
        elif self.fields is None:
            self.fields = fields
        elif self.trailers is None:
            self.trailers = fields
        else:
            raise AssertionError(f"stream {self.number}: a field section after the trailers")


class Peer:
    """One connection. It answers SETTINGS and PING and gives windows back, unless told not to."""

    def __init__(self, sock, client, windows=True, answer=True):
        self.sock = sock
        self.reader = Reader(sock)
        self.client = client
        self.windows = windows
        self.answer = answer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.streams = {}
        self.goaways = []
        self.settings = []
        self.acks = 0
        self.pongs = []
        self.given = 0
        self.own_window = DEFAULT_WINDOW
        self.stream_window = DEFAULT_WINDOW
        self.lock = threading.RLock()
        self.held = None
        self.next = 1

    def begin(self, window=1 << 20, **values):
        """Sends what a connection begins with, and a wide window for the connection."""
        self.stream_window = values.get("INITIAL_WINDOW_SIZE", DEFAULT_WINDOW)
        self.own_window += window
        start = PREFACE if self.client else b""
        self.send(start + settings(**values) + (window_update(0, window) if window else b""))

    def send(self, data):
        """Sends bytes as they are."""
        with self.lock:
            if self.held is None:
                self.sock.sendall(data)
            else:
                self.held += data

    @contextlib.contextmanager
    def together(self):
        """What is sent within is one write."""
        with self.lock:
            self.held = b""
            try:
                yield
            finally:
                data, self.held = self.held, None
            self.sock.sendall(data)

    def headers(self, fields, stream=None, end=False, flags=END_HEADERS, padding=None):
        """A field section on a stream (the next one when none is given): its number."""
        if stream is None:
            stream, self.next = self.next, self.next + 2
            self.streams[stream] = Stream(stream, self.stream_window)
        with self.lock:
            block = self.encoder.encode(in_bytes(fields))
            flags |= END_STREAM if end else 0
            if padding is not None:
                block, flags = bytes([padding]) + block + bytes(padding), flags | PADDED
            parts = [block[at:at + FRAME_MAX] for at in range(0, len(block), FRAME_MAX)] or [b""]
            last = len(parts) - 1
            out = b""
            for index, part in enumerate(parts):
                own = flags if index == last else flags & ~END_HEADERS
                out += frame(HEADERS if index == 0 else CONTINUATION,
                             own if index == 0 else own & END_HEADERS, stream, part)
            self.send(out)
        return stream

    def data(self, stream, data=b"", end=False):
        """DATA frames."""
        parts = [data[at:at + FRAME_MAX] for at in range(0, len(data), FRAME_MAX)] or [b""]
        out = b""
        for index, part in enumerate(parts):
            out += frame(DATA, END_STREAM if end and index + 1 == len(parts) else 0, stream, part)
        self.send(out)

    def frame(self):
        """The next frame: (kind, flags, stream, payload)."""
        head = self.reader.take(9)
        assert head[:5] != b"HTTP/", "an answer of HTTP/1"
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        assert size <= FRAME_MAX, f"a frame of {size} bytes"
        assert not stream >> 31, "the reserved bit is set"
        return kind, flags, stream, self.reader.take(size)

    def step(self):
        """Reads one frame and does what it asks for: its kind and its stream."""
        kind, flags, stream, payload = self.frame()
        if kind == HEADERS:
            self._headers(flags, stream, payload)
        elif kind == DATA:
            self._data(flags, stream, payload)
        elif kind == RST_STREAM:
            assert len(payload) == 4, "a RST_STREAM of another size"
            found = self._stream(stream)
            assert found.reset is None, f"stream {stream} is reset twice"
            found.reset = code_name(int.from_bytes(payload, "big"))
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaways.append((code_name(code), last))
        else:
            self._control(kind, flags, stream, payload)
        return kind, stream

    def _control(self, kind, flags, stream, payload):
        if kind == SETTINGS and flags & ACK:
            assert not payload, "an acknowledgement with settings"
            self.acks += 1
        elif kind == SETTINGS:
            assert len(payload) % 6 == 0, "a SETTINGS of another size"
            values = dict(struct.unpack(">HI", payload[at:at + 6])
                          for at in range(0, len(payload), 6))
            self.settings.append({SETTING_NAMES.get(n, str(n)): v for n, v in values.items()})
            if self.answer:
                self.send(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == PING:
            if self.answer:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            assert increment, "a WINDOW_UPDATE of 0"
            self.given += 0 if stream else increment
        else:
            name = KINDS[kind] if kind < len(KINDS) else kind
            raise AssertionError(f"a frame of kind {name} that nobody asked for")

    def _stream(self, number):
        if number not in self.streams:
            assert number % 2 == 1 and not self.client, f"stream {number} is not open"
            self.streams[number] = Stream(number, self.stream_window)
        return self.streams[number]

    def _headers(self, flags, number, payload):
        stream = self._stream(number)
        assert not stream.over, f"HEADERS on stream {number}, which has ended"
        block = unpadded(flags, payload)
        if flags & WITH_PRIORITY:
            block = block[5:]
        while not flags & END_HEADERS:
            kind, more, other, payload = self.frame()
            assert (kind, other) == (CONTINUATION, number), f"{kind} within a field block"
            block, flags = block + payload, flags | (more & END_HEADERS)
        fields = [(name.decode("latin-1"), value.decode("latin-1"))
                  for name, value in self.decoder.decode(block, raw=True)]
        stream.take(fields, bool(flags & END_STREAM))

    def _data(self, flags, number, payload):
        stream = self._stream(number)
        assert not stream.over, f"DATA on stream {number}, which has ended"
        assert stream.fields is not None, f"DATA before the head on stream {number}"
        self.own_window -= len(payload)
        stream.window -= len(payload)
        assert self.own_window >= 0 and stream.window >= 0, f"more than the window on {number}"
        stream.body += unpadded(flags, payload)
        stream.ended = bool(flags & END_STREAM)
        if self.windows and payload:
            self.give(0, len(payload))
            if not stream.ended:
                self.give(number, len(payload))

    def give(self, number, count):
        """Gives a window to a stream, or to the connection."""
        if number in self.streams:
            self.streams[number].window += count
        elif not number:
            self.own_window += count
        self.send(window_update(number, count))

    def until(self, condition):
        """Reads frames until the condition holds."""
        while not condition():
            self.step()


def unpadded(flags, payload):
    """A payload without its padding."""
    if not flags & PADDED:
        return payload
    assert payload[0] < len(payload), "more padding than payload"
    return payload[1:len(payload) - payload[0]]
