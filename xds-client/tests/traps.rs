//! Where clients of xDS go wrong, one test for each: nonces and versions across streams, wildcards,
//! stale and late answers, what comes twice or unasked, lives and heartbeats, first fetches,
//! limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::rpc::Status;
use prost::Message as _;
use std::time::Duration;
use tidegate_xds::{
    Body, Event, Interest, Limits, Nack, RateLimit, ResourceType, Scope, Settings, Variant,
};

const SOTW: Variant = Variant::StateOfTheWorld;
const DELTA: Variant = Variant::Delta;

fn bounded(variant: Variant, limits: Limits) -> Settings {
    Settings { limits, ..settings(variant) }
}

#[test]
fn a_type_of_which_nothing_is_wanted_is_not_asked_for() {
    for variant in [SOTW, DELTA] {
        let mut scene = Scene::new(settings(variant));
        scene.client.set_interest(EDS, names(&[]), TIMEOUT);
        scene.connects();
        scene.client.set_interest(RDS, names(&[]), TIMEOUT);
        scene.sends(&[]);
    }
}

#[test]
fn a_stream_begins_in_envoys_order_whatever_the_calls_were() {
    let mut scene = Scene::new(settings(SOTW));
    for kind in [RDS, SDS, LDS, EDS] {
        scene.client.set_interest(kind, names(&["x"]), None);
    }
    scene.client.set_interest(CDS, Interest::Wildcard, None);
    scene.sends(&[]);
    scene.connects();
    scene.sends(&["CDS node", "EDS [x]", "LDS [x]", "RDS [x]", "SDS [x]"]);
}

