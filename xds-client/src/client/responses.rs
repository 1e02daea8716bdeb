//! What a response does to the client: checks that need no look into resources, and what follows
//! from an answer.
//!
//! What it leaves to others: requests (`subscription`).

use super::{Answer, Client, Pending, Scope, Subscription, Variant};
use crate::limits::{NACK_BYTES_MAX, shortened};
use crate::message::WILDCARD;
use crate::timers::Due;
use crate::wire::{self, Incoming};
use crate::{Body, Event, Resource, ResourceType, Response, ResponseId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What must be known of a response when its answer comes.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) kind: ResourceType,
    pub(super) stream: u64,
    pub(super) nonce: String,
    version: String,
    received_at: Instant,
    whole: bool,
    resources: Vec<Known>,
    removed: Vec<String>,
}

/// What the protocol itself says of a resource.
#[derive(Debug)]
struct Known {
    name: String,
    version: String,
    aliases: Vec<String>,
    ttl: Option<Duration>,
    /// A heartbeat has done its work already.
    unchanged: bool,
}

impl ResponseId {
    /// Later than all that will ever be.
    pub(super) const MAX: Self = Self(u64::MAX);
}

impl Client {
    /// A message came. What cannot be decoded is an error, which ends the stream; all else is
    /// either handed on (`Event::Response`), refused, accepted (when nothing is in it for the
    /// application) or, for a type that nobody asked for, ignored with a warning.
    ///
    /// # Errors
    ///
    /// Why nothing more can be read on this stream.
    pub fn handle_message(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        let limits = &self.settings.limits;
        let (count, max) = (bytes.len(), limits.message_bytes_max);
        if count > max {
            return Err(format!("a response of {count} bytes: at most {max} are taken"));
        }
        let incoming = wire::decode(self.settings.variant, bytes, limits)?;
        self.handle_response(incoming, now);
        Ok(())
    }

    pub(crate) fn handle_response(&mut self, incoming: Incoming, now: Instant) {
        self.answered = true;
        let Some(kind) = self.kind_of(&incoming.type_url) else {
            let url = shortened(incoming.type_url, 200);
            let text = format!("Ignoring a response of type {url:?}: nobody has asked for it");
            return self.events.push_back(Event::Warning(text));
        };
        if !incoming.control_plane.is_empty() {
            self.control_plane.clone_from(&incoming.control_plane);
        }
        let Some(subscription) = self.subscriptions.get_mut(&kind) else { return };
        subscription.nonce.clone_from(&incoming.nonce);
        self.last_id += 1;
        let id = ResponseId(self.last_id);
        if let Err(text) = self.check(kind, &incoming) {
            let message = shortened(text, NACK_BYTES_MAX);
            self.say(kind, incoming.nonce, Some(message.clone()));
            return self.events.push_back(Event::Refused { kind, message });
        }
        let whole =
            self.settings.variant == Variant::StateOfTheWorld && kind.is_state_of_the_world();
        self.end_fetches(kind, &incoming);
        self.forget_waiting(kind, &incoming.removed);
        let (resources, known) = self.sort_out(kind, incoming.resources, whole, now);
        let unanswered = Unanswered {
            kind,
            stream: self.stream,
            nonce: incoming.nonce,
            version: incoming.version.clone(),
            received_at: now,
            whole,
            removed: incoming.removed.clone(),
            resources: known,
        };
        let heartbeat = resources.is_empty() && unanswered.resources.iter().any(|k| k.unchanged);
        let idle = heartbeat && incoming.removed.is_empty() && incoming.errors.is_empty();
        if idle || self.subscriptions[&kind].wanted.is_empty() {
            // Nothing in it for the application.
            let nonce = unanswered.nonce.clone();
            self.accept(id, unanswered, &[]);
            return self.say(kind, nonce, None);
        }
        self.unanswered.insert(id, unanswered);
        self.events.push_back(Event::Response(Response {
            id,
            kind,
            version: incoming.version,
            control_plane: incoming.control_plane,
            resources,
            removed: incoming.removed,
            whole,
            errors: incoming.errors,
        }));
    }

    /// The type of a response that was asked for on this stream, or is about to be.
    fn kind_of(&self, type_url: &str) -> Option<ResourceType> {
        let kind = match self.settings.scope {
            Scope::Single(kind) if type_url.is_empty() => kind,
            _ => ResourceType::from_type_url(type_url)?,
        };
        let subscription = self.subscriptions.get(&kind)?;
        (subscription.opened || !subscription.wanted.is_empty()).then_some(kind)
    }

