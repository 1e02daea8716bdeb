//! Where stats are sent to by themselves (`stats_sinks` of the bootstrap).
//!
//! What it leaves to others: sending (`admin::sinks`).

use super::address::Address;
use super::convert::{At, is_type};
use super::support::{SupportedMessage, message, types, used};
use envoy_types::pb::envoy::config::metrics::v3 as pb;
use std::net::SocketAddr;

/// A sink that speaks statsd's protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatsSink {
    /// Where it is.
    pub target: SinkTarget,
    /// What all names begin with.
    pub prefix: String,
    /// DogStatsD: tags stand beside the name instead of in it.
    pub tags: bool,
    /// So many bytes of lines go in one datagram; one line when absent.
    pub datagram_bytes_max: Option<usize>,
}

/// Where a sink is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SinkTarget {
    /// `address`
    Udp(SocketAddr),
    /// `tcp_cluster_name`: the first host of this cluster.
    TcpCluster(String),
}

const STATSD: &str = "envoy.config.metrics.v3.StatsdSink";
const DOG_STATSD: &str = "envoy.config.metrics.v3.DogStatsdSink";
const DEFAULT_PREFIX: &str = "envoy";

/// What is implemented of them.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.metrics.v3.StatsSink",
        &[used("name"), types("typed_config", &[STATSD, DOG_STATSD])],
    ),
    message(STATSD, &[used("address"), used("tcp_cluster_name"), used("prefix")]),
    message(DOG_STATSD, &[used("address"), used("prefix"), used("max_bytes_per_datagram")]),
];

impl StatsSink {
    /// Converts all sinks; what is wrong is reported.
    pub(super) fn all_from_proto(at: &At<'_>, sinks: &[pb::StatsSink]) -> Vec<StatsSink> {
        let convert = |(index, sink)| StatsSink::from_proto(&at.index(index), sink);
        sinks.iter().enumerate().filter_map(convert).collect()
    }

    fn from_proto(at: &At<'_>, sink: &pb::StatsSink) -> Option<StatsSink> {
        let Some(pb::stats_sink::ConfigType::TypedConfig(any)) = &sink.config_type else {
            at.missing("typed_config", None);
            return None;
        };
        let at = at.field("typed_config");
        let prefix = |given: &str| match given {
            "" => DEFAULT_PREFIX.to_owned(),
            given => given.to_owned(),
        };
        if is_type(any, DOG_STATSD) {
            use pb::dog_statsd_sink::DogStatsdSpecifier::Address as At_;
            let config: pb::DogStatsdSink = at.unpack(any, DOG_STATSD)?;
            let Some(At_(address)) = &config.dog_statsd_specifier else {
                at.missing("address", None);
                return None;
            };
            return Some(StatsSink {
                target: SinkTarget::Udp(udp(&at.field("address"), address)?),
                prefix: prefix(&config.prefix),
                tags: true,
                datagram_bytes_max: config.max_bytes_per_datagram.map(|max| max.value as usize),
            });
        }
        use pb::statsd_sink::StatsdSpecifier;
        let config: pb::StatsdSink = at.unpack(any, STATSD)?;
        let target = match &config.statsd_specifier {
            Some(StatsdSpecifier::Address(address)) => {
                SinkTarget::Udp(udp(&at.field("address"), address)?)
            }
            Some(StatsdSpecifier::TcpClusterName(name)) => SinkTarget::TcpCluster(name.clone()),
            None => {
                at.missing(
                    "address",
                    Some("or `tcp_cluster_name`, a cluster that takes statsd lines"),
                );
                return None;
            }
        };
        let prefix = prefix(&config.prefix);
        Some(StatsSink { target, prefix, tags: false, datagram_bytes_max: None })
    }
}

fn udp(
    at: &At<'_>,
    address: &envoy_types::pb::envoy::config::core::v3::Address,
) -> Option<SocketAddr> {
    match Address::of_any_protocol(at, Some(address))? {
        Address::Socket(address) => Some(address),
        Address::Name { host, .. } => {
            at.error(format!("`{host}` is no IP address, which a sink must have"));
            None
        }
    }
}
