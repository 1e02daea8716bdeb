//! What the real Envoy 1.40 said to scripted servers, said by this client: the same requests in the
//! same order, step by step. Where ours differ on purpose, the step says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use tidegate_xds::{Event, Interest, Nack, Scope, Variant};

/// `sotw_ads.txt`, but with the node on the first message only, and names in order.
#[test]
fn state_of_the_world_over_ads() {
    let mut scene = Scene::new(settings(Variant::StateOfTheWorld));
    scene.client.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    scene.connects();
    scene.sends(&["CDS node"]);

    // 1. Endpoints are asked for before the clusters are accepted.
    let first = scene.receives(&sotw(CDS, "c-1", "s1n1", &["c1", "c2"]));
    assert!(first.whole && first.control_plane == "mock");
    scene.client.set_interest(EDS, names(&["c1", "c2"]), TIMEOUT);
    scene.client.answer(first.id, accepted(&["c1", "c2"]));
    scene.sends(&["EDS [c1 c2]", "CDS version=c-1 nonce=s1n1"]);
    // 2, 3. A part of what was asked for, then the rest, and listeners behind it.
    scene.takes(&sotw(EDS, "e-1", "s1n2", &["c1"]), &["c1"]);
    scene.sends(&["EDS version=e-1 nonce=s1n2 [c1 c2]"]);
    let second = scene.receives(&sotw(EDS, "e-2", "s1n3", &["c2"]));
    scene.client.set_interest(LDS, Interest::Wildcard, TIMEOUT);
    scene.client.answer(second.id, accepted(&["c2"]));
    scene.sends(&["LDS", "EDS version=e-2 nonce=s1n3 [c1 c2]"]);
    // 4. Routes before the listener is accepted.
    let listeners = scene.receives(&sotw(LDS, "l-1", "s1n4", &["l1"]));
    scene.client.set_interest(RDS, names(&["r1"]), TIMEOUT);
    scene.client.answer(listeners.id, accepted(&["l1"]));
    scene.sends(&["RDS [r1]", "LDS version=l-1 nonce=s1n4"]);
    scene.takes(&sotw(RDS, "r-1", "s1n5", &["r1"]), &["r1"]);
    scene.sends(&["RDS version=r-1 nonce=s1n5 [r1]"]);

    // 5. A cluster more: its names with the last version and nonce; CDS is accepted when it is
    //    warm.
    let more = scene.receives(&sotw(CDS, "c-2", "s1n6", &["c1", "c2", "c3"]));
    scene.client.set_interest(EDS, names(&["c1", "c2", "c3"]), TIMEOUT);
    scene.sends(&["EDS version=e-2 nonce=s1n3 [c1 c2 c3]"]);
    let warm = scene.receives(&sotw(EDS, "e-3", "s1n7", &["c3"]));
    scene.client.answer(more.id, accepted(&["c1", "c2", "c3"]));
    scene.client.answer(warm.id, accepted(&["c3"]));
    scene.sends(&["CDS version=c-2 nonce=s1n6", "EDS version=e-3 nonce=s1n7 [c1 c2 c3]"]);
    // 7. Two clusters go.
    let fewer = scene.receives(&sotw(CDS, "c-4", "s1n10", &["c1"]));
    scene.client.set_interest(EDS, names(&["c1"]), TIMEOUT);
    scene.client.answer(fewer.id, accepted(&["c1"]));
    scene.sends(&["EDS version=e-3 nonce=s1n7 [c1]", "CDS version=c-4 nonce=s1n10"]);

    bad_responses(&mut scene);

    // 13. The server closes: versions are kept, nonces are not, clusters and endpoints go first.
    for (stream, version) in [(2, "c-4"), (3, "c-7")] {
        scene.disconnects();
        scene.connects();
        scene.sends(&[
            &format!("CDS node version={version}"),
            "EDS version=e-7 [c1]",
            "LDS version=l-2",
            "RDS version=r-1 [r1]",
        ]);
        scene.takes(&sotw(CDS, "c-7", &format!("s{stream}n1"), &["c1"]), &["c1"]);
        scene.sends(&[&format!("CDS version=c-7 nonce=s{stream}n1")]);
    }
    scene.quiet();
}

