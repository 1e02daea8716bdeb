//! The book of a simulated world: what was asked, what reached an origin, what came back; and the
//! verdict on each exchange.
//!
//! What it leaves to others: planning (`plan.rs`) and acting (`client.rs`, `origin.rs`).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tidegate_io::Instant;

use super::answer::{AnswerFraming, Misdeed};
use super::config::{ROUTE_TIMEOUT, Shape};
use super::plan::{Exchange, Id, Weather};

/// A handle for everybody in the world.
pub type Book = Rc<RefCell<Ledger>>;

/// Everything that is known.
#[derive(Debug)]
pub struct Ledger {
    pub weather: Weather,
    pub records: Vec<Record>,
    versions: Vec<(Instant, Shape)>,
    pub draining_since: Option<Instant>,
    pub violations: Vec<String>,
    /// The faults are over.
    pub calm: bool,
    pub outages: Vec<Outage>,
    /// When an origin ended a connection of HTTP/2 with all that was on it.
    pub deaths: Vec<(Instant, usize)>,
    /// When an origin said that it takes no further stream on a connection.
    pub goaways: Vec<(Instant, usize)>,
}

/// An origin does not listen for a while.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub origin: usize,
    pub from: Instant,
    pub to: Instant,
}

/// What is known of one exchange.
#[derive(Clone, Debug)]
pub struct Record {
    pub plan: Exchange,
    /// The client began to send it.
    pub sent_at: Option<Instant>,
    /// A final response began, or the connection ended.
    pub decided_at: Option<Instant>,
    pub sightings: Vec<Sighting>,
    pub outcome: Outcome,
    /// It was not the first on its connection.
    pub reused: bool,
    /// Its client did something that ends connections.
    pub spoiled: bool,
    /// It was sent after the faults were over.
    pub calm: bool,
    /// Its client speaks HTTP/2.
    pub http2: bool,
    /// So often an origin has said that it did nothing with it.
    pub refusals: usize,
    /// The proxy has said that nothing was done with it.
    pub is_denied: bool,
    /// The proxy has reset its stream with this.
    pub reset_code: Option<u32>,
    /// Bytes of the request's body that its origin has got, on HTTP/2.
    pub request_received: usize,
    /// Bytes of the response's body that its client has got, on HTTP/2.
    pub received: usize,
}

/// An origin saw the request.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub at: Instant,
    pub origin: usize,
    pub complete: bool,
    /// The origin was about to close the connection, and did not look.
    pub doomed: bool,
    /// The origin has said that it did nothing with it.
    pub refused: bool,
}

/// How an exchange ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Never sent.
    Unsent,
    /// Sent, and nothing came yet.
    Pending,
    /// The origin's answer, whole and right.
    Answered,
    /// A reply of the proxy's own.
    Refused(u16),
    /// The connection ended within the response.
    Cut,
    /// The connection ended before any response, when one was due.
    Lost,
    /// The connection had been announced to end, or ended with the response before.
    Unprocessed,
    /// The client left.
    Left,
}

impl Ledger {
    pub fn new(weather: Weather) -> Ledger {
        Ledger {
            weather,
            records: Vec::new(),
            versions: Vec::new(),
            draining_since: None,
            violations: Vec::new(),
            calm: false,
            outages: Vec::new(),
            deaths: Vec::new(),
            goaways: Vec::new(),
        }
    }

    /// Whether a request of `route` could meet an origin that was away.
    fn away(&self, route: usize, from: Instant, to: Instant) -> bool {
        self.outages.iter().any(|outage| {
            let leads = |shape: &Shape| {
                shape.origins(route).is_some_and(|them| them.contains(&outage.origin))
            };
            outage.from <= to && outage.to >= from && self.shapes(from, to).any(leads)
        })
    }

    pub fn add(&mut self, plan: Exchange) {
        assert_eq!(plan.id, self.records.len());
        self.records.push(Record {
            plan,
            sent_at: None,
            decided_at: None,
            sightings: Vec::new(),
            outcome: Outcome::Unsent,
            reused: false,
            spoiled: false,
            calm: self.calm,
            http2: false,
            refusals: 0,
            is_denied: false,
            reset_code: None,
            request_received: 0,
            received: 0,
        });
    }

    /// A request came on a connection that was made for this server name.
    pub fn check_server_name(&mut self, id: Id, came_for: Option<&str>) {
        let Some(record) = self.records.get(id) else { return };
        let wanted = record.plan.server_name();
        if wanted.is_some() && wanted.as_deref() != came_for {
            self.violation(format!("request {id} for {wanted:?} came by one for {came_for:?}"));
        }
    }

    pub fn violation(&mut self, text: impl Into<String>) {
        self.violations.push(text.into());
    }

    /// A configuration was published.
    pub fn publish(&mut self, at: Instant, shape: Shape) {
        self.versions.push((at, shape));
    }

