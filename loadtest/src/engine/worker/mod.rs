//! One worker: a thread, a reactor and its connections. Plain functions, one completion at a time.
//!
//! A turn waits until something happened or the next request is due, applies what happened, takes
//! up what is due, reads the clock once more - that is when the requests of this turn are sent -
//! and waits again, which submits them.
//!
//! What it leaves to others: adding up workers, and judging the run.

mod http2;
mod recording;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use tidegate_http::ResponseHead;
use tidegate_http::h1::Event;
use tidegate_io::{Buffer, Completion, Io, Now, Outcome};

use super::concurrency::Concurrency;
use super::crew::Assignment;
use super::interval::{Fault, Interval};
use super::schedule::Schedule;
use super::slot::{Request, Slot, State};
use super::spin::Spin;
use super::{Message, Shared};
use crate::phase::Phase;
use crate::plan::{Load, Plan};
use http2::Link;

/// Between two looks at timeouts, the stop flag and connections that rest.
const TICK: u64 = 10_000_000;
/// The same with many connections, for each is looked at.
const TICK_OF_MANY: u64 = 100_000_000;
const MANY: usize = 1000;
/// A place whose connect failed rests so long, twice as long after each failure, up to a bound.
const REST_MIN: u64 = 1_000_000;
const REST_DOUBLINGS_MAX: u32 = 7;

pub struct Worker<I: Io> {
    io: I,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    slots: Vec<Slot>,
    /// Connections of HTTP/2; with HTTP/1 each place is one.
    links: Vec<Link>,
    /// Links with something to send.
    dirty: Vec<u32>,
    /// Places of a link.
    streams: usize,
    /// Places without a request, the one that is free longest first.
    free: VecDeque<u32>,
    /// Places whose connect failed, and until when they rest (closed loop only).
    resting: Vec<(u64, u32)>,
    /// Places that took a request up in this turn.
    begun: Vec<u32>,
    carrying: usize,
    /// Completions so far.
    came: u64,
    head: ResponseHead,
    schedule: Option<Schedule>,
    concurrency: Concurrency,
    next_target: u32,
    /// Of the addresses that connections come from.
    next_source: usize,
    /// Requests from here on count.
    measured_from: u64,
    /// No requests of a closed loop from here on.
    end: u64,
    sending_is_over: bool,
    is_warming_up: bool,
    interval: Box<Interval>,
    interval_end: u64,
    /// What each phase came to, by when its requests were due, and when it ends.
    phases: Vec<(u64, Interval)>,
    next_tick: u64,
    tick: u64,
    spin: Spin,
    messages: Sender<Message>,
    recycled: Receiver<Box<Interval>>,
}

impl<I: Io> Worker<I> {
    pub fn new(io: I, assignment: Assignment) -> Worker<I> {
        let connections = assignment.connections();
        let Assignment { plan, shared, messages, recycled, .. } = assignment;
        let (streams, links) = plan.http2.map_or((1, 0), |streams| (streams, connections));
        let places = connections * streams;
        Worker {
            io,
            plan,
            shared,
            slots: (0..places).map(|_| Slot::new()).collect(),
            links: (0..links).map(|_| Link::new()).collect(),
            dirty: Vec::new(),
            streams,
            free: (0..places as u32).collect(),
            resting: Vec::new(),
            begun: Vec::with_capacity(places),
            carrying: 0,
            came: 0,
            head: ResponseHead::default(),
            schedule: None,
            concurrency: Concurrency::new(0, &[], 0, 1),
            next_target: 0,
            next_source: 0,
            measured_from: u64::MAX,
            end: u64::MAX,
            sending_is_over: false,
            is_warming_up: true,
            interval: Box::new(Interval::new(0)),
            interval_end: u64::MAX,
            phases: Vec::new(),
            next_tick: 0,
            tick: if places > MANY { TICK_OF_MANY } else { TICK },
            spin: Spin::new(),
            messages,
            recycled,
        }
    }