/// Steps 8 to 12 of the same transcript.
fn bad_responses(scene: &mut Scene) {
    // 8. Envoy never answers c-5; we do.
    let partly = scene.receives(&sotw(CDS, "c-5", "s1n11", &["c1", "c5", "bad"]));
    let message = "Error adding/updating cluster(s) bad: no EDS config".to_owned();
    scene.client.answer(partly.id, Err(Nack { message, applied: vec!["c5".to_owned()] }));
    scene.sends(&[
        "CDS version=c-4 nonce=s1n11 error=13 Error adding/updating cluster(s) bad: no EDS config",
    ]);
    // 9. Only the bodies name these: the application refuses them.
    let twice = scene.receives(&sotw(CDS, "c-6", "s1n12", &["c1", "c1"]));
    scene.client.answer(twice.id, refused("duplicate cluster c1 found"));
    scene.sends(&["CDS version=c-4 nonce=s1n12 error=13 duplicate cluster c1 found"]);
    // 10. Nobody asked for it; nothing is in it: accepted both.
    scene.takes(&sotw(EDS, "e-5", "s1n13", &["zzz"]), &[]);
    scene.takes(&sotw(EDS, "e-7", "s1n15", &[]), &[]);
    scene.sends(&["EDS version=e-5 nonce=s1n13 [c1]", "EDS version=e-7 nonce=s1n15 [c1]"]);
    // 12. Empty LDS removes all.
    let empty = scene.receives(&sotw(LDS, "l-2", "s1n18", &[]));
    assert!(empty.whole && empty.resources.is_empty());
    scene.client.answer(empty.id, accepted(&[]));
    scene.sends(&["LDS version=l-2 nonce=s1n18"]);
}

/// `delta_ads.txt`.
#[test]
fn delta_over_ads() {
    let mut scene = Scene::new(settings(Variant::Delta));
    scene.client.set_interest(CDS, Interest::Wildcard, TIMEOUT);
    scene.connects();
    scene.sends(&["CDS node"]);
    // 1, 2. What is removed before it was ever there does not exist.
    let first = scene.receives(&delta_of(CDS, "s1n1", &["c1@c-1", "c2@c-1"], &[]));
    assert!(!first.whole);
    scene.client.set_interest(EDS, names(&["c1", "c2"]), TIMEOUT);
    scene.client.answer(first.id, accepted(&["c1", "c2"]));
    scene.sends(&["EDS +c1 +c2", "CDS nonce=s1n1"]);
    let second = scene.receives(&delta_of(EDS, "s1n2", &["c1@e-1"], &["c2"]));
    assert_eq!(second.removed, ["c2"]);
    scene.client.set_interest(LDS, Interest::Wildcard, TIMEOUT);
    scene.client.answer(second.id, accepted(&["c1"]));
    scene.sends(&["LDS", "EDS nonce=s1n2"]);
    // 3.
    let third = scene.receives(&delta_of(LDS, "s1n3", &["l1@l-1"], &[]));
    scene.client.set_interest(RDS, names(&["r1"]), TIMEOUT);
    scene.client.answer(third.id, accepted(&["l1"]));
    scene.sends(&["RDS +r1", "LDS nonce=s1n3"]);
    scene.takes(&delta_of(RDS, "s1n4", &["r1@r-1"], &[]), &["r1"]);
    scene.sends(&["RDS nonce=s1n4"]);
    // 5. A cluster more, accepted when it is warm.
    let more = scene.receives(&delta_of(CDS, "s1n6", &["c3@c-2"], &[]));
    scene.client.set_interest(EDS, names(&["c1", "c2", "c3"]), TIMEOUT);
    scene.sends(&["EDS +c3"]);
    let warm = scene.receives(&delta_of(EDS, "s1n7", &["c3@e-3"], &[]));
    scene.client.answer(more.id, accepted(&["c3"]));
    scene.client.answer(warm.id, accepted(&["c3"]));
    scene.sends(&["CDS nonce=s1n6", "EDS nonce=s1n7"]);
    // 6. A modified cluster: no request for its endpoints.
    scene.takes(&delta_of(CDS, "s1n8", &["c1@c-3"], &[]), &["c1"]);
    scene.client.set_interest(EDS, names(&["c1", "c2", "c3"]), TIMEOUT);
    scene.sends(&["CDS nonce=s1n8"]);
    // 7. A cluster goes.
    let gone = scene.receives(&delta_of(CDS, "s1n10", &[], &["c2"]));
    scene.client.set_interest(EDS, names(&["c1", "c3"]), TIMEOUT);
    scene.client.answer(gone.id, accepted(&[]));
    scene.sends(&["EDS -c2", "CDS nonce=s1n10"]);
    // 8. One good, one bad: the good one is used, but not remembered.
    let partly = scene.receives(&delta_of(CDS, "s1n11", &["c5@c-5", "bad@c-5"], &[]));
    scene.client.set_interest(EDS, names(&["c1", "c3", "c5"]), TIMEOUT);
    let message = "Error adding/updating cluster(s) bad: no EDS config".to_owned();
    scene.client.answer(partly.id, Err(Nack { message, applied: vec!["c5".to_owned()] }));
    scene.takes(&delta_of(EDS, "s1n12", &["c5@e-5"], &[]), &["c5"]);
    scene.sends(&[
        "EDS +c5",
        "CDS nonce=s1n11 error=13 Error adding/updating cluster(s) bad: no EDS config",
        "EDS nonce=s1n12",
    ]);
    // 9, 10. Names twice, and one that nobody asked for.
    let text = scene.receives_bad(&delta_of(CDS, "s1n13", &["c1@c-6", "c1@c-6"], &[]));
    assert_eq!(text, "duplicate name c1 found among added/updated resources");
    let text = scene.receives_bad(&delta_of(EDS, "s1n14", &["c1@e-6"], &["c1"]));
    assert_eq!(text, "duplicate name c1 found in the union of added+removed resources");
    let alien = scene.receives(&delta_of(EDS, "s1n15", &["zzz@e-7"], &[]));
    assert!(alien.resources.is_empty());
    scene.client.answer(alien.id, accepted(&[]));
    scene.sends(&[
        "CDS nonce=s1n13 error=13 duplicate name c1 found among added/updated resources",
        "EDS nonce=s1n14 error=13 duplicate name c1 found in the union of added+removed resources",
        "EDS nonce=s1n15",
    ]);
    // 11 to 13. Endpoints and routes of what is used are removed (the application keeps them), then
    // they come again; the listener goes.
    scene.takes(&delta_of(EDS, "s1n16", &[], &["c1"]), &[]);
    scene.takes(&delta_of(EDS, "s1n17", &["c1@e-9"], &[]), &["c1"]);
    scene.takes(&delta_of(RDS, "s1n18", &[], &["r1"]), &[]);
    scene.takes(&delta_of(LDS, "s1n19", &[], &["l1"]), &[]);
    scene.sends(&["EDS nonce=s1n16", "EDS nonce=s1n17", "RDS nonce=s1n18", "LDS nonce=s1n19"]);
    // 14.
    scene.disconnects();
    scene.connects();
    scene.sends(&[
        "CDS node have=c1@c-3,c3@c-2",
        "EDS +c1 +c3 +c5 have=c1@e-9,c3@e-3,c5@e-5",
        "LDS",
        "RDS +r1",
    ]);
    scene.quiet();
}

