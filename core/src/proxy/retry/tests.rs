//! What the state machine promises, whatever happens in which order.
//!
//! What it leaves to others: sockets and timers (the simulator).

use super::*;
use crate::config::{ResetHeader, RetryBackOff};
use proptest::prelude::*;

fn policy(on: &str, num_retries: u32) -> CompiledRetryPolicy {
    let retry_on = RetryOn::of_header(on).with(RetryOn::of_grpc_header(on));
    let config = RetryPolicy { retry_on, num_retries, ..RetryPolicy::default() };
    CompiledRetryPolicy::new(&config)
}

fn request(fields: &[(&str, &str)]) -> RequestHead {
    let mut request = RequestHead::default();
    fields.iter().for_each(|(name, value)| {
        request.headers.append(name.as_bytes(), value.as_bytes());
    });
    request
}

fn response(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut response = ResponseHead { status, ..ResponseHead::default() };
    fields.iter().for_each(|(name, value)| {
        response.headers.append(name.as_bytes(), value.as_bytes());
    });
    response
}

fn attempts(policy: &CompiledRetryPolicy) -> Attempts {
    let retries = Retries::of(policy, &request(&[])).map(Box::new);
    Attempts { retries, ..Attempts::default() }
}

const NOW: Now = Now { instant: tidegate_io::Instant(0), unix_us: 1_000_000_000 };

fn retries_response(on: &str, response: &ResponseHead) -> bool {
    let policy = policy(on, 1);
    let retries = Retries::of(&policy, &request(&[]));
    retries.is_some_and(|mut retries| {
        matches!(retries.after_response(response, &policy, NOW, 0), Verdict::Again(_))
    })
}

#[test]
fn conditions_on_responses() {
    for (on, status, fields, expected) in [
        ("5xx", 500, &[][..], true),
        ("5xx", 599, &[], true),
        ("5xx", 404, &[], false),
        ("5xx", 503, &[("x-envoy-ratelimited", "true")], false),
        ("5xx,envoy-ratelimited", 429, &[("x-envoy-ratelimited", "true")], true),
        ("5xx", 503, &[("x-envoy-overloaded", "true")], true),
        ("gateway-error", 500, &[], false),
        ("gateway-error", 502, &[], true),
        ("gateway-error", 504, &[], true),
        ("gateway-error", 505, &[], false),
        ("retriable-4xx", 409, &[], true),
        ("retriable-4xx", 408, &[], false),
        ("reset", 503, &[], false),
        ("connect-failure", 503, &[], false),
        ("refused-stream,http3-post-connect-failure", 503, &[], false),
        ("unavailable", 200, &[("grpc-status", "14")], true),
        ("unavailable", 200, &[("grpc-status", "13")], false),
        ("cancelled,internal", 200, &[("grpc-status", "1")], true),
        ("deadline-exceeded", 200, &[("grpc-status", "4")], true),
        ("resource-exhausted", 200, &[("grpc-status", "8")], true),
        ("unavailable", 200, &[], false),
    ] {
        let given = retries_response(on, &response(status, fields));
        assert_eq!(given, expected, "{on} and {status} {fields:?}");
    }
}

#[test]
fn conditions_on_failures() {
    use Failure::{Connect, Reset, Timeout};
    for (on, failure, started, expected) in [
        ("connect-failure", Connect, false, true),
        ("connect-failure", Reset, true, false),
        ("reset", Reset, true, true),
        ("reset", Connect, false, true),
        ("5xx", Timeout, true, true),
        ("gateway-error", Reset, true, true),
        ("reset-before-request", Connect, false, true),
        ("reset-before-request", Connect, true, false),
        ("reset-before-request", Reset, true, false),
        ("retriable-4xx", Reset, true, false),
    ] {
        let policy = policy(on, 1);
        let mut attempts = Attempts { started, ..attempts(&policy) };
        let verdict = attempts.after_failure(failure, &policy, true, 0);
        assert_eq!(matches!(verdict, Verdict::Again(_)), expected, "{on} {failure:?} {started}");
    }
}

