//! Which filter chain a connection gets (`FilterChainMatch`), compiled.
//!
//! Envoy's rule: the criteria count in a fixed order; at each, the most specific value that matches
//! decides, and what it leaves out does not come back, even if none of what is left matches in the
//! end. So a tree of nine levels holds all chains, and a walk down never turns.
//!
//! What it leaves to others: the values (`transport::client_hello`, the sockets), and what to do
//! with a connection that no chain matches.

use crate::config::{CidrRange, FilterChainMatch, Listener, SourceType};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// What is known of a connection when its chain is chosen.
#[derive(Clone, Debug)]
pub struct ChainQuery<'a> {
    /// Where the client connected to.
    pub local: SocketAddr,
    /// Where the client is.
    pub remote: SocketAddr,
    /// Where the connection came from, which is `remote` unless a proxy said otherwise.
    pub direct_remote: SocketAddr,
    /// The server name in lower case; empty: none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`
    pub transport_protocol: &'a str,
    /// What ALPN offers, in the client's order.
    pub application_protocols: &'a [Vec<u8>],
}

/// The filter chains of a listener.
#[derive(Debug, Default)]
pub struct FilterChains {
    root: Node,
    default: Option<usize>,
    /// The chain of all connections.
    only: Option<usize>,
    asks_addresses: bool,
}

/// Two chains that match the same, by their places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overlap {
    /// The later one.
    pub chain: usize,
    /// The one before it.
    pub earlier: usize,
}

/// A criterion's value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Key {
    Number(u32),
    Text(Vec<u8>),
    Range(CidrRange),
}

#[derive(Debug, Default)]
struct Node {
    /// By value.
    numbers: HashMap<u32, Node>,
    texts: HashMap<Vec<u8>, Node>,
    /// The narrowest first.
    ranges: Vec<(CidrRange, Node)>,
    /// Of chains that ask for nothing here.
    any: Option<Box<Node>>,
    /// Below the last criterion.
    chain: Option<usize>,
}

/// In Envoy's order.
const LEVELS: usize = 9;

impl FilterChains {
    /// Compiles the matches of chains; `default` is the place of `default_filter_chain`.
    ///
    /// # Errors
    ///
    /// Two chains that match the same.
    pub fn compile<'a>(
        chains: impl IntoIterator<Item = &'a FilterChainMatch>,
        default: Option<usize>,
    ) -> Result<FilterChains, Overlap> {
        let mut root = Node::default();
        let (mut count, mut of_all, mut asks_addresses) = (0, None, false);
        for (place, rules) in chains.into_iter().enumerate() {
            root.insert(&keys_of(rules), place)?;
            count += 1;
            of_all = of_all.or_else(|| (*rules == FilterChainMatch::default()).then_some(place));
            asks_addresses |= rules.asks_addresses();
        }
        let only = match count {
            0 => default,
            1 => of_all,
            _ => None,
        };
        Ok(FilterChains { root, default, only, asks_addresses })
    }

    /// The chains of a listener, by their places in [`Listener::chains`].
    #[must_use]
    pub fn of(listener: &Listener) -> FilterChains {
        let chains = &listener.filter_chains;
        let default = listener.default_filter_chain.as_ref().map(|_| chains.len());
        let compiled = FilterChains::compile(chains.iter().map(|chain| &chain.matches), default);
        debug_assert!(compiled.is_ok(), "a configuration with chains that overlap");
        compiled.unwrap_or_default()
    }

    /// The chain of all connections, if there is one: nothing need be known of them.
    #[must_use]
    pub fn only(&self) -> Option<usize> {
        self.only
    }

    /// Whether some chain asks for addresses.
    #[must_use]
    pub fn asks_addresses(&self) -> bool {
        self.asks_addresses
    }

    /// The place of the chain for a connection, if there is one.
    #[must_use]
    pub fn find(&self, query: &ChainQuery<'_>) -> Option<usize> {
        self.walk(query).or(self.default)
    }

    fn walk(&self, query: &ChainQuery<'_>) -> Option<usize> {
        let mut node = &self.root;
        for level in 0..LEVELS {
            node = node.next(level, query)?;
        }
        node.chain
    }
}

impl Node {
    fn insert(&mut self, levels: &[Vec<Key>], place: usize) -> Result<(), Overlap> {
        let Some((keys, below)) = levels.split_first() else {
            return match self.chain.replace(place) {
                Some(earlier) => Err(Overlap { chain: place, earlier }),
                None => Ok(()),
            };
        };
        if keys.is_empty() {
            return self.any.get_or_insert_default().insert(below, place);
        }
        for key in keys {
            let next = match key {
                Key::Range(range) => self.range(*range),
                Key::Number(number) => self.numbers.entry(*number).or_default(),
                Key::Text(text) => self.texts.entry(text.clone()).or_default(),
            };
            next.insert(below, place)?;
        }
        Ok(())
    }

