//! The control thread: owns the configuration, follows names and signals, publishes snapshots, and
//! ends the process. It runs on tokio, beside the shards and never in their way.
//!
//! What it leaves to others: deciding (`resources`, pure), serving (`shard`), telling (`admin`).

pub mod access_logs;
pub mod book;
pub mod build;
mod carrier;
pub mod changes;
mod closing;
pub mod command;
pub mod counts;
mod discovery;
pub mod dns;
pub mod dynamic;
mod files;
mod first_of;
mod google;
mod held;
mod hosts;
pub mod identity;
pub mod listeners;
mod members;
#[cfg(test)]
mod model;
pub mod names;
mod open_error;
mod pending;
mod reading;
mod reload;
pub mod resources;
mod secrets;
pub mod shards;
pub mod signals;
pub mod source;
pub mod state;
pub mod stats;
mod subscriptions;
pub mod tls;
mod watch;
mod xds;

pub use access_logs::open_access_logs;
pub use command::{Command, Commands, DrainListeners};
pub use open_error::OpenError;
pub use signals::Signals;
pub use source::{ConfigSource, Refused};
pub use state::{ServerState, State};

use crate::access_log::Services;
use crate::config::{Admin, Bootstrap, StatsConfig, StatsFlush, StatsSink};
use crate::log::{self, Component, Level};
use crate::shard::ShardState;
use crate::snapshot::Publisher;
use crate::stats::Registry;
use access_logs::AccessLogs;
use build::Prepared;
use closing::Closing;
use counts::Counts;
use discovery::Discovery;
use dns::Dns;
use held::Held;
use names::{Answer, DnsName};
use resources::{Action, Resources};
use secrets::Secrets;
use signals::Received;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use watch::Watch;
use xds::Xds;

/// Answers of lookups that wait to be taken; lookups wait when there are more.
const ANSWERS_MAX: usize = 256;

/// Commands that wait to be taken.
const COMMANDS_MAX: usize = 16;

/// How often the shards are looked at while they drain.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// How often the shards are looked at otherwise: whether one has died.
const SHARD_LOOK: Duration = Duration::from_secs(1);

/// A running shard, as far as control has to do with it.
pub struct Shard {
    /// Makes it look for a newer snapshot.
    pub wake: Box<dyn Fn() + Send>,
    /// What it says of itself.
    pub state: Arc<ShardState>,
    /// Its thread, which ends only by a fault, or when `state.stop` asks for it.
    pub thread: JoinHandle<io::Result<()>>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("state", &self.state).finish_non_exhaustive()
    }
}

/// How the process ends.
#[derive(Debug)]
pub enum Ending {
    /// Everything that ran was finished.
    Drained,
    /// The drain time was over before that.
    DrainTimedOut,
    /// Asked for: by a second signal, or by `/quitquitquit`.
    Quit,
    /// A shard's thread has ended by itself; what it said, and its number.
    ShardDied(usize, io::Error),
}

/// How long the end of the process waits for access logs to be written.
const LOGS_WRITTEN_MAX: Duration = Duration::from_secs(2);

/// How long `/quitquitquit` waits before it is obeyed: its own answer is to be written first.
const QUIT_ANSWERED: Duration = Duration::from_millis(50);

/// The end that `/quitquitquit` asks for.
async fn quit() -> Ending {
    sleep(QUIT_ANSWERED).await;
    Ending::Quit
}

/// What the control thread is made of.
#[derive(Debug)]
pub struct ControlOptions {
    /// Where the configuration comes from.
    pub source: ConfigSource,
    /// How many shards there will be.
    pub shards: usize,
    /// How long a drain may take.
    pub drain_time: Duration,
    /// Asked instead of the resolvers of the system.
    pub dns_resolver: Option<SocketAddr>,
    /// Names and cells of stats.
    pub registry: Arc<Registry>,
    /// Where snapshots go.
    pub publisher: Arc<Publisher>,
    /// How the process is doing.
    pub state: Arc<ServerState>,
}