    /// The configurations that were the newest at some time between `from` and `to`.
    fn shapes(&self, from: Instant, to: Instant) -> impl Iterator<Item = &Shape> {
        let ends = self.versions.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        self.versions
            .iter()
            .zip(ends)
            .filter(move |((begin, _), end)| *begin <= to && end.is_none_or(|end| end >= from))
            .map(|((_, shape), _)| shape)
    }

    /// The origins that a retry could be sent to: it stays with the cluster that its route had, and
    /// follows what hosts that has later.
    fn host_sets(
        &self,
        route: usize,
        from: Instant,
        to: Instant,
    ) -> impl Iterator<Item = Option<&Vec<usize>>> {
        let chosen = self.shapes(from, to).filter_map(move |shape| shape.routes[route]);
        chosen.flat_map(move |cluster| {
            self.shapes(from, to).map(move |shape| shape.clusters[cluster].as_ref())
        })
    }

    /// An origin has said that it did nothing with a request.
    pub fn refuse(&mut self, id: Id) {
        let Some(record) = self.records.get_mut(id) else { return };
        record.refusals += 1;
    }

    /// Whether an origin of the request's route ended a connection with all that was on it.
    fn is_collateral(&self, record: &Record) -> bool {
        self.meets(record, &self.deaths) > 0
    }

    /// How many of these happened at an origin of the request's route.
    fn meets(&self, record: &Record, events: &[(Instant, usize)]) -> usize {
        let from = record.sent_at.unwrap_or_default();
        let met = events.iter().filter(|&&(at, origin)| {
            // It takes a while until the proxy knows.
            let at = at + Duration::from_secs(1);
            let mut sets = self.host_sets(record.plan.route, from, at);
            at >= from && sets.any(|them| them.is_some_and(|them| them.contains(&origin)))
        });
        met.count()
    }

    /// An origin got the head of a request.
    pub fn sight(&mut self, id: Id, sighting: Sighting) {
        let (at, origin) = (sighting.at, sighting.origin);
        let Some(record) = self.records.get_mut(id) else {
            return self.violation(format!("origin {origin} saw request {id}, which nobody sent"));
        };
        record.sightings.push(sighting);
        let limit = self.weather.sightings_max(&record.plan);
        let seen = record.sightings.iter().filter(|sighting| !sighting.refused).count();
        let (route, sent_at) = (record.plan.route, record.sent_at);
        let method = record.plan.method;
        let record_refused = record.refusals > 0 || !self.deaths.is_empty();
        if seen > limit {
            self.violation(format!("{method} request {id} was sent {seen} times"));
        }
        let Some(sent_at) = sent_at else {
            return self.violation(format!("origin {origin} saw request {id} before it was sent"));
        };
        let leads = |shape: &Shape| shape.origins(route).is_some_and(|them| them.contains(&origin));
        // An attempt that met the end of its connection was not seen by anybody.
        let unseen = self.weather.silent_closes || self.weather.lossy;
        let again = seen > 1 || unseen || self.weather.retry.is_some() || record_refused;
        let follows = || {
            let mut sets = self.host_sets(route, sent_at, at);
            sets.any(|them| them.is_some_and(|them| them.contains(&origin)))
        };
        if !(self.shapes(sent_at, at).any(leads) || again && follows()) {
            self.violation(format!("request {id} of route {route} went to origin {origin}"));
        }
    }

    /// What is wrong with the world, at its end.
    pub fn judge(&self) -> Vec<String> {
        let mut wrong = self.violations.clone();
        for record in &self.records {
            if let Some(why) = self.judge_one(record) {
                wrong.push(format!("exchange {}: {why}: {record:?}", record.plan.id));
            }
        }
        wrong
    }

