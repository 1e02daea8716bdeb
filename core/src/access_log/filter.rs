//! Which records an access log, or a mapper of local replies, is for.
//!
//! What it leaves to others: what was configured (`config::AccessLogFilter`).

use super::Record;
use crate::config::{AccessLogFilter, Comparison, ComparisonOp, RuntimeFraction};
use crate::reply::ResponseFlags;
use crate::snapshot::HeaderCondition;
use tidegate_http::{Name, RequestHead};

/// A compiled filter.
#[derive(Debug)]
pub struct Filter {
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    StatusCode(Comparison),
    Duration(Comparison),
    Always,
    Share { share: RuntimeFraction, independent: bool },
    And(Vec<Rule>),
    Or(Vec<Rule>),
    Header(HeaderCondition),
    ResponseFlag(Option<ResponseFlags>),
}

impl Filter {
    /// Compiles a filter.
    #[must_use]
    pub fn new(filter: &AccessLogFilter) -> Filter {
        Filter { rule: Rule::new(filter) }
    }

    /// Whether the filter lets a record pass.
    #[must_use]
    pub fn passes(&self, record: &Record<'_>) -> bool {
        self.rule.holds(record)
    }
}

impl Rule {
    fn new(filter: &AccessLogFilter) -> Rule {
        match filter {
            AccessLogFilter::StatusCode(comparison) => Rule::StatusCode(*comparison),
            AccessLogFilter::Duration(comparison) => Rule::Duration(*comparison),
            AccessLogFilter::NotHealthCheck => Rule::Always,
            AccessLogFilter::Runtime { share, independent } => {
                Rule::Share { share: *share, independent: *independent }
            }
            AccessLogFilter::And(filters) => Rule::And(filters.iter().map(Rule::new).collect()),
            AccessLogFilter::Or(filters) => Rule::Or(filters.iter().map(Rule::new).collect()),
            AccessLogFilter::Header(matcher) => Rule::Header(HeaderCondition::compile(matcher)),
            AccessLogFilter::ResponseFlag(flags) => Rule::ResponseFlag(*flags),
        }
    }

    fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            Rule::StatusCode(comparison) => holds(*comparison, record.status.into()),
            Rule::Duration(comparison) => holds(*comparison, record.duration_us / 1_000),
            Rule::Always => true,
            Rule::Share { share, independent } => {
                let random = random(record, *independent);
                random % u64::from(share.denominator) < u64::from(share.numerator)
            }
            Rule::And(rules) => rules.iter().all(|rule| rule.holds(record)),
            Rule::Or(rules) => rules.iter().any(|rule| rule.holds(record)),
            Rule::Header(condition) => match record.request {
                Some(request) => condition.holds(request),
                None => condition.holds(&RequestHead::default()),
            },
            Rule::ResponseFlag(None) => record.flags != ResponseFlags::NONE,
            Rule::ResponseFlag(Some(flags)) => record.flags.0 & flags.0 != 0,
        }
    }
}

fn holds(comparison: Comparison, found: u64) -> bool {
    let value = comparison.value.into();
    match comparison.op {
        ComparisonOp::Equal => found == value,
        ComparisonOp::GreaterOrEqual => found >= value,
        ComparisonOp::LessOrEqual => found <= value,
        ComparisonOp::NotEqual => found != value,
    }
}

