//! Which connections a filter chain is for (`FilterChainMatch`).
//!
//! What it leaves to others: choosing a chain (`snapshot::filter_chains`).

use super::CidrRange;
use super::convert::At;
use super::support::{SupportedMessage, refused, strict, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use std::net::IpAddr;

/// `config.listener.v3.FilterChainMatch`; what is empty matches all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilterChainMatch {
    /// `destination_port`
    pub destination_port: Option<u16>,
    /// `prefix_ranges` of the address that the client connected to.
    pub prefix_ranges: Vec<CidrRange>,
    /// `server_names` in lower case; `*.example.com` is kept as `.example.com`.
    pub server_names: Vec<String>,
    /// `transport_protocol`: `tls` or `raw_buffer`.
    pub transport_protocol: Option<String>,
    /// `application_protocols`
    pub application_protocols: Vec<String>,
    /// `direct_source_prefix_ranges`
    pub direct_source_prefix_ranges: Vec<CidrRange>,
    /// `source_type`
    pub source_type: SourceType,
    /// `source_prefix_ranges`
    pub source_prefix_ranges: Vec<CidrRange>,
    /// `source_ports`
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SourceType {
    /// `ANY`
    #[default]
    Any = 0,
    /// `SAME_IP_OR_LOOPBACK`
    Local = 1,
    /// `EXTERNAL`
    External = 2,
}

impl SourceType {
    /// Of a connection.
    #[must_use]
    pub fn of(local: IpAddr, remote: IpAddr) -> SourceType {
        match remote.is_loopback() || local == remote {
            true => SourceType::Local,
            false => SourceType::External,
        }
    }
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[strict(
    "envoy.config.listener.v3.FilterChainMatch",
    &[
        used("destination_port"),
        used("prefix_ranges"),
        // Envoy has not implemented these two either.
        refused("address_suffix"),
        refused("suffix_len"),
        used("direct_source_prefix_ranges"),
        used("source_type"),
        used("source_prefix_ranges"),
        used("source_ports"),
        used("server_names"),
        used("transport_protocol"),
        used("application_protocols"),
    ],
)];

impl FilterChainMatch {
    /// Converts a match; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, rules: &pb::FilterChainMatch) -> FilterChainMatch {
        use pb::filter_chain_match::ConnectionSourceType as Pb;
        let ranges = |name: &str, ranges: &[core::CidrRange]| {
            CidrRange::all_from_proto(&at.field(name), ranges)
        };
        let at_names = at.field("server_names");
        let names = rules.server_names.iter().enumerate();
        let names = names.filter_map(|(index, name)| server_name(&at_names.index(index), name));
        // The .proto file has the bounds of ports.
        let port = |port: &u32| u16::try_from(*port).ok();
        let protocol = &rules.transport_protocol;
        FilterChainMatch {
            destination_port: rules.destination_port.as_ref().and_then(|it| port(&it.value)),
            prefix_ranges: ranges("prefix_ranges", &rules.prefix_ranges),
            server_names: names.collect(),
            transport_protocol: (!protocol.is_empty()).then(|| protocol.clone()),
            application_protocols: rules.application_protocols.clone(),
            direct_source_prefix_ranges: ranges(
                "direct_source_prefix_ranges",
                &rules.direct_source_prefix_ranges,
            ),
            source_type: match rules.source_type() {
                Pb::Any => SourceType::Any,
                Pb::SameIpOrLoopback => SourceType::Local,
                Pb::External => SourceType::External,
            },
            source_prefix_ranges: ranges("source_prefix_ranges", &rules.source_prefix_ranges),
            source_ports: rules.source_ports.iter().filter_map(port).collect(),
        }
    }

    /// Whether the hello of a client has to be read first. Without that each connection is
    /// `raw_buffer`.
    #[must_use]
    pub fn asks_hello(&self) -> bool {
        match self.transport_protocol.as_deref() {
            Some(protocol) => protocol == "tls",
            None => !self.server_names.is_empty() || !self.application_protocols.is_empty(),
        }
    }

    /// Whether it asks for the addresses of a connection.
    #[must_use]
    pub fn asks_addresses(&self) -> bool {
        self.destination_port.is_some()
            || self.source_type != SourceType::Any
            || !self.source_ports.is_empty()
            || !self.prefix_ranges.is_empty()
            || !self.direct_source_prefix_ranges.is_empty()
            || !self.source_prefix_ranges.is_empty()
    }
}

/// An empty one asks for nothing.
fn server_name(at: &At<'_>, name: &str) -> Option<String> {
    let wildcard = name.strip_prefix('*').filter(|rest| rest.starts_with('.'));
    let plain = wildcard.unwrap_or(name);
    if wildcard.is_none() && plain.contains('*') {
        at.error_hint(
            "partial wildcards are not supported in \"server_names\"",
            "`*.example.com` is every name below; a chain without names is for all",
        );
        return None;
    }
    (!plain.is_empty()).then(|| plain.to_ascii_lowercase())
}
