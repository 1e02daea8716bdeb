//! One type of resource: what is wanted, what the server has been told on this stream, and what is
//! remembered from stream to stream.
//!
//! What it leaves to others: which request goes first, time, the application.

use crate::message::{ResponseId, WILDCARD};
use crate::{ResourceType, Variant};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// gRPC's INTERNAL, which Envoy sends with every NACK.
const CODE_INTERNAL: i32 = 13;

/// What is said about a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) nonce: String,
    /// State of the world: what was accepted when it was given.
    pub(crate) version: String,
    /// The text of a NACK.
    pub(crate) error: Option<String>,
}

impl Answer {
    fn detail(&self) -> Option<Status> {
        let message = self.error.clone()?;
        Some(Status { code: CODE_INTERNAL, message, details: Vec::new() })
    }
}

/// A version that was accepted.
#[derive(Debug)]
struct Remembered {
    id: ResponseId,
    version: String,
    aliases: Vec<String>,
}

/// The state of one type.
#[derive(Debug)]
pub(crate) struct Subscription {
    kind: ResourceType,
    /// What the application wants, `*` for the wildcard.
    pub(crate) wanted: BTreeSet<String>,
    /// Fetch timeouts that begin when their names are sent.
    pub(crate) unsent: BTreeMap<String, Duration>,

    // On this stream.
    /// What the server knows of `wanted`.
    asked: BTreeSet<String>,
    /// Whether anything was sent.
    pub(crate) opened: bool,
    /// Whether a name was sent: from then on an empty list means none, no more all.
    named: bool,
    /// The last that was received.
    pub(crate) nonce: String,
    /// Names that were dropped, of which the server has not been told yet.
    dropped: BTreeSet<String>,
    /// Names that were dropped and are wanted again: the server must notice, for the application
    /// has forgotten what came of them. State-of-the-world requests leave them out once.
    renewed: BTreeSet<String>,

    // From stream to stream.
    /// State of the world: the version of the last response that was accepted, and which it was.
    version: (ResponseId, String),
    /// Delta: by name.
    versions: HashMap<String, Remembered>,
}