    fn range(&mut self, range: CidrRange) -> &mut Node {
        let place = match self.ranges.iter().position(|(known, _)| *known == range) {
            Some(place) => place,
            None => {
                let wider = |(known, _): &(CidrRange, Node)| known.prefix() < range.prefix();
                let place = self.ranges.iter().position(wider).unwrap_or(self.ranges.len());
                self.ranges.insert(place, (range, Node::default()));
                place
            }
        };
        &mut self.ranges[place].1
    }

    /// Whether no chain asks for anything here.
    fn is_open(&self) -> bool {
        self.numbers.is_empty() && self.texts.is_empty() && self.ranges.is_empty()
    }

    fn next(&self, level: usize, query: &ChainQuery<'_>) -> Option<&Node> {
        let text = |text: &[u8]| self.texts.get(text);
        let number = |number: u32| self.numbers.get(&number);
        let within = |ip: IpAddr| {
            self.ranges.iter().find(|(range, _)| range.contains(ip)).map(|(_, node)| node)
        };
        let found = match level {
            // A level that nobody asks anything at costs nothing.
            _ if self.is_open() => None,
            0 => number(query.local.port().into()),
            1 => within(query.local.ip()),
            2 => names(query.server_name).find_map(|name| text(name.as_bytes())),
            3 => text(query.transport_protocol.as_bytes()),
            4 => query.application_protocols.iter().find_map(|name| text(name)),
            5 => within(query.direct_remote.ip()),
            6 => number(SourceType::of(query.local.ip(), query.remote.ip()) as u32),
            7 => within(query.remote.ip()),
            _ => number(query.remote.port().into()),
        };
        found.or(self.any.as_deref())
    }
}

/// A server name, then the wildcards that match it, the longest first: `.example.com`, `.com`.
fn names(name: &str) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(at, _)| &name[at..]);
    std::iter::once(name).chain(dots).filter(|name| !name.is_empty())
}