/// `warming_lds_sds.txt` H: after the last name has gone, a list without names.
#[test]
fn the_last_name_is_taken_back() {
    let interest = [(SDS, names(&["a"]))];
    let mut scene = Scene::connected(settings(Variant::StateOfTheWorld), &interest);
    scene.takes(&sotw(SDS, "s-1", "n1", &["a"]), &["a"]);
    scene.client.set_interest(SDS, names(&[]), TIMEOUT);
    scene.sends(&["SDS version=s-1 nonce=n1"]);
    // The server answers with nothing, or with what crossed: accepted, and nobody is told.
    scene.receives_unseen(&sotw(SDS, "s-2", "n2", &[]));
    scene.sends(&["SDS version=s-2 nonce=n2"]);
    // Nothing is asked for on the next stream.
    scene.disconnects();
    scene.connects();
    scene.sends(&[]);

    let mut scene = Scene::connected(settings(Variant::Delta), &interest);
    scene.takes(&delta_of(SDS, "n1", &["a@1"], &[]), &["a"]);
    scene.client.set_interest(SDS, names(&[]), TIMEOUT);
    scene.sends(&["SDS nonce=n1", "SDS -a"]);
}

/// The node is on every request unless it is asked for on the first only.
#[test]
fn the_node_goes_on_every_request() {
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        let mut settings = settings(variant);
        settings.node_on_first_message_only = false;
        let mut scene = Scene::new(settings);
        scene.client.set_interest(CDS, Interest::Wildcard, None);
        scene.client.set_interest(EDS, names(&["c1"]), None);
        scene.connects();
        let lines = scene.requests();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.contains(" node")), "{lines:?}");
    }
}

/// A stream of one type needs no type in its responses, and carries no other.
#[test]
fn a_stream_of_one_type() {
    let mut settings = settings(Variant::StateOfTheWorld);
    settings.scope = Scope::Single(EDS);
    let mut scene = Scene::connected(settings, &[(EDS, names(&["c1"]))]);
    let untyped = sotw_message(EDS, "e-1", "n1", vec![body_in_any(EDS, "c1")]);
    let response = scene.receives(&untyped);
    scene.client.answer(response.id, accepted(&["c1"]));
    scene.sends(&["EDS version=e-1 nonce=n1 [c1]"]);
    scene.client.set_interest(CDS, Interest::Wildcard, None);
    assert!(matches!(scene.event(), Event::Warning(text) if text.contains("Cluster")));
    scene.sends(&[]);
}
