//! Heads of requests and responses, the same for every HTTP version.
//!
//! What it leaves to others: how they look on the wire.

use crate::{Headers, Name, Span};

/// The protocol version that a head arrived with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// A request method (RFC 9110 9, RFC 5789); anything else is [`Method::Extension`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Extension,
}

impl Method {
    /// Whether repeating the request has no further effect (RFC 9110 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        use Method::{Delete, Get, Head, Options, Put, Trace};
        matches!(self, Get | Head | Put | Delete | Options | Trace)
    }
}

impl Method {
    /// Whether this is the name of a method that Envoy takes without `allow_custom_methods`: those
    /// of RFC 9110, of WebDAV and its kin, and a few older ones.
    #[must_use]
    pub fn is_known(name: &[u8]) -> bool {
        const OTHERS: [&[u8]; 25] = [
            b"ACL",
            b"BIND",
            b"CHECKOUT",
            b"COPY",
            b"LINK",
            b"LOCK",
            b"M-SEARCH",
            b"MERGE",
            b"MKACTIVITY",
            b"MKCALENDAR",
            b"MKCOL",
            b"MOVE",
            b"NOTIFY",
            b"PROPFIND",
            b"PROPPATCH",
            b"PURGE",
            b"REBIND",
            b"REPORT",
            b"SEARCH",
            b"SOURCE",
            b"SUBSCRIBE",
            b"UNBIND",
            b"UNLINK",
            b"UNLOCK",
            b"UNSUBSCRIBE",
        ];
        Method::of(name) != Method::Extension || OTHERS.contains(&name)
    }

    /// The method with this name; case matters (RFC 9110 9.1).
    #[must_use]
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Extension,
        }
    }
}

/// The scheme of an absolute-form target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// How long a body is and how its end is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyLength {
    /// No body.
    #[default]
    None,
    /// `content-length`: exactly so many bytes. Zero is [`BodyLength::None`] for the reader (see
    /// `content_length` of the head for what is forwarded), unless trailers may follow, on HTTP/2.
    Exact(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// A response that ends when the connection does (RFC 9112 6.3, item 8).
    UntilClose,
    /// Not a body: everything after the head is another protocol's (CONNECT, 101).
    Tunnel,
}

/// The head of a request.
#[derive(Clone, Default, Debug)]
pub struct RequestHead {
    /// Version on the wire.
    pub version: Version,
    /// Method, as a number.
    pub method: Method,
    /// Method, as it was sent.
    pub method_name: Span,
    /// Path and query; `*` for `OPTIONS *`; empty for CONNECT.
    pub path: Span,
    /// Host and port: from an absolute-form or authority-form target, else from `host`. The `host`
    /// field itself is still in `headers` and holds the same value. Empty only for HTTP/1.0 without
    /// `host`.
    pub authority: Span,
    /// The scheme that the target named, if it was in absolute-form. Envoy refuses `https` on a
    /// connection without TLS with 403, `http1.https_url_on_plaintext_connection`; only the proxy
    /// knows about TLS.
    pub scheme: Option<Scheme>,
    /// How the body ends.
    pub body: BodyLength,
    /// The declared `content-length`, zero included.
    pub content_length: Option<u64>,
    /// The connection must close after this exchange: `connection: close`, HTTP/1.0 without
    /// keep-alive, or CONNECT (what follows a refused CONNECT may be meant for the tunnel).
    pub close: bool,
    /// `expect: 100-continue` on HTTP/1.1.
    pub expect_continue: bool,
    /// `connection: upgrade` with an `upgrade` field, on HTTP/1.1.
    pub upgrade: bool,
    /// Fields, in order, as they arrived (hop-by-hop ones included until `strip_hop_by_hop`).
    pub headers: Headers,
}

/// The head of a response.
#[derive(Clone, Default, Debug)]
pub struct ResponseHead {
    /// Version on the wire.
    pub version: Version,
    /// Status code, 100 to 999. What is above 599 is no one's (RFC 9110 15) and passed on, as Envoy
    /// does.
    pub status: u16,
    /// Reason phrase as it was sent (may be empty).
    pub reason: Span,
    /// How the body ends.
    pub body: BodyLength,
    /// The declared `content-length`, zero included; also with HEAD and 304.
    pub content_length: Option<u64>,
    /// The peer closes the connection after this response.
    pub close: bool,
    /// `connection: upgrade` with an `upgrade` field.
    pub upgrade: bool,
    /// Fields, in order.
    pub headers: Headers,
}

impl RequestHead {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = core::mem::take(&mut self.headers);
        headers.clear();
        *self = RequestHead { headers, ..RequestHead::default() };
    }

    /// Path and query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.headers.bytes(self.path)
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &[u8] {
        self.headers.bytes(self.authority)
    }

    /// The method as it was sent.
    #[must_use]
    pub fn method_name(&self) -> &[u8] {
        self.headers.bytes(self.method_name)
    }

    /// Replaces path and query.
    pub fn set_path(&mut self, path: &[u8]) {
        self.path = self.headers.store(path);
    }

    /// Replaces host and port, in the `host` field too.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.headers.set(b"host", authority);
        self.authority = self
            .headers
            .fields()
            .iter()
            .find(|f| f.id == Name::Host)
            .map_or(Span::default(), |f| f.value);
    }
}

impl ResponseHead {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = core::mem::take(&mut self.headers);
        headers.clear();
        *self = ResponseHead { headers, ..ResponseHead::default() };
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.headers.bytes(self.reason)
    }
}
