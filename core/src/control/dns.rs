//! Looks names up: `/etc/hosts` first, then the resolvers of `/etc/resolv.conf`. Both are read
//! again when they change.
//!
//! What it leaves to others: when to look up, and what an answer is good for (`names`).

use super::names::{Answer, DnsName};
use crate::config::{DnsLookupFamily, DnsResolver};
use crate::log::{self, Component};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver};
use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, mpsc};

/// How long one lookup may take in all: two tries of [`TRY_MAX`] and some room.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// How long a resolver has for one try, when `resolv.conf` does not want less.
const TRY_MAX: Duration = Duration::from_secs(2);

/// Lookups under way at once; more wait their turn.
const LOOKUPS_MAX: usize = 64;

/// Resolvers that are kept at once; beyond that all are made anew.
const RESOLVERS_MAX: usize = 64;

const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks names up on the runtime of the control thread and sends the answers into a channel.
pub struct Dns {
    /// Asked instead of those of `resolv.conf`, unless the cluster names others.
    server: Option<SocketAddr>,
    /// One for each resolver that clusters have asked for since the files were read.
    sources: HashMap<DnsResolver, Arc<Sources>>,
    /// When [`FILES`] were changed last, as far as `sources` know.
    changed: [Option<SystemTime>; 2],
    permits: Arc<Semaphore>,
    answers: mpsc::Sender<(DnsName, Answer)>,
}

struct Sources {
    resolver: TokioResolver,
    hosts: Hosts,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Dns {
    /// Asks `server`, or those of `resolv.conf`. Answers go into `answers`.
    #[must_use]
    pub fn new(server: Option<SocketAddr>, answers: mpsc::Sender<(DnsName, Answer)>) -> Dns {
        let permits = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Dns { server, sources: HashMap::new(), changed: [None; 2], permits, answers }
    }

    /// Starts a lookup. Its answer comes, whatever happens.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn resolve(&mut self, name: DnsName) {
        let sources = self.sources(&name.resolver);
        let permits = self.permits.clone();
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            let answer = match sources {
                Ok(sources) => {
                    let limited = tokio::time::timeout(LOOKUP_MAX, sources.look_up(&name)).await;
                    limited.unwrap_or_else(|_| {
                        let seconds = LOOKUP_MAX.as_secs();
                        Answer::Failed(format!("no resolver answered within {seconds} s"))
                    })
                }
                Err(reason) => Answer::Failed(reason),
            };
            // The control thread is gone only when the process ends.
            let _ = answers.send((name, answer)).await;
        });
    }

    /// The resolver and the hosts file as they are now.
    fn sources(&mut self, resolver: &DnsResolver) -> Result<Arc<Sources>, String> {
        let changed = FILES.map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
        if changed != self.changed || self.sources.len() > RESOLVERS_MAX {
            self.sources.clear();
            self.changed = changed;
        }
        if let Some(sources) = self.sources.get(resolver) {
            return Ok(sources.clone());
        }
        let sources = Arc::new(Sources::read(self.server, resolver)?);
        self.sources.insert(resolver.clone(), sources.clone());
        Ok(sources)
    }
}