/// The control thread's own.
#[derive(Debug)]
pub struct Control {
    options: ControlOptions,
    resources: Resources,
    counts: Counts,
    shards: Vec<Shard>,
    access_logs: AccessLogs,
    closing: Closing,
    secrets: Secrets,
    discovery: Discovery,
    disk_layers: Watch,
    /// What stood at the roots of these when they were read.
    disk_marks: Vec<Option<(u64, u64)>>,
    /// Answers that wait.
    held: Vec<Held>,
    /// The admin server of the configuration at the start; it cannot change while running.
    admin: Option<Admin>,
    /// The same is true of these.
    stats: (StatsConfig, Vec<StatsSink>, StatsFlush),
    started: Instant,
    commands: mpsc::Receiver<Command>,
    command_sender: Commands,
    /// What a configuration before took is to be given back.
    has_freed: bool,
}

impl Control {
    /// Configures everything that the bootstrap asks for, short of serving.
    ///
    /// # Errors
    ///
    /// Every listener and every access log that cannot be opened.
    pub fn new(options: ControlOptions, bootstrap: Bootstrap) -> Result<Control, Vec<OpenError>> {
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let seed = RandomState::new().build_hasher().finish();
        let xds = Xds::new(options.publisher.clone(), &bootstrap, seed);
        let mut control = Control {
            resources: Resources::new(options.registry.clone(), seed),
            counts: Counts::new(options.registry.clone()),
            shards: Vec::new(),
            access_logs: AccessLogs::new(Services::new(&options.publisher, &bootstrap.node)),
            closing: Closing::default(),
            secrets: Secrets::default(),
            discovery: Discovery::new(bootstrap.clone(), xds),
            disk_layers: Watch::default(),
            disk_marks: Vec::new(),
            held: Vec::new(),
            admin: bootstrap.admin.clone(),
            stats: (bootstrap.stats.clone(), bootstrap.sinks.clone(), bootstrap.flush),
            started: Instant::now(),
            commands,
            command_sender,
            has_freed: false,
            options,
        };
        control.options.state.set_service_cluster(&control.options.source.node.cluster);
        control.counts.runtime(&bootstrap.runtime);
        control.apply_whole()?;
        Ok(control)
    }

    /// Where commands are sent.
    #[must_use]
    pub fn commands(&self) -> Commands {
        self.command_sender.clone()
    }