#[test]
fn a_wildcard_behind_names_has_its_own_word() {
    // An empty list would mean none, once a name was sent.
    let mut scene = Scene::connected(settings(SOTW), &[(LDS, names(&["l1"]))]);
    scene.client.set_interest(LDS, Interest::Wildcard, None);
    scene.sends(&["LDS [*]"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["LDS node"]);

    let mut scene = Scene::connected(settings(DELTA), &[(LDS, names(&["l1"]))]);
    scene.client.set_interest(LDS, Interest::Wildcard, None);
    scene.sends(&["LDS +* -l1"]);
    scene.client.set_interest(LDS, names(&["*", "l2"]), None);
    scene.sends(&["LDS +l2"]);
    scene.client.set_interest(LDS, names(&["l2"]), None);
    scene.sends(&["LDS -*"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["LDS node +l2"]);
}

#[test]
fn a_refused_first_response_leaves_the_version_empty() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let response = scene.receives(&sotw(CDS, "c-1", "n1", &["bad"]));
    scene.client.answer(response.id, refused("bad"));
    scene.sends(&["CDS nonce=n1 error=13 bad"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["CDS node"]);
}

#[test]
fn a_response_is_answered_once() {
    for variant in [SOTW, DELTA] {
        let mut scene = Scene::connected(settings(variant), &[(EDS, names(&["a"]))]);
        let bytes = if variant == SOTW {
            sotw(EDS, "1", "n1", &["a"])
        } else {
            delta_of(EDS, "n1", &["a@1"], &[])
        };
        let id = scene.receives(&bytes).id;
        assert!(scene.client.answer(id, accepted(&["a"])));
        assert!(!scene.client.answer(id, accepted(&["a"])));
        assert!(!scene.client.answer(id, refused("late")));
        assert_eq!(scene.requests().len(), 1);
        scene.sends(&[]);
    }
}

#[test]
fn an_answer_may_come_after_a_later_response() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let first = scene.receives(&sotw(CDS, "c-1", "n1", &["a"])).id;
    let second = scene.receives(&sotw(CDS, "c-2", "n2", &["a", "b"])).id;
    scene.client.answer(second, accepted(&["a", "b"]));
    scene.sends(&["CDS version=c-2 nonce=n2"]);
    // The older one does not take the version back.
    scene.client.answer(first, accepted(&["a"]));
    scene.sends(&["CDS version=c-2 nonce=n1"]);

    let mut scene = Scene::connected(settings(DELTA), &[(CDS, Interest::Wildcard)]);
    let first = scene.receives(&delta_of(CDS, "n1", &["a@1", "b@1"], &[])).id;
    let second = scene.receives(&delta_of(CDS, "n2", &["a@2"], &["b"])).id;
    scene.client.answer(second, accepted(&["a"]));
    // What the second one has removed is not there again.
    scene.client.answer(first, accepted(&["a", "b"]));
    scene.sends(&["CDS nonce=n2", "CDS nonce=n1"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["CDS node have=a@2"]);
}

#[test]
fn names_go_with_the_last_nonce_while_answers_are_owed() {
    let mut scene = Scene::connected(settings(SOTW), &[(EDS, names(&["a"]))]);
    let first = scene.receives(&sotw(EDS, "1", "n1", &["a"])).id;
    let second = scene.receives(&sotw(EDS, "2", "n2", &["a"])).id;
    scene.client.set_interest(EDS, names(&["a", "b"]), None);
    scene.sends(&["EDS nonce=n2 [a b]"]);
    scene.client.set_interest(EDS, names(&["a", "c"]), None);
    // Servers do not look at names beside an old nonce: they follow with the last one.
    scene.client.answer(first, accepted(&["a"]));
    scene.sends(&["EDS version=1 nonce=n2 [a c]", "EDS version=1 nonce=n1 [a c]"]);
    scene.client.answer(second, accepted(&["a"]));
    scene.client.set_interest(EDS, names(&["d"]), None);
    // One request says both.
    scene.sends(&["EDS version=2 nonce=n2 [d]"]);
}

#[test]
fn an_answer_of_the_last_stream_counts_but_is_not_sent() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let late = scene.receives(&sotw(CDS, "c-1", "n1", &["a"])).id;
    scene.disconnects();
    assert!(scene.client.answer(late, accepted(&["a"])));
    scene.connects();
    scene.sends(&["CDS node version=c-1"]);
    let later = scene.receives(&sotw(CDS, "c-2", "m1", &["a"])).id;
    scene.disconnects();
    scene.connects();
    scene.sends(&["CDS node version=c-1"]);
    scene.client.answer(later, accepted(&["a"]));
    scene.sends(&[]);
    assert_eq!(scene.client.version(CDS), "c-2");
}

#[test]
fn a_name_given_up_and_wanted_again_is_asked_for_anew() {
    // The application has forgotten what it was; the server must notice that it went.
    let mut scene = Scene::connected(settings(SOTW), &[(EDS, names(&["a", "b"]))]);
    scene.takes(&sotw(EDS, "1", "n1", &["a", "b"]), &["a", "b"]);
    scene.requests();
    scene.client.set_interest(EDS, names(&["a"]), None);
    scene.client.set_interest(EDS, names(&["a", "b"]), None);
    scene.sends(&["EDS version=1 nonce=n1 [a]", "EDS version=1 nonce=n1 [a b]"]);

    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a", "b"]))]);
    scene.takes(&delta_of(EDS, "n1", &["a@1", "b@1"], &[]), &["a", "b"]);
    scene.requests();
    scene.client.set_interest(EDS, names(&["a"]), None);
    scene.client.set_interest(EDS, names(&["a", "b"]), None);
    scene.sends(&["EDS +b"]);
    scene.client.set_interest(EDS, names(&["b"]), None);
    scene.client.set_interest(EDS, names(&["a", "b"]), None);
    scene.client.set_interest(EDS, names(&["b"]), None);
    scene.sends(&["EDS -a"]);
    // Their versions went with them.
    scene.disconnects();
    scene.connects();
    scene.sends(&["EDS node +b"]);
}

#[test]
fn a_change_says_what_the_full_set_says() {
    let change = |scene: &mut Scene, wanted: &[&str], given_up: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        scene.client.change_interest(EDS, owned(wanted), owned(given_up), TIMEOUT);
    };
    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a"]))]);
    change(&mut scene, &["b", "c", "a"], &["d"]);
    scene.sends(&["EDS +b +c"]);
    scene.takes(&delta_of(EDS, "n1", &["a@1", "b@1"], &[]), &["a", "b"]);
    // In both: anew.
    change(&mut scene, &["a"], &["a", "b"]);
    scene.sends(&["EDS nonce=n1", "EDS +a -b"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["EDS node +a +c"]);

    let mut scene = Scene::connected(settings(SOTW), &[(EDS, names(&["a"]))]);
    change(&mut scene, &["b", "c", "a"], &["d"]);
    scene.sends(&["EDS [a b c]"]);
    change(&mut scene, &["a"], &["a", "b"]);
    scene.sends(&["EDS [c]", "EDS [a c]"]);
}

#[test]
fn what_nobody_asked_for_is_no_business_of_ours() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    // A type without a request has no answer either: it would be a request for all of them.
    for bytes in [sotw(RDS, "1", "n1", &["r"]), sotw_of("type.googleapis.com/envoy.api.v2.Cluster")]
    {
        scene.client.handle_message(&bytes, scene.now).unwrap();
        assert!(matches!(scene.event(), Event::Warning(_)));
        scene.sends(&[]);
    }
}

