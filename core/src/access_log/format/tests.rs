//! Formats, right and wrong, and the lines that they make.
//!
//! What it leaves to others: times (`time`), files (`tests/access_log.rs`).

use super::*;
use crate::reply::ResponseFlags;
use tidegate_http::{RequestHead, ResponseHead, Version};

fn request(path: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead { version: Version::Http11, ..RequestHead::default() };
    head.method_name = head.headers.store(b"GET");
    head.path = head.headers.store(path.as_bytes());
    head.authority = head.headers.store(b"127.0.0.1:19000");
    fields.iter().for_each(|(name, value)| head.headers.append(name.as_bytes(), value.as_bytes()));
    head
}

fn response(fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead { status: 200, ..ResponseHead::default() };
    fields.iter().for_each(|(name, value)| head.headers.append(name.as_bytes(), value.as_bytes()));
    head
}

fn nothing() -> Record<'static> {
    Record { start_unix_us: 1_795_186_498_087_000, duration_us: 1_999, ..Record::default() }
}

fn write(format: &str, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(&mut out, record);
    String::from_utf8(out).unwrap()
}

fn error(format: &str) -> (usize, String) {
    let error = Format::parse(format).unwrap_err();
    (error.offset, error.reason)
}

/// Lines that Envoy 1.40 wrote for the same streams.
#[test]
fn the_default_format_writes_envoys_lines() {
    let head = request(
        "/api/x",
        &[
            ("x-forwarded-for", "192.0.2.2"),
            ("user-agent", "curl/7.88.1"),
            ("x-request-id", "5f96"),
        ],
    );
    let response = response(&[("x-envoy-upstream-service-time", "0")]);
    let mut record = Record {
        request: Some(&head),
        response: Some(&response),
        status: 200,
        bytes_sent: 241,
        upstream_host: Some(([127, 0, 0, 1], 19_100).into()),
        upstream_service_ms: Some(0),
        ..nothing()
    };
    assert_eq!(
        write(DEFAULT_FORMAT, &record),
        "[2026-11-20T14:54:58.087Z] \"GET /api/x HTTP/1.1\" 200 - 0 241 1 0 \"192.0.2.2\" \
         \"curl/7.88.1\" \"5f96\" \"127.0.0.1:19000\" \"127.0.0.1:19100\"\n"
    );
    let mut flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
    record = Record { status: 503, flags, response: None, upstream_service_ms: None, ..record };
    let line =
        write("%RESPONSE_CODE% %RESPONSE_FLAGS% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", &record);
    assert_eq!(line, "503 URX,UF -");
}

#[test]
fn what_is_missing_is_a_dash() {
    let all = "%REQ(:METHOD)%|%REQ(A?B)%|%RESP(A)%|%RESP(:STATUS)%|%UPSTREAM_HOST%|\
               %UPSTREAM_CLUSTER%|%ROUTE_NAME%|%RESPONSE_CODE_DETAILS%|%RESPONSE_FLAGS_LONG%|\
               %DOWNSTREAM_REMOTE_ADDRESS%|%DOWNSTREAM_LOCAL_PORT%";
    assert_eq!(write(all, &nothing()), ["-"; 11].join("|"));
    assert_eq!(write("%PROTOCOL%", &nothing()), "HTTP/1.1");
    assert_eq!(write("%RESPONSE_CODE% %BYTES_RECEIVED% %DURATION%", &nothing()), "0 0 1");
}

#[test]
fn the_alternative_is_taken_when_the_first_is_missing() {
    let plain = request("/new", &[]);
    let rewritten = request("/new", &[("x-envoy-original-path", "/old")]);
    let format = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%";
    assert_eq!(write(format, &Record { request: Some(&plain), ..nothing() }), "/new");
    assert_eq!(write(format, &Record { request: Some(&rewritten), ..nothing() }), "/old");
    let response = response(&[("b", "1")]);
    let record = Record { response: Some(&response), status: 204, ..nothing() };
    assert_eq!(write("%RESP(A?B)% %RESP(A?:STATUS)%", &record), "1 204");
}