#[test]
fn a_request_can_ask_for_more_than_its_route() {
    let none = CompiledRetryPolicy::none();
    assert!(Retries::of(none, &request(&[("x-envoy-max-retries", "3")])).is_none());
    let asks = request(&[
        ("x-envoy-retry-on", "retriable-status-codes,retriable-headers"),
        ("x-envoy-max-retries", "3"),
        ("x-envoy-retriable-status-codes", "418, 420,x"),
        ("x-envoy-retriable-header-names", "X-Again, x-more"),
    ]);
    let mut retries = Retries::of(none, &asks).unwrap();
    for answer in [response(418, &[]), response(420, &[]), response(200, &[("x-again", "")])] {
        let verdict = retries.after_response(&answer, none, NOW, 0);
        assert!(matches!(verdict, Verdict::Again(BackOff::Exponential(_))), "{verdict:?}");
    }
    let verdict = retries.after_response(&response(418, &[]), none, NOW, 0);
    assert_eq!(verdict, Verdict::LimitExceeded);
    let mut asks = asks;
    remove_fields(&mut asks);
    assert_eq!(asks.headers.iter().count(), 0);
}

#[test]
fn a_replay_is_free_once_where_no_policy_allows_a_retry() {
    let none = CompiledRetryPolicy::none();
    let mut free = attempts(none);
    assert_eq!(free.after_failure(Failure::DiedIdle, none, true, 0), Verdict::Replay);
    assert_eq!(free.after_failure(Failure::DiedIdle, none, true, 0), Verdict::Stands);
    let mut refused = attempts(none);
    for _ in 0..3 {
        assert_eq!(refused.after_failure(Failure::Refused, none, true, 0), Verdict::Replay);
    }
    for failure in [Failure::Refused, Failure::DiedIdle] {
        assert_eq!(refused.after_failure(failure, none, true, 0), Verdict::Stands);
    }
    let mut unsafe_to_repeat = attempts(none);
    let verdict = unsafe_to_repeat.after_failure(Failure::DiedIdle, none, false, 0);
    assert_eq!(verdict, Verdict::Stands);

    let covers = policy("reset", 2);
    let allows_none = policy("reset", 0);
    let mut repeatable = attempts(&allows_none);
    let mut fail = |failure| repeatable.after_failure(failure, &allows_none, true, 0);
    assert_eq!(fail(Failure::DiedIdle), Verdict::Replay);
    assert_eq!(fail(Failure::DiedIdle), Verdict::LimitExceeded);
    let mut governed = attempts(&covers);
    let mut fail = |failure| governed.after_failure(failure, &covers, false, 0);
    assert_eq!(fail(Failure::DiedIdle), Verdict::Again(BackOff::None));
    assert!(matches!(fail(Failure::DiedIdle), Verdict::Again(BackOff::Exponential(_))));
    assert_eq!(fail(Failure::DiedIdle), Verdict::LimitExceeded);
}

#[test]
fn a_response_can_say_when_to_come_back() {
    let headers = [("retry-after", false), ("x-reset", true)];
    let header =
        |(name, is_timestamp): (&str, bool)| ResetHeader { name: name.into(), is_timestamp };
    let mut policy = policy("5xx", 9);
    policy.config.rate_limited_back_off = Some(RateLimitedBackOff {
        reset_headers: headers.map(header).into(),
        max: Duration::from_secs(60),
    });
    let mut retries = Retries::of(&policy, &request(&[])).unwrap();
    let mut wait = |fields: &[(&str, &str)], draw| match retries.after_response(
        &response(503, fields),
        &policy,
        NOW,
        draw,
    ) {
        Verdict::Again(BackOff::RateLimited(wait)) => Some(wait.as_secs_f64()),
        _ => None,
    };
    assert_eq!(wait(&[("retry-after", "10")], 0), Some(10.0));
    assert!(wait(&[("retry-after", "10")], u64::MAX).is_some_and(|it| (14.9..15.0).contains(&it)));
    assert_eq!(wait(&[("x-reset", "1030")], 0), Some(30.0));
    assert_eq!(wait(&[("retry-after", "61"), ("x-reset", "1030")], 0), Some(30.0));
    assert_eq!(wait(&[("x-reset", "999")], 0), None);
    assert_eq!(wait(&[("retry-after", "soon")], 0), None);
    assert_eq!(wait(&[("retry-after", "0")], 0), None);
}

