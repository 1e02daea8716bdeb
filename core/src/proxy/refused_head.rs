//! What a refused head asks for, read for the access log alone: as far as it can be told.
//!
//! What it leaves to others: refusing it (`tidegate-http`), which reads nothing that is wrong.

use tidegate_http::{Fault, RequestHead};

/// Reads a head that was refused for what Envoy finds only behind its codec, and logs therefore.
/// False for other faults, and when not all of the head is in `input`.
pub(super) fn refused_head(fault: Fault, input: &[u8], head: &mut RequestHead) -> bool {
    if !matches!(fault, Fault::TargetByte | Fault::HostMissing) {
        return false;
    }
    head.clear();
    head.close = true;
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else { return false };
    let mut lines = input[..end].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let start = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = start.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    head.method_name = head.headers.store(method);
    head.set_path(target);
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        match &name[..] {
            b"host" => head.set_authority(value),
            _ => head.headers.append(&name, value),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_far_as_it_can_be_told() {
        let mut head = RequestHead::default();
        let input = b"GET /a#b HTTP/1.1\r\nHost: a\r\nX-B:  c \r\n\r\nrest";
        assert!(refused_head(Fault::TargetByte, input, &mut head));
        assert_eq!((head.method_name(), head.path()), (&b"GET"[..], &b"/a#b"[..]));
        assert_eq!((head.authority(), head.headers.get_name(b"x-b")), (&b"a"[..], Some(&b"c"[..])));
        assert!(!refused_head(Fault::LineEnd, input, &mut head));
        assert!(!refused_head(Fault::HostMissing, b"GET / HTTP/1.1\r\n", &mut head));
        assert!(!refused_head(Fault::HostMissing, b"GET\r\n\r\n", &mut head));
    }
}