fn sotw_of(type_url: &str) -> Vec<u8> {
    let type_url = type_url.to_owned();
    discovery::DiscoveryResponse { type_url, ..Default::default() }.encode_to_vec()
}

#[test]
fn resources_that_nobody_asked_for_are_left_out_and_not_remembered() {
    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a"]))]);
    let response = scene.receives(&delta_of(EDS, "n1", &["a@1", "z@1"], &[]));
    assert_eq!(response.resources.len(), 1);
    scene.client.answer(response.id, accepted(&["a", "z"]));
    scene.disconnects();
    scene.connects();
    scene.sends(&["EDS node +a have=a@1"]);
}

#[test]
fn only_what_was_accepted_is_claimed_on_the_next_stream() {
    let mut scene = Scene::connected(settings(DELTA), &[(CDS, Interest::Wildcard)]);
    scene.takes(&delta_of(CDS, "n1", &["a@1", "b@1", "c@"], &[]), &["a", "c"]);
    let bad = scene.receives(&delta_of(CDS, "n2", &["a@2", "d@2"], &["b"])).id;
    scene.client.answer(bad, refused("no"));
    scene.disconnects();
    scene.connects();
    // `c` has no version, `b` was not taken, what was refused is as it was.
    scene.sends(&["CDS node have=a@1"]);
}

#[test]
fn a_wrapped_name_twice_is_refused_in_state_of_the_world_too() {
    let mut scene = Scene::connected(settings(SOTW), &[(EDS, names(&["a"]))]);
    let one = in_any(&wrapped(EDS, "a", "1", None, true));
    let bytes = sotw_message(EDS, "1", "n1", vec![one.clone(), one]);
    let text = scene.receives_bad(&bytes);
    assert_eq!(text, "duplicate name a found among added/updated resources");
    scene.sends(&[&format!("EDS nonce=n1 [a] error=13 {text}")]);
}

#[test]
fn bodies_of_another_type_are_refused() {
    for variant in [SOTW, DELTA] {
        let mut scene = Scene::connected(settings(variant), &[(CDS, Interest::Wildcard)]);
        let text = scene.receives_bad(&match variant {
            SOTW => sotw_message(CDS, "1", "n1", vec![body_in_any(LDS, "a")]),
            DELTA => {
                let mut resource = wrapped(CDS, "a", "1", None, true);
                resource.resource = Some(body_in_any(LDS, "a"));
                delta(CDS, "n1", &[resource], &[])
            }
        });
        assert!(text.contains("does not match the message-wide type URL"), "{text}");
        assert_eq!(scene.requests().len(), 1);
    }
}

#[test]
fn what_cannot_be_decoded_ends_the_stream_or_its_response() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    for bytes in [&b"\xff"[..], b"\x0a\x05ab", b"\x08"] {
        scene.client.handle_message(bytes, scene.now).unwrap_err();
    }
    let mut wrapped = in_any(&wrapped(CDS, "a", "1", None, true));
    wrapped.value = b"\x0a\x05ab".to_vec();
    let text = scene.receives_bad(&sotw_message(CDS, "1", "n1", vec![wrapped]));
    assert!(text.starts_with("resource 0 cannot be decoded"), "{text}");
    scene.quiet();
}