    /// Opens all connections before the run, unless each serves one request only. Says how many are
    /// open in the end.
    pub fn connect(&mut self) -> io::Result<usize> {
        if self.plan.requests_per_connection == Some(1) {
            return Ok(self.slots.len());
        }
        if self.plan.http2.is_some() {
            return self.connect_links();
        }
        let mut now = self.io.now().instant.0;
        let deadline = now + nanoseconds(self.plan.timeout).min(5_000_000_000);
        for index in 0..self.slots.len() {
            self.open(index, now);
        }
        let mut completions = Vec::new();
        while now < deadline && self.slots.iter().any(|slot| slot.state == State::Connecting) {
            now = self.turn(Duration::from_millis(50), &mut completions)?;
        }
        self.interval.clear();
        Ok(self.slots.iter().filter(|slot| slot.state == State::Idle).count())
    }

    fn connect_links(&mut self) -> io::Result<usize> {
        let mut now = self.io.now().instant.0;
        let deadline = now + nanoseconds(self.plan.timeout).min(5_000_000_000);
        for number in 0..self.links.len() {
            self.open_link(number, now);
        }
        let mut completions = Vec::new();
        while now < deadline && self.links.iter().any(Link::is_connecting) {
            now = self.turn(Duration::from_millis(50), &mut completions)?;
            self.flush_links();
        }
        self.interval.clear();
        Ok(self.links.iter().filter(|link| link.is_open()).count())
    }

    /// Waits for the common start, then sends until the end and waits for what is in flight. Says
    /// when it was over.
    pub fn run(&mut self, plan: Arc<Plan>, start: u64, number: usize) -> io::Result<u64> {
        let mut completions = Vec::new();
        self.plan = plan;
        // What came since the last run, and until the start.
        let mut now = self.turn(Duration::ZERO, &mut completions)?;
        while now < start {
            self.flush_links();
            now = self.turn(Duration::from_nanos(start - now), &mut completions)?;
        }
        self.begin(start, number);
        while !self.is_done(now) {
            now = self.pass(&mut completions)?;
            if self.is_warming_up && now >= self.measured_from {
                self.is_warming_up = false;
                self.interval.clear();
            }
            while now >= self.interval_end {
                self.hand_over();
            }
            if now >= self.next_tick {
                self.next_tick = now + self.tick;
                self.expire(now);
                self.spin.watch(now);
            }
            self.dispatch(now);
        }
        self.finish(now);
        Ok(now)
    }

    fn begin(&mut self, start: u64, number: usize) {
        let plan = Arc::clone(&self.plan);
        self.interval.clear();
        self.interval.index = 0;
        self.sending_is_over = false;
        self.is_warming_up = true;
        self.schedule = None;
        self.next_tick = 0;
        let warm_up = nanoseconds(plan.warm_up);
        self.measured_from = start + warm_up;
        self.interval_end = self.measured_from + nanoseconds(plan.interval);
        self.end = plan.duration.map_or(u64::MAX, |d| self.measured_from + nanoseconds(d));
        self.begin_phases();
        let (from, threads) = (self.measured_from, plan.threads);
        self.concurrency = Concurrency::new(from, &plan.phases, number, threads);
        if let Load::Open { rate } = plan.load {
            let of = |duration, from, to| Phase::at_rate("", duration, from, to);
            let first = plan.phases.first().map_or(rate, |phase| phase.from);
            let before = of(plan.warm_up, first, first);
            let total = plan.planned().unwrap_or(u64::MAX >> 1) + before.requests().ceil() as u64;
            let mut phases = if warm_up > 0 { vec![before] } else { Vec::new() };
            match plan.phases.is_empty() {
                true => phases.push(of(Duration::from_secs(1), rate, rate)),
                false => phases.extend_from_slice(&plan.phases),
            }
            self.schedule = Some(Schedule::new(start, &phases, number, plan.threads, total));
        }
    }

    /// A turn that ends when something has happened, or has to be done.
    fn pass(&mut self, completions: &mut Vec<Completion>) -> io::Result<u64> {
        let stamp = Now::read().instant.0;
        let wait = self.wait(stamp);
        let early = if self.schedule.is_some() { self.spin.time(stamp) } else { 0 };
        let sleep = wait.saturating_sub(early);
        let before = self.came;
        let now = self.turn(Duration::from_nanos(sleep), completions)?;
        if wait > 0 && sleep == 0 && self.came == before {
            self.spin.spun += now.saturating_sub(stamp);
        }
        Ok(now)
    }