/// What can happen to an attempt.
#[derive(Clone, Copy, Debug)]
enum Event {
    Fails(Failure),
    Responds(u16),
}

fn event() -> impl Strategy<Value = Event> {
    use Failure::{Connect, DiedIdle, Reset, Timeout};
    prop_oneof![
        prop::sample::select(vec![Connect, DiedIdle, Reset, Timeout]).prop_map(Event::Fails),
        prop::sample::select(vec![200, 409, 500, 503]).prop_map(Event::Responds),
    ]
}

const CONDITIONS: &str = "5xx,gateway-error,reset,reset-before-request,connect-failure,\
    envoy-ratelimited,retriable-4xx,refused-stream,retriable-status-codes,retriable-headers";

proptest! {
    /// There are never more attempts than the policy allows and one replay, nothing follows on an
    /// outcome that stands, and what changes something is repeated only where a policy says so.
    #[test]
    fn attempts_are_bounded(
        chosen in prop::collection::vec(prop::sample::select(
            CONDITIONS.split(',').collect::<Vec<_>>()), 0..4),
        num_retries in 0_u32..5,
        repeatable: bool,
        events in prop::collection::vec((event(), any::<u64>()), 1..30),
    ) {
        let policy = policy(&chosen.join(","), num_retries);
        let mut attempts = attempts(&policy);
        let (mut again, mut replays) = (0, 0);
        for (event, draw) in events {
            let verdict = match (event, &mut attempts.retries) {
                (Event::Fails(failure), _) => {
                    attempts.started |= failure != Failure::Connect;
                    attempts.after_failure(failure, &policy, repeatable, draw)
                }
                (Event::Responds(status), Some(retries)) => {
                    attempts.started = true;
                    retries.after_response(&response(status, &[]), &policy, NOW, draw)
                }
                (Event::Responds(_), None) => Verdict::Stands,
            };
            match verdict {
                Verdict::Stands => break,
                Verdict::LimitExceeded => {
                    prop_assert_eq!(again, num_retries);
                    break;
                }
                Verdict::Replay => {
                    prop_assert!(repeatable);
                    replays += 1;
                }
                Verdict::Again(_) => {
                    prop_assert!(!chosen.is_empty());
                    again += 1;
                }
            }
        }
        prop_assert!(again <= num_retries && replays <= 1);
    }

    /// The n-th wait is below (2^n - 1) times the base and below the maximum.
    #[test]
    fn back_off_grows_up_to_its_maximum(
        base_ms in 1_u64..1_000,
        factor in 1_u32..50,
        draws in prop::collection::vec(any::<u64>(), 1..80),
    ) {
        let base = Duration::from_millis(base_ms);
        let mut policy = policy("5xx", u32::MAX);
        policy.config.back_off = RetryBackOff { base, max: base * factor };
        let mut attempts = attempts(&policy);
        for (index, draw) in draws.into_iter().enumerate() {
            let verdict = attempts.after_failure(Failure::Reset, &policy, false, draw);
            let Verdict::Again(BackOff::Exponential(wait)) = verdict else {
                return Err(TestCaseError::fail(format!("{verdict:?}")));
            };
            prop_assert!(wait < base * factor);
            prop_assert!(index >= 6 || wait < base * ((2 << index) - 1));
        }
    }

    /// What a peer writes into the fields cannot do harm.
    #[test]
    fn fields_can_be_anything(fields in prop::collection::vec((0_usize..5, "[ -~]{0,20}"), 0..8)) {
        let mut asks = RequestHead::default();
        for (field, value) in &fields {
            asks.headers.append(FIELDS[*field], value.as_bytes());
        }
        let _ = Retries::of(&policy("5xx", 1), &asks);
    }
}
