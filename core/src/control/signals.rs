//! Signals, by what they ask for.
//!
//! What it leaves to others: doing it (`control`).

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// SIGHUP
    Reload,
    /// SIGUSR1
    ReopenLogs,
    /// SIGTERM or SIGINT, by name.
    Terminate(&'static str),
}

/// The signals that the process listens to, from the moment that this is made: before, they end it.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    user1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.hangup.recv() => Received::Reload,
            _ = self.user1.recv() => Received::ReopenLogs,
            _ = self.terminate.recv() => Received::Terminate("SIGTERM"),
            _ = self.interrupt.recv() => Received::Terminate("SIGINT"),
        }
    }
}
