//! Any interleaving of responses, answers, changes of interest and disconnects, against a server
//! that keeps the protocol's books: what it was asked for, which nonces it gave, what was said
//! about each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_xds::{Accepted, Event, Interest, Nack, Request, ResourceType, Response, Variant};

const KINDS: [ResourceType; 3] = [CDS, EDS, VHDS];

#[derive(Clone, Debug)]
enum Step {
    Want(usize, BTreeSet<u8>),
    Respond {
        kind: usize,
        names: BTreeSet<u8>,
        removed: BTreeSet<u8>,
        twice: bool,
    },
    /// The n-th of those that wait.
    Answer {
        at: usize,
        good: bool,
    },
    Send(usize),
    Disconnect,
    Connect,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::btree_set(0..5_u8, 0..4);
    prop_oneof![
        4 => (0..3_usize, some()).prop_map(|(kind, names)| Step::Want(kind, names)),
        6 => (0..3_usize, some(), some(), prop::bool::weighted(0.1)).prop_map(
            |(kind, names, removed, twice)| Step::Respond { kind, names, removed, twice }
        ),
        6 => (0..8_usize, any::<bool>()).prop_map(|(at, good)| Step::Answer { at, good }),
        6 => (1..4_usize).prop_map(Step::Send),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Connect),
    ]
}

/// `*` is one of the names.
fn texts(names: &BTreeSet<u8>) -> BTreeSet<String> {
    names.iter().map(|n| if *n == 0 { "*".to_owned() } else { format!("x{n}") }).collect()
}

/// What the server knows of one type on this stream.
#[derive(Debug, Default)]
struct Book {
    opened: bool,
    named: bool,
    names: BTreeSet<String>,
    last_nonce: String,
    /// Each nonce, and how many requests with it were no news about names.
    given: BTreeMap<String, usize>,
    /// Nonces that some request had.
    seen: BTreeSet<String>,
    /// Names that were given up since they were last asked for, even if they are wanted again: the
    /// server must notice, or it will not send them again.
    given_up: BTreeSet<String>,
}

#[derive(Default)]
struct Server {
    books: BTreeMap<ResourceType, Book>,
    requests: usize,
}

impl Server {
    fn read(&mut self, request: &Request) {
        self.requests += 1;
        match request {
            Request::StateOfTheWorld(request) => {
                assert_eq!(request.node.is_some(), self.requests == 1);
                let kind = ResourceType::from_type_url(&request.type_url).unwrap();
                let book = self.books.entry(kind).or_default();
                let mut names: BTreeSet<String> = request.resource_names.iter().cloned().collect();
                assert_eq!(names.len(), request.resource_names.len(), "a name twice");
                let nonce = &request.response_nonce;
                let latest = *nonce == book.last_nonce;
                assert!(latest || book.given.contains_key(nonce), "a nonce from nowhere");
                assert!(latest || book.opened);
                book.named |= !names.is_empty();
                if names.is_empty() && !book.named {
                    names.insert("*".to_owned());
                }
                let news = latest && (!book.opened || names != book.names);
                // Nothing is said twice: neither an answer nor names.
                if !nonce.is_empty() {
                    book.seen.insert(nonce.clone());
                    if !news {
                        *book.given.get_mut(nonce).unwrap() += 1;
                    }
                } else {
                    assert!(news && request.error_detail.is_none());
                }
                if latest {
                    book.given_up.retain(|name| names.contains(name));
                    book.names = names;
                }
                book.opened = true;
            }
            Request::Delta(request) => {
                assert_eq!(request.node.is_some(), self.requests == 1);
                let kind = ResourceType::from_type_url(&request.type_url).unwrap();
                let book = self.books.entry(kind).or_default();
                let (plus, minus) =
                    (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
                let first = !book.opened;
                book.opened = true;
                if !request.response_nonce.is_empty() {
                    assert!(!first && plus.is_empty() && minus.is_empty());
                    book.seen.insert(request.response_nonce.clone());
                    *book.given.get_mut(&request.response_nonce).unwrap() += 1;
                    return;
                }
                assert!(request.error_detail.is_none());
                assert!(first || request.initial_resource_versions.is_empty());
                assert!(first || !plus.is_empty() || !minus.is_empty());
                if first && plus.is_empty() {
                    book.names.insert("*".to_owned());
                }
                let said = |name: &String| plus.contains(name) || minus.contains(name);
                book.given_up.retain(|name| !said(name));
                for name in minus {
                    assert!(book.names.remove(name), "{name} was not asked for");
                }
                book.names.extend(plus.iter().cloned());
            }
        }
    }
}

struct World {
    variant: Variant,
    scene: Scene,
    server: Server,
    connected: bool,
    nonces: usize,
    wanted: BTreeMap<ResourceType, BTreeSet<String>>,
    waiting: Vec<Response>,
    /// The last response of a type that was accepted, by the number of its nonce.
    accepted: BTreeMap<ResourceType, usize>,
    /// Delta: the number of the response by which we have a name, or had it.
    have: BTreeMap<(ResourceType, String), usize>,
}

impl World {
    fn new(variant: Variant) -> Self {
        Self {
            variant,
            scene: Scene::new(settings(variant)),
            server: Server::default(),
            connected: false,
            nonces: 0,
            wanted: BTreeMap::new(),
            waiting: Vec::new(),
            accepted: BTreeMap::new(),
            have: BTreeMap::new(),
        }
    }