    /// CPU time in which nothing was done but looking for the time.
    pub fn spun(&self) -> Duration {
        Duration::from_nanos(self.spin.spun)
    }

    /// Time until something has to be done that no completion announces.
    fn wait(&self, now: u64) -> u64 {
        let chore = self.interval_end.min(self.next_tick).saturating_sub(now);
        if self.free.is_empty() || self.sending_is_over {
            return chore;
        }
        match self.schedule.as_ref().map(Schedule::due) {
            Some(due) => due.map_or(chore, |due| chore.min(due.saturating_sub(now))),
            None if self.carrying >= self.concurrency.limit(now) => chore,
            None => 0,
        }
    }

    fn turn(&mut self, wait: Duration, completions: &mut Vec<Completion>) -> io::Result<u64> {
        let now = self.io.turn(Some(wait), completions)?.instant.0;
        self.came += completions.len() as u64;
        for Completion { token, outcome } in completions.drain(..) {
            let (index, generation) = (token.0 as u32 as usize, (token.0 >> 32) as u32);
            if self.slots.get(index).is_some_and(|slot| slot.generation == generation) {
                self.apply(index, outcome, now);
            } else if let Some(link) = self.link_of(token) {
                self.apply_link(link, outcome, now);
            }
        }
        Ok(now)
    }

