//! What carries xDS: gRPC streams (`grpc`), polls (`rest`), files (`file`); on tokio, one task for
//! each stream.
//!
//! What it leaves to others: names, balancing and TLS: a `Connector` of the application's.

pub mod file;
pub mod grpc;
pub mod rest;

use crate::{Accepted, Client, Event, Interest, Nack, ResourceType, ResponseId};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A connection to a management server: TCP, a unix socket, TLS over either.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Connection>>> + Send>>;

/// Makes a connection: called once for each try, its future is dropped at the timeout. A new try
/// may choose another host.
#[derive(Clone)]
pub struct Connector(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl Connector {
    /// From a function that begins to connect.
    pub fn new(connect: impl Fn() -> Connecting + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    async fn connect(&self, timeout: Duration) -> io::Result<Box<dyn Connection>> {
        let text = || io::Error::new(io::ErrorKind::TimedOut, "connection timeout");
        tokio::time::timeout(timeout, (self.0)()).await.unwrap_or_else(|_| Err(text()))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connector")
    }
}

/// A stream (or a poll) that runs in a task of its own, over all its reconnects. Dropping it ends
/// the stream. Its commands take effect at once and never wait; of events at most those of one
/// response are kept, as nothing is read from the server meanwhile: take them.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What the application and the task have in common. It is locked for moments only.
#[derive(Debug)]
struct Shared {
    client: Mutex<Client>,
    /// The application has changed something.
    changed: Notify,
    /// There are events.
    told: Notify,
}

impl Handle {
    /// Starts a task on the current tokio runtime.
    fn start<F: Future<Output = ()> + Send + 'static>(
        client: Client,
        run: impl FnOnce(Arc<Shared>) -> F,
    ) -> Self {
        let client = Mutex::new(client);
        let shared = Shared { client, changed: Notify::new(), told: Notify::new() };
        let shared = Arc::new(shared);
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// What is wanted of a type from now on: see `Client::set_interest`. Requests keep the order of
    /// these calls and of `answer`.
    pub fn set_interest(
        &self,
        kind: ResourceType,
        interest: Interest,
        initial_fetch_timeout: Option<Duration>,
    ) {
        self.shared.client().set_interest(kind, interest, initial_fetch_timeout);
        self.shared.changed.notify_one();
        self.shared.tell();
    }

    /// What changes in that: see `Client::change_interest`.
    pub fn change_interest(
        &self,
        kind: ResourceType,
        wanted: Vec<String>,
        given_up: Vec<String>,
        initial_fetch_timeout: Option<Duration>,
    ) {
        self.shared.client().change_interest(kind, wanted, given_up, initial_fetch_timeout);
        self.shared.changed.notify_one();
        self.shared.tell();
    }

    /// Answers a response of this handle, once: see `Client::answer`.
    pub fn answer(&self, id: ResponseId, answer: Result<Accepted, Nack>) -> bool {
        let known = self.shared.client().answer(id, answer);
        self.shared.changed.notify_one();
        known
    }

    /// The next event; waits for one. Dropping the future loses nothing.
    pub async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.try_event() {
                return event;
            }
            self.shared.told.notified().await;
        }
    }

    /// The next event, when there is one.
    pub fn try_event(&mut self) -> Option<Event> {
        let mut client = self.shared.client();
        let event = client.poll_event()?;
        if !client.has_events() {
            self.shared.changed.notify_one();
        }
        Some(event)
    }

    /// A look at the protocol's state, for stats and dumps.
    pub fn inspect<T>(&self, look: impl FnOnce(&Client) -> T) -> T {
        look(&self.shared.client())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Client> {
        // Nothing panics while it is locked; if something does, its state is as good as any.
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the application when there is something for it.
    fn tell(&self) {
        if self.client().has_events() {
            self.told.notify_one();
        }
    }

    /// Does something else while timers go on.
    async fn with_timers<T>(&self, what: impl Future<Output = T>) -> T {
        tokio::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return done,
                () = self.tick() => {}
            }
        }
    }

    /// Waits for the next timer or change, and does what is due.
    async fn tick(&self) {
        let next = self.client().poll_timeout();
        tokio::select! {
            () = sleep_until(next) => {}
            () = self.changed.notified() => {}
        }
        self.expire();
    }

    fn expire(&self) {
        self.client().handle_timeout(now());
        self.tell();
    }
}

/// tokio's clock, which tests may stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
