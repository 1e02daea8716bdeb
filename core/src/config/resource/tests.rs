//! Resources as text and as bytes mean the same, and what is wrong is told.

use super::*;
use proptest::prelude::*;
use prost_reflect::DynamicMessage;
use serde_json::json;

fn read(kind: ResourceKind, text: &str) -> Result<Resource, String> {
    let source = Source { name: "x".into(), text: text.into() };
    let read = Resource::read(kind, &source, &ResourceContext::default());
    read.map(|(resource, _)| resource).map_err(|errors| errors.to_string())
}

fn clean(kind: ResourceKind, bytes: &[u8], context: &ResourceContext) -> Option<Resource> {
    super::clean(kind, &Bytes::copy_from_slice(bytes), None, context)
}

#[test]
fn each_kind_is_read_and_named() {
    let listener = "
name: l
address: { socket_address: { address: 127.0.0.1, port_value: 1 } }
filter_chains:
- filters:
  - name: h
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: { route_config_name: r, config_source: { ads: {} } }
      http_filters:
      - name: router
        typed_config: { '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }";
    for (kind, text, name) in [
        (
            ResourceKind::Cluster,
            "{ name: c, type: EDS, eds_cluster_config: { eds_config: { ads: {} } } }",
            "c",
        ),
        (ResourceKind::ClusterLoadAssignment, "{ cluster_name: c, endpoints: [] }", "c"),
        (ResourceKind::RouteConfiguration, "{ name: r, virtual_hosts: [] }", "r"),
        (ResourceKind::Listener, listener, "l"),
    ] {
        let read = read(kind, text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(read.name(), name);
    }
}

/// The bytes that a text is, and whether they are clean.
fn encoded(kind: ResourceKind, text: &str) -> (Vec<u8>, bool) {
    let sources = [Source { name: "x".into(), text: text.into() }];
    let mut report = Report::new(&sources);
    let roots = load::parse(&sources, &mut report).unwrap();
    let pool = descriptors::pool().unwrap();
    let descriptor = pool.get_message_by_name(kind.message()).unwrap();
    let parts: Vec<&Node> = roots.iter().collect();
    let options = Options::default();
    let message = Reader::new(pool, &options, &mut report).read(&parts, &descriptor);
    let bytes = message.encode_to_vec();
    let is_clean = is_clean(pool, kind.message(), &bytes);
    (bytes, is_clean)
}

const SAMPLES: [(ResourceKind, &str); 5] = [
    (
        ResourceKind::Cluster,
        "{ name: c, type: STATIC, connect_timeout: 0.25s, lb_policy: RANDOM, \
         circuit_breakers: { thresholds: [{ max_connections: 7 }] } }",
    ),
    (
        ResourceKind::Cluster,
        "{ name: c, type: EDS, eds_cluster_config: { eds_config: { ads: {} } } }",
    ),
    (
        ResourceKind::ClusterLoadAssignment,
        "{ cluster_name: c, endpoints: [{ locality: { zone: z }, load_balancing_weight: 3, \
         lb_endpoints: [{ health_status: DRAINING, endpoint: { address: { socket_address: { \
         address: 127.0.0.1, port_value: 1 } } } }] }] }",
    ),
    (
        ResourceKind::RouteConfiguration,
        "{ name: r, virtual_hosts: [{ name: v, domains: ['*'], routes: [{ match: { prefix: / \
         }, route: { cluster: c, timeout: 3s } }] }] }",
    ),
    (
        ResourceKind::Listener,
        "{ name: l, address: { socket_address: { address: 127.0.0.1, port_value: 1 } }, \
         filter_chains: [{ filters: [{ name: h, typed_config: { '@type': \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: s, cluster: c, idle_timeout: 9s } }] }] }",
    ),
];

#[test]
fn clean_bytes_mean_what_their_text_means() {
    for (kind, text) in SAMPLES {
        let (bytes, is_clean) = encoded(kind, text);
        assert!(is_clean, "{text}");
        let context = ResourceContext::default();
        let found = clean(kind, &bytes, &context).map(|found| format!("{found:?}"));
        assert_eq!(found, read(kind, text).ok().map(|found| format!("{found:?}")), "{text}");
    }
}

/// A change to bytes: its place, and what is done there.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let place = || 0..400_usize;
    let damage = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        place().prop_map(Damage::Remove),
    ];
    proptest::collection::vec(damage, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is taken for clean means what it means when it is read by names, and nothing
    /// is to be told of it.
    #[test]
    fn what_is_clean_has_nothing_to_tell(sample in 0..SAMPLES.len(), damages in damages()) {
        let (kind, text) = SAMPLES[sample];
        let (mut bytes, _) = encoded(kind, text);
        for damage in damages {
            match damage {
                _ if bytes.is_empty() => {}
                Damage::Set(at, byte) => {
                    let at = at % bytes.len();
                    bytes[at] = byte;
                }
                Damage::Insert(at, byte) => bytes.insert(at % bytes.len(), byte),
                Damage::Remove(at) => drop(bytes.remove(at % bytes.len())),
            }
        }
        let context = ResourceContext::default();
        if let Some(found) = clean(kind, &bytes, &context) {
            let by_names = Resource::decode_by_names(kind, "x", &bytes, &context);
            let (expected, told) = by_names.expect("it is valid");
            prop_assert!(told.is_empty(), "{:?}", told);
            prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        }
    }
}

#[test]
fn what_is_to_be_told_is_not_clean() {
    let kind = ResourceKind::Cluster;
    let pool = descriptors::pool().unwrap();
    let descriptor = pool.get_message_by_name(kind.message()).unwrap();
    let bytes = |json: serde_json::Value| {
        DynamicMessage::deserialize(descriptor.clone(), json).unwrap().encode_to_vec()
    };
    let clean = |bytes: &[u8]| clean(kind, bytes, &ResourceContext::default());
    assert!(clean(&bytes(json!({ "name": "c", "type": "STATIC" }))).is_some());
    for json in [
        json!({ "name": "c", "type": "STATIC", "outlier_detection": {} }),
        json!({ "name": "c", "type": "STATIC", "lb_policy": "MAGLEV" }),
        json!({ "name": "c", "type": "EDS" }),
        json!({ "type": "STATIC" }),
        json!({ "name": "c", "type": "STATIC", "connect_timeout": "0s" }),
        json!({ "name": "c", "type": 77 }),
    ] {
        assert_eq!(clean(&bytes(json.clone())), None, "{json}");
    }
    // Field 1000 is none of Envoy's.
    let mut unknown = bytes(json!({ "name": "c", "type": "STATIC" }));
    unknown.extend([0xc0, 0x3e, 1]);
    assert_eq!(clean(&unknown), None);
}

/// Protobuf's own messages have no fields that are supported or not, but not any field.
#[test]
fn a_struct_with_a_field_that_there_is_not_is_not_clean() {
    let host = |value: [u8; 2]| {
        let metadata = [b"\x0a\x0e\x0a\x01a\x12\x09\x0a\x07\x0a\x01k\x12\x02", &value[..]].concat();
        let bytes = [b"\x0a\x01v\x12\x01*\xc2\x01\x10", &metadata[..]].concat();
        clean(ResourceKind::VirtualHost, &bytes, &ResourceContext::default())
    };
    let (bool_value, field_14) = ([0x20, 1], [0x70, 1]);
    assert!(host(bool_value).is_some());
    assert_eq!(host(field_14), None);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let error = read(ResourceKind::Cluster, "{ name: c, lb_policy: MAGLEV }").unwrap_err();
    assert!(error.contains("lb_policy"), "{error}");
    let context = ResourceContext::default();
    let error = Resource::decode(ResourceKind::Cluster, "cluster `c`", &[255], &context);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cluster `c`"), "{error}");
}