    /// Puts an answer behind what waits already.
    pub(super) fn say(&mut self, kind: ResourceType, nonce: String, error: Option<String>) {
        let version = self.version(kind).to_owned();
        let answer = Some(Answer { nonce, version, error });
        self.queue.push_back(Pending { kind, answer });
    }

    /// What is wrong with a response, as far as the protocol goes. The texts about duplicates and
    /// types are Envoy's.
    fn check(&self, kind: ResourceType, incoming: &Incoming) -> Result<(), String> {
        if let Some(text) = &incoming.refused {
            return Err(text.clone());
        }
        let limits = &self.settings.limits;
        let (waiting, max) = (self.unanswered.len(), limits.unanswered_max);
        let names_waiting: usize = self.unanswered.values().map(|w| w.resources.len()).sum();
        if waiting >= max || names_waiting >= limits.names_max {
            return Err(format!("{waiting} responses wait to be applied"));
        }
        self.check_lengths(incoming)?;
        let delta = self.settings.variant == Variant::Delta;
        let mut names = BTreeSet::new();
        for resource in &incoming.resources {
            if let Body::Any { type_url, .. } = &resource.body
                && ResourceType::from_type_url(type_url) != Some(kind)
            {
                let message = if delta { "DeltaDiscoveryResponse" } else { "DiscoveryResponse" };
                let (found, expected) = (shortened(type_url.clone(), 200), kind.type_url());
                return Err(format!(
                    "type URL {found} embedded in an individual Any does not match the \
                     message-wide type URL {expected} in {message}"
                ));
            }
            match resource.name.as_deref() {
                Some("") if delta => return Err("a resource without a name".to_owned()),
                Some(name) if !name.is_empty() && !names.insert(name) => {
                    let text = "found among added/updated resources";
                    return Err(format!("duplicate name {name} {text}"));
                }
                _ => {}
            }
        }
        let again = incoming.removed.iter().find(|name| !names.insert(name));
        if let Some(name) = again {
            let text = "found in the union of added+removed resources";
            return Err(format!("duplicate name {name} {text}"));
        }
        let known = self.subscriptions.get(&kind).map_or(0, Subscription::versions_count);
        let max = limits.names_max;
        if known.saturating_add(names.len()) > max && self.news_count(kind, &names) + known > max {
            return Err(format!("more than {max} resources of this type"));
        }
        Ok(())
    }

    fn check_lengths(&self, incoming: &Incoming) -> Result<(), String> {
        let max = self.settings.limits.name_bytes_max;
        let too_long = |text: &str, what: &str| {
            let start = shortened(text.to_owned(), 100);
            Err(format!("{what} {start}… of {} bytes: at most {max} are taken", text.len()))
        };
        if incoming.version.len() > max {
            return too_long(&incoming.version, "a version");
        }
        for resource in &incoming.resources {
            let name = resource.name.iter().chain(&resource.aliases).find(|n| n.len() > max);
            if let Some(name) = name {
                return too_long(name, "a name");
            }
            if resource.version.len() > max {
                return too_long(&resource.version, "a version");
            }
        }
        match incoming.removed.iter().find(|name| name.len() > max) {
            Some(name) => too_long(name, "a name"),
            None => Ok(()),
        }
    }

    fn news_count(&self, kind: ResourceType, names: &BTreeSet<&str>) -> usize {
        let Some(subscription) = self.subscriptions.get(&kind) else { return 0 };
        names.iter().filter(|name| subscription.version_of(name).is_none()).count()
    }

    /// What is gone now is not there again when an earlier response is accepted later.
    pub(super) fn forget_waiting(&mut self, kind: ResourceType, gone: &[String]) {
        let gone: BTreeSet<&str> = gone.iter().map(String::as_str).collect();
        let waiting = self.unanswered.values_mut().filter(|waiting| waiting.kind == kind);
        for waiting in waiting.filter(|_| !gone.is_empty()) {
            waiting.resources.retain(|known| !gone.contains(known.name.as_str()));
        }
    }

