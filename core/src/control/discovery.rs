//! What control does about resources that come while we run: read them, take those that are valid,
//! make the whole configuration anew, ask for what it names, answer.
//!
//! What it leaves to others: streams (`xds`), what resources make together (`dynamic`).

use super::Control;
use super::book::Failure;
use super::changes::Changes;
use super::dynamic::{Dynamic, Received, Taken, Want};
use super::files::Files;
use super::open_error::OpenError;
use super::reading::{News, ReadResponse, Reading, is_long};
use super::stats::SubscriptionStat;
use super::subscriptions::{AskedFor, Update};
use super::xds::{self, Read, StreamId, Xds};
use crate::config::{Bootstrap, ResourceContext, ResourceKind};
use crate::log::{self, Component};
use crate::stats::readouts::CONTROL_PLANE;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tidegate_io::Instant;
use tidegate_xds::{Event, Response};

/// An attempt whose response was refused.
const REJECTED: [SubscriptionStat; 2] =
    [SubscriptionStat::UpdateRejected, SubscriptionStat::UpdateAttempt];

/// All that is dynamic.
#[derive(Debug)]
pub(super) struct Discovery {
    /// What the bootstrap has.
    pub base: Bootstrap,
    pub dynamic: Dynamic,
    pub xds: Xds,
    pub files: Files,
    /// Kinds of which the first answer is awaited before we say that we are ready.
    awaited: BTreeSet<ResourceKind>,
    /// Until when what was asked for is waited for, also where no server can be reached.
    due: BTreeMap<(Instant, u64), Wanted>,
    /// What waits, and for what.
    waiting: Arc<BTreeMap<String, Vec<String>>>,
    /// A response that is being read.
    pub reading: Option<Reading>,
    /// What is wanted.
    pub asked: AskedFor,
    /// What the stats of these begin with.
    pub shown: HashMap<Wanted, Vec<String>>,
    /// The same, as it was found.
    wants: Vec<Want>,
}

/// Something that is asked for: by a name, or all of a kind.
pub(super) type Wanted = (ResourceKind, Option<String>);

impl Discovery {
    pub fn new(base: Bootstrap, xds: Xds) -> Discovery {
        let sources = [
            (&base.dynamic.clusters, ResourceKind::Cluster),
            (&base.dynamic.listeners, ResourceKind::Listener),
        ];
        let awaited = sources.into_iter().filter(|(source, _)| source.is_some());
        let awaited = awaited.map(|(_, kind)| kind);
        Discovery {
            awaited: awaited.collect(),
            due: BTreeMap::new(),
            base,
            dynamic: Dynamic::default(),
            xds,
            files: Files::default(),
            waiting: Arc::default(),
            reading: None,
            asked: AskedFor::default(),
            shown: HashMap::new(),
            wants: Vec::new(),
        }
    }

    /// Whether the first answers have come, and nothing waits.
    pub fn is_initialized(&self) -> bool {
        self.awaited.is_empty() && self.waiting.is_empty()
    }

    /// Whether this waits: `cluster `one``, for example.
    pub fn is_waiting(&self, name: &str) -> bool {
        self.waiting.contains_key(name)
    }

    /// Nobody waits for this any longer than that.
    pub fn wait_until(&mut self, at: Instant, wanted: Wanted) {
        let number = self.due.last_key_value().map_or(0, |((_, number), _)| number + 1);
        self.due.insert((at, number), wanted);
    }

    /// When something is to be done though nothing comes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.first_key_value().map(|((at, _), _)| *at);
        due.into_iter().chain(self.dynamic.poll_timeout()).min()
    }

    fn context(&self, options: crate::config::Options) -> ResourceContext {
        ResourceContext {
            runtime: (*self.base.runtime).clone(),
            secrets: self.base.secrets.clone(),
            options,
        }
    }
}

impl Control {
    /// Makes what the bootstrap has, and what is dynamic, the configuration.
    pub(super) fn apply_whole(&mut self) -> Result<Changes, Vec<OpenError>> {
        let whole = self.discovery.dynamic.whole(&self.discovery.base, self.now());
        let changes = self.apply(whole.bootstrap)?;
        self.discovery.dynamic.serves(whole.serving);
        self.options.state.book.set_waiting(whole.waiting.clone());
        self.discovery.waiting = whole.waiting;
        Ok(changes)
    }