impl Subscription {
    pub(crate) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            wanted: BTreeSet::new(),
            unsent: BTreeMap::new(),
            asked: BTreeSet::new(),
            opened: false,
            named: false,
            nonce: String::new(),
            dropped: BTreeSet::new(),
            renewed: BTreeSet::new(),
            version: (ResponseId(0), String::new()),
            versions: HashMap::new(),
        }
    }

    /// A new stream knows nothing; versions stay.
    pub(crate) fn begin_stream(&mut self) {
        self.asked.clear();
        (self.opened, self.named) = (false, false);
        self.nonce.clear();
        self.dropped.clear();
        self.renewed.clear();
    }

    /// From now on these are wanted, and nothing else. Answers with the names that are not any
    /// more.
    pub(crate) fn want(
        &mut self,
        names: BTreeSet<String>,
        timeout: Option<Duration>,
    ) -> Vec<String> {
        let gone: Vec<String> = self.wanted.difference(&names).cloned().collect();
        for name in &gone {
            self.unsent.remove(name);
            self.versions.remove(name);
            if self.asked.contains(name) {
                self.dropped.insert(name.clone());
                self.renewed.remove(name);
            }
        }
        for name in names.difference(&self.wanted) {
            if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
                self.unsent.insert(name.clone(), timeout);
            }
            if self.dropped.remove(name) {
                self.renewed.insert(name.clone());
            }
        }
        self.wanted = names;
        if !gone.is_empty() {
            // What was remembered by an alias, a wildcard or a route configuration's name.
            let mut versions = std::mem::take(&mut self.versions);
            versions.retain(|name, remembered| self.wants(name, &remembered.aliases));
            self.versions = versions;
        }
        gone
    }

    /// Whether a resource was asked for.
    pub(crate) fn wants(&self, name: &str, aliases: &[String]) -> bool {
        self.wanted.contains(WILDCARD)
            || self.wanted.contains(name)
            || aliases.iter().any(|alias| self.wanted.contains(alias))
            || self.kind == ResourceType::VirtualHost
                && name.rsplit_once('/').is_some_and(|(routes, _)| self.wanted.contains(routes))
    }

    /// Whether a request has something to say that the server does not know.
    pub(crate) fn is_news(&self) -> bool {
        if !self.opened {
            return !self.wanted.is_empty();
        }
        self.wanted != self.asked || !self.renewed.is_empty()
    }

    /// The version of the last response that was accepted.
    pub(crate) fn version(&self) -> &str {
        &self.version.1
    }

    /// A response was accepted: its version counts unless a later one has come before it.
    pub(crate) fn accept_version(&mut self, id: ResponseId, version: String) {
        if id > self.version.0 {
            self.version = (id, version);
        }
    }

    /// The version of a resource, as the server knows that we have it.
    pub(crate) fn version_of(&self, name: &str) -> Option<&str> {
        self.versions.get(name).map(|remembered| remembered.version.as_str())
    }

    pub(crate) fn versions_count(&self) -> usize {
        self.versions.len()
    }

    /// A resource was accepted.
    pub(crate) fn remember(
        &mut self,
        id: ResponseId,
        name: &str,
        version: String,
        aliases: Vec<String>,
    ) {
        let later = self.versions.get(name).is_some_and(|remembered| remembered.id > id);
        if !later && self.wants(name, &aliases) {
            self.versions.insert(name.to_owned(), Remembered { id, version, aliases });
        }
    }

    /// A resource is gone, and a server that is told of it would not send it again.
    pub(crate) fn forget(&mut self, id: ResponseId, name: &str) {
        if self.versions.get(name).is_some_and(|remembered| remembered.id <= id) {
            self.versions.remove(name);
        }
    }

    /// The next state-of-the-world request without its node, and whether another one must follow.
    pub(crate) fn state_of_the_world(
        &mut self,
        answer: Option<Answer>,
    ) -> (DiscoveryRequest, bool) {
        let renewed = std::mem::take(&mut self.renewed);
        let now: BTreeSet<String> = self.wanted.difference(&renewed).cloned().collect();
        let all = !self.named && now.len() == 1 && now.contains(WILDCARD);
        self.named |= !all && !now.is_empty();
        // Servers look at the names of an answer only when it answers the last response.
        let known = answer.as_ref().is_none_or(|answer| answer.nonce == self.nonce);
        let (nonce, version, error_detail) = match answer {
            None => (self.nonce.clone(), self.version.1.clone(), None),
            Some(answer) => {
                let detail = answer.detail();
                (answer.nonce, answer.version, detail)
            }
        };
        let request = DiscoveryRequest {
            version_info: version,
            resource_names: if all { Vec::new() } else { now.iter().cloned().collect() },
            type_url: self.kind.type_url(),
            response_nonce: nonce,
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.opened = true;
        if known {
            self.asked = now;
            self.dropped.clear();
        } else {
            self.renewed = renewed;
        }
        (request, self.is_news())
    }

    /// The next delta request without its node: an answer, or what has changed in interest.
    pub(crate) fn delta(&mut self, answer: Option<Answer>) -> DeltaDiscoveryRequest {
        let mut request =
            DeltaDiscoveryRequest { type_url: self.kind.type_url(), ..Default::default() };
        if let Some(answer) = answer {
            request.error_detail = answer.detail();
            request.response_nonce = answer.nonce;
            return request;
        }
        let asked = std::mem::replace(&mut self.asked, self.wanted.clone());
        let renewed = std::mem::take(&mut self.renewed);
        self.dropped.clear();
        if self.opened {
            let new = self.wanted.difference(&asked).chain(renewed.iter());
            request.resource_names_subscribe = new.cloned().collect();
            let old = asked.difference(&self.wanted);
            request.resource_names_unsubscribe = old.cloned().collect();
            return request;
        }
        self.opened = true;
        let all = self.wanted.len() == 1 && self.wanted.contains(WILDCARD);
        if !all {
            request.resource_names_subscribe = self.wanted.iter().cloned().collect();
        }
        let known = self.versions.iter().filter(|(_, known)| !known.version.is_empty());
        request.initial_resource_versions =
            known.map(|(name, known)| (name.clone(), known.version.clone())).collect();
        request
    }

    /// Names that the last request has told the server of, and how long their answers may take.
    pub(crate) fn take_sent(&mut self) -> Vec<(String, Duration)> {
        let asked = &self.asked;
        let mut sent = Vec::new();
        self.unsent.retain(|name, timeout| {
            let waits = !asked.contains(name);
            if !waits {
                sent.push((name.clone(), *timeout));
            }
            waits
        });
        sent
    }

    /// What a request of this variant would be built from.
    pub(crate) fn supports(kind: ResourceType, variant: Variant) -> bool {
        variant == Variant::Delta || kind != ResourceType::VirtualHost
    }
}