#[test]
fn a_life_ends_and_a_heartbeat_renews_it() {
    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a", "b"]))]);
    let life = |ttl, body| wrapped(EDS, "a", "1", ttl, body);
    let other = wrapped(EDS, "b", "1", None, true);
    scene.takes(&delta(EDS, "n1", &[life(Some(10), true), other], &[]), &["a", "b"]);
    scene.sends(&["EDS nonce=n1"]);
    scene.passes(9);
    // Accepted without the application, which has nothing to do.
    scene.receives_unseen(&delta(EDS, "n2", &[life(Some(10), false)], &[]));
    scene.sends(&["EDS nonce=n2"]);
    scene.passes(9);
    scene.quiet();
    scene.passes(1);
    assert_eq!(scene.event(), Event::Expired { kind: EDS, names: vec!["a".to_owned()] });
    scene.quiet();
    assert_eq!(scene.client.poll_timeout(), None);
    // The server must send it again.
    scene.disconnects();
    scene.connects();
    scene.sends(&["EDS node +a +b have=b@1"]);
    // Sent without a life, it has none any more.
    scene.takes(&delta(EDS, "n1", &[life(Some(10), true)], &[]), &["a"]);
    scene.takes(&delta(EDS, "n2", &[life(None, true)], &[]), &["a"]);
    scene.passes(1000);
    scene.quiet();
}

#[test]
fn a_heartbeat_before_the_answer_is_no_removal() {
    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a"]))]);
    let first = scene.receives(&delta(EDS, "n1", &[wrapped(EDS, "a", "1", Some(9), true)], &[]));
    let beat = delta(EDS, "n2", &[wrapped(EDS, "a", "1", Some(9), false)], &[]);
    scene.receives_unseen(&beat);
    scene.client.answer(first.id, accepted(&["a"]));
    scene.passes(9);
    assert_eq!(scene.event(), Event::Expired { kind: EDS, names: vec!["a".to_owned()] });
}

#[test]
fn a_resource_without_a_body_is_none() {
    let mut scene = Scene::connected(settings(DELTA), &[(VHDS, names(&["routes/host"]))]);
    let none = wrapped(VHDS, "routes/host", "1", None, false);
    let response = scene.receives(&delta(VHDS, "n1", &[none], &[]));
    assert_eq!(response.resources[0].body, Body::Absent);
}

#[test]
fn in_a_whole_response_a_heartbeat_keeps_its_resource() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let all = [("a", true), ("b", true)];
    let message = |nonce, all: &[(&str, bool)]| {
        let one = |&(name, body): &(&str, bool)| in_any(&wrapped(CDS, name, "1", Some(10), body));
        sotw_message(CDS, "1", nonce, all.iter().map(one).collect())
    };
    scene.takes(&message("n1", &all), &["a", "b"]);
    scene.passes(5);
    let beat = scene.receives(&message("n2", &[("a", false), ("b", true)]));
    let unchanged: Vec<_> = beat.resources.iter().map(|r| r.body == Body::Unchanged).collect();
    assert_eq!(unchanged, [true, false]);
    scene.client.answer(beat.id, accepted(&["b"]));
    scene.passes(9);
    scene.quiet();
    // What is missing is gone, and its life with it.
    scene.takes(&message("n3", &[("b", true)]), &["b"]);
    scene.passes(10);
    assert_eq!(scene.event(), Event::Expired { kind: CDS, names: vec!["b".to_owned()] });
    scene.quiet();
}

#[test]
fn aliases_and_hosts_of_a_route_configuration_are_asked_for() {
    let interest = [(VHDS, names(&["routes", "other/alias"]))];
    let mut scene = Scene::connected(settings(DELTA), &interest);
    let mut aliased = wrapped(VHDS, "other/name", "1", None, true);
    aliased.aliases = vec!["other/alias".to_owned()];
    let hosts = [wrapped(VHDS, "routes/a", "1", None, true), aliased];
    let alien = wrapped(VHDS, "strange/a", "1", None, true);
    let response = scene.receives(&delta(VHDS, "n1", &[&hosts[..], &[alien]].concat(), &[]));
    assert_eq!(response.resources.len(), 2);
    assert_eq!(response.resources[1].aliases, ["other/alias"]);
    scene.client.answer(response.id, accepted(&["routes/a", "other/name"]));
    scene.disconnects();
    scene.connects();
    scene.sends(&["VHDS node +other/alias +routes have=other/name@1,routes/a@1"]);
    scene.client.set_interest(VHDS, names(&["other/alias"]), None);
    scene.sends(&["VHDS -routes"]);
    scene.disconnects();
    scene.connects();
    scene.sends(&["VHDS node +other/alias have=other/name@1"]);
}

