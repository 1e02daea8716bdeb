//! Access logs that go to a gRPC service: a queue that shards fill, and a task that empties it.
//!
//! One thread of the process has the tasks of all such logs. A shard never waits: with a full queue
//! it keeps a little, and counts what it drops. A service that is not there is asked again and
//! again, with time between.
//!
//! What it leaves to others: entries (`entry`), gRPC (`service_stream`).

use super::service_stream::ServiceStream;
use super::wire;
use crate::config::{GrpcAccessLog, Node};
use crate::snapshot::Publisher;
use std::future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Buffers that wait to be sent, of one log and all shards: 1 MiB of 16 KiB each.
const QUEUE_BUFFERS: usize = 64;
/// After the service could not be reached; twice as long after each time, up to the most.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// Where services are found, and who we are to them.
#[derive(Clone, Debug)]
pub struct Services {
    /// Has the clusters.
    publisher: Arc<Publisher>,
    /// `config.core.v3.Node`, encoded.
    node: Vec<u8>,
}

impl Services {
    /// The services of a configuration.
    #[must_use]
    pub fn new(publisher: &Arc<Publisher>, node: &Node) -> Services {
        let mut encoded = node.encoded.clone();
        // Of a field that is there twice the last counts: the command line may say more.
        wire::text(&mut encoded, 1, node.id.as_bytes());
        wire::text(&mut encoded, 2, node.cluster.as_bytes());
        wire::text(&mut encoded, 6, b"tidegate");
        Services { publisher: publisher.clone(), node: encoded }
    }
}

/// The log of one service, shared by the shards.
#[derive(Debug)]
pub struct ServiceLog {
    /// What was asked for.
    pub config: GrpcAccessLog,
    queue: mpsc::Sender<Work>,
    counts: Arc<Counts>,
}

/// What became of entries.
#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Work {
    Send(Entries),
    /// End the call: all before is to be with the service when an answer comes.
    Finish(SyncSender<()>),
}

/// Encoded entries, one behind the other.
#[derive(Debug)]
struct Entries {
    bytes: Vec<u8>,
    count: u64,
}

impl ServiceLog {
    /// A log, and the task that sends it.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn start(config: GrpcAccessLog, services: &Services) -> io::Result<ServiceLog> {
        let (queue, work) = mpsc::channel(QUEUE_BUFFERS);
        let counts = Arc::<Counts>::default();
        let mut sender = Sender {
            config: config.clone(),
            services: services.clone(),
            counts: counts.clone(),
            stream: None,
            back_off: BACK_OFF,
            turn: 0,
        };
        runtime()?.spawn(async move { sender.run(work).await });
        Ok(ServiceLog { config, queue, counts })
    }

    /// Takes entries; gives them back when the queue is full.
    pub(super) fn hand_over(&self, bytes: Vec<u8>, count: u64) -> Result<(), Vec<u8>> {
        let work = Work::Send(Entries { bytes, count });
        self.queue.try_send(work).map_err(|error| match error.into_inner() {
            Work::Send(entries) => entries.bytes,
            Work::Finish(_) => Vec::new(),
        })
    }

    /// Counts entries that a shard could not hand over.
    pub(super) fn drop_entries(&self, count: u64) {
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Waits until the service has what was handed over, but not longer than `timeout`. Says
    /// whether it has.
    pub(super) fn sync(&self, timeout: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        // A full queue is a service that is not there.
        self.queue.try_send(Work::Finish(done)).is_ok() && wait.recv_timeout(timeout).is_ok()
    }

    /// Entries that were sent, and that were dropped.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.counts.written), load(&self.counts.dropped))
    }
}

/// The thread of all services' tasks, started on first use.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut handle = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*handle {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let started = runtime.handle().clone();
    let thread = thread::Builder::new().name("access-log-grpc".to_owned());
    thread.spawn(move || runtime.block_on(future::pending::<()>()))?;
    *handle = Some(started.clone());
    Ok(started)
}

/// What empties the queue.
struct Sender {
    config: GrpcAccessLog,
    services: Services,
    counts: Arc<Counts>,
    stream: Option<ServiceStream>,
    back_off: Duration,
    /// Which host is next.
    turn: usize,
}

impl Sender {
    /// Until nobody can hand over any more.
    async fn run(&mut self, mut queue: mpsc::Receiver<Work>) {
        while let Some(work) = queue.recv().await {
            match work {
                Work::Send(Entries { bytes, count }) => {
                    let stat = match self.send(&bytes, &queue).await {
                        true => &self.counts.written,
                        false => &self.counts.dropped,
                    };
                    stat.fetch_add(count, Ordering::Relaxed);
                }
                Work::Finish(done) => {
                    if let Some(stream) = self.stream.take() {
                        stream.finish().await;
                    }
                    let _ = done.try_send(());
                }
            }
        }
    }

    /// Sends entries, however often that has to be tried. False: they are given up, because the log
    /// is closed and there is no service.
    async fn send(&mut self, entries: &[u8], queue: &mpsc::Receiver<Work>) -> bool {
        loop {
            if self.stream.as_ref().is_none_or(ServiceStream::is_over) {
                self.stream = self.open().await;
            }
            if let Some(stream) = &mut self.stream {
                let message = message(&self.config, &self.services.node, entries, stream.is_new());
                if stream.send(message).await {
                    self.back_off = BACK_OFF;
                    return true;
                }
                self.stream = None;
            }
            if queue.is_closed() {
                return false;
            }
            sleep(self.back_off).await;
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        }
    }

    async fn open(&mut self) -> Option<ServiceStream> {
        let snapshot = self.services.publisher.load();
        let id = snapshot.clusters.named(self.config.cluster.as_bytes())?;
        let cluster = snapshot.clusters.get(id)?;
        let hosts = &cluster.endpoints.hosts;
        let host = hosts.get(self.turn.checked_rem(hosts.len())?)?;
        self.turn += 1;
        ServiceStream::open(cluster, host, &self.config.authority).await
    }
}

/// `StreamAccessLogsMessage`; the first of a stream says who we are.
fn message(config: &GrpcAccessLog, node: &[u8], entries: &[u8], is_first: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() + 32);
    if is_first {
        wire::message(&mut out, 1, |out| {
            wire::bytes(out, 1, node);
            wire::text(out, 2, config.log_name.as_bytes());
        });
    }
    wire::bytes(&mut out, if config.is_tcp { 3 } else { 2 }, entries);
    out
}
