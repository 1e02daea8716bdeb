//! One stream of xDS as a state machine: what to say next, and what the application must know.
//!
//! What it leaves to others: sockets, the clock (`now` is passed in), when to connect (`Backoff`),
//! what is in resources.
//!
//! Its methods are of four kinds. `handle_*` tells what happened outside; `set_interest` and
//! `answer` are the application's commands; `poll_request`, `poll_event` and `poll_timeout` say
//! what must be done next, and are called until they have nothing more after any of the others; the
//! rest only looks.

mod responses;
mod subscription;

use crate::backoff::TokenBucket;
use crate::limits::{NACK_BYTES_MAX, shortened};
use crate::message::WILDCARD;
use crate::timers::{Due, Timers};
use crate::{
    Accepted, Disconnected, Event, Interest, Limits, Nack, Node, RateLimit, Request, ResourceType,
    ResponseId,
};
use responses::Unanswered;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};
use subscription::{Answer, Subscription};

/// How resources travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Each response of LDS and CDS is all there is (`GRPC`, `AGGREGATED_GRPC`, `REST`).
    StateOfTheWorld,
    /// Responses say what has changed (`DELTA_GRPC`, `AGGREGATED_DELTA_GRPC`).
    Delta,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All types (ADS).
    Aggregated,
    /// One type.
    Single(ResourceType),
}

/// How a client speaks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How resources travel.
    pub variant: Variant,
    /// What the stream carries.
    pub scope: Scope,
    /// Who asks, on the first request of each stream or on all of them.
    pub node: Node,
    /// `set_node_on_first_message_only`: the first of the stream, not of each type.
    pub node_on_first_message_only: bool,
    /// `rate_limit_settings`; none is Envoy's default over ADS.
    pub rate_limit: Option<RateLimit>,
    /// What the server can make grow.
    pub limits: Limits,
}

/// What waits to be sent.
#[derive(Debug)]
struct Pending {
    kind: ResourceType,
    answer: Option<Answer>,
}

/// One stream, over all its reconnects. Versions and interest outlive streams, nonces do not.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    connected: bool,
    /// The number of the stream: answers to responses of an earlier one are not sent.
    stream: u64,
    /// Whether this stream has carried a request, and a response.
    node_sent: bool,
    answered: bool,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    /// In the order in which the application caused them: Envoy asks for endpoints before it
    /// accepts the clusters that need them. At most one without an answer by type.
    queue: VecDeque<Pending>,
    unanswered: HashMap<ResponseId, Unanswered>,
    last_id: u64,
    events: VecDeque<Event>,
    timers: Timers,
    bucket: Option<TokenBucket>,
    /// No request before this, for the rate limit.
    blocked_until: Option<Instant>,
    rate_limit_enforced: u64,
    control_plane: String,
}