    /// The same with another bootstrap.
    pub(super) fn apply_base(&mut self, base: Bootstrap) -> Result<Changes, Vec<OpenError>> {
        let before = std::mem::replace(&mut self.discovery.base, base);
        let applied = self.apply_whole();
        match applied {
            Ok(_) => {
                self.ask();
                self.watch_disk_layers();
            }
            Err(_) => self.discovery.base = before,
        }
        applied
    }

    /// The same with the bootstrap read with other runtime values, and all that came.
    pub(super) fn apply_runtime(&mut self, base: Bootstrap) -> Result<Changes, Vec<OpenError>> {
        let context = ResourceContext {
            runtime: (*base.runtime).clone(),
            ..self.discovery.context(self.options.source.options)
        };
        self.discovery.dynamic.read_again(&self.options.state.book, &context, &base);
        self.apply_base(base)
    }

    /// Asks for what the configuration names.
    pub(super) fn ask(&mut self) {
        let Discovery { base, dynamic, .. } = &self.discovery;
        self.ask_for(dynamic.wanted(base));
    }

    /// The same, when nothing has gone and nothing has come that nobody asked for.
    fn ask_for_more(&mut self) {
        let Discovery { base, dynamic, wants, .. } = &self.discovery;
        let now = dynamic.wanted(base);
        if now != *wants {
            self.ask_for(now);
        }
    }

    fn ask_for(&mut self, wants: Vec<Want>) {
        let Discovery { base, dynamic, xds, files, .. } = &mut self.discovery;
        dynamic.forget_unused(&wants);
        for kind in ResourceKind::ALL {
            self.options.state.book.retain(kind, |name| dynamic.has(kind, name));
        }
        xds.want(base, &wants);
        files.want(&wants);
        let asked = xds.asked().into_iter().chain(files.asked());
        self.options.state.book.set_asked(asked.collect());
        let readouts = self.options.registry.readouts();
        match xds.aggregated() {
            Some(state) => readouts.set_control_plane("", &state),
            None => readouts.remove(CONTROL_PLANE),
        }
        self.note_asked(&wants);
        self.discovery.wants = wants;
    }

    /// Does what streams lead to.
    pub(super) fn handle_news(&mut self, news: News) {
        match news {
            News::Event(stream, event) => self.handle_discovery(stream, event),
            News::Read(response) => self.handle_read(response),
        }
    }

    /// Does what an event of a stream asks for.
    pub(super) fn handle_discovery(&mut self, stream: StreamId, event: Event) {
        xds::tell(&event);
        self.discovery.xds.note_event(stream, &event);
        match event {
            Event::Response(response) => self.handle_response(stream, response),
            Event::FetchTimedOut { kind, names } => {
                if let Some(kind) = xds::kind_of(kind) {
                    let timed_out = names.iter().map(String::as_str);
                    self.count_names(kind, timed_out, &[SubscriptionStat::InitFetchTimeout]);
                    self.discovery.awaited.remove(&kind);
                    self.discovery.dynamic.handle_timeout(kind, &names);
                }
                self.remake();
            }
            Event::Expired { kind, names } => {
                if let Some(kind) = xds::kind_of(kind) {
                    self.discovery.dynamic.handle_expiry(kind, &names);
                }
                self.remake();
            }
            Event::Refused { kind, message } => {
                if let Some(kind) = xds::kind_of(kind) {
                    let names = self.discovery.asked.names(kind);
                    self.count_names(kind, names, &REJECTED);
                    self.options.state.book.set_answered(kind, Some(message));
                }
            }
            Event::Disconnected(end) => {
                for kind in self.discovery.xds.kinds_of(stream) {
                    let names = self.discovery.asked.names(kind);
                    let stats: &[_] = match end.failed {
                        true => &[SubscriptionStat::UpdateFailure, SubscriptionStat::UpdateAttempt],
                        false => &[SubscriptionStat::UpdateAttempt],
                    };
                    self.count_names(kind, names, stats);
                }
            }
            _ => {}
        }
        self.count_streams();
    }

    /// How streams are doing.
    pub(super) fn count_streams(&self) {
        self.discovery.xds.note_states();
    }

    /// Does what is due.
    pub(super) fn handle_discovery_timeout(&mut self) {
        let now = self.now();
        let mut changed = self.discovery.dynamic.poll_timeout().is_some_and(|at| at <= now);
        while let Some(first) = self.discovery.due.first_entry().filter(|it| it.key().0 <= now) {
            let (kind, name) = first.remove();
            match name {
                Some(name) => changed |= self.discovery.dynamic.handle_timeout(kind, &[name]),
                None => {
                    if self.discovery.awaited.remove(&kind) {
                        let text = "the management server has not answered in time";
                        log::warning(
                            Component::Config,
                            format_args!("{text}: serving what is here"),
                        );
                        changed = true;
                    }
                    changed |= self.discovery.dynamic.handle_timeout(kind, &["*".to_owned()]);
                }
            }
        }
        if changed {
            self.remake();
        }
    }

