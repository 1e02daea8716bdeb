//! What an operator asks for, over the admin server.
//!
//! What it leaves to others: the pages (`admin`), doing it (`control`).

use tokio::sync::mpsc;

/// What an operator asks for, over the admin server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Exit at once.
    Quit,
    /// Stop listeners.
    DrainListeners(DrainListeners),
    /// Health checks are to fail, or not any more: while they do, connections close after their
    /// next response.
    FailHealthChecks(bool),
    /// Runtime values have changed.
    ChangeRuntime,
    /// Open access logs and the log again.
    ReopenLogs,
}

/// Parameters of `/drain_listeners`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DrainListeners {
    /// `graceful`: connections close after their next response, and listeners stop after the drain
    /// time.
    pub graceful: bool,
    /// `skip_exit`: listeners never stop.
    pub skip_exit: bool,
    /// `inboundonly`: only those whose `traffic_direction` is INBOUND.
    pub inbound_only: bool,
}

/// Sends commands to the control thread.
pub type Commands = mpsc::Sender<Command>;