impl Client {
    /// A client that is not connected and wants nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let bucket = settings.rate_limit.map(TokenBucket::new);
        Self {
            settings,
            connected: false,
            stream: 0,
            node_sent: false,
            answered: false,
            subscriptions: BTreeMap::new(),
            queue: VecDeque::new(),
            unanswered: HashMap::new(),
            last_id: 0,
            events: VecDeque::new(),
            timers: Timers::default(),
            bucket,
            blocked_until: None,
            rate_limit_enforced: 0,
            control_plane: String::new(),
        }
    }

    /// From now on this is wanted of a type, and nothing else. New names get the timeout, counted
    /// from the first request that has them; zero and none wait for ever. A name that was not
    /// wanted for a while is asked for anew, even when the server has not noticed its absence. A
    /// type that this stream does not carry is refused by `Event::Warning`.
    ///
    /// A wildcard of state-of-the-world streams cannot be taken back on a stream: Envoy's protocol
    /// has no word for it.
    pub fn set_interest(
        &mut self,
        kind: ResourceType,
        interest: Interest,
        initial_fetch_timeout: Option<Duration>,
    ) {
        let names = match interest {
            Interest::Wildcard => [WILDCARD.to_owned()].into(),
            Interest::Names(names) => names,
        };
        let wanted = self.subscriptions.get(&kind).map(|subscription| &subscription.wanted);
        let gone = wanted.map(|wanted| wanted.difference(&names).cloned().collect());
        let new = match wanted {
            Some(wanted) => names.difference(wanted).cloned().collect(),
            None => names.into_iter().collect(),
        };
        self.change_interest(kind, new, gone.unwrap_or_default(), initial_fetch_timeout);
    }

    /// As `set_interest`, said by what changes: in delta it costs in proportion to that, however
    /// many names there are. A name in both lists is given up and asked for anew.
    pub fn change_interest(
        &mut self,
        kind: ResourceType,
        wanted: Vec<String>,
        given_up: Vec<String>,
        initial_fetch_timeout: Option<Duration>,
    ) {
        let alien = matches!(self.settings.scope, Scope::Single(single) if single != kind);
        if alien || !Subscription::supports(kind, self.settings.variant) {
            let text = format!("{} cannot be had from this stream", kind.type_url());
            return self.events.push_back(Event::Warning(text));
        }
        let subscription =
            self.subscriptions.entry(kind).or_insert_with(|| Subscription::new(kind));
        let mut gone = given_up;
        gone.retain(|name| subscription.give_up(name));
        for name in &gone {
            self.timers.cancel(Due::Fetch, kind, name);
            self.timers.cancel(Due::Ttl, kind, name);
        }
        for name in wanted {
            subscription.want(name, initial_fetch_timeout);
        }
        if !gone.is_empty() && subscription.sweep(&gone) {
            let wants = |name: &str| subscription.wants(name, subscription.aliases_of(name));
            self.timers.retain(Due::Ttl, kind, wants);
        }
        if subscription.is_news() {
            self.queue_request(kind);
        }
        if !gone.is_empty() {
            self.forget_waiting(kind, &gone);
        }
    }

    /// A stream has begun: all that is wanted is asked for, in the order of `ResourceType`.
    pub fn handle_connected(&mut self) {
        self.connected = true;
        self.stream += 1;
        (self.node_sent, self.answered) = (false, false);
        self.queue.clear();
        for subscription in self.subscriptions.values_mut() {
            subscription.begin_stream();
        }
        for kind in ResourceType::ALL {
            if self.subscriptions.get(&kind).is_some_and(Subscription::is_news) {
                self.queue_request(kind);
            }
        }
        self.events.push_back(Event::Connected);
    }

    /// A poll is a stream of one request, which says what is wanted and which version is there.
    pub(crate) fn begin_poll(&mut self) {
        let told = self.events.len();
        self.handle_connected();
        self.events.truncate(told);
    }

    /// The server answers again.
    pub(crate) fn recover(&mut self) {
        self.events.push_back(Event::Connected);
    }

    /// Nothing more is sent until the next poll.
    pub(crate) fn end_poll(&mut self) {
        self.connected = false;
        self.queue.clear();
    }

    /// Whether the application has not answered all responses.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// Whether something is wanted that no request has named yet.
    pub(crate) fn has_news(&self) -> bool {
        self.subscriptions.values().any(Subscription::is_news)
    }

    /// The stream has ended, or none came to be. What was received stays valid, responses can still
    /// be answered: what is accepted counts on the next stream.
    pub fn handle_disconnected(&mut self, disconnected: Disconnected) {
        self.connected = false;
        self.queue.clear();
        self.events.push_back(Event::Disconnected(disconnected));
    }

    /// The application has taken or refused a response. Answers `false`, and does nothing, when
    /// there is no such response or it has its answer.
    pub fn answer(&mut self, id: ResponseId, answer: Result<Accepted, Nack>) -> bool {
        let Some(unanswered) = self.unanswered.remove(&id) else { return false };
        let (kind, on_this_stream) = (unanswered.kind, unanswered.stream == self.stream);
        let nonce = unanswered.nonce.clone();
        let error = match answer {
            Ok(Accepted { names }) => {
                self.accept(id, unanswered, &names);
                None
            }
            Err(Nack { message, applied }) => {
                self.begin_lives(&unanswered, &applied);
                Some(shortened(message, NACK_BYTES_MAX))
            }
        };
        if self.connected && on_this_stream {
            self.say(kind, nonce, error);
        }
        true
    }

    /// The next request, when there is one and the rate limit lets it go. It counts as sent.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if !self.connected || self.blocked_until.is_some_and(|until| now < until) {
            return None;
        }
        self.skip_what_is_known();
        self.queue.front()?;
        if let Some(Err(until)) = self.bucket.as_mut().map(|bucket| bucket.take(now)) {
            self.rate_limit_enforced += 1;
            self.blocked_until = Some(until);
            return None;
        }
        self.blocked_until = None;
        let Pending { kind, answer } = self.queue.pop_front()?;
        let subscription = self.subscriptions.get_mut(&kind)?;
        let first = !std::mem::replace(&mut self.node_sent, true);
        let node = (first || !self.settings.node_on_first_message_only)
            .then(|| self.settings.node.clone());
        let mut more = false;
        let request = match self.settings.variant {
            Variant::StateOfTheWorld => {
                let (mut request, again) = subscription.state_of_the_world(answer);
                more = again;
                request.node = node;
                Request::StateOfTheWorld(request)
            }
            Variant::Delta => {
                let mut request = subscription.delta(answer);
                request.node = node;
                Request::Delta(request)
            }
        };
        for (name, timeout) in subscription.take_sent() {
            if let Some(at) = now.checked_add(timeout) {
                self.timers.set(Due::Fetch, kind, &name, at);
            }
        }
        if more {
            self.queue_request(kind);
        }
        Some(request)
    }

    /// What the application must know next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` or `poll_request` has something to do again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let request = self.blocked_until.filter(|_| self.connected && !self.queue.is_empty());
        self.timers.next().into_iter().chain(request).min()
    }

    /// Time has passed: lives and first fetches may be over.
    pub fn handle_timeout(&mut self, now: Instant) {
        for ((due, kind), names) in self.timers.take(now) {
            match due {
                Due::Fetch => self.events.push_back(Event::FetchTimedOut { kind, names }),
                Due::Ttl => {
                    if let Some(subscription) = self.subscriptions.get_mut(&kind) {
                        // The next stream must not say that we have it.
                        names.iter().for_each(|name| subscription.forget(ResponseId::MAX, name));
                    }
                    self.events.push_back(Event::Expired { kind, names });
                }
            }
        }
    }

    /// Whether a stream is open (`control_plane.connected_state`).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether this stream, or the last one, has brought a response.
    #[must_use]
    pub fn was_answered(&self) -> bool {
        self.answered
    }

    /// Whether the application has not heard of all that happened. A transport reads no further
    /// meanwhile: the server is held back by HTTP/2's windows.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Requests that wait (`control_plane.pending_requests`).
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.queue.len()
    }

    /// How many times a request had to wait for the rate limit
    /// (`control_plane.rate_limit_enforced`).
    #[must_use]
    pub fn rate_limit_enforced(&self) -> u64 {
        self.rate_limit_enforced
    }

    /// What the server calls itself (`control_plane.identifier`), at most 4 KiB; empty until it
    /// does.
    #[must_use]
    pub fn control_plane(&self) -> &str {
        &self.control_plane
    }

    /// The version of the last response of a type that was accepted; empty in delta, where
    /// resources have versions.
    #[must_use]
    pub fn version(&self, kind: ResourceType) -> &str {
        self.subscriptions.get(&kind).map_or("", Subscription::version)
    }

    /// How it was set up.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A request about interest: what it says is decided when it goes out.
    fn queue_request(&mut self, kind: ResourceType) {
        let queued = |pending: &Pending| pending.kind == kind && pending.answer.is_none();
        if self.connected && !self.queue.iter().any(queued) {
            self.queue.push_back(Pending { kind, answer: None });
        }
    }

    /// An answer with the same names may have gone before, or the names came and went.
    fn skip_what_is_known(&mut self) {
        while let Some(Pending { kind, answer: None }) = self.queue.front() {
            if self.subscriptions.get(kind).is_some_and(Subscription::is_news) {
                return;
            }
            self.queue.pop_front();
        }
    }
}
