//! Adding and removing header fields where a route, or what is around it, says so.
//!
//! What it leaves to others: which ones, and in which order of levels (`snapshot`).

use super::stream::Stream;
use crate::access_log::Record;
use crate::config::AppendAction;
use crate::shard::{Shard, StreamKey};
use crate::snapshot::{AddedValue, Addition, CompiledRoute, FieldName, Mutations};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;
use tidegate_http::{Headers, Name};
use tidegate_io::Io;

/// Memory for the mutations of one level, kept from one to the next.
#[derive(Debug, Default)]
pub struct MutationScratch {
    /// Values that were made for this request.
    text: Vec<u8>,
    /// What is to be done, decided before anything is added.
    planned: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    /// The place of the addition in its level.
    addition: usize,
    overwrite: bool,
    /// In `text`, if the value is not a literal.
    value: Range<usize>,
}

/// The header of which direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Request,
    Response,
}

impl<I: Io> Shard<I> {
    /// Changes the header of the request as the choice of its cluster asks.
    pub(super) fn mutate_request_of_choice(&mut self, key: StreamKey, route: &CompiledRoute) {
        let Some(stream) = self.streams.get(key) else { return };
        if let Some(choice) = route.target.mutations_of_choice(stream.choice as usize) {
            for mutations in &choice.request {
                self.mutate(key, mutations, Direction::Request);
            }
        }
    }

    /// Changes the header of the request as its route and what is around it ask.
    pub(super) fn mutate_request(&mut self, key: StreamKey, route: &CompiledRoute) {
        for mutations in route.mutations.iter().flat_map(|mutations| &mutations.request) {
            self.mutate(key, mutations, Direction::Request);
        }
    }

    /// Changes the header of a response, the proxy's own ones included, as the request's route
    /// asks. `service_ms` is `None` for one of the proxy's own.
    pub(super) fn finalize_response(&mut self, key: StreamKey, service_ms: Option<u64>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let listener = stream.listener.clone();
        let Some(route) = stream.route.map(|id| listener.http.routes.get(id)) else { return };
        let attempts = stream.attempts.count;
        let headers = &mut stream.response.headers;
        let suppressed = listener.http.config.router.suppress_envoy_headers;
        if let Some(service_ms) = service_ms.filter(|_| !suppressed) {
            let digits = &mut [0; 20];
            headers
                .set(b"x-envoy-upstream-service-time", super::mutate::decimal(service_ms, digits));
        }
        if route.host.include_attempt_count_in_response && attempts > 0 {
            let digits = &mut [0; 20];
            headers.set(b"x-envoy-attempt-count", super::mutate::decimal(attempts.into(), digits));
        }
        if let Some(choice) = route.target.mutations_of_choice(stream.choice as usize) {
            for mutations in &choice.response {
                self.mutate(key, mutations, Direction::Response);
            }
        }
        for mutations in route.mutations.iter().flat_map(|mutations| &mutations.response) {
            self.mutate(key, mutations, Direction::Response);
        }
    }

    /// One level: removes, then evaluates every format, then adds, as Envoy does.
    fn mutate(&mut self, key: StreamKey, mutations: &Mutations, direction: Direction) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        for name in &mutations.remove {
            remove(headers(stream, direction), name);
        }
        let mut scratch = std::mem::take(&mut self.mutation_scratch);
        let downstream = stream.downstream;
        let ends = if mutations.has_formats { self.ends(downstream) } else { Default::default() };
        let Some(stream) = self.streams.get_mut(key) else { return };
        let record = stream.record(self.now.instant - stream.started, ends);
        scratch.plan(mutations, &record, direction);
        scratch.carry_out(mutations, headers(stream, direction));
        self.mutation_scratch = scratch;
    }
}