    fn judge_one(&self, record: &Record) -> Option<&'static str> {
        let weather = &self.weather;
        let lossy = weather.lossy && !record.calm;
        let decided = record.decided_at.unwrap_or(Instant(u64::MAX));
        let drains = self.draining_since.is_some_and(|since| since <= decided);
        let was_seen = record.sightings.iter().any(|sighting| !sighting.refused);
        match record.outcome {
            Outcome::Unprocessed if record.is_denied && was_seen => {
                Some("it was said to be unprocessed, and an origin saw it")
            }
            Outcome::Left | Outcome::Unprocessed => None,
            Outcome::Unsent if lossy || drains || record.spoiled => None,
            Outcome::Unsent => Some("never sent"),
            Outcome::Pending => Some("never answered"),
            Outcome::Answered => judge_answered(record, lossy),
            Outcome::Refused(status) => self.judge_refused(record, status),
            Outcome::Cut if lossy || record.spoiled || cuts(record) => None,
            Outcome::Cut if self.waited_for_a_bad_origin(record) && ran_out_of_time(record) => None,
            Outcome::Cut if self.is_collateral(record) => None,
            Outcome::Cut => Some("its response was cut"),
            // Its connection waited to be accepted when the listener was closed.
            Outcome::Lost if drains && !record.reused && !was_seen => None,
            Outcome::Lost if record.http2 && !(lossy || record.spoiled) => {
                Some("its stream ended without a response")
            }
            Outcome::Lost if lossy || record.spoiled || drains || cuts(record) => None,
            Outcome::Lost if record.reused && weather.short_idle => None,
            // The response before was whole in all but its end.
            Outcome::Lost if record.reused && self.is_collateral(record) => None,
            Outcome::Lost => Some("its connection ended without a response"),
        }
    }

    /// Whether it may have waited for the one connection on which an origin says nothing, or for
    /// the one descriptor that such a connection holds.
    fn waited_for_a_bad_origin(&self, record: &Record) -> bool {
        let weather = &self.weather;
        let few_connections = weather.small_breakers || weather.host_limit.is_some();
        weather.bad_origins && (few_connections || weather.sockets_max.is_some() && !record.calm)
    }

    /// Whether the proxy had a reason to answer by itself.
    fn judge_refused(&self, record: &Record, status: u16) -> Option<&'static str> {
        let weather = &self.weather;
        let lossy = weather.lossy && !record.calm;
        let route = record.plan.route;
        let from = record.sent_at.unwrap_or_default();
        let to = record.decided_at.unwrap_or(Instant(u64::MAX));
        let no_route = self.shapes(from, to).any(|shape| shape.routes[route].is_none());
        let nowhere = self.shapes(from, to).any(|shape| shape.origins(route).is_none())
            || weather.retry.is_some()
                && self.host_sets(route, from, to).any(|them| them.is_none_or(Vec::is_empty));
        let misdeed = record.plan.answer.misdeed;
        // A request that cannot be repeated dies with the connection that its origin closed.
        let has_body = record.plan.body.is_some() || record.plan.trailers && record.http2;
        let goes_away = self.meets(record, &self.goaways) > 0;
        let raced = weather.silent_closes && (has_body || !record.plan.is_idempotent());
        match status {
            404 if no_route => None,
            404 => Some("there was a route"),
            504 if lossy || misdeed == Some(Misdeed::NeverAnswers) => None,
            504 if self.waited_for_a_bad_origin(record) => None,
            504 => Some("its origin was not slow"),
            502 | 503 if lossy || weather.small_breakers || nowhere || raced => None,
            // A body that was passed on is not there any more.
            503 if has_body && record.refusals > 0 => None,
            // There are three replays.
            503 if record.refusals + self.meets(record, &self.goaways) > 3 => None,
            503 if goes_away && (record.refusals > 0 || has_body) => None,
            502 | 503 if self.is_collateral(record) => None,
            502 | 503 if misdeed.is_some() || self.away(route, from, to) => None,
            507 if weather.kept_too_little(&record.plan) => None,
            503 if weather.sockets_max.is_some() && !record.calm => None,
            502 | 503 => Some("there was no reason to refuse it"),
            408 | 400 if lossy || record.spoiled => None,
            _ => Some("an unexpected refusal"),
        }
    }
}

/// Whether the response began so late that the route's timeout, which covers all of it, passed
/// within it.
fn ran_out_of_time(record: &Record) -> bool {
    let sent = record.sent_at.unwrap_or_default();
    record.decided_at.is_some_and(|began| began - sent >= ROUTE_TIMEOUT - Duration::from_secs(1))
}

fn judge_answered(record: &Record, lossy: bool) -> Option<&'static str> {
    let plan = &record.plan;
    if record.sightings.is_empty() {
        return Some("no origin saw it");
    }
    let complete = record.sightings.iter().any(|sighting| sighting.complete && !sighting.doomed);
    // What a client sends into a tunnel may be cut off behind its back.
    let excused = plan.answer.early || lossy && plan.tunnel.is_some();
    if !excused && !complete {
        return Some("its origin answered a part of it");
    }
    if plan.answer.misdeed.is_some() {
        return Some("its origin gave no whole answer");
    }
    None
}

/// Whether the origin itself ends the response early. (An answer that ends with its connection and
/// is closed early looks whole; then it is shorter than planned, and its client says so.)
fn cuts(record: &Record) -> bool {
    matches!(record.plan.answer.misdeed, Some(Misdeed::ResetAfter(_) | Misdeed::CloseAfter(_)))
}

/// Whether a response that is shorter than planned may look whole.
pub fn may_end_early(plan: &Exchange) -> bool {
    plan.answer.framing == AnswerFraming::UntilClose && cuts_plan(plan)
}

fn cuts_plan(plan: &Exchange) -> bool {
    matches!(plan.answer.misdeed, Some(Misdeed::CloseAfter(_)))
}
