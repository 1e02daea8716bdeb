//! One client's stream: what it has asked for, and what it is sent, in the incremental protocol and
//! in that of the whole state.
//!
//! What it leaves to others: the messages (`server`), and when they were answered (`book`).

use std::collections::BTreeSet;

use super::world::{Kind, World};

/// The protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// Only what has changed.
    Delta,
    /// All clusters and listeners each time.
    WholeState,
}

/// What a request says, in either protocol.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub subscribe: Vec<String>,
    pub unsubscribe: Vec<String>,
    /// Of the response that it answers.
    pub nonce: String,
}

/// Resources to be sent in one response: their places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portion {
    pub kind: Kind,
    pub names: Vec<String>,
}

/// A stream.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    interests: [Interest; 4],
}

#[derive(Debug, Default)]
struct Interest {
    is_open: bool,
    names: BTreeSet<String>,
    /// Of the newest response.
    nonce: String,
}

impl Stream {
    pub fn new(wire: Wire) -> Stream {
        Stream { wire, interests: Default::default() }
    }

    /// What is to be sent because of a request.
    pub fn handle(&mut self, kind: Kind, asked: Asked, world: &World) -> Vec<Portion> {
        let interest = &mut self.interests[kind as usize];
        let is_first = !std::mem::replace(&mut interest.is_open, true);
        let fresh: Vec<String> = match self.wire {
            Wire::Delta => {
                interest.names.retain(|name| !asked.unsubscribe.contains(name));
                let names = asked.subscribe.into_iter().filter(|name| name != "*");
                let fresh: Vec<String> = names.collect();
                interest.names.extend(fresh.iter().cloned());
                fresh
            }
            // It answers a response that is not the newest: a newer request follows.
            Wire::WholeState if !is_first && asked.nonce != interest.nonce => return Vec::new(),
            Wire::WholeState => {
                let names: BTreeSet<String> = asked.subscribe.into_iter().collect();
                let before = std::mem::replace(&mut interest.names, names);
                let is_new = interest.names.iter().any(|name| !before.contains(name));
                if is_new { interest.names.iter().cloned().collect() } else { Vec::new() }
            }
        };
        let names = match kind.is_wildcard() {
            true if is_first => world.all(kind).iter().map(|it| it.name.clone()).collect(),
            true => Vec::new(),
            false => fresh,
        };
        self.portions(kind, names, world)
    }

    /// What is to be sent because a resource has changed.
    pub fn changed(&self, kind: Kind, name: &str, world: &World) -> Vec<Portion> {
        let interest = &self.interests[kind as usize];
        if !interest.is_open || !(kind.is_wildcard() || interest.names.contains(name)) {
            return Vec::new();
        }
        let names = match self.wire {
            // Of endpoints and routes, what is not sent stays as it is.
            Wire::WholeState if kind.is_wildcard() => {
                world.all(kind).iter().map(|it| it.name.clone()).collect()
            }
            _ => vec![name.to_owned()],
        };
        self.portions(kind, names, world)
    }

    /// The response was sent.
    pub fn sent(&mut self, kind: Kind, nonce: &str) {
        nonce.clone_into(&mut self.interests[kind as usize].nonce);
    }

    /// Parts of at most this many bytes, but the whole state in one.
    fn portions(&self, kind: Kind, names: Vec<String>, world: &World) -> Vec<Portion> {
        const BYTES_MAX: usize = 2 << 20;
        let is_whole = self.wire == Wire::WholeState && kind.is_wildcard();
        let (mut portions, mut bytes) = (Vec::<Portion>::new(), 0);
        for name in names {
            let Some(resource) = world.get(kind, &name) else { continue };
            let length = resource.body.value.len();
            bytes += length;
            match portions.last_mut() {
                Some(last) if is_whole || bytes <= BYTES_MAX => last.names.push(name),
                _ => {
                    bytes = length;
                    portions.push(Portion { kind, names: vec![name] });
                }
            }
        }
        portions
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::Size;
    use super::*;

    fn world() -> World {
        World::new(Size { clusters: 3, endpoints: 2, routes: 1, listeners: 1, first_port: 1 })
    }

    fn names(portions: &[Portion]) -> Vec<&str> {
        portions.iter().flat_map(|portion| portion.names.iter().map(String::as_str)).collect()
    }

    fn asked(subscribe: &[&str], nonce: &str) -> Asked {
        let subscribe = subscribe.iter().map(|name| (*name).to_owned()).collect();
        Asked { subscribe, unsubscribe: Vec::new(), nonce: nonce.to_owned() }
    }

    #[test]
    fn delta_sends_what_was_subscribed_and_what_changes_of_it() {
        let (mut stream, mut world) = (Stream::new(Wire::Delta), world());
        let first = stream.handle(Kind::Clusters, asked(&[], ""), &world);
        assert_eq!(names(&first), ["cluster-0", "cluster-1", "cluster-2"]);
        assert!(stream.handle(Kind::Clusters, asked(&[], "1"), &world).is_empty(), "an ACK");
        let two = stream.handle(Kind::Endpoints, asked(&["cluster-2", "nobody"], ""), &world);
        assert_eq!(names(&two), ["cluster-2"]);
        world.change(Kind::Endpoints);
        assert!(stream.changed(Kind::Endpoints, "cluster-0", &world).is_empty());
        let changed = stream.changed(Kind::Endpoints, "cluster-2", &world);
        assert_eq!(names(&changed), ["cluster-2"]);
        let unsubscribe = vec!["cluster-2".to_owned()];
        stream.handle(Kind::Endpoints, Asked { unsubscribe, ..asked(&[], "2") }, &world);
        assert!(stream.changed(Kind::Endpoints, "cluster-2", &world).is_empty());
        assert!(stream.changed(Kind::Listeners, "listener-0", &world).is_empty(), "never asked");
    }

    #[test]
    fn the_whole_state_is_sent_when_names_are_new() {
        let (mut stream, world) = (Stream::new(Wire::WholeState), world());
        assert_eq!(names(&stream.handle(Kind::Clusters, asked(&[], ""), &world)).len(), 3);
        stream.sent(Kind::Clusters, "1");
        assert!(stream.handle(Kind::Clusters, asked(&[], "1"), &world).is_empty(), "an ACK");
        assert_eq!(names(&stream.changed(Kind::Clusters, "cluster-1", &world)).len(), 3);
        let all = stream.handle(Kind::Endpoints, asked(&["cluster-0", "cluster-1"], ""), &world);
        assert_eq!(names(&all), ["cluster-0", "cluster-1"]);
        stream.sent(Kind::Endpoints, "2");
        let more = ["cluster-0", "cluster-1", "cluster-2"];
        assert!(stream.handle(Kind::Endpoints, asked(&more, "1"), &world).is_empty(), "stale");
        assert_eq!(names(&stream.handle(Kind::Endpoints, asked(&more, "2"), &world)).len(), 3);
        assert_eq!(names(&stream.changed(Kind::Endpoints, "cluster-1", &world)), ["cluster-1"]);
    }

    #[test]
    fn what_is_large_is_sent_in_parts() {
        let size = Size { clusters: 3, endpoints: 60_000, routes: 1, listeners: 1, first_port: 1 };
        let (mut stream, world) = (Stream::new(Wire::Delta), World::new(size));
        let three = asked(&["cluster-0", "cluster-1", "cluster-2"], "");
        assert_eq!(stream.handle(Kind::Endpoints, three, &world).len(), 3);
    }
}
