//! Versions of an assignment: each means what it would mean alone, and shares what did not change.
//!
//! What it leaves to others: what single fields mean (`resource/tests.rs`).

use super::*;
use crate::config::{Resource, ResourceContext, ResourceKind};
use envoy_types::pb::envoy::config::core::v3 as core;
use proptest::prelude::*;

type Assignment = pb::ClusterLoadAssignment;

fn endpoint(number: u32) -> pb::LbEndpoint {
    use core::address::Address::SocketAddress;
    use core::socket_address::PortSpecifier::PortValue;
    let [_, a, b, c] = number.to_be_bytes();
    let socket = core::SocketAddress {
        address: format!("10.{a}.{b}.{c}"),
        port_specifier: Some(PortValue(80)),
        ..Default::default()
    };
    let address = core::Address { address: Some(SocketAddress(socket)) };
    let endpoint = pb::Endpoint { address: Some(address), ..Default::default() };
    pb::LbEndpoint {
        host_identifier: Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    }
}

/// A locality for each count, whose endpoints have numbers in a row.
fn message(counts: &[u32]) -> Assignment {
    let mut next = 0;
    let endpoints = counts.iter().enumerate().map(|(zone, count)| {
        next += count;
        pb::LocalityLbEndpoints {
            locality: Some(core::Locality { zone: format!("z{zone}"), ..Default::default() }),
            lb_endpoints: (next - count..next).map(endpoint).collect(),
            priority: zone as u32 / 2,
            ..Default::default()
        }
    });
    Assignment { cluster_name: "c".into(), endpoints: endpoints.collect(), ..Default::default() }
}

fn read(message: &Assignment, before: Option<&ClusterLoadAssignment>) -> ClusterLoadAssignment {
    let (kind, context) = (ResourceKind::ClusterLoadAssignment, ResourceContext::default());
    let bytes = message.encode_to_vec().into();
    match Resource::decode_next(kind, "c", &bytes, before, &context).unwrap() {
        (Resource::ClusterLoadAssignment(name, assignment), _) => {
            assert_eq!(name, "c");
            Arc::unwrap_or_clone(assignment)
        }
        other => panic!("{other:?}"),
    }
}

/// How many pages of an assignment the one before does not have.
fn own_pages(now: &ClusterLoadAssignment, before: &ClusterLoadAssignment) -> usize {
    now.endpoints.places_in(&before.endpoints).iter().filter(|place| place.is_none()).count()
}

fn weight(weight: u32) -> Option<envoy_types::pb::google::protobuf::UInt32Value> {
    Some(envoy_types::pb::google::protobuf::UInt32Value { value: weight })
}

#[test]
fn an_endpoint_that_changes_makes_one_page() {
    let mut message = message(&[2_000, 700]);
    let before = read(&message, None);
    assert_eq!((before.endpoints.len(), before.endpoints.pages().len()), (2_700, 11));
    for (locality, index) in [(0, 0), (0, 1_000), (0, 1_999), (1, 0), (1, 699)] {
        let was = message.endpoints[locality].lb_endpoints[index].load_balancing_weight;
        message.endpoints[locality].lb_endpoints[index].load_balancing_weight = weight(7);
        let now = read(&message, Some(&before));
        assert_eq!(now, read(&message, None));
        assert_eq!(own_pages(&now, &before), 1, "{locality} {index}");
        message.endpoints[locality].lb_endpoints[index].load_balancing_weight = was;
    }
}

#[test]
fn endpoints_that_come_and_go_make_the_pages_where_they_are() {
    let mut message = message(&[3_000]);
    let before = read(&message, None);
    message.endpoints[0].lb_endpoints.insert(1_500, endpoint(90_000));
    let with = read(&message, Some(&before));
    assert_eq!((with.endpoints.len(), own_pages(&with, &before)), (3_001, 1));
    message.endpoints[0].lb_endpoints.drain(600..2_000);
    let without = read(&message, Some(&with));
    assert_eq!(without, read(&message, None));
    assert!(own_pages(&without, &with) <= 2);
    message.endpoints.push(self::message(&[0, 0]).endpoints.remove(1));
    message.endpoints[1].lb_endpoints.push(endpoint(80_000));
    let more = read(&message, Some(&without));
    assert_eq!((more.endpoints.len(), own_pages(&more, &without)), (1_602, 1));
    message.endpoints[0].priority = 1;
    let moved = read(&message, Some(&more));
    assert_eq!(moved, read(&message, None));
    assert!(moved.endpoints.iter().take(1_601).all(|endpoint| endpoint.priority == 1));
}

