//! How a cluster's names are looked up (`Cluster.dns_*`, `DnsCluster`, resolvers).
//!
//! What it leaves to others: which names (`endpoint`), looking them up (`control`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::address::Address;
use super::convert::{At, is_type};
use super::support::{SupportedMessage, kept, message, only, refused, types, used};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as TypedFamily;
use envoy_types::pb::envoy::extensions::clusters::dns::v3 as typed;
use envoy_types::pb::envoy::extensions::network::dns_resolver as resolvers;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration};
use std::net::SocketAddr;
use std::time::Duration;

/// How names are looked up, and how often.
#[derive(Clone, PartialEq, Debug)]
pub struct DnsResolution {
    /// `dns_lookup_family`
    pub family: DnsLookupFamily,
    /// `dns_refresh_rate`, default 5 s.
    pub refresh_rate: Duration,
    /// `dns_failure_refresh_rate`; without it a failure is repeated at `refresh_rate`.
    pub failure_refresh_rate: Option<RefreshRate>,
    /// `respect_dns_ttl`
    pub respect_ttl: bool,
    /// `dns_min_refresh_rate`: a TTL below counts as this.
    pub min_refresh_rate: Duration,
    /// `dns_jitter`: at random, up to this is added to the time between two lookups.
    pub jitter: Duration,
    /// Who is asked.
    pub resolver: DnsResolver,
    /// `wait_for_warm_on_init`, default true: the first lookup ends before requests come.
    pub waits_for_warm: bool,
}

/// `dns_failure_refresh_rate`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefreshRate {
    /// `base_interval`
    pub base_interval: Duration,
    /// `max_interval`, default ten times the base.
    pub max_interval: Duration,
}

/// `dns_lookup_family`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum DnsLookupFamily {
    /// `AUTO`: IPv6 if there is any, else IPv4.
    #[default]
    Auto,
    /// `V4_ONLY`
    V4Only,
    /// `V6_ONLY`
    V6Only,
    /// `V4_PREFERRED`
    V4Preferred,
    /// `ALL`
    All,
}

/// `typed_dns_resolver_config`, `dns_resolution_config` or the fields that they replace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct DnsResolver {
    /// `resolvers`; those of `/etc/resolv.conf` if there is none.
    pub servers: Vec<SocketAddr>,
    /// `dns_resolver_options.use_tcp_for_dns_lookups`
    pub tcp_only: bool,
    /// `dns_resolver_options.no_default_search_domain`
    pub no_search_domain: bool,
}

pub(super) const DNS_CLUSTER: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
pub(super) const CARES: &str =
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
pub(super) const GETADDRINFO: &str =
    "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig";
pub(super) const HICKORY: &str =
    "envoy.extensions.network.dns_resolver.hickory.v3.HickoryDnsResolverConfig";
const DEFAULT_REFRESH_RATE: Duration = Duration::from_secs(5);
const MAX_FACTOR: u32 = 10;
const DNS_PORT: u16 = 53;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.cluster.v3.Cluster.CustomClusterType",
        &[used("name"), types("typed_config", &[DNS_CLUSTER])],
    ),
    message(
        DNS_CLUSTER,
        &[
            used("dns_refresh_rate"),
            used("dns_failure_refresh_rate"),
            used("respect_dns_ttl"),
            used("dns_jitter"),
            used("typed_dns_resolver_config"),
            used("dns_lookup_family"),
            used("all_addresses_in_single_endpoint"),
            used("dns_min_refresh_rate"),
        ],
    ),
    message(
        "envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate",
        &[used("base_interval"), used("max_interval")],
    ),
    message(
        "envoy.config.cluster.v3.Cluster.RefreshRate",
        &[used("base_interval"), used("max_interval")],
    ),
    message(
        "envoy.config.core.v3.DnsResolutionConfig",
        &[used("resolvers"), used("dns_resolver_options")],
    ),
    message(
        "envoy.config.core.v3.DnsResolverOptions",
        &[used("use_tcp_for_dns_lookups"), used("no_default_search_domain")],
    ),
    message(
        CARES,
        &[
            used("resolvers"),
            used("dns_resolver_options"),
            only("use_resolvers_as_fallback", &["false"]),
            only("filter_unroutable_families", &["false"]),
            kept("udp_max_queries", "it is about the sockets of c-ares"),
            kept("max_udp_channel_duration", "it is about the sockets of c-ares"),
            kept("reinit_channel_on_timeout", "it is about the sockets of c-ares"),
            refused("query_timeout_seconds"),
            refused("query_tries"),
            refused("rotate_nameservers"),
            refused("edns0_max_payload_size"),
            only("qcache_max_ttl", &["0"]),
        ],
    ),
    message(
        GETADDRINFO,
        &[refused("num_retries"), kept("num_resolver_threads", "lookups do not block a thread")],
    ),
    message(
        HICKORY,
        &[
            used("resolvers"),
            refused("dns_over_tls"),
            refused("dns_over_https"),
            only("enable_dnssec", &["false"]),
            only("cache_size", &["0"]),
            kept("num_resolver_threads", "lookups run on the control thread"),
            only("use_system_config", &["true"]),
            refused("query_timeout"),
            refused("query_tries"),
        ],
    ),
];

