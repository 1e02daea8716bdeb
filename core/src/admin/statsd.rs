//! Lines of statsd's protocol.
//!
//! What it leaves to others: when they are made, and sending them (`sinks`).

use crate::stats::Bucket;
use std::fmt::Write;

/// Appends `name:value|c`, with the tags of DogStatsD behind it.
pub(super) fn counter(out: &mut String, name: &Name<'_>, more: u64) {
    line(out, name, &more.to_string(), "c", "");
}

/// Appends `name:value|g`.
pub(super) fn gauge(out: &mut String, name: &Name<'_>, value: u64) {
    line(out, name, &value.to_string(), "g", "");
}

/// Appends the values of a bucket: one line that stands for all of them, by its sample rate.
///
/// Envoy sends a line for each value. Here 1,000 values that are equal (to 1.6 %) are
/// `name:5|ms|@0.001`, which statsd counts as 1,000 values.
pub(super) fn values(out: &mut String, name: &Name<'_>, bucket: &Bucket) {
    let rate =
        if bucket.count > 1 { format!("|@{}", 1.0 / bucket.count as f64) } else { String::new() };
    line(out, name, &bucket.middle().to_string(), "ms", &rate);
}

/// A stat's name as a sink has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name<'n> {
    pub prefix: &'n str,
    pub name: &'n str,
    /// Names and values of tags.
    pub tags: &'n [(String, String)],
}

fn line(out: &mut String, name: &Name<'_>, value: &str, kind: &str, rate: &str) {
    out.push_str(name.prefix);
    out.push('.');
    // What the protocol itself uses cannot stand in a name.
    out.extend(name.name.chars().map(|c| if matches!(c, ':' | '|' | '\n') { '_' } else { c }));
    // Writing to a String cannot fail.
    let _ = write!(out, ":{value}|{kind}{rate}");
    for (index, (tag, value)) in name.tags.iter().enumerate() {
        let begin = if index == 0 { "|#" } else { "," };
        let _ = write!(out, "{begin}{tag}:{value}");
    }
    out.push('\n');
}

/// Cuts lines into datagrams of at most so many bytes; one line each where there is no limit. A
/// line that is longer than the limit goes alone.
pub(super) fn datagrams(lines: &str, bytes_max: Option<usize>) -> Vec<&str> {
    let mut datagrams = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in lines.split_inclusive('\n') {
        let next = end + line.len();
        // The line end of the last line does not go out.
        if end > start && bytes_max.is_none_or(|max| next - 1 - start > max) {
            datagrams.push(lines[start..end].trim_end());
            start = end;
        }
        end = next;
    }
    if end > start {
        datagrams.push(lines[start..end].trim_end());
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_statsds() {
        let mut out = String::new();
        let plain = Name { prefix: "envoy", name: "cluster.a.x_total", tags: &[] };
        counter(&mut out, &plain, 3);
        gauge(&mut out, &Name { name: "a:b", ..plain.clone() }, 7);
        values(&mut out, &plain, &Bucket { low: 5, high: 5, count: 1 });
        values(&mut out, &plain, &Bucket { low: 64, high: 65, count: 4 });
        let tags = [("envoy.cluster_name".to_owned(), "a".to_owned())];
        counter(&mut out, &Name { name: "cluster.x_total", tags: &tags, ..plain }, 1);
        assert_eq!(
            out.lines().collect::<Vec<_>>(),
            [
                "envoy.cluster.a.x_total:3|c",
                "envoy.a_b:7|g",
                "envoy.cluster.a.x_total:5|ms",
                "envoy.cluster.a.x_total:64.5|ms|@0.25",
                "envoy.cluster.x_total:1|c|#envoy.cluster_name:a",
            ]
        );
    }

    #[test]
    fn datagrams_hold_whole_lines() {
        assert_eq!(datagrams("a\nbb\nc\n", None), ["a", "bb", "c"]);
        assert_eq!(datagrams("a\nbb\nc\n", Some(4)), ["a\nbb", "c"]);
        assert_eq!(datagrams("a\nbb\nc\n", Some(1)), ["a", "bb", "c"]);
        assert_eq!(datagrams("", Some(10)), [] as [&str; 0]);
    }
}
