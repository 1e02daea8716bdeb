//! One type of resource: what is wanted, what the server has been told on this stream, and what is
//! remembered from stream to stream.
//!
//! What it leaves to others: which request goes first, time, the application.

use crate::message::{ResponseId, WILDCARD};
use crate::{ResourceType, Variant};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::take;
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
    /// Whether anything was sent. Until then the next request says all that is wanted, and the
    /// three sets below are empty.
    pub(crate) opened: bool,
    /// Whether a name was sent: from then on an empty list means none, no more all.
    named: bool,
    /// The last that was received.
    pub(crate) nonce: String,
    /// Names that are wanted, of which the server has not been told.
    fresh: BTreeSet<String>,
    /// Names that are not wanted any more, of which the server has not been told.
    dropped: BTreeSet<String>,
    /// Names that were dropped and are wanted again before the server was told: it must notice, for
    /// the application has forgotten what came of them. State-of-the-world requests leave them out
    /// once.
    renewed: BTreeSet<String>,

    // From stream to stream.
    /// State of the world: the version of the last response that was accepted, and which it was.
    version: (ResponseId, String),
    /// Delta: by name.
    versions: HashMap<String, Remembered>,
    /// Whether what was remembered may be wanted by another name than its own.
    has_aliases: bool,
}

impl Subscription {
    pub(crate) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            wanted: BTreeSet::new(),
            unsent: BTreeMap::new(),
            opened: false,
            named: false,
            nonce: String::new(),
            fresh: BTreeSet::new(),
            dropped: BTreeSet::new(),
            renewed: BTreeSet::new(),
            version: (ResponseId(0), String::new()),
            versions: HashMap::new(),
            has_aliases: kind == ResourceType::VirtualHost,
        }
    }

    /// A new stream knows nothing; versions stay.
    pub(crate) fn begin_stream(&mut self) {
        (self.opened, self.named) = (false, false);
        self.nonce.clear();
        self.fresh.clear();
        self.dropped.clear();
        self.renewed.clear();
    }

    /// A name more is wanted. Costs the same however many there are.
    pub(crate) fn want(&mut self, name: String, timeout: Option<Duration>) {
        if self.wanted.contains(&name) {
            return;
        }
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero()) {
            self.unsent.insert(name.clone(), timeout);
        }
        if self.dropped.remove(&name) {
            self.renewed.insert(name.clone());
        } else if self.opened {
            self.fresh.insert(name.clone());
        }
        self.wanted.insert(name);
    }

    /// A name is not wanted any more; answers whether it was.
    pub(crate) fn give_up(&mut self, name: &str) -> bool {
        if !self.wanted.remove(name) {
            return false;
        }
        self.unsent.remove(name);
        self.versions.remove(name);
        self.renewed.remove(name);
        if !self.fresh.remove(name) && self.opened {
            self.dropped.insert(name.to_owned());
        }
        true
    }

    /// After names were given up: forgets what was wanted by an alias, by a route configuration's
    /// name or by the wildcard. Answers whether there was anything of the kind.
    pub(crate) fn sweep(&mut self, given_up: &[String]) -> bool {
        let sweeps = self.has_aliases || given_up.iter().any(|name| name == WILDCARD);
        if sweeps {
            let mut versions = take(&mut self.versions);
            versions.retain(|name, remembered| self.wants(name, &remembered.aliases));
            self.versions = versions;
        }
        sweeps
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
        !(self.fresh.is_empty() && self.dropped.is_empty() && self.renewed.is_empty())
    }

    /// Other names of a resource that is remembered.
    pub(crate) fn aliases_of(&self, name: &str) -> &[String] {
        self.versions.get(name).map_or(&[], |remembered| &remembered.aliases)
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
            self.has_aliases |= !aliases.is_empty();
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
        let mut now: Vec<String> = self.wanted.difference(&self.renewed).cloned().collect();
        if !self.named && now == [WILDCARD] {
            now.clear();
        }
        self.named |= !now.is_empty();
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
            resource_names: now,
            type_url: self.kind.type_url(),
            response_nonce: nonce,
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.opened = true;
        if known {
            self.fresh = take(&mut self.renewed);
            self.dropped.clear();
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
        let (fresh, renewed) = (take(&mut self.fresh), take(&mut self.renewed));
        let dropped = take(&mut self.dropped);
        if self.opened {
            request.resource_names_subscribe = fresh.into_iter().chain(renewed).collect();
            request.resource_names_unsubscribe = dropped.into_iter().collect();
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
        let waiting = &self.fresh;
        let mut sent = Vec::new();
        self.unsent.retain(|name, timeout| {
            let waits = waiting.contains(name);
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
