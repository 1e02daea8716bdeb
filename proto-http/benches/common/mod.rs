//! Messages to measure with, and what a proxy does with each on its way through the codec.
//!
//! What it leaves to others: timing and counting.

use std::ops::Range;
use tidegate_http::h1::{
    Event, Options, RequestDecoder, ResponseDecoder, encode_request, encode_response,
    strip_hop_by_hop,
};
use tidegate_http::{Limits, Name, RequestHead, ResponseHead};

/// What load generators send: three fields.
pub const WRK: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\
    User-Agent: load/1.0\r\nAccept: */*\r\n\r\n";

/// What a browser sends: fourteen fields, about 900 bytes.
pub const BROWSER: &[u8] = b"GET /assets/app/main.js?v=20261120&theme=dark HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/130.0.0.0 Safari/537.36\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,\
    image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Dest: script\r\n\
    Referer: https://www.example.com/account/overview\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=3f2b8c0e9d7a4e51b6f0c2d8a1e47f93; _ga=GA1.1.1234567890.1700000000; \
    consent=all;     theme=dark; csrftoken=Zx8Qp2Lr5Tn1Vb7Kd3Mf9Hs6Jw4Gy0Ac\r\n\r\n";

/// What a server answers.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\
    Date: Fri, 20 Nov 2026 15:15:22 GMT\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\
    Connection: keep-alive\r\n\r\n\
    01234567890123456789012345678901234567890123456789\
    01234567890123456789012345678901234567890123456789";

/// A request's way through one connection's codec, with memory kept as a proxy keeps it.
pub struct Requests {
    decoder: RequestDecoder,
    head: RequestHead,
    pub out: Vec<u8>,
}

impl Requests {
    pub fn new() -> Requests {
        Requests {
            decoder: RequestDecoder::new(Options::default(), Limits::default()),
            head: RequestHead::default(),
            out: Vec::new(),
        }
    }

    /// Head and end. Answers whether it went as it should.
    pub fn decode(&mut self, input: &[u8]) -> bool {
        let head = self.decoder.decode(input, &mut self.head);
        let Ok(step) = head else { return false };
        let end = self.decoder.decode(&input[step.consumed..], &mut self.head);
        step.event == Event::Head && end.is_ok_and(|step| step.event == Event::End)
    }

    /// Decoded, and encoded as it is.
    #[allow(dead_code)] // not replayed
    pub fn pass(&mut self, input: &[u8]) -> bool {
        let is_good = self.decode(input);
        self.out.clear();
        encode_request(&self.head, self.head.body, &mut self.out);
        is_good
    }

    /// Decoded, stripped, given the fields that a proxy adds, and encoded.
    pub fn proxy(&mut self, input: &[u8]) -> bool {
        let is_good = self.decode(input);
        let headers = &mut self.head.headers;
        strip_hop_by_hop(headers, false);
        headers.append_known(Name::XForwardedProto, b"x-forwarded-proto", b"http");
        headers.append_known(
            Name::XRequestId,
            b"x-request-id",
            b"b1990956-564d-43a7-af68-e5c74c274655",
        );
        headers.append_known(
            Name::XEnvoyExpectedRqTimeoutMs,
            b"x-envoy-expected-rq-timeout-ms",
            b"15000",
        );
        self.out.clear();
        encode_request(&self.head, self.head.body, &mut self.out);
        is_good
    }
}

/// A response's way.
pub struct Responses {
    decoder: ResponseDecoder,
    request: RequestHead,
    head: ResponseHead,
    pub out: Vec<u8>,
}

impl Responses {
    pub fn new() -> Responses {
        let mut requests = Requests::new();
        requests.decode(WRK);
        Responses {
            decoder: ResponseDecoder::new(Options::default(), Limits::default()),
            request: requests.head,
            head: ResponseHead::default(),
            out: Vec::new(),
        }
    }

    /// Decoded to its end. Answers whether it went as it should.
    #[allow(dead_code)] // not replayed
    pub fn decode(&mut self, input: &[u8]) -> bool {
        self.head_of(input).is_some_and(|at| self.rest_of(&input[at..]).is_some())
    }

    /// Where the body begins.
    fn head_of(&mut self, input: &[u8]) -> Option<usize> {
        self.decoder.expect(&self.request);
        self.decoder.decode(input, &mut self.head).ok().map(|step| step.consumed)
    }

    /// The body.
    fn rest_of(&mut self, rest: &[u8]) -> Option<Range<usize>> {
        let data = self.decoder.decode(rest, &mut self.head).ok()?;
        let Event::Data(range) = data.event else { return None };
        let end = self.decoder.decode(&[], &mut self.head).ok()?;
        (end.event == Event::End).then_some(range)
    }

    /// Decoded to its end, stripped, given a field, and encoded with its body.
    pub fn proxy(&mut self, input: &[u8]) -> bool {
        let Some(at) = self.head_of(input) else { return false };
        let headers = &mut self.head.headers;
        strip_hop_by_hop(headers, false);
        headers.append_known(
            Name::XEnvoyUpstreamServiceTime,
            b"x-envoy-upstream-service-time",
            b"12",
        );
        headers.set(b"server", b"envoy");
        self.out.clear();
        encode_response(&self.head, self.head.body, false, &mut self.out);
        let Some(body) = self.rest_of(&input[at..]) else { return false };
        self.out.extend_from_slice(&input[at..][body]);
        true
    }
}
