//! What a simulated peer does on one connection: steps, taken one after the other.
//!
//! What it leaves to others: which steps (`plan.rs`), and what comes back.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_io::{Instant, Socket};

use super::tls_sockets::PeerIo;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    Wait(Duration),
    Send(Vec<u8>),
    /// Waits until so many responses have come on this connection.
    AwaitAnswers(usize),
    /// Waits for a `100 Continue`, or a final answer, to the request under way.
    AwaitContinue,
    /// Tells the script's owner that it has come this far.
    Mark(usize),
    /// FIN.
    Shutdown,
    Close,
    Abort,
}

/// A connection that follows a script.
#[derive(Debug)]
pub struct Script {
    pub socket: Socket,
    pub steps: VecDeque<Step>,
    pub sending: bool,
    until: Option<Instant>,
    /// Responses that have come.
    pub answers: usize,
    /// A 100 has come and nobody has waited for it.
    pub continued: bool,
    pub closed: bool,
    shut: bool,
}

impl Script {
    pub fn new(socket: Socket, steps: VecDeque<Step>) -> Script {
        Script {
            socket,
            steps,
            sending: false,
            until: None,
            answers: 0,
            continued: false,
            closed: false,
            shut: false,
        }
    }

    /// Takes steps until one has to wait. Returns the marks that were passed.
    pub fn advance(&mut self, io: &mut PeerIo, now: Instant) -> Vec<usize> {
        let mut marks = Vec::new();
        while !self.closed && !self.sending {
            let Some(step) = self.steps.front() else { break };
            if !self.is_ready(step.clone(), now) {
                break;
            }
            self.until = None;
            match self.steps.pop_front() {
                Some(Step::Send(bytes)) => self.send(io, &bytes),
                Some(Step::Mark(mark)) => marks.push(mark),
                Some(Step::Shutdown) if !self.shut => {
                    self.shut = true;
                    io.shutdown_write(self.socket);
                }
                Some(Step::Close) => self.end(io, false),
                Some(Step::Abort) => self.end(io, true),
                _ => {}
            }
        }
        marks
    }

    fn is_ready(&mut self, step: Step, now: Instant) -> bool {
        match step {
            Step::Wait(duration) => now >= *self.until.get_or_insert(now + duration),
            Step::AwaitAnswers(count) => self.answers >= count,
            Step::AwaitContinue => std::mem::take(&mut self.continued),
            _ => true,
        }
    }

    fn send(&mut self, io: &mut PeerIo, bytes: &[u8]) {
        if bytes.is_empty() || self.shut {
            return;
        }
        let mut output = io.output();
        output.tail().extend_from_slice(bytes);
        self.sending = true;
        io.send(self.socket, output);
    }

    /// Closes the connection, once.
    pub fn end(&mut self, io: &mut PeerIo, abort: bool) {
        if !std::mem::replace(&mut self.closed, true) {
            match abort {
                true => io.abort(self.socket),
                false => io.close(self.socket),
            }
        }
    }

    /// When it wants to run again although nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }
}