/// A number of the request's own. Unless it has to be independent it is the begin of the request
/// id, so that all proxies on the way decide alike.
fn random(record: &Record<'_>, independent: bool) -> u64 {
    let id = record.request.and_then(|request| request.headers.get(Name::XRequestId));
    let id = id.unwrap_or_default();
    let begin = id.get(..8).and_then(|begin| std::str::from_utf8(begin).ok());
    match begin.and_then(|begin| u64::from_str_radix(begin, 16).ok()) {
        Some(begin) if !independent => begin,
        _ => {
            // FNV-1a over what differs between requests, then mixed.
            let times = [record.start_unix_us, record.duration_us].map(u64::to_le_bytes);
            let bytes = id.iter().chain(times.as_flattened());
            let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HeaderMatcher, HeaderValueMatch};
    use crate::reply::LocalReply;
    use AccessLogFilter::{And, Duration, Header, NotHealthCheck, Or, ResponseFlag, StatusCode};
    use ComparisonOp::{Equal, GreaterOrEqual, LessOrEqual, NotEqual};

    fn passes(filter: &AccessLogFilter, record: &Record<'_>) -> bool {
        Filter::new(filter).passes(record)
    }

    #[test]
    fn rules() {
        let mut request = RequestHead::default();
        request.headers.append(b"x-a", b"1");
        let record = Record {
            request: Some(&request),
            duration_us: 2_999,
            ..Record::of_reply(&LocalReply::ROUTE_NOT_FOUND, 0)
        };
        let is = |op, value| Comparison { op, value };
        for (comparison, expected) in [
            (is(Equal, 404), true),
            (is(Equal, 405), false),
            (is(GreaterOrEqual, 404), true),
            (is(GreaterOrEqual, 405), false),
            (is(LessOrEqual, 404), true),
            (is(LessOrEqual, 403), false),
            (is(NotEqual, 404), false),
            (is(NotEqual, 0), true),
        ] {
            assert_eq!(passes(&StatusCode(comparison), &record), expected, "{comparison:?}");
        }
        assert!(passes(&Duration(is(Equal, 2)), &record) && passes(&NotHealthCheck, &record));
        let header = |name: &str| {
            let value = HeaderValueMatch::Present(true);
            let (invert, treat_missing_as_empty) = (false, false);
            Header(HeaderMatcher { name: name.into(), value, invert, treat_missing_as_empty })
        };
        assert!(passes(&header("x-a"), &record) && !passes(&header("x-b"), &record));
        assert!(!passes(&header("x-a"), &Record { request: None, ..record }));
        let flag = |flags| ResponseFlag(Some(flags));
        assert!(passes(&ResponseFlag(None), &record));
        assert!(!passes(&ResponseFlag(None), &Record { flags: ResponseFlags::NONE, ..record }));
        assert!(passes(&flag(ResponseFlags::NO_ROUTE_FOUND), &record));
        assert!(!passes(&flag(ResponseFlags::NO_CLUSTER_FOUND), &record));
        assert!(!passes(&flag(ResponseFlags::NONE), &record));
        let both = |a: &str, b: &str| vec![header(a), header(b)];
        assert!(!passes(&And(both("x-a", "x-b")), &record));
        assert!(passes(&Or(both("x-a", "x-b")), &record));
        assert!(!passes(&Or(both("x-c", "x-b")), &record));
    }

    #[test]
    fn shares() {
        let passed = |numerator, independent: bool, id: &dyn Fn(u32) -> String| {
            let share = RuntimeFraction { numerator, denominator: 100 };
            let filter = Filter::new(&AccessLogFilter::Runtime { share, independent });
            let pass = |number: u32| {
                let mut request = RequestHead::default();
                request.headers.append(b"x-request-id", id(number).as_bytes());
                let nothing = Record::of_reply(&LocalReply::UPGRADE_FAILED, 0);
                filter.passes(&Record { request: Some(&request), ..nothing })
            };
            (0..10_000).filter(|number| pass(*number)).count()
        };
        let ids = |number: u32| format!("{:08x}-0000", number.wrapping_mul(0x9e37_79b9));
        for independent in [false, true] {
            assert_eq!(passed(0, independent, &ids), 0);
            assert_eq!(passed(100, independent, &ids), 10_000);
            let tenth = passed(10, independent, &ids);
            assert!((800..1_200).contains(&tenth), "{tenth}");
        }
        // The request id decides, so that every proxy on the way decides alike.
        assert_eq!(passed(1, false, &|_| "00000064-0".to_owned()), 10_000);
        assert_eq!(passed(1, false, &|_| "00000065-0".to_owned()), 0);
    }
}