impl Stream {
    /// What is known of the stream now. `ends` are the peer's address and ours.
    #[must_use]
    pub fn record(&self, duration: Duration, [peer, local]: [Option<SocketAddr>; 2]) -> Record<'_> {
        Record {
            start_unix_us: self.started_unix_us,
            duration_us: duration.as_micros() as u64,
            is_tcp: false,
            request: Some(&self.request),
            response: self.response_started().then_some(&self.response),
            trailers: self.response_trailers.as_deref(),
            status: self.status,
            flags: self.flags,
            details: self.details,
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            upstream_host: self.upstream_address,
            upstream_protocol: self.upstream_protocol(),
            upstream_cluster: self.cluster().map(|cluster| cluster.config.name.as_str()),
            upstream_service_ms: self.upstream_service_ms,
            upstream_failure: None,
            attempts: self.attempts.count,
            downstream_remote_address: self.remote_address.or(peer),
            downstream_direct_address: peer,
            downstream_local_address: local,
            route_name: self.route().map(|route| route.config.name.as_str()),
            route_metadata: self.route().map(|route| &route.config.metadata),
            cluster_metadata: self.cluster().map(|cluster| &cluster.config.metadata),
            listener_metadata: Some(&self.listener.config.metadata),
            filter_chain_name: Some(&self.listener.name),
            measured: self.measured.as_deref(),
            local_reply_body: None,
        }
    }
}

fn headers(stream: &mut Stream, direction: Direction) -> &mut Headers {
    match direction {
        Direction::Request => &mut stream.request.headers,
        Direction::Response => &mut stream.response.headers,
    }
}

fn remove(headers: &mut Headers, name: &FieldName) {
    match name.id {
        Name::Other => headers.remove_name(&name.lower),
        id => headers.remove(id),
    }
}

impl MutationScratch {
    /// Decides what is done to the header of a response.
    pub(super) fn plan_for_response(&mut self, mutations: &Mutations, record: &Record<'_>) {
        self.plan(mutations, record, Direction::Response);
    }

    fn plan(&mut self, mutations: &Mutations, record: &Record<'_>, direction: Direction) {
        self.text.clear();
        self.planned.clear();
        for (place, addition) in mutations.add.iter().enumerate() {
            let start = self.text.len();
            let is_empty = match &addition.value {
                AddedValue::Literal(literal) => literal.is_empty(),
                AddedValue::Format(format) => {
                    format.write_value(&mut self.text, record);
                    self.text.len() == start
                }
            };
            if is_empty && !addition.keep_empty_value {
                continue;
            }
            let overwrite = match addition.append_action {
                AppendAction::AppendIfExistsOrAdd => false,
                AppendAction::AddIfAbsent if is_there(addition, record, direction) => continue,
                AppendAction::AddIfAbsent => false,
                AppendAction::OverwriteIfExists if !is_there(addition, record, direction) => {
                    continue;
                }
                AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => true,
            };
            let value = start..self.text.len();
            self.planned.push(Planned { addition: place, overwrite, value });
        }
    }

    /// What overwrites comes first.
    pub(super) fn carry_out(&self, mutations: &Mutations, headers: &mut Headers) {
        for overwrite in [true, false] {
            for planned in self.planned.iter().filter(|planned| planned.overwrite == overwrite) {
                let addition = &mutations.add[planned.addition];
                let value = match &addition.value {
                    AddedValue::Literal(literal) => literal,
                    AddedValue::Format(_) => &self.text[planned.value.clone()],
                };
                match overwrite {
                    // As in Envoy it moves behind what is there.
                    true => {
                        remove(headers, &addition.name);
                        headers.append_known(addition.name.id, &addition.name.lower, value);
                    }
                    false => append(headers, &addition.name, value),
                }
            }
        }
    }
}

fn is_there(addition: &Addition, record: &Record<'_>, direction: Direction) -> bool {
    let headers = match direction {
        Direction::Request => record.request.map(|request| &request.headers),
        Direction::Response => record.response.map(|response| &response.headers),
    };
    let FieldName { id, lower } = &addition.name;
    headers.is_some_and(|headers| headers.get_known(*id, lower).is_some())
}

/// A further line; but fields that there can be only one of, or that Envoy keeps in one line, get
/// the value behind a comma.
fn append(headers: &mut Headers, name: &FieldName, value: &[u8]) {
    let in_one_line = !matches!(name.id, Name::Other | Name::Cookie | Name::Authorization);
    match headers.get(name.id).filter(|_| in_one_line) {
        Some(before) => {
            let joined = [before, b",", value].concat();
            headers.set(&name.lower, &joined);
        }
        None => headers.append_known(name.id, &name.lower, value),
    }
}