/// The service time comes from the response; when it does not carry it, from the record.
#[test]
fn the_service_time_is_known_without_the_header() {
    let format = "%RESP(x-envoy-upstream-service-time)%";
    assert_eq!(write(format, &Record { upstream_service_ms: Some(7), ..nothing() }), "7");
    let response = response(&[("x-envoy-upstream-service-time", "8")]);
    let record = Record { response: Some(&response), upstream_service_ms: Some(7), ..nothing() };
    assert_eq!(write(format, &record), "8");
}

#[test]
fn addresses_are_written_with_and_without_port() {
    let record = Record {
        downstream_remote_address: Some("[2001:db8::1]:443".parse().unwrap()),
        downstream_local_address: Some(([10, 0, 0, 1], 80).into()),
        ..nothing()
    };
    let format = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
                  %DOWNSTREAM_REMOTE_PORT% %DOWNSTREAM_LOCAL_ADDRESS%";
    assert_eq!(write(format, &record), "[2001:db8::1]:443 2001:db8::1 443 10.0.0.1:80");
}

#[test]
fn a_length_cuts_values() {
    let head = request("/abcdef", &[]);
    let record = Record { request: Some(&head), bytes_sent: 12_345, ..nothing() };
    assert_eq!(write("%REQ(:PATH):3%|%BYTES_SENT:2%|%REQ(A):9%", &record), "/ab|12|-");
    assert_eq!(write("%REQ(:PATH):0%|%START_TIME(%Y):2%", &record), "|20");
}

#[test]
fn what_a_peer_sends_cannot_forge_a_line() {
    let head = request("/", &[("user-agent", "a\" \"b\\c\r\n[2026] \x1b[31m\u{e9}\x7f")]);
    let record = Record { request: Some(&head), ..nothing() };
    assert_eq!(
        write("\"%REQ(USER-AGENT)%\"\n", &record),
        "\"a\\x22 \\x22b\\x5cc\\x0d\\x0a[2026] \\x1b[31m\\xc3\\xa9\\x7f\"\n"
    );
}

#[test]
fn percent_signs_and_times() {
    assert_eq!(write("100%% %START_TIME(%s.%3f)%%%", &nothing()), "100% 1795186498.087%");
    assert_eq!(write("", &nothing()), "");
    assert_eq!(write("é", &nothing()), "é");
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(error("ab %NO_SUCH%"), (3, "%NO_SUCH% is not an operator".into()));
    let unsupported = "%UNIQUE_ID% is an operator of Envoy that is not supported";
    assert_eq!(error("%PROTOCOL% %UNIQUE_ID%").1, unsupported);
    assert_eq!(error("%PROTOCOL(x)%").1, "%PROTOCOL% takes no argument");
    assert_eq!(error("50% off").1, error("%").1);
    assert_eq!(error("é %REQ(A%"), (3, "%REQ( has no closing parenthesis".into()));
    assert_eq!(error("%REQ(A)").1, "%REQ has no closing percent sign");
    assert_eq!(error("%REQ(A):x%").1, "%REQ: has no length after the colon");
    assert_eq!(error("%REQ(A):99999999999999999999%").1, "%REQ: has no length after the colon");
    assert_eq!(error("%REQ%").1, "%REQ% needs the name of a header in parentheses");
    assert_eq!(error("%REQ(A?B?C)%").1, "%REQ(A?B?C)% has more than one alternative");
    assert_eq!(error("%REQ()%").1, "%REQ()% does not name a header");
    assert_eq!(error("%RESP(:PATH)%").1, "%RESP(:path)% is not known");
    assert_eq!(error("%START_TIME(%Q)%").1, "%START_TIME does not know the conversion %Q");
    assert!(Format::parse("%x").unwrap_err().to_string().ends_with("(at byte 0 of the format)"));
}
