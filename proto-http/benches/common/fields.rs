//! Heads as lists of fields, in HTTP/2's form.
//!
//! What it leaves to others: what is done with them.

/// The head of a browser's request. `#` is another number in each head.
pub const BROWSER: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "www.example.com"),
    (":path", "/assets/app/main.js?v=#&theme=dark"),
    ("sec-ch-ua", "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/130.0.0.0 Safari/537.36",
    ),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "no-cors"),
    ("sec-fetch-dest", "script"),
    ("referer", "https://www.example.com/account/overview"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
    ("cookie", "session=3f2b8c0e9d7a4e51b6f0c2d8a1e47f93"),
    ("cookie", "_ga=GA1.1.1234567890.1700000000"),
];

/// What a proxy answers with, the same way.
#[allow(dead_code)] // no gate
pub const RESPONSE: &[(&str, &str)] = &[
    (":status", "200"),
    ("server", "envoy"),
    ("date", "Fri, 20 Nov 2026 15:15:22 GMT"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "#"),
    ("cache-control", "no-cache, no-store"),
    ("vary", "accept-encoding"),
    ("x-request-id", "6c1a4f0e-0c0d-4b8f-9d55-3a#"),
    ("x-envoy-upstream-service-time", "#"),
];
