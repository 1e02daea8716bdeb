//! Real lookups, against a resolver of our own on the loopback.

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinEncodable};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::config::{DnsLookupFamily, DnsResolver};
use tidegate::control::dns::Dns;
use tidegate::control::names::{Answer, DnsName};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// What the resolver knows: the code and the addresses of a name. Others do not exist, and
/// [`SILENT`] gets no answer.
type Zone = Arc<Mutex<HashMap<&'static str, (ResponseCode, Vec<&'static str>)>>>;

const TTL_S: u32 = 7;
const SILENT: &str = "silent.test";

async fn start_resolver(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            let request = Message::from_bytes(&buffer[..length]).unwrap();
            if let Some(reply) = reply(&request, &zone) {
                socket.send_to(&reply.to_bytes().unwrap(), client).await.unwrap();
            }
        }
    });
    address
}

fn reply(request: &Message, zone: &Zone) -> Option<Message> {
    let query = request.queries.first()?.clone();
    let name = query.name().to_ascii().trim_end_matches('.').to_owned();
    if name == SILENT {
        return None;
    }
    let known = zone.lock().unwrap().get(name.as_str()).cloned();
    let (code, addresses) = known.unwrap_or((ResponseCode::NXDomain, Vec::new()));
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.response_code = code;
    reply.metadata.recursion_available = true;
    let wanted = |address: &IpAddr| match query.query_type() {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        _ => false,
    };
    for address in addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).filter(wanted) {
        let data: RData = address.into();
        reply.answers.push(Record::from_rdata(query.name().clone(), TTL_S, data));
    }
    reply.queries.push(query);
    Some(reply)
}

struct Lookups {
    zone: Zone,
    dns: Dns,
    answers: mpsc::Receiver<(DnsName, Answer)>,
}

impl Lookups {
    async fn new() -> Lookups {
        let zone = Zone::default();
        let server = start_resolver(zone.clone()).await;
        let (sender, answers) = mpsc::channel(8);
        Lookups { zone, dns: Dns::new(Some(server), sender), answers }
    }

    fn set(&self, name: &'static str, code: ResponseCode, addresses: &[&'static str]) {
        self.zone.lock().unwrap().insert(name, (code, addresses.to_vec()));
    }

    async fn ask(&mut self, host: &str, family: DnsLookupFamily) -> Answer {
        let name = DnsName { host: host.to_owned(), family, resolver: DnsResolver::default() };
        self.dns.resolve(name.clone());
        let (asked, mut answer) = self.answers.recv().await.unwrap();
        assert_eq!(asked, name);
        if let Answer::Addresses { addresses, .. } = &mut answer {
            addresses.sort_unstable();
        }
        answer
    }
}

fn found(addresses: &[&str], ttl_s: Option<u32>) -> Answer {
    Answer::Addresses {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        ttl: ttl_s.map(|seconds| Duration::from_secs(seconds.into())),
    }
}

#[tokio::test]
async fn all_addresses_of_the_wanted_families_with_their_ttl() {
    let mut lookups = Lookups::new().await;
    lookups.set("app.test", ResponseCode::NoError, &["10.0.0.2", "10.0.0.1", "2001:db8::1"]);
    lookups.set("four.test", ResponseCode::NoError, &["10.0.0.1"]);
    for (host, family, expected) in [
        ("app.test", DnsLookupFamily::V4Only, &["10.0.0.1", "10.0.0.2"][..]),
        ("app.test", DnsLookupFamily::V6Only, &["2001:db8::1"]),
        ("app.test", DnsLookupFamily::Auto, &["2001:db8::1"]),
        ("app.test", DnsLookupFamily::V4Preferred, &["10.0.0.1", "10.0.0.2"]),
        ("app.test", DnsLookupFamily::All, &["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
        ("four.test", DnsLookupFamily::Auto, &["10.0.0.1"]),
    ] {
        let answer = lookups.ask(host, family).await;
        assert_eq!(answer, found(expected, Some(TTL_S)), "{host} {family:?}");
    }
}

#[tokio::test]
async fn every_lookup_asks_anew() {
    let mut lookups = Lookups::new().await;
    lookups.set("app.test", ResponseCode::NoError, &["10.0.0.1"]);
    let first = lookups.ask("app.test", DnsLookupFamily::V4Only).await;
    lookups.set("app.test", ResponseCode::NoError, &["10.0.0.2"]);
    let second = lookups.ask("app.test", DnsLookupFamily::V4Only).await;
    assert_eq!(first, found(&["10.0.0.1"], Some(TTL_S)));
    assert_eq!(second, found(&["10.0.0.2"], Some(TTL_S)));
}

#[tokio::test]
async fn an_empty_answer_is_not_a_failure_and_an_error_is() {
    let mut lookups = Lookups::new().await;
    lookups.set("empty.test", ResponseCode::NoError, &[]);
    lookups.set("broken.test", ResponseCode::ServFail, &[]);
    assert_eq!(lookups.ask("empty.test", DnsLookupFamily::Auto).await, found(&[], None));
    let Answer::Failed(reason) = lookups.ask("gone.test", DnsLookupFamily::Auto).await else {
        panic!("a name that does not exist was found");
    };
    assert!(reason.contains("NXDOMAIN"), "{reason}");
    let broken = lookups.ask("broken.test", DnsLookupFamily::V4Only).await;
    assert!(matches!(broken, Answer::Failed(_)), "{broken:?}");
}

#[tokio::test]
async fn a_resolver_that_says_nothing_is_given_up() {
    let mut lookups = Lookups::new().await;
    let asked = tokio::time::Instant::now();
    let answer = lookups.ask(SILENT, DnsLookupFamily::V4Only).await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn localhost_is_found_in_the_hosts_file_and_nowhere_else() {
    let mut lookups = Lookups::new().await;
    lookups.set("localhost", ResponseCode::NoError, &["10.0.0.1"]);
    let answer = lookups.ask("localhost", DnsLookupFamily::V4Only).await;
    let Answer::Addresses { addresses, .. } = answer else { panic!("localhost was not found") };
    assert!(addresses.contains(&"127.0.0.1".parse().unwrap()), "{addresses:?}");
    assert!(!addresses.contains(&"10.0.0.1".parse().unwrap()), "{addresses:?}");
}

#[tokio::test]
async fn nonsense_is_a_failure_not_a_panic() {
    let mut lookups = Lookups::new().await;
    for host in ["", ".", "a..b", "-", &"x".repeat(300), "ü.test"] {
        let answer = lookups.ask(host, DnsLookupFamily::Auto).await;
        assert!(!matches!(&answer, Answer::Addresses { addresses, .. } if !addresses.is_empty()));
    }
}