    fn kind(&self, at: usize) -> ResourceType {
        if self.variant == Variant::Delta { KINDS[at] } else { [CDS, EDS, RDS][at] }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Want(at, names) => {
                let (kind, mut names) = (self.kind(*at), texts(names));
                let all = self.wanted.get(&kind).is_some_and(|wanted| wanted.contains("*"));
                if self.variant == Variant::StateOfTheWorld && (all || names.contains("*")) {
                    // It cannot be taken back; and all beside names is said with names only.
                    names = ["*".to_owned()].into();
                }
                self.scene.client.set_interest(kind, Interest::Names(names.clone()), TIMEOUT);
                let before = self.wanted.insert(kind, names.clone()).unwrap_or_default();
                if let Some(book) = self.server.books.get_mut(&kind) {
                    let gone = before.difference(&names).filter(|name| book.names.contains(*name));
                    let gone: Vec<_> = gone.cloned().collect();
                    book.given_up.extend(gone);
                }
                self.drop_names(kind, |name| {
                    let given_up = before.contains(name) && !names.contains(name);
                    given_up || !names.contains(name) && !names.contains("*")
                });
            }
            Step::Respond { kind, names, removed, twice } if self.connected => {
                self.respond(self.kind(*kind), &texts(names), &texts(removed), *twice);
            }
            Step::Answer { at, good } if !self.waiting.is_empty() => {
                let response = self.waiting.remove(at % self.waiting.len());
                self.answer(&response, *good);
            }
            Step::Send(count) => {
                for _ in 0..*count {
                    let Some(request) = self.scene.client.poll_request(self.scene.now) else {
                        break;
                    };
                    assert!(self.connected);
                    self.server.read(&request);
                }
            }
            Step::Disconnect if self.connected => {
                self.scene.disconnects();
                self.connected = false;
            }
            Step::Connect if !self.connected => {
                self.scene.connects();
                self.server = Server::default();
                self.connected = true;
            }
            _ => {}
        }
    }