    fn apply(&mut self, index: usize, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Received(buffer) => self.receive(index, &buffer, now),
            Outcome::Sent(Ok(())) => {
                let slot = &mut self.slots[index];
                slot.sending = false;
                if slot.answered_early {
                    slot.answered_early = false;
                    self.complete(index, now);
                }
            }
            Outcome::Connected(Ok(())) => self.connected(index),
            Outcome::Connected(Err(_)) => self.lose(index, Fault::Connect, now),
            Outcome::Sent(Err(_)) | Outcome::RecvFailed(_) => self.lose(index, Fault::Broken, now),
            Outcome::Eof => match self.slots[index].decoder.eof() {
                Ok(Event::End) if self.slots[index].state == State::Busy => {
                    self.slots[index].closes = true;
                    self.answered(index, now);
                }
                _ => self.lose(index, Fault::Broken, now),
            },
            _ => {}
        }
    }

    fn connected(&mut self, index: usize) {
        self.interval.counts.connects += 1;
        let slot = &mut self.slots[index];
        slot.failed_connects = 0;
        slot.state = State::Idle;
        if let Some(socket) = slot.socket {
            self.io.recv(socket);
        }
        if self.slots[index].carries {
            self.transmit(index);
        }
    }

    fn receive(&mut self, index: usize, buffer: &Buffer, now: u64) {
        self.interval.counts.wire_in += buffer.len() as u64;
        let mut at = 0;
        while at < buffer.len() || self.slots[index].state == State::Busy {
            let slot = &mut self.slots[index];
            let Ok(step) = slot.decoder.decode(&buffer[at..], &mut self.head) else {
                return self.lose(index, Fault::Protocol, now);
            };
            at += step.consumed;
            match step.event {
                Event::NeedMore => return,
                Event::Head => {
                    slot.status = self.head.status;
                    slot.closes = self.head.close;
                }
                Event::InterimHead | Event::Trailers => {}
                Event::Data(range) => slot.body_in += range.len() as u64,
                Event::End => {
                    self.answered(index, now);
                    if self.slots[index].socket.is_none() {
                        return;
                    }
                }
                Event::Tunnel => return self.lose(index, Fault::Protocol, now),
            }
        }
    }

    fn answered(&mut self, index: usize, now: u64) {
        let slot = &mut self.slots[index];
        if slot.sending {
            // The place is free when the kernel has taken the request, too.
            slot.answered_early = true;
            slot.state = State::Idle;
        } else {
            self.complete(index, now);
        }
    }

    /// The answer is complete.
    fn complete(&mut self, index: usize, now: u64) {
        let slot = &mut self.slots[index];
        let (request, status, body_in) = (slot.request, slot.status, slot.body_in);
        slot.state = State::Idle;
        slot.served += 1;
        let is_last = self.plan.requests_per_connection.is_some_and(|max| slot.served >= max);
        let socket = if slot.closes || is_last { slot.leave() } else { None };
        if let Some(socket) = socket {
            self.io.close(socket);
        }
        self.release(index, now);
        self.record(request, now, Ok((status, body_in)));
    }

    /// The connection is of no use any more, and neither is the request that it carries.
    fn lose(&mut self, index: usize, fault: Fault, now: u64) {
        let slot = &mut self.slots[index];
        if slot.answered_early {
            // All of the answer was there before the connection went.
            slot.answered_early = false;
            slot.closes = true;
            return self.complete(index, now);
        }
        let (request, carries) = (slot.request, slot.carries);
        slot.failed_connects += u32::from(fault == Fault::Connect);
        if let Some(socket) = slot.leave() {
            self.io.abort(socket);
        }
        if carries {
            self.release(index, now);
            self.record(request, now, Err(fault));
        }
    }

    /// The place has no request any more.
    fn release(&mut self, index: usize, now: u64) {
        let slot = &mut self.slots[index];
        slot.carries = false;
        slot.free_since = now;
        self.carrying -= 1;
        if slot.failed_connects > 0 && self.schedule.is_none() {
            let rest = REST_MIN << slot.failed_connects.min(REST_DOUBLINGS_MAX);
            self.resting.push((now + rest, index as u32));
        } else {
            self.free.push_back(index as u32);
        }
    }

    /// Timeouts, the end of rests, and whether somebody wants the run to end.
    fn expire(&mut self, now: u64) {
        let timeout = nanoseconds(self.plan.timeout);
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.carries && now.saturating_sub(slot.request.sent) >= timeout {
                self.give_up_on(index, now);
            }
        }
        let free = &mut self.free;
        self.resting.retain(|&(until, index)| {
            if until <= now {
                free.push_back(index);
            }
            until > now
        });
        self.sending_is_over |= self.shared.stop.load(Ordering::Relaxed);
    }

    /// Its time has passed.
    fn give_up_on(&mut self, index: usize, now: u64) {
        match self.plan.http2 {
            Some(_) => self.lose_stream(index, Fault::Timeout, now),
            None => self.lose(index, Fault::Timeout, now),
        }
    }

    fn is_done(&self, now: u64) -> bool {
        if self.shared.stop.load(Ordering::Relaxed) {
            return true;
        }
        let last = match &self.schedule {
            Some(schedule) if schedule.left() > 0 => return now >= self.give_up(),
            _ => self.sending_is_over || now >= self.end,
        };
        last && (self.carrying == 0 || now >= self.give_up())
    }

    /// When no answer is waited for any more.
    fn give_up(&self) -> u64 {
        let by_requests = match (&self.plan.load, self.plan.requests) {
            (Load::Open { rate }, Some(requests)) if self.plan.duration.is_none() => {
                self.measured_from.saturating_add((requests as f64 / rate * 1e9) as u64)
            }
            _ => self.end,
        };
        by_requests.saturating_add(nanoseconds(self.plan.timeout))
    }

    /// What is still in flight has timed out, and what is still due was never sent; unless somebody
    /// ended the run before its time.
    fn finish(&mut self, now: u64) {
        if !self.shared.stop.load(Ordering::Relaxed) {
            for index in 0..self.slots.len() {
                if self.slots[index].carries {
                    self.give_up_on(index, now);
                }
            }
            while let Some(due) = self.schedule.as_ref().and_then(Schedule::due) {
                if let Some(schedule) = &mut self.schedule {
                    schedule.advance();
                }
                let request = Request { intended: due, sent: now, target: 0 };
                self.record(request, now, Err(Fault::Unsent));
            }
        }
        self.hand_over();
        self.hand_over_phases();
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}