    /// Takes what is in a file.
    pub(super) fn handle_file(
        &mut self,
        index: usize,
        contents: &tidegate_xds::transport::file::Contents,
    ) {
        let began = self.now();
        let context = self.discovery.context(self.options.source.options);
        let path = contents.path.display();
        let Discovery { files, dynamic, .. } = &self.discovery;
        let found = files.read(index, contents, dynamic, &context);
        let Some((kind, version, read)) = found else { return };
        self.discovery.awaited.remove(&kind);
        let names: BTreeSet<String> = read.iter().map(|(one, _)| one.name.clone()).collect();
        let whole = matches!(kind, ResourceKind::Cluster | ResourceKind::Listener);
        let taken = self.take(kind, read, &[], whole);
        if let Some(reason) = taken.reasons() {
            log::warning(Component::Config, format_args!("{path}: {reason}"));
        }
        self.note(kind, version, began, taken);
        let missing = self.discovery.files.names(index).filter(|name| !names.contains(*name));
        let missing: Vec<String> = missing.cloned().collect();
        self.discovery.dynamic.handle_timeout(kind, &missing);
        self.remake();
    }

    fn handle_response(&mut self, stream: StreamId, mut response: Response) {
        let Some(kind) = xds::kind_of(response.kind) else { return };
        let began = self.now();
        let context = self.discovery.context(self.options.source.options);
        let Discovery { xds, dynamic, reading, .. } = &mut self.discovery;
        let before = |name: &str| dynamic.assignment(name).cloned();
        match xds.carrier().filter(|_| is_long(kind, &response)) {
            Some(carrier) => {
                let read = ReadResponse { stream, began, kind, response, read: Read::new() };
                *reading = Some(Reading::begin(carrier, read, before, context));
            }
            None => {
                let read = xds::read(kind, &mut response, before, &context);
                self.handle_read(ReadResponse { stream, began, kind, response, read });
            }
        }
    }

    /// Takes what was read.
    fn handle_read(&mut self, it: ReadResponse) {
        let ReadResponse { stream, began, kind, response, read: received } = it;
        self.discovery.awaited.remove(&kind);
        let taken = match self.only_assigns(kind, &received, &response) {
            true => self.assign(received),
            false => {
                let asked = &self.discovery.asked;
                let all_asked = received.iter().all(|(one, _)| asked.contains(kind, &one.name));
                let taken = self.take(kind, received, &response.removed, response.whole);
                // What the new ones name is asked for before they are accepted, as Envoy does; and
                // what nobody asked for is forgotten.
                if taken.removed || !all_asked {
                    self.ask();
                } else if names_others(kind) {
                    self.ask_for_more();
                }
                taken
            }
        };
        if let Some(reason) = taken.reasons() {
            let text = format_args!("{}: {reason}", response.kind.type_url());
            log::warning(Component::Config, text);
        }
        self.answer(stream, &response, &taken);
        self.note(kind, response.version, began, taken);
        self.become_live();
    }

    /// Has pages show it.
    fn note(&self, kind: ResourceKind, version: String, began: Instant, taken: Taken) {
        let accepted = taken.accepted.iter().map(|one| one.name.as_str());
        let refused = taken.refused.iter().map(|one| one.received.name.as_str());
        if taken.refused.is_empty() {
            let took = self.now().since(began);
            let update = Update { version: &version, took, changed: taken.changed };
            self.count_update(kind, accepted, update);
        } else {
            self.count_names(kind, accepted, &[SubscriptionStat::UpdateAttempt]);
            self.count_names(kind, refused, &REJECTED);
        }
        let book = &self.options.state.book;
        book.set_answered(kind, taken.reasons());
        let version = taken.refused.is_empty().then_some(version);
        let dynamic = &self.discovery.dynamic;
        let is_stray = |one: &Received| !dynamic.has(kind, &one.name);
        let some_gone = taken.removed || taken.accepted.iter().any(is_stray);
        book.write(kind, version.as_deref(), taken.accepted, taken.refused);
        if some_gone && kind != ResourceKind::ClusterLoadAssignment {
            book.retain(kind, |name| dynamic.has(kind, name));
        }
    }

