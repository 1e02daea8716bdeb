//! Taking up requests: when, on which connection, and the moment at which they leave.
//!
//! What it leaves to others: what comes back.

use std::io;
use std::net::SocketAddr;

use tidegate_io::{ConnectOptions, Io, Now, Socket, Token};

use super::Worker;
use super::recording::phase_of;
use crate::engine::interval::Fault;
use crate::engine::slot::{Request, State};

impl<I: Io> Worker<I> {
    /// Takes up what is due, as far as places are free.
    pub(super) fn dispatch(&mut self, now: u64) {
        let limit = self.concurrency.limit(now);
        while !self.free.is_empty() && self.carrying < limit {
            let Some(intended) = self.next_intended(now) else { break };
            // A limit is one of connections that are used, too: always the same ones.
            let place = match limit {
                usize::MAX => self.free.pop_front(),
                _ => self.free.pop_back(),
            };
            if let Some(index) = place {
                self.start(index as usize, intended, now);
            }
        }
        self.flush_links();
        if !self.begun.is_empty() {
            self.stamp();
        }
    }

    /// When the request that is due should be sent; it is taken up. `None`: nothing is due.
    fn next_intended(&mut self, now: u64) -> Option<u64> {
        if self.sending_is_over {
            return None;
        }
        match &mut self.schedule {
            Some(schedule) => {
                let due = schedule.due();
                self.sending_is_over = due.is_none();
                let due = due.filter(|due| *due <= now)?;
                schedule.advance();
                Some(due)
            }
            None => {
                self.sending_is_over = now >= self.end || !self.may_send(now);
                (!self.sending_is_over).then_some(now)
            }
        }
    }

    /// Whether a closed loop has requests left; those before the measurement are not counted.
    fn may_send(&self, now: u64) -> bool {
        now < self.measured_from || self.shared.take_ticket(&self.plan)
    }

    fn start(&mut self, index: usize, intended: u64, now: u64) {
        let target = self.next_target;
        self.next_target = (target + 1) % self.plan.targets.len() as u32;
        let slot = &mut self.slots[index];
        slot.request = Request { intended, sent: now, target };
        slot.carries = true;
        slot.body_in = 0;
        self.carrying += 1;
        slot.body_out = 0;
        self.begun.push(index as u32);
        if self.plan.http2.is_some() {
            return self.start_stream(index, now);
        }
        match slot.state {
            State::Idle => self.transmit(index),
            State::Empty => self.open(index, now),
            State::Connecting | State::Busy => {}
        }
    }

    pub(super) fn open(&mut self, index: usize, now: u64) {
        let slot = &mut self.slots[index];
        slot.state = State::Connecting;
        let token = slot.token(index);
        match self.connect_from_next(token) {
            Ok(socket) => self.slots[index].socket = Some(socket),
            Err(_) => self.lose(index, Fault::Connect, now),
        }
    }

    /// A connection to the origin, from the next of the addresses that it may come from.
    pub(super) fn connect_from_next(&mut self, token: Token) -> io::Result<Socket> {
        let sources = &self.plan.local_addresses;
        let source = sources.get(self.next_source).map(|address| SocketAddr::new(*address, 0));
        self.next_source = (self.next_source + 1) % sources.len().max(1);
        let options = ConnectOptions { source, ..ConnectOptions::default() };
        self.io.connect_with(&self.plan.origin.address, &options, token)
    }

    pub(super) fn transmit(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(socket) = slot.socket else { return };
        let target = &self.plan.targets[slot.request.target as usize];
        slot.decoder.expect(&target.head);
        slot.state = State::Busy;
        slot.sending = true;
        let mut output = self.io.output();
        output.tail().extend_from_slice(&target.wire);
        self.io.send(socket, output);
    }

    /// The requests of this turn are sent now.
    fn stamp(&mut self) {
        let now = Now::read().instant.0;
        let is_open = self.schedule.is_some();
        while let Some(index) = self.begun.pop() {
            let slot = &mut self.slots[index as usize];
            if !slot.carries {
                continue;
            }
            slot.request.sent = now;
            let request = slot.request;
            if self.origin_of(&request) < self.measured_from {
                continue;
            }
            let body_bytes = self.plan.targets[request.target as usize].body_bytes as u64;
            // Waiting for a connection is the target's doing, not the generator's.
            let possible = request.intended.max(self.slots[index as usize].free_since);
            let lateness = is_open.then_some(now.saturating_sub(possible));
            self.interval.add_sent(body_bytes, lateness);
            let at = self.origin_of(&request);
            if let Some(phase) = phase_of(&mut self.phases, at) {
                phase.add_sent(body_bytes, lateness);
            }
        }
    }
}
