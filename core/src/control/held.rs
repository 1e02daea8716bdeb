//! Acknowledgements that wait until what they accept is warm, as Envoy's do of clusters
//! (`--ack-after-warming`).
//!
//! What it leaves to others: what is warm (`dynamic`, `resources`), sending (`xds`).

use super::Control;
use super::dynamic::Taken;
use super::xds::StreamId;
use crate::config::ResourceKind;
use std::collections::HashSet;
use tidegate_xds::Response;

/// Responses of one kind that wait; a server sends no second one before the first was answered.
#[derive(Debug)]
pub(super) struct Held {
    stream: StreamId,
    response: Response,
    taken: Taken,
    /// The clusters that it waits for.
    names: Vec<String>,
}

impl Control {
    /// Answers a response now, or when its clusters are warm.
    pub(super) fn answer(&mut self, stream: StreamId, response: &Response, taken: &Taken) {
        let is_late = self.options.source.ack_after_warming
            && response.kind == tidegate_xds::ResourceType::Cluster
            && taken.refused.is_empty()
            && !self.options.state.is_initializing();
        let cold = if is_late { self.cold_of(taken) } else { Vec::new() };
        if cold.is_empty() {
            return self.discovery.xds.answer(stream, response, taken);
        }
        let response = Response { resources: Vec::new(), ..response.clone() };
        let taken = Taken { accepted: taken.accepted.clone(), ..Taken::default() };
        self.held.push(Held { stream, response, taken, names: cold });
    }

    /// Answers what has waited long enough.
    pub(super) fn release_answers(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let warming = self.warming();
        let (held, mut left) = (std::mem::take(&mut self.held), Vec::new());
        for one in held {
            match one.names.iter().any(|name| self.is_cold(name, &warming)) {
                true => left.push(one),
                false => self.discovery.xds.answer(one.stream, &one.response, &one.taken),
            }
        }
        self.held = left;
    }

    fn cold_of(&self, taken: &Taken) -> Vec<String> {
        let warming = self.warming();
        let names = taken.accepted.iter().map(|one| &one.name);
        names.filter(|name| self.is_cold(name, &warming)).cloned().collect()
    }

    /// The clusters that wait for names.
    fn warming(&self) -> HashSet<String> {
        self.resources.warming_names().into_iter().collect()
    }

    /// Whether a cluster waits, for resources or for names.
    fn is_cold(&self, name: &str, warming: &HashSet<String>) -> bool {
        let is_known = self.discovery.dynamic.has(ResourceKind::Cluster, name);
        let waits = self.discovery.is_waiting(&format!("cluster `{name}`"));
        is_known && (waits || warming.contains(name))
    }
}