impl Sources {
    fn read(server: Option<SocketAddr>, resolver: &DnsResolver) -> Result<Sources, String> {
        let servers = match resolver.servers.as_slice() {
            [] => server.as_slice(),
            servers => servers,
        };
        let (mut config, mut options) = match servers {
            [] => hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
                // As the C library does.
                let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53);
                log::warning(
                    Component::Dns,
                    format_args!("/etc/resolv.conf: {error}; asking the resolver at {local}"),
                );
                (these_servers(&[local]), ResolverOpts::default())
            }),
            servers => (these_servers(servers), ResolverOpts::default()),
        };
        if resolver.tcp_only {
            let is_tcp = |connection: &ConnectionConfig| connection.protocol == ProtocolConfig::Tcp;
            config.name_servers.iter_mut().for_each(|it| it.connections.retain(is_tcp));
        }
        if resolver.no_search_domain {
            config.domain = None;
            config.search.clear();
        }
        options.timeout = options.timeout.min(TRY_MAX);
        // The refresh rate decides when to ask again, so nothing is remembered here.
        options.cache_size = 0;
        let provider = TokioRuntimeProvider::default();
        let builder = Resolver::builder_with_config(config, provider).with_options(options);
        let resolver = builder.build().map_err(|error| format!("no resolver: {error}"))?;
        Ok(Sources { resolver, hosts: Hosts::from_system().unwrap_or_default() })
    }

    async fn look_up(&self, name: &DnsName) -> Answer {
        let (v4, v6) = match name.family {
            DnsLookupFamily::V4Only => (true, false),
            DnsLookupFamily::V6Only => (false, true),
            DnsLookupFamily::Auto | DnsLookupFamily::V4Preferred | DnsLookupFamily::All => {
                (true, true)
            }
        };
        let in_hosts_file = self.in_hosts_file(&name.host);
        let (v4, v6) = if in_hosts_file.is_empty() {
            let ask = |wanted, record| async move {
                if wanted { self.ask(&name.host, record).await } else { Found::default() }
            };
            tokio::join!(ask(v4, RecordType::A), ask(v6, RecordType::AAAA))
        } else {
            let of = |wanted: bool, family: fn(&IpAddr) -> bool| Found {
                addresses: in_hosts_file
                    .iter()
                    .copied()
                    .filter(|ip| wanted && family(ip))
                    .collect(),
                ..Found::default()
            };
            (of(v4, IpAddr::is_ipv4), of(v6, IpAddr::is_ipv6))
        };
        choose(name.family, v4, v6)
    }

    /// Addresses of both families: a name that `/etc/hosts` knows is not asked for elsewhere, as in
    /// the C library.
    fn in_hosts_file(&self, host: &str) -> Vec<IpAddr> {
        let Ok(name) = Name::from_str_relaxed(host) else { return Vec::new() };
        let mut addresses = Vec::new();
        for record in [RecordType::A, RecordType::AAAA] {
            if let Some(found) = self.hosts.lookup_static_host(&Query::query(name.clone(), record))
            {
                addresses.extend(found.answers().iter().filter_map(|record| record.data.ip_addr()));
            }
        }
        addresses
    }

    async fn ask(&self, host: &str, record: RecordType) -> Found {
        match self.resolver.lookup(host, record).await {
            Ok(lookup) => {
                let answers = lookup.answers();
                let ttl = answers.iter().map(|record| record.ttl).min();
                Found {
                    addresses: answers.iter().filter_map(|record| record.data.ip_addr()).collect(),
                    ttl: ttl.map(|seconds| Duration::from_secs(seconds.into())),
                    failure: None,
                }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                Found::default()
            }
            Err(error) if error.is_nx_domain() => Found::failed("there is no such name (NXDOMAIN)"),
            Err(error) => Found::failed(&error.to_string()),
        }
    }
}

fn these_servers(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |server: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

/// What one question brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Option<Duration>,
    failure: Option<String>,
}

impl Found {
    fn failed(reason: &str) -> Found {
        Found { failure: Some(reason.to_owned()), ..Found::default() }
    }
}

/// One answer of two, as Envoy's `dns_lookup_family` wants. A failure counts when the other family
/// has no address: a name whose AAAA question fails and that has A records is not a name that
/// fails.
fn choose(family: DnsLookupFamily, v4: Found, v6: Found) -> Answer {
    let ttl = [v4.ttl, v6.ttl].into_iter().flatten().min();
    let failure = v4.failure.or(v6.failure);
    let addresses = match family {
        DnsLookupFamily::Auto if !v6.addresses.is_empty() => v6.addresses,
        DnsLookupFamily::V4Preferred if !v4.addresses.is_empty() => v4.addresses,
        _ => [v4.addresses, v6.addresses].concat(),
    };
    match failure {
        Some(reason) if addresses.is_empty() => Answer::Failed(reason),
        _ => Answer::Addresses { addresses, ttl },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, ttl_s: u64) -> Found {
        Found {
            addresses: vec![address.parse().unwrap()],
            ttl: Some(Duration::from_secs(ttl_s)),
            failure: None,
        }
    }

    #[track_caller]
    fn check(family: DnsLookupFamily, v4: Found, v6: Found, expected: &[&str]) {
        let Answer::Addresses { addresses, .. } = choose(family, v4, v6) else {
            panic!("an answer was expected")
        };
        let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(addresses, expected);
    }

    #[test]
    fn families_as_envoy_chooses_them() {
        let (v4, v6) = (|| found("10.0.0.1", 9), || found("::1", 7));
        check(DnsLookupFamily::Auto, v4(), v6(), &["::1"]);
        check(DnsLookupFamily::Auto, v4(), Found::default(), &["10.0.0.1"]);
        check(DnsLookupFamily::Auto, v4(), Found::failed("x"), &["10.0.0.1"]);
        check(DnsLookupFamily::V4Preferred, v4(), v6(), &["10.0.0.1"]);
        check(DnsLookupFamily::V4Preferred, Found::default(), v6(), &["::1"]);
        check(DnsLookupFamily::All, v4(), v6(), &["10.0.0.1", "::1"]);
        check(DnsLookupFamily::V4Only, v4(), Found::default(), &["10.0.0.1"]);
        check(DnsLookupFamily::All, Found::default(), Found::default(), &[]);
    }

    #[test]
    fn a_failure_counts_only_without_any_address() {
        let failed = choose(DnsLookupFamily::Auto, Found::default(), Found::failed("x"));
        assert_eq!(failed, Answer::Failed("x".to_owned()));
    }

    #[test]
    fn the_smallest_ttl_counts() {
        let answer = choose(DnsLookupFamily::All, found("10.0.0.1", 9), found("::1", 7));
        let Answer::Addresses { ttl, .. } = answer else { panic!("an answer was expected") };
        assert_eq!(ttl, Some(Duration::from_secs(7)));
    }
}