    /// Runs until the process is to end.
    pub async fn run(mut self, shards: Vec<Shard>, mut signals: Signals) -> Ending {
        self.options.state.set_shards(shards.iter().map(|shard| shard.state.clone()).collect());
        self.shards = shards;
        self.counts.workers_started();
        let (sender, mut answers) = mpsc::channel(ANSWERS_MAX);
        let mut dns = Dns::new(self.options.dns_resolver, sender);
        let mut look = interval(SHARD_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch: Vec<(DnsName, Answer)> = Vec::new();
        let mut listeners_end: Option<(Instant, bool)> = None;
        self.carry_out(&mut dns);
        self.ask();
        self.watch_disk_layers();
        loop {
            self.carry_out(&mut dns);
            self.release_answers();
            let due = self.resources.poll_timeout().map(|at| self.instant(at));
            let discovery_due = self.discovery.poll_timeout().map(|at| self.instant(at));
            tokio::select! {
                received = signals.next() => match received {
                    Received::Reload => self.reload(),
                    Received::ReopenLogs => self.reopen_logs(),
                    Received::Terminate(name) => return self.drain(name, signals, dns).await,
                },
                Some(command) = self.commands.recv() => match command {
                    Command::Quit => {
                        self.stop_shards();
                        return quit().await;
                    }
                    Command::ReopenLogs => self.reopen_logs(),
                    Command::FailHealthChecks(failing) => self.resources.fail(failing),
                    Command::ChangeRuntime => self.change_runtime(),
                    Command::DrainListeners(asked) if asked.graceful || asked.skip_exit => {
                        self.resources.close_connections(asked.inbound_only);
                        if !asked.skip_exit {
                            let end = Instant::now() + self.options.drain_time;
                            listeners_end.get_or_insert((end, asked.inbound_only));
                        }
                    }
                    Command::DrainListeners(asked) => self.stop_listeners(asked.inbound_only),
                },
                _ = answers.recv_many(&mut batch, ANSWERS_MAX) => {
                    let now = self.now();
                    for (name, answer) in batch.drain(..) {
                        self.resources.handle_answer(&name, answer, now);
                    }
                },
                () = at(due) => self.resources.handle_timeout(self.now()),
                () = at(listeners_end.map(|(end, _)| end)) => {
                    if let Some((_, inbound_only)) = listeners_end.take() {
                        self.stop_listeners(inbound_only);
                    }
                },
                (index, contents) = self.discovery.files.changed() => {
                    self.handle_file(index, &contents);
                }
                () = at(discovery_due) => self.handle_discovery_timeout(),
                news = reading::next(&mut self.discovery.reading, &mut self.discovery.xds) => {
                    self.handle_news(news);
                }
                _ = self.disk_layers.changed() => self.handle_disk_layers(),
                renewed = self.secrets.renewed() => self.resources.handle_tls(&renewed),
                _ = look.tick() => {
                    if let Some(ending) = self.look() {
                        return ending;
                    }
                },
            }
        }
    }

    /// What is done now and then. The end of all, if it has come.
    fn look(&mut self) -> Option<Ending> {
        self.counts.access_logs(self.access_logs.lost());
        self.counts.log_entries(self.access_logs.entries());
        self.count_streams();
        self.options.publisher.collect();
        if std::mem::take(&mut self.has_freed) {
            tidegate_io::memory::give_back();
        }
        self.dead_shard()
    }

    /// Opens what the bootstrap needs and makes it the configuration. Nothing has changed when that
    /// fails.
    fn apply(&mut self, mut bootstrap: Bootstrap) -> Result<changes::Changes, Vec<OpenError>> {
        self.options.source.node.fill(&mut bootstrap.node);
        bootstrap.listeners.retain(|listener| self.resources.accepts(listener));
        let addresses: Vec<_> = bootstrap.listeners.iter().map(|config| config.address).collect();
        self.closing.make_room(&addresses);
        let open = self.resources.sockets();
        let sockets = listeners::open_all(&bootstrap.listeners, &open, self.options.shards);
        let access_logs = self.access_logs.open_all(&bootstrap.listeners);
        let tls = self.secrets.tls.build(&bootstrap);
        let (sockets, access_logs, tls) = match (sockets, access_logs, tls) {
            (Ok(sockets), Ok(access_logs), Ok(tls)) => (sockets, access_logs, tls),
            (sockets, access_logs, tls) => {
                let sockets = sockets.err().unwrap_or_default();
                self.counts.listeners_refused(sockets.len());
                let logs = access_logs.err().unwrap_or_default().into_iter();
                let errors = sockets.into_iter().map(OpenError::Listener);
                let tls = tls.err().unwrap_or_default().into_iter().map(OpenError::Tls);
                return Err(errors.chain(logs.map(OpenError::AccessLog)).chain(tls).collect());
            }
        };
        self.access_logs.replace(access_logs.clone());
        self.secrets.replace(tls.clone());
        let prepared = Prepared { bootstrap, sockets, access_logs, tls };
        let changes = self.resources.handle_update(&prepared, self.now());
        self.options.state.taken(&prepared.bootstrap, tidegate_io::Now::read().unix_us);
        self.options.state.set_warming(self.resources.warming_names());
        self.has_freed = true;
        Ok(changes)
    }

    /// Says that we serve, once the first configuration is whole.
    fn become_live(&mut self) {
        let is_published = self.options.publisher.load().version > 0;
        let state = &self.options.state;
        if state.is_initializing() && is_published && self.discovery.is_initialized() {
            state.enter(State::Live);
            log::info(Component::Main, format_args!("all clusters are warm, serving"));
        }
    }

    /// Does what the resources want done.
    fn carry_out(&mut self, dns: &mut Dns) {
        while let Some(action) = self.resources.poll_action() {
            match action {
                Action::Resolve(name) => dns.resolve(name),
                Action::Log(Level::Warning, component, text) => {
                    log::warning(component, format_args!("{text}"));
                }
                Action::Log(_, component, text) => log::info(component, format_args!("{text}")),
                Action::Publish(mut snapshot) => {
                    snapshot.drain_time = Some(self.options.drain_time);
                    let version = snapshot.version;
                    self.closing.published(&snapshot);
                    self.options.state.book.published(&snapshot);
                    self.options.publisher.publish(snapshot);
                    self.options.publisher.collect();
                    self.options.state.set_warming(self.resources.warming_names());
                    self.shards.iter().for_each(|shard| (shard.wake)());
                    self.become_live();
                    log::debug(Component::Config, format_args!("published snapshot {version}"));
                }
            }
        }
    }

    fn stop_listeners(&mut self, inbound_only: bool) {
        self.counts.listeners_stopped(self.resources.stop_listeners(inbound_only));
        log::info(Component::Conn, format_args!("listeners stopped, by request"));
    }

    fn reopen_logs(&mut self) {
        self.access_logs.reopen();
        match log::reopen() {
            Ok(()) => log::info(Component::Main, format_args!("logs were opened again")),
            Err(error) => {
                log::error(Component::Main, format_args!("opening the log again: {error}"))
            }
        }
    }

    /// Lets the shards finish, and waits until they have, or the drain time is over, or another
    /// signal comes.
    async fn drain(mut self, signal: &str, mut signals: Signals, mut dns: Dns) -> Ending {
        let seconds = self.options.drain_time.as_secs();
        let count = self.connections();
        log::info(
            Component::Main,
            format_args!("{signal}: draining {count} connections, for {seconds} s at most"),
        );
        self.options.state.enter(State::Draining);
        self.resources.drain();
        self.carry_out(&mut dns);
        let end = Instant::now() + self.options.drain_time;
        let mut look = interval(DRAIN_LOOK);
        loop {
            tokio::select! {
                received = signals.next() => match received {
                    Received::Terminate(name) => {
                        let text = format_args!("{name} again: exiting at once");
                        log::warning(Component::Main, text);
                        return Ending::Quit;
                    }
                    Received::ReopenLogs => self.reopen_logs(),
                    Received::Reload => {}
                },
                Some(command) = self.commands.recv() => match command {
                    Command::Quit => return quit().await,
                    Command::ReopenLogs => self.reopen_logs(),
                    _ => {}
                },
                _ = look.tick() => {
                    if self.shards.iter().all(|shard| shard.state.drained.load(Ordering::Acquire)) {
                        self.stop_shards();
                        log::info(Component::Main, format_args!("drained, exiting"));
                        return Ending::Drained;
                    }
                    if Instant::now() >= end {
                        let left = self.connections();
                        let text = format_args!("{seconds} s are over, closing {left} connections");
                        log::warning(Component::Main, text);
                        self.stop_shards();
                        return Ending::DrainTimedOut;
                    }
                }
            }
        }
    }

    fn connections(&self) -> u64 {
        self.shards.iter().map(|shard| shard.state.connections.load(Ordering::Relaxed)).sum()
    }

    /// The end of all when a shard's thread has ended: the others would go on with their part of
    /// the connections, while its part of every listener is answered by nobody.
    fn dead_shard(&mut self) -> Option<Ending> {
        let index = self.shards.iter().position(|shard| shard.thread.is_finished())?;
        let error = match self.shards.remove(index).thread.join() {
            Ok(Err(error)) => error,
            Ok(Ok(())) => io::Error::other("it ended"),
            Err(_) => io::Error::other("it panicked"),
        };
        Some(Ending::ShardDied(index, error))
    }

    /// Ends the shards' threads, so that what they have not written yet is written.
    fn stop_shards(&mut self) {
        for shard in &self.shards {
            shard.state.stop.store(true, Ordering::Release);
            (shard.wake)();
        }
        for shard in self.shards.drain(..) {
            if let Ok(Err(error)) = shard.thread.join() {
                log::error(Component::Main, format_args!("a shard's end: {error}"));
            }
        }
        if !self.access_logs.sync(LOGS_WRITTEN_MAX) {
            log::warning(
                Component::Main,
                format_args!("access logs could not be written to the end"),
            );
        }
    }

    fn now(&self) -> tidegate_io::Instant {
        tidegate_io::Instant::default() + self.started.elapsed()
    }

    fn instant(&self, at: tidegate_io::Instant) -> Instant {
        self.started + at.since(tidegate_io::Instant::default())
    }
}

/// Waits for a point in time, or for ever when there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