impl DnsResolution {
    /// What the fields of the cluster itself say.
    pub(super) fn from_cluster(at: &At<'_>, cluster: &pb::Cluster) -> DnsResolution {
        let failure = cluster.dns_failure_refresh_rate.as_ref();
        DnsResolution {
            family: DnsLookupFamily::from_proto(cluster.dns_lookup_family()),
            refresh_rate: refresh_rate(at, cluster.dns_refresh_rate.as_ref()),
            failure_refresh_rate: failure.and_then(|rate| {
                RefreshRate::from_proto(at, (&rate.base_interval, &rate.max_interval))
            }),
            respect_ttl: cluster.respect_dns_ttl,
            min_refresh_rate: Duration::ZERO,
            jitter: duration(at, "dns_jitter", cluster.dns_jitter.as_ref()),
            resolver: DnsResolver::from_cluster(at, cluster),
            waits_for_warm: cluster.wait_for_warm_on_init.is_none_or(|flag| flag.value),
        }
    }

    /// What a `DnsCluster` says, and whether all addresses are one endpoint.
    pub(super) fn from_typed(
        at: &At<'_>,
        any: &Any,
        cluster: &pb::Cluster,
    ) -> Option<(DnsResolution, bool)> {
        if !is_type(any, DNS_CLUSTER) {
            return None;
        }
        let config: typed::DnsCluster = at.unpack(any, DNS_CLUSTER)?;
        let failure = config.dns_failure_refresh_rate.as_ref();
        let min_refresh_rate =
            duration(at, "dns_min_refresh_rate", config.dns_min_refresh_rate.as_ref());
        let resolver = config.typed_dns_resolver_config.as_ref();
        let resolution = DnsResolution {
            family: match config.dns_lookup_family() {
                TypedFamily::Unspecified | TypedFamily::Auto => DnsLookupFamily::Auto,
                TypedFamily::V4Only => DnsLookupFamily::V4Only,
                TypedFamily::V6Only => DnsLookupFamily::V6Only,
                TypedFamily::V4Preferred => DnsLookupFamily::V4Preferred,
                TypedFamily::All => DnsLookupFamily::All,
            },
            refresh_rate: refresh_rate(at, config.dns_refresh_rate.as_ref()),
            failure_refresh_rate: failure.and_then(|rate| {
                RefreshRate::from_proto(at, (&rate.base_interval, &rate.max_interval))
            }),
            respect_ttl: config.respect_dns_ttl,
            min_refresh_rate,
            jitter: duration(at, "dns_jitter", config.dns_jitter.as_ref()),
            resolver: resolver
                .and_then(|config| DnsResolver::from_typed(at, config))
                .unwrap_or_default(),
            waits_for_warm: cluster.wait_for_warm_on_init.is_none_or(|flag| flag.value),
        };
        Some((resolution, config.all_addresses_in_single_endpoint))
    }
}

fn refresh_rate(at: &At<'_>, rate: Option<&PbDuration>) -> Duration {
    at.field("dns_refresh_rate").duration(rate).unwrap_or(DEFAULT_REFRESH_RATE)
}