#[test]
fn a_first_fetch_times_out_after_its_request_was_sent() {
    for variant in [SOTW, DELTA] {
        let mut scene = Scene::new(settings(variant));
        scene.client.set_interest(CDS, Interest::Wildcard, TIMEOUT);
        scene.client.set_interest(EDS, names(&["a", "b"]), TIMEOUT);
        scene.client.set_interest(RDS, names(&["r"]), Some(Duration::ZERO));
        // Not while there is no server.
        assert_eq!(scene.client.poll_timeout(), None);
        scene.passes(100);
        scene.connects();
        scene.passes(100);
        scene.quiet();
        scene.requests();
        scene.passes(5);
        // A name more has its own time; one that was answered has no more.
        scene.client.set_interest(EDS, names(&["a", "b", "c"]), TIMEOUT);
        scene.requests();
        match variant {
            SOTW => scene.takes(&sotw(EDS, "1", "n1", &["a"]), &["a"]),
            DELTA => scene.takes(&delta_of(EDS, "n1", &[], &["a"]), &[]),
        }
        // It goes on while a stream is made anew.
        scene.disconnects();
        scene.connects();
        scene.requests();
        scene.passes(10);
        assert_eq!(scene.event(), Event::FetchTimedOut { kind: CDS, names: vec!["*".to_owned()] });
        assert_eq!(scene.event(), Event::FetchTimedOut { kind: EDS, names: vec!["b".to_owned()] });
        scene.passes(5);
        assert_eq!(scene.event(), Event::FetchTimedOut { kind: EDS, names: vec!["c".to_owned()] });
        scene.passes(100);
        scene.quiet();
    }
}

#[test]
fn a_fetch_is_over_when_its_response_came_not_when_it_was_answered() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let slow = scene.receives(&sotw(CDS, "1", "n1", &["a"])).id;
    scene.passes(20);
    scene.quiet();
    scene.client.answer(slow, Err(Nack::default()));
    scene.sends(&["CDS nonce=n1 error=13 "]);
}

#[test]
fn requests_keep_to_the_rate() {
    let rate_limit = Some(RateLimit { max_tokens: 2, fill_rate: 1.0 });
    let mut scene = Scene::new(Settings { rate_limit, ..settings(SOTW) });
    for kind in [CDS, EDS, LDS, RDS] {
        scene.client.set_interest(kind, names(&["x"]), None);
    }
    scene.connects();
    scene.sends(&["CDS node [x]", "EDS [x]"]);
    assert_eq!((scene.client.pending_requests(), scene.client.rate_limit_enforced()), (2, 1));
    let next = scene.client.poll_timeout().unwrap();
    assert!(next > scene.now && next <= scene.now + Duration::from_millis(1001));
    scene.sends(&[]);
    scene.now = next;
    scene.sends(&["LDS [x]"]);
    scene.passes(10);
    scene.sends(&["RDS [x]"]);
    assert_eq!((scene.client.pending_requests(), scene.client.rate_limit_enforced()), (0, 2));
    assert_eq!(scene.client.poll_timeout(), None);
}

#[test]
fn errors_of_single_resources_are_handed_on() {
    let error = discovery::ResourceError {
        resource_name: Some(discovery::ResourceName { name: "a".to_owned(), ..Default::default() }),
        error_detail: Some(Status { code: 5, message: "none".to_owned(), details: vec![] }),
    };
    let message = discovery::DeltaDiscoveryResponse {
        type_url: EDS.type_url(),
        nonce: "n1".to_owned(),
        resource_errors: vec![error],
        ..Default::default()
    };
    let mut scene = Scene::connected(settings(DELTA), &[(EDS, names(&["a"]))]);
    let response = scene.receives(&message.encode_to_vec());
    let error = &response.errors[0];
    assert_eq!((error.name.as_str(), error.code, error.message.as_str()), ("a", 5, "none"));
}