/// The values of each level; none: any.
fn keys_of(rules: &FilterChainMatch) -> [Vec<Key>; LEVELS] {
    let ranges = |ranges: &[CidrRange]| ranges.iter().copied().map(Key::Range).collect();
    let text = |text: &String| Key::Text(text.as_bytes().to_vec());
    let source_type = match rules.source_type {
        SourceType::Any => Vec::new(),
        kind => vec![Key::Number(kind as u32)],
    };
    [
        rules.destination_port.map(u32::from).map(Key::Number).into_iter().collect(),
        ranges(&rules.prefix_ranges),
        rules.server_names.iter().map(text).collect(),
        rules.transport_protocol.iter().map(text).collect(),
        rules.application_protocols.iter().map(text).collect(),
        ranges(&rules.direct_source_prefix_ranges),
        source_type,
        ranges(&rules.source_prefix_ranges),
        rules.source_ports.iter().map(|port| Key::Number(u32::from(*port))).collect(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule, word by word: a criterion after the other, each of which leaves those chains that
    /// have its most specific value.
    fn naive(chains: &[FilterChainMatch], query: &ChainQuery<'_>) -> Option<usize> {
        let mut left: Vec<usize> = (0..chains.len()).collect();
        for level in 0..LEVELS {
            let rank = |chain: usize, rank: usize| {
                let keys = &keys_of(&chains[chain])[level];
                let wanted = &wanted(level, query);
                match wanted.get(rank) {
                    Some(key) => keys.iter().any(|it| it == key),
                    None => keys.is_empty(),
                }
            };
            let ranks = wanted(level, query).len();
            let best = (0..=ranks).find(|it| left.iter().any(|chain| rank(*chain, *it)))?;
            left.retain(|chain| rank(*chain, best));
        }
        left.first().copied()
    }

    /// The values of a level that match, the most specific first.
    fn wanted(level: usize, query: &ChainQuery<'_>) -> Vec<Key> {
        let ranges = |ip: IpAddr| {
            let all = (0..=32).rev().map(|length| CidrRange::new(ip, length));
            all.map(Key::Range).collect()
        };
        let text = |text: &str| Key::Text(text.as_bytes().to_vec());
        match level {
            0 => vec![Key::Number(query.local.port().into())],
            1 => ranges(query.local.ip()),
            2 => names(query.server_name).map(text).collect(),
            3 => vec![text(query.transport_protocol)],
            4 => query.application_protocols.iter().cloned().map(Key::Text).collect(),
            5 => ranges(query.direct_remote.ip()),
            6 => {
                let kind = SourceType::of(query.local.ip(), query.remote.ip());
                vec![Key::Number(kind as u32)]
            }
            7 => ranges(query.remote.ip()),
            _ => vec![Key::Number(query.remote.port().into())],
        }
    }

    fn range() -> impl Strategy<Value = CidrRange> {
        let address = prop::sample::select(vec!["10.0.0.1", "10.0.1.1", "127.0.0.1"]);
        (address, prop::sample::select(vec![0_u8, 8, 24, 32]))
            .prop_map(|(address, length)| CidrRange::new(address.parse().unwrap(), length))
    }

    fn rules() -> impl Strategy<Value = FilterChainMatch> {
        let ranges = || prop::collection::vec(range(), 0..2);
        let names = vec!["a.b.c", "b.c", ".b.c", ".c", "x.b.c"];
        let names = prop::collection::vec(prop::sample::select(names), 0..2);
        let alpn = prop::collection::vec(prop::sample::select(vec!["h2", "http/1.1"]), 0..2);
        let kind = vec![SourceType::Any, SourceType::Local, SourceType::External];
        let port = || prop::option::of(1_u16..3);
        let transport = prop::option::of(prop::sample::select(vec!["tls", "raw_buffer"]));
        let sources = (ranges(), prop::sample::select(kind), ranges(), port());
        (port(), ranges(), names, transport, alpn, sources).prop_map(
            |(port, local, names, transport, alpn, (direct, kind, remote, source_port))| {
                FilterChainMatch {
                    destination_port: port,
                    prefix_ranges: local,
                    server_names: names.iter().map(|name| (*name).to_owned()).collect(),
                    transport_protocol: transport.map(str::to_owned),
                    application_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
                    direct_source_prefix_ranges: direct,
                    source_type: kind,
                    source_prefix_ranges: remote,
                    source_ports: source_port.into_iter().collect(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_walk_is_the_rule(
            chains in prop::collection::vec(rules(), 0..8),
            (local, remote, direct) in (0_usize..3, 0_usize..3, 0_usize..3),
            (local_port, remote_port) in (1_u16..4, 1_u16..4),
            (name, transport) in (0_usize..5, 0_usize..2),
            alpn in prop::collection::vec(
                prop::sample::select(vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"x".to_vec()]), 0..3,
            ),
        ) {
            let ip = |at: usize| ["10.0.0.1", "10.0.1.1", "127.0.0.1"][at].parse().unwrap();
            let query = ChainQuery {
                local: SocketAddr::new(ip(local), local_port),
                remote: SocketAddr::new(ip(remote), remote_port),
                direct_remote: SocketAddr::new(ip(direct), remote_port),
                server_name: ["", "a.b.c", "b.c", "z.y.b.c", "other"][name],
                transport_protocol: ["tls", "raw_buffer"][transport],
                application_protocols: &alpn,
            };
            if let Ok(compiled) = FilterChains::compile(&chains, None) {
                prop_assert_eq!(compiled.find(&query), naive(&chains, &query));
            }
        }
    }

    #[test]
    fn what_was_left_out_does_not_come_back() {
        let named = |name: &str, port: Option<u16>| FilterChainMatch {
            server_names: vec![name.to_owned()],
            source_ports: port.into_iter().collect(),
            ..FilterChainMatch::default()
        };
        let chains = [named("a.b", Some(1)), named(".b", None), FilterChainMatch::default()];
        let compiled = FilterChains::compile(&chains, Some(9)).unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let find = |server_name, port: u16| {
            let remote = SocketAddr::new(at("10.0.0.1:1").ip(), port);
            let local = at("10.0.0.2:443");
            compiled.find(&ChainQuery {
                local,
                remote,
                direct_remote: remote,
                server_name,
                transport_protocol: "tls",
                application_protocols: &[],
            })
        };
        assert_eq!(find("a.b", 1), Some(0));
        assert_eq!(find("a.b", 2), Some(9), "neither `.b` nor the chain for all is looked at");
        assert_eq!(find("x.b", 2), Some(1));
        assert_eq!(find("", 2), Some(2));
        let twice = [named("a.b", None), named("a.b", None)];
        let overlap = FilterChains::compile(&twice, None).unwrap_err();
        assert_eq!(overlap, Overlap { chain: 1, earlier: 0 });
    }
}