/// The same address twice is told, wherever the two are.
#[test]
fn an_address_that_is_there_already_is_read_by_names() {
    let mut message = message(&[1_000]);
    let before = read(&message, None);
    assert!(before.is_plain && before.encoded.is_some());
    for double in [0, 999] {
        message.endpoints[0].lb_endpoints.insert(500, endpoint(double));
        let now = read(&message, Some(&before));
        assert!(!now.is_plain && now.encoded.is_none(), "{double}");
        assert_eq!(now.endpoints.len(), 1_001);
        message.endpoints[0].lb_endpoints.remove(500);
    }
    let now = read(&message, Some(&before));
    assert_eq!(own_pages(&now, &before), 0);
    // The same is true of a page that is there twice.
    let first: Vec<_> = message.endpoints[0].lb_endpoints[..300].to_vec();
    message.endpoints[0].lb_endpoints.extend(first);
    let now = read(&message, Some(&before));
    assert!(!now.is_plain && now.encoded.is_none());
    assert_eq!(now, read(&message, None));
}

#[test]
fn what_is_wrong_beside_pages_that_are_shared_is_told() {
    let mut message = message(&[1_000]);
    let before = read(&message, None);
    message.endpoints[0].lb_endpoints[500].load_balancing_weight = weight(0);
    let (kind, context) = (ResourceKind::ClusterLoadAssignment, ResourceContext::default());
    let bytes = message.encode_to_vec().into();
    let errors = Resource::decode_next(kind, "c", &bytes, Some(&before), &context).unwrap_err();
    let text = errors.to_string();
    assert!(text.contains("endpoints[0].lb_endpoints[500].load_balancing_weight"), "{text}");
}

/// Pages do not become ever smaller.
#[test]
fn after_many_changes_pages_are_large_again() {
    let mut message = message(&[4_000]);
    let mut now = read(&message, None);
    for round in 0..40 {
        let at = (round * 97) % 3_000;
        let moved: Vec<_> = message.endpoints[0].lb_endpoints.drain(at..at + 90).collect();
        message.endpoints[0].lb_endpoints.extend(moved);
        now = read(&message, Some(&now));
        assert!(now.endpoints.pages().len() <= 17 + 4 * 4_000 / PAGE + 2);
    }
    assert_eq!(now, read(&message, None));
}

#[derive(Clone, Debug)]
enum Edit {
    Weigh { locality: usize, at: usize, weight: u32 },
    Remove { locality: usize, from: usize, count: usize },
    Insert { locality: usize, at: usize, number: u32, count: u32 },
    SwapLocalities(usize, usize),
    Reverse { locality: usize },
    SetPriority { locality: usize, priority: u32 },
}

fn edits() -> impl Strategy<Value = Edit> {
    let (locality, at) = (|| 0..3_usize, || 0..1_200_usize);
    prop_oneof![
        4 => (locality(), at(), 1..9_u32)
            .prop_map(|(locality, at, weight)| Edit::Weigh { locality, at, weight }),
        2 => (locality(), at(), 1..400_usize)
            .prop_map(|(locality, from, count)| Edit::Remove { locality, from, count }),
        2 => (locality(), at(), 50_000..90_000_u32, 1..300_u32)
            .prop_map(|(locality, at, number, count)| Edit::Insert { locality, at, number, count }),
        1 => (locality(), locality()).prop_map(|(a, b)| Edit::SwapLocalities(a, b)),
        1 => locality().prop_map(|locality| Edit::Reverse { locality }),
        1 => (locality(), 0..2_u32)
            .prop_map(|(locality, priority)| Edit::SetPriority { locality, priority }),
    ]
}

impl Edit {
    fn make(&self, message: &mut Assignment) {
        let endpoints = |message, locality: usize| {
            let message: &mut Assignment = message;
            std::mem::take(&mut message.endpoints[locality].lb_endpoints)
        };
        let (locality, now) = match *self {
            Edit::SwapLocalities(a, b) => return message.endpoints.swap(a, b),
            Edit::SetPriority { locality, priority } => {
                message.endpoints[locality].priority = priority;
                return;
            }
            Edit::Weigh { locality, at, weight: to } => {
                let mut list = endpoints(message, locality);
                if let Some(one) = list.get_mut(at) {
                    one.load_balancing_weight = weight(to);
                }
                (locality, list)
            }
            Edit::Remove { locality, from, count } => {
                let mut list = endpoints(message, locality);
                let from = from.min(list.len());
                list.drain(from..(from + count).min(list.len()));
                (locality, list)
            }
            Edit::Insert { locality, at, number, count } => {
                let mut list = endpoints(message, locality);
                let at = at.min(list.len());
                list.splice(at..at, (number..number + count).map(endpoint));
                (locality, list)
            }
            Edit::Reverse { locality } => {
                let mut list = endpoints(message, locality);
                list.reverse();
                (locality, list)
            }
        };
        message.endpoints[locality].lb_endpoints = now;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_version_means_what_it_means_alone(
        counts in prop::collection::vec(0..1_200_u32, 3),
        edits in prop::collection::vec(prop::collection::vec(edits(), 1..4), 1..6),
    ) {
        let mut message = message(&counts);
        let mut before = read(&message, None);
        for edits in edits {
            edits.iter().for_each(|edit| edit.make(&mut message));
            let now = read(&message, Some(&before));
            let alone = read(&message, None);
            prop_assert_eq!(&now, &alone);
            prop_assert_eq!(now.is_plain, alone.is_plain);
            before = now;
        }
    }
}