fn duration(at: &At<'_>, field: &str, duration: Option<&PbDuration>) -> Duration {
    at.field(field).duration(duration).unwrap_or_default()
}

impl RefreshRate {
    fn from_proto(
        at: &At<'_>,
        (base, max): (&Option<PbDuration>, &Option<PbDuration>),
    ) -> Option<RefreshRate> {
        let at = at.field("dns_failure_refresh_rate");
        let base_interval = at.field("base_interval").duration(base.as_ref())?;
        let max_interval = at.field("max_interval").duration(max.as_ref());
        let max_interval = max_interval.unwrap_or(base_interval.saturating_mul(MAX_FACTOR));
        if max_interval < base_interval {
            at.field("max_interval").error("`max_interval` must not be less than `base_interval`");
        }
        Some(RefreshRate { base_interval, max_interval })
    }
}

impl DnsLookupFamily {
    fn from_proto(family: pb::cluster::DnsLookupFamily) -> DnsLookupFamily {
        match family {
            pb::cluster::DnsLookupFamily::Auto => DnsLookupFamily::Auto,
            pb::cluster::DnsLookupFamily::V4Only => DnsLookupFamily::V4Only,
            pb::cluster::DnsLookupFamily::V6Only => DnsLookupFamily::V6Only,
            pb::cluster::DnsLookupFamily::V4Preferred => DnsLookupFamily::V4Preferred,
            pb::cluster::DnsLookupFamily::All => DnsLookupFamily::All,
        }
    }
}

impl DnsResolver {
    /// Of the three ways to say it, the newest counts, as in Envoy.
    fn from_cluster(at: &At<'_>, cluster: &pb::Cluster) -> DnsResolver {
        if let Some(config) = &cluster.typed_dns_resolver_config {
            return DnsResolver::from_typed(at, config).unwrap_or_default();
        }
        if let Some(config) = &cluster.dns_resolution_config {
            let at = at.field("dns_resolution_config");
            let options = config.dns_resolver_options.as_ref();
            return DnsResolver::new(&at.field("resolvers"), &config.resolvers, options);
        }
        let mut resolver =
            DnsResolver::new(&at.field("dns_resolvers"), &cluster.dns_resolvers, None);
        resolver.tcp_only = cluster.use_tcp_for_dns_lookups;
        resolver
    }

    fn from_typed(at: &At<'_>, config: &core::TypedExtensionConfig) -> Option<DnsResolver> {
        let at = at.field("typed_dns_resolver_config");
        let Some(any) = &config.typed_config else {
            at.missing("typed_config", Some(CARES));
            return None;
        };
        let at = at.field("typed_config");
        let at_servers = at.field("resolvers");
        if is_type(any, CARES) {
            let config: resolvers::cares::v3::CaresDnsResolverConfig = at.unpack(any, CARES)?;
            let options = config.dns_resolver_options.as_ref();
            Some(DnsResolver::new(&at_servers, &config.resolvers, options))
        } else if is_type(any, HICKORY) {
            let config: resolvers::hickory::v3::HickoryDnsResolverConfig =
                at.unpack(any, HICKORY)?;
            Some(DnsResolver::new(&at_servers, &config.resolvers, None))
        } else if is_type(any, GETADDRINFO) {
            Some(DnsResolver::default())
        } else {
            at.error(format!("a resolver is a `{CARES}`, a `{GETADDRINFO}` or a `{HICKORY}`"));
            None
        }
    }

    fn new(
        at: &At<'_>,
        addresses: &[core::Address],
        options: Option<&core::DnsResolverOptions>,
    ) -> DnsResolver {
        let mut servers = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let at = at.index(index);
            match Address::from_proto(&at, Some(address)) {
                Some(Address::Socket(mut address)) => {
                    if address.port() == 0 {
                        address.set_port(DNS_PORT);
                    }
                    servers.push(address);
                }
                Some(Address::Name { host, .. }) => {
                    at.error_hint(
                        format!("malformed IP address: {host}"),
                        "who resolves names has an address",
                    );
                }
                None => {}
            }
        }
        DnsResolver {
            servers,
            tcp_only: options.is_some_and(|options| options.use_tcp_for_dns_lookups),
            no_search_domain: options.is_some_and(|options| options.no_default_search_domain),
        }
    }
}
