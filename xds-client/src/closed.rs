//! What the log says of a stream that ended, in Envoy's words and at Envoy's levels.
//!
//! What it leaves to others: writing it.

use std::time::{Duration, Instant};

/// gRPC's codes that have a meaning here.
const OK: i32 = 0;
const DEADLINE_EXCEEDED: i32 = 4;
const INTERNAL: i32 = 13;
pub(crate) const UNAVAILABLE: i32 = 14;

/// A failure that comes and goes is worth a warning when it has lasted for so long.
const LASTING: Duration = Duration::from_secs(30);

/// Why a stream ended: gRPC's code and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl End {
    pub(crate) fn unavailable(message: String) -> Self {
        Self { code: UNAVAILABLE, message }
    }

    fn may_pass(&self) -> bool {
        [DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE].contains(&self.code)
    }
}

/// The ends of one stream since its last response.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    first: Option<(End, Instant)>,
}

impl Ends {
    /// A response came.
    pub(crate) fn reset(&mut self) {
        self.first = None;
    }

    /// The text for the log, and whether it is a warning. `stream` says which one it was:
    /// `StreamEndpoints gRPC config stream to xds_cluster`.
    pub(crate) fn report(&mut self, stream: &str, end: End, now: Instant) -> (String, bool) {
        let End { code, message } = &end;
        let plain = format!("{stream} closed: {code}, {message}");
        if end.code == OK {
            return (plain, false);
        }
        if !end.may_pass() {
            return (plain, true);
        }
        let Some((first, since)) = &self.first else {
            self.first = Some((end, now));
            return (plain, false);
        };
        let lasted = now.saturating_duration_since(*since);
        let seconds = lasted.as_secs();
        if first.code != end.code {
            let (code, message) = (first.code, &first.message);
            let text = format!("{plain} (previously {code}, {message} since {seconds}s ago)");
            self.first = Some((end, now));
            return (text, true);
        }
        if lasted <= LASTING {
            return (plain, false);
        }
        (format!("{stream} closed since {seconds}s ago: {code}, {message}"), true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "any instant does for a test")]
    use super::*;

    #[test]
    fn it_is_said_as_envoy_says_it() {
        let (mut ends, start) = (Ends::default(), Instant::now());
        let stream = "StreamEndpoints gRPC config stream to xds_cluster";
        let end = |code, message: &str| End { code, message: message.to_owned() };
        let mut at = |second, end| ends.report(stream, end, start + Duration::from_secs(second));
        let plain = |rest: &str| format!("{stream} {rest}");
        assert_eq!(at(0, end(0, "")), (plain("closed: 0, "), false));
        assert_eq!(at(1, end(7, "no")), (plain("closed: 7, no"), true));
        assert_eq!(at(2, end(14, "gone")), (plain("closed: 14, gone"), false));
        assert_eq!(at(20, end(14, "away")), (plain("closed: 14, away"), false));
        assert_eq!(at(42, end(14, "away")), (plain("closed since 40s ago: 14, away"), true));
        let both = "closed: 13, x (previously 14, gone since 41s ago)";
        assert_eq!(at(43, end(13, "x")), (plain(both), true));
        ends.reset();
        let text = plain("closed: 14, gone");
        assert_eq!(ends.report(stream, end(14, "gone"), start), (text, false));
    }
}