    /// Ends the first fetches of what a response says something about.
    fn end_fetches(&mut self, kind: ResourceType, incoming: &Incoming) {
        self.timers.cancel(Due::Fetch, kind, WILDCARD);
        for resource in &incoming.resources {
            for name in resource.name.iter().chain(&resource.aliases) {
                self.timers.cancel(Due::Fetch, kind, name);
            }
        }
        for name in &incoming.removed {
            self.timers.cancel(Due::Fetch, kind, name);
        }
    }

    /// What the application gets, and what is kept for its answer. Heartbeats take effect here;
    /// what nobody asked for goes no further.
    fn sort_out(
        &mut self,
        kind: ResourceType,
        resources: Vec<Resource>,
        whole: bool,
        now: Instant,
    ) -> (Vec<Resource>, Vec<Known>) {
        let (mut handed, mut kept) = (Vec::with_capacity(resources.len()), Vec::new());
        for mut resource in resources {
            let Some(name) = resource.name.clone() else {
                handed.push(resource);
                continue;
            };
            if !self.subscriptions[&kind].wants(&name, &resource.aliases) {
                continue;
            }
            let heartbeat = resource.ttl.filter(|_| {
                resource.body == Body::Absent && self.is_known(kind, &name, &resource.version)
            });
            if let Some(ttl) = heartbeat {
                self.timers.set(Due::Ttl, kind, &name, now + ttl);
                resource.body = Body::Unchanged;
            }
            kept.push(Known {
                name,
                version: resource.version.clone(),
                aliases: resource.aliases.clone(),
                ttl: resource.ttl,
                unchanged: heartbeat.is_some(),
            });
            if whole || heartbeat.is_none() {
                handed.push(resource);
            }
        }
        (handed, kept)
    }

    /// Whether a resource was received in this version: accepted, or waiting for that. Over
    /// state-of-the-world streams only those with a time to live are known by name.
    fn is_known(&self, kind: ResourceType, name: &str, version: &str) -> bool {
        let same = |known: &str| version.is_empty() || version == known;
        let known = match self.settings.variant {
            Variant::Delta => self.subscriptions[&kind].version_of(name).is_some_and(same),
            Variant::StateOfTheWorld => self.timers.has(Due::Ttl, kind, name),
        };
        known
            || self.unanswered.values().filter(|waiting| waiting.kind == kind).any(|waiting| {
                let mut resources = waiting.resources.iter();
                resources.any(|known| known.name == name && same(&known.version))
            })
    }

    /// A response was accepted with resources of these names.
    pub(super) fn accept(&mut self, id: ResponseId, unanswered: Unanswered, names: &[String]) {
        let kind = unanswered.kind;
        self.begin_lives(&unanswered, names);
        let Unanswered { version, resources, removed, whole, .. } = unanswered;
        let accepted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        if whole {
            let present: BTreeSet<&str> = resources.iter().map(|k| k.name.as_str()).collect();
            let kept = |name: &str| accepted.contains(name) || present.contains(name);
            self.timers.retain(Due::Ttl, kind, kept);
        }
        for name in &removed {
            self.timers.cancel(Due::Ttl, kind, name);
        }
        let Some(subscription) = self.subscriptions.get_mut(&kind) else { return };
        if self.settings.variant == Variant::StateOfTheWorld {
            return subscription.accept_version(id, version);
        }
        for name in &removed {
            subscription.forget(id, name);
        }
        for known in resources {
            if accepted.contains(known.name.as_str()) && !known.unchanged {
                subscription.remember(id, &known.name, known.version, known.aliases);
            }
        }
    }

    /// Resources of these names were applied: first fetches end, lives begin, or are for ever
    /// again.
    pub(super) fn begin_lives(&mut self, unanswered: &Unanswered, names: &[String]) {
        let kind = unanswered.kind;
        for name in names {
            self.timers.cancel(Due::Fetch, kind, name);
        }
        let applied: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for known in &unanswered.resources {
            if known.unchanged || !applied.contains(known.name.as_str()) {
                continue;
            }
            let Some(ttl) = known.ttl else {
                self.timers.cancel(Due::Ttl, kind, &known.name);
                continue;
            };
            let wanted = self.subscriptions.get(&kind);
            if wanted.is_some_and(|sub| sub.wants(&known.name, &known.aliases)) {
                self.timers.set(Due::Ttl, kind, &known.name, unanswered.received_at + ttl);
            }
        }
    }
}