    /// Whether a response has nothing but endpoints of clusters that serve.
    fn only_assigns(&self, kind: ResourceKind, received: &Read, response: &Response) -> bool {
        let dynamic = &self.discovery.dynamic;
        kind == ResourceKind::ClusterLoadAssignment
            && response.removed.is_empty()
            && received.iter().all(|(one, _)| dynamic.is_assigned(&self.discovery.base, &one.name))
    }

    /// Takes endpoints of clusters that serve: nothing else changes, and nothing has to be opened.
    fn assign(&mut self, read: Read) -> Taken {
        let Discovery { base, dynamic, .. } = &mut self.discovery;
        let kind = ResourceKind::ClusterLoadAssignment;
        let taken = dynamic.handle_response(kind, read, &[], false, base);
        for received in &taken.accepted {
            let clusters = dynamic.assigned(base, &received.name);
            self.resources.handle_assignments(&clusters);
        }
        dynamic.keep();
        taken
    }

    /// Takes resources; nothing of them where what they ask for cannot be opened.
    fn take(&mut self, kind: ResourceKind, read: Read, removed: &[String], whole: bool) -> Taken {
        let Discovery { base, dynamic, .. } = &mut self.discovery;
        let any_new = read.iter().any(|(one, _)| !dynamic.has(kind, &one.name));
        let mut taken = dynamic.handle_response(kind, read, removed, whole, base);
        if !taken.changed {
            dynamic.refuse_broken(kind, &mut taken);
            return taken;
        }
        let applied = match kind {
            ResourceKind::Secret => self.apply_secrets(any_new),
            ResourceKind::Runtime => self.apply_rtds(),
            _ => self.apply_what_can_be_had(),
        };
        match applied {
            Ok(changes) => {
                if !changes.is_empty() {
                    log::info(Component::Config, format_args!("dynamic: {changes}"));
                }
                self.discovery.dynamic.refuse_broken(kind, &mut taken);
                self.discovery.dynamic.keep();
                taken
            }
            Err(details) => {
                self.discovery.dynamic.take_back();
                let accepted = taken.accepted.drain(..);
                let failure = |received| Failure { details: details.clone(), received };
                taken.refused.extend(accepted.map(failure));
                taken
            }
        }
    }

    /// `any_new`: what could not be opened without them can be now.
    fn apply_secrets(&mut self, any_new: bool) -> Result<Changes, String> {
        let sent = self.discovery.dynamic.sent_secrets();
        let renewed = self.secrets.handle_sent(sent).map_err(|errors| reasons(&errors))?;
        self.resources.handle_tls(&renewed);
        match self.discovery.waiting.is_empty() && !any_new {
            true => Ok(Changes::default()),
            false => self.apply_what_can_be_had(),
        }
    }

    /// The whole configuration without what cannot be opened. `Err`: it is not what came that
    /// cannot be opened.
    fn apply_what_can_be_had(&mut self) -> Result<Changes, String> {
        loop {
            let errors = match self.apply_whole() {
                Ok(changes) => return Ok(changes),
                Err(errors) => errors,
            };
            let dynamic = &mut self.discovery.dynamic;
            let mut any = false;
            for error in &errors {
                let ((kind, name), reason) = (error.owner(), error.to_string());
                if dynamic.set_broken(kind, name, reason.clone()) {
                    self.options.state.book.set_failed(kind, name, &reason);
                    log::warning(Component::Config, format_args!("dynamic: {error}"));
                    any = true;
                }
            }
            if !any {
                return Err(reasons(&errors));
            }
        }
    }

    fn apply_rtds(&mut self) -> Result<Changes, String> {
        self.options.state.set_rtds(self.discovery.dynamic.runtime().clone());
        let received = self.discovery.base.received.clone();
        let base = received.convert(&self.options.state.runtime_values());
        let base = base.map_err(|errors| errors.to_string())?;
        self.counts.runtime(&base.runtime);
        self.apply_runtime(base).map_err(|errors| reasons(&errors))
    }

    fn remake(&mut self) {
        if let Err(reasons) = self.apply_what_can_be_had() {
            log::error(Component::Config, format_args!("{reasons}"));
        }
        self.ask();
        self.become_live();
    }
}

/// Whether resources of this kind can name others.
fn names_others(kind: ResourceKind) -> bool {
    !matches!(kind, ResourceKind::ClusterLoadAssignment | ResourceKind::Secret)
}

fn reasons<E: ToString>(errors: &[E]) -> String {
    let reasons: Vec<_> = errors.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}
