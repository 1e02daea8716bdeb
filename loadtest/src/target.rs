//! What is sent: an origin's address, and requests encoded once, before the first is sent.
//!
//! What it leaves to others: sending, and how options become requests.

use std::net::{SocketAddr, ToSocketAddrs};

use tidegate_http::h1::encode_request;
use tidegate_http::{BodyLength, Method, RequestHead, Scheme};

/// Where requests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub address: SocketAddr,
    /// Host and port as they stand in `host`.
    pub authority: String,
    pub is_https: bool,
}

/// One request, ready to be sent.
#[derive(Clone, Debug)]
pub struct Target {
    /// As logs name it.
    pub method: String,
    pub url: String,
    /// What the decoder of its response must know.
    pub head: RequestHead,
    /// Head and body as they go out.
    pub wire: Vec<u8>,
    pub body_bytes: usize,
}

/// Scheme, authority and path of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    pub authority: String,
    pub host: String,
    pub port: u16,
    pub is_https: bool,
    /// Path and query.
    pub path: String,
}

impl Url {
    /// `http://host:port/path?query`, or `https`; without a scheme it is `http`.
    pub fn parse(text: &str) -> Result<Url, String> {
        let (is_https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => {
                return Err(format!("{text}: unknown scheme `{scheme}`, use http or https"));
            }
            None => (false, text),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{text}: a path has no spaces and no control characters"));
        }
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("{text}: `{port}` is no port"))?)
            }
            _ => (authority, if is_https { 443 } else { 80 }),
        };
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._~[]:%".contains(&b);
        if host.is_empty() || !host.bytes().all(valid) {
            return Err(format!("{text}: no host; a URL is http://host:port/path"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Url { authority: authority.to_owned(), host, port, is_https, path })
    }

    /// The first address of the host.
    pub fn resolve(&self) -> Result<Origin, String> {
        let mut addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("{}: {error}", self.host))?;
        let address = addresses.next().ok_or_else(|| format!("{}: no address", self.host))?;
        Ok(Origin { address, authority: self.authority.clone(), is_https: self.is_https })
    }
}

/// What a request consists of besides its URL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parts {
    pub method: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// `Name: value`.
pub fn header(line: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{line}` is no header field: `Name: value`");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|b| b < 0x20 && b != b'\t')
    {
        return Err(wrong());
    }
    Ok((name, value.to_owned()))
}

impl Target {
    pub fn new(url: &Url, text: &str, parts: &Parts) -> Result<Target, String> {
        let method = if parts.method.is_empty() { "GET" } else { &parts.method };
        if !method.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("`{method}` is no method"));
        }
        if method == "CONNECT" {
            return Err("CONNECT opens a tunnel, which is not measured".to_owned());
        }
        let mut head = RequestHead { method: Method::of(method.as_bytes()), ..Default::default() };
        head.scheme = Some(if url.is_https { Scheme::Https } else { Scheme::Http });
        head.method_name = head.headers.store(method.as_bytes());
        head.path = head.headers.store(url.path.as_bytes());
        let mut authority = url.authority.as_str();
        if let Some((_, host)) = parts.headers.iter().find(|(name, _)| name == "host") {
            authority = host;
        }
        head.authority = head.headers.store(authority.as_bytes());
        for (name, value) in parts.headers.iter().filter(|(name, _)| {
            !["host", "content-length", "transfer-encoding"].contains(&name.as_str())
        }) {
            head.headers.append(name.as_bytes(), value.as_bytes());
        }
        let body_bytes = parts.body.len();
        let length = match body_bytes {
            0 => BodyLength::None,
            bytes => BodyLength::Exact(bytes as u64),
        };
        let mut wire = Vec::new();
        encode_request(&head, length, &mut wire);
        wire.extend_from_slice(&parts.body);
        Ok(Target { method: method.to_owned(), url: text.to_owned(), head, wire, body_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(url: &str, parts: &Parts) -> String {
        let target = Target::new(&Url::parse(url).unwrap(), url, parts).unwrap();
        String::from_utf8(target.wire).unwrap()
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("http://[::1]:8080/a?b#c").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 8080, "/a?b"));
        let url = Url::parse("example.com?x").unwrap();
        assert_eq!(
            (url.authority.as_str(), url.port, url.path.as_str()),
            ("example.com", 80, "/?x")
        );
        assert_eq!(Url::parse("http://[::1]/").unwrap().port, 80);
        for text in ["", "http://", "http://a:b/", "ftp://a/", "http://a/ b", "http://a b/"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let url = Url::parse("https://a/").unwrap();
        assert_eq!((url.port, url.is_https), (443, true));
    }

    #[test]
    fn requests_are_framed_by_their_body_and_keep_their_fields() {
        assert_eq!(
            wire("http://a:81/x?y", &Parts::default()),
            "GET /x?y HTTP/1.1\r\nhost: a:81\r\n\r\n"
        );
        let parts = Parts {
            method: "POST".to_owned(),
            headers: vec![
                header("Host: b").unwrap(),
                header("X-One:  1 ").unwrap(),
                header("Content-Length: 99").unwrap(),
            ],
            body: b"hello".to_vec(),
        };
        let text = wire("http://a/", &parts);
        assert!(text.starts_with("POST / HTTP/1.1\r\nhost: b\r\n"), "{text}");
        assert!(text.contains("x-one: 1\r\n") && text.contains("content-length: 5\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nhello") && !text.contains("99"), "{text}");
    }

    #[test]
    fn what_would_break_a_request_is_refused() {
        for line in ["x", ": y", "a b: c", "a: b\r\nc: d"] {
            assert!(header(line).is_err(), "{line}");
        }
        let url = Url::parse("http://a/").unwrap();
        for method in ["GET /x", "CONNECT"] {
            let parts = Parts { method: method.to_owned(), ..Parts::default() };
            assert!(Target::new(&url, "", &parts).is_err(), "{method}");
        }
    }
}