    fn respond(
        &mut self,
        kind: ResourceType,
        names: &BTreeSet<String>,
        removed: &BTreeSet<String>,
        twice: bool,
    ) {
        let Some(book) = self.server.books.get_mut(&kind).filter(|book| book.opened) else {
            return;
        };
        self.nonces += 1;
        let nonce = format!("n{}", self.nonces);
        book.last_nonce.clone_from(&nonce);
        book.given.insert(nonce.clone(), 0);
        let mut names: Vec<String> = names.iter().filter(|n| *n != "*").cloned().collect();
        let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
        if twice {
            names.extend(names.clone());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let version = &nonce;
        let bytes = match self.variant {
            Variant::StateOfTheWorld => sotw(kind, version, &nonce, &names),
            Variant::Delta => {
                let resources: Vec<_> =
                    names.iter().map(|name| wrapped(kind, name, version, None, true)).collect();
                let removed: Vec<_> =
                    removed.into_iter().filter(|name| !names.contains(name)).collect();
                delta(kind, &nonce, &resources, &removed)
            }
        };
        self.scene.client.handle_message(&bytes, self.scene.now).unwrap();
        match self.scene.client.poll_event() {
            Some(Event::Response(response)) => {
                let removed: BTreeSet<String> = response.removed.iter().cloned().collect();
                self.waiting.push(response);
                let kept: Vec<_> =
                    self.waiting.drain(..).map(|r| without(r, kind, &removed)).collect();
                self.waiting = kept;
            }
            Some(Event::Refused { .. }) => assert!(twice),
            // Nothing is wanted: it is accepted.
            None => drop(self.accepted.insert(kind, self.nonces)),
            other => panic!("{other:?}"),
        }
        assert_eq!(self.scene.client.poll_event(), None);
    }

    fn answer(&mut self, response: &Response, good: bool) {
        let kind = response.kind;
        let names: Vec<String> = response
            .resources
            .iter()
            .map(|resource| match &resource.name {
                Some(name) => name.clone(),
                None => name_in(&resource.body),
            })
            .collect();
        let number: usize = match self.variant {
            Variant::StateOfTheWorld => response.version[1..].parse().unwrap(),
            Variant::Delta => response.version["system-n".len()..].parse().unwrap(),
        };
        let answer = if good {
            let last = self.accepted.entry(kind).or_insert(number);
            *last = number.max(*last);
            for name in &response.removed {
                if self.have.get(&(kind, name.clone())).is_some_and(|have| *have < number) {
                    self.have.remove(&(kind, name.clone()));
                }
            }
            for name in &names {
                let have = self.have.entry((kind, name.clone())).or_insert(number);
                *have = number.max(*have);
            }
            Ok(Accepted { names })
        } else {
            Err(Nack { message: "no".to_owned(), applied: names })
        };
        assert!(self.scene.client.answer(response.id, answer));
    }

    /// Names that are given up: we do not have them any more, nor what waits.
    fn drop_names(&mut self, kind: ResourceType, gone: impl Fn(&str) -> bool) {
        self.have.retain(|(of, name), _| *of != kind || !gone(name));
        for response in self.waiting.iter_mut().filter(|r| r.kind == kind) {
            response.resources.retain(|r| r.name.as_ref().is_none_or(|name| !gone(name)));
        }
    }

    /// All is answered and sent: then the server knows what we want, and each nonce has its answer.
    fn settle(&mut self) {
        if !self.connected {
            self.take(&Step::Connect);
        }
        for response in std::mem::take(&mut self.waiting) {
            self.answer(&response, true);
        }
        self.take(&Step::Send(1000));
        assert_eq!(self.scene.client.pending_requests(), 0);
        for (kind, wanted) in &self.wanted {
            let Some(book) = self.server.books.get(kind) else {
                assert!(wanted.is_empty(), "{kind:?} was never asked for");
                continue;
            };
            assert_eq!(&book.names, wanted, "{kind:?}");
            assert!(book.given_up.is_empty(), "{kind:?}: {:?}", book.given_up);
            for (nonce, count) in &book.given {
                assert!(book.seen.contains(nonce), "{nonce} has no answer");
                assert!(*count <= 1, "{nonce} was answered {count} times");
                if self.variant == Variant::Delta {
                    assert_eq!(*count, 1, "{nonce}");
                }
            }
        }
    }

    /// The next stream says what was accepted, no more and no less.
    fn reconnect(&mut self) {
        self.scene.disconnects();
        self.scene.connects();
        while let Some(request) = self.scene.client.poll_request(self.scene.now) {
            match request {
                Request::StateOfTheWorld(request) => {
                    let kind = ResourceType::from_type_url(&request.type_url).unwrap();
                    let version = self.accepted.get(&kind).map(|number| format!("n{number}"));
                    assert_eq!(request.version_info, version.unwrap_or_default());
                    assert_eq!(request.response_nonce, "");
                }
                Request::Delta(request) => {
                    let kind = ResourceType::from_type_url(&request.type_url).unwrap();
                    let have = self.have.iter().filter(|((of, _), _)| *of == kind);
                    let have: BTreeMap<_, _> =
                        have.map(|((_, name), at)| (name.clone(), format!("n{at}"))).collect();
                    let says: BTreeMap<_, _> =
                        request.initial_resource_versions.into_iter().collect();
                    assert_eq!(says, have);
                }
            }
        }
    }
}

/// A response that waits, without what a later one has removed.
fn without(mut response: Response, kind: ResourceType, removed: &BTreeSet<String>) -> Response {
    if response.kind == kind {
        let gone = |name: &Option<String>| name.as_ref().is_some_and(|n| removed.contains(n));
        response.resources.retain(|resource| !gone(&resource.name));
    }
    response
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_right(
        delta in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world =
            World::new(if delta { Variant::Delta } else { Variant::StateOfTheWorld });
        world.take(&Step::Connect);
        assert_eq!(world.scene.client.pending_requests(), 0);
        for step in &steps {
            world.take(step);
        }
        world.settle();
        world.reconnect();
    }

    /// Bytes of any kind: an error, a refusal, an event; never a panic, and at most one answer.
    #[test]
    fn any_bytes_are_taken(
        delta in any::<bool>(),
        at in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let variant = if delta { Variant::Delta } else { Variant::StateOfTheWorld };
        let mut scene = Scene::connected(settings(variant), &[(EDS, names(&["*"]))]);
        let one = wrapped(EDS, "a", "1", Some(3), true);
        let mut bytes = match variant {
            Variant::Delta => common::delta(EDS, "n1", &[one], &["b"]),
            Variant::StateOfTheWorld => sotw_message(EDS, "1", "n1", vec![in_any(&one)]),
        };
        bytes.truncate(at.index(bytes.len()) + 1);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &noise] {
            let now = scene.now;
            if scene.client.handle_message(bytes, now).is_ok() {
                while let Some(event) = scene.client.poll_event() {
                    if let Event::Response(response) = event {
                        let name = |r: &tidegate_xds::Resource| r.name.clone();
                        let names = response.resources.iter().filter_map(name).collect();
                        scene.client.answer(response.id, Ok(Accepted { names }));
                    }
                }
                prop_assert!(scene.requests().len() <= 1);
            }
        }
    }
}