#[test]
fn everything_that_a_server_can_make_grow_has_an_end() {
    let limits = Limits {
        message_bytes_max: 10_000,
        resources_max: 3,
        name_bytes_max: 200,
        names_max: 4,
        unanswered_max: 2,
    };
    let refused = |variant, bytes: &[u8]| {
        let mut scene = Scene::connected(bounded(variant, limits), &[(EDS, names(&["*"]))]);
        let text = scene.receives_bad(bytes);
        let lines = scene.requests();
        assert!(lines.len() == 1 && lines[0].ends_with(&text), "{lines:?}");
        text
    };
    let text = "4 resources in one response: at most 3 are taken";
    assert_eq!(refused(SOTW, &sotw(EDS, "1", "n1", &["a"; 4])), text);
    assert_eq!(refused(DELTA, &delta_of(EDS, "n1", &["a@1", "b@1"], &["c", "d"])), text);
    let long = "x".repeat(201);
    let name = format!("{long}@1");
    assert!(refused(DELTA, &delta_of(EDS, "n1", &[&name], &[])).contains("of 201 bytes"));
    assert!(refused(DELTA, &delta_of(EDS, "n1", &[], &[&long])).contains("a name x"));
    assert!(refused(SOTW, &sotw(EDS, &long, "n1", &["a"])).contains("a version x"));
    let mut aliased = wrapped(EDS, "a", "1", None, true);
    aliased.aliases = vec![String::new(); 1000];
    let text = "1003 fields in one response: at most 48 are taken";
    assert!(refused(DELTA, &delta(EDS, "n1", &[aliased.clone()], &[])).contains("fields in one"));
    let wrapped = sotw_message(EDS, "1", "n1", vec![in_any(&aliased)]);
    assert_eq!(refused(SOTW, &wrapped), text);

    let mut scene = Scene::connected(bounded(SOTW, limits), &[(EDS, names(&["*"]))]);
    let now = scene.now;
    scene.client.handle_message(&vec![0; 10_001], now).unwrap_err();
    scene.client.handle_message(&sotw(EDS, "1", &long, &[]), now).unwrap_err();

    // Names are counted over all responses.
    let mut scene = Scene::connected(bounded(DELTA, limits), &[(EDS, names(&["*"]))]);
    scene.takes(&delta_of(EDS, "n1", &["a@1", "b@1", "c@1"], &[]), &["a", "b", "c"]);
    scene.takes(&delta_of(EDS, "n2", &["c@2", "d@1"], &[]), &["c", "d"]);
    let text = scene.receives_bad(&delta_of(EDS, "n3", &["d@2", "e@1"], &[]));
    assert_eq!(text, "more than 4 resources of this type");
    scene.takes(&delta_of(EDS, "n4", &["d@2"], &["a"]), &["d"]);
    scene.takes(&delta_of(EDS, "n5", &["e@2"], &[]), &["e"]);

    // Responses that wait for their answers.
    let mut scene = Scene::connected(bounded(SOTW, limits), &[(EDS, names(&["a"]))]);
    scene.receives(&sotw(EDS, "1", "n1", &[]));
    scene.receives(&sotw(EDS, "2", "n2", &[]));
    let text = scene.receives_bad(&sotw(EDS, "3", "n3", &[]));
    assert_eq!(text, "2 responses wait to be applied");
}

#[test]
fn a_nack_is_cut_to_what_servers_take() {
    let mut scene = Scene::connected(settings(SOTW), &[(CDS, Interest::Wildcard)]);
    let response = scene.receives(&sotw(CDS, "1", "n1", &["a"]));
    scene.client.answer(response.id, refused(&"ö".repeat(1_000_000)));
    assert!(scene.requests()[0].len() < 17_000);
}

#[test]
fn virtual_hosts_come_by_delta_only() {
    let mut scene = Scene::connected(settings(SOTW), &[]);
    scene.client.set_interest(VHDS, names(&["a"]), None);
    assert!(matches!(scene.event(), Event::Warning(_)));
    scene.sends(&[]);
    let scope = Scope::Single(ResourceType::Runtime);
    let mut scene = Scene::connected(Settings { scope, ..settings(DELTA) }, &[]);
    scene.client.set_interest(ResourceType::Runtime, names(&["layer"]), None);
    assert_eq!(scene.requests().len(), 1);
}
