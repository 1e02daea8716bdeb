//! Doing what a plan says: workers on threads of their own, one reactor each, and what they saw
//! added up.
//!
//! What it leaves to others: judging the result (`verdict`), and showing it (`report`).

pub mod interval;
mod schedule;
mod slot;
mod spin;
pub mod tls;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tidegate_io::backend::Chosen;
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions, Now, cpu};

use crate::machine;
use crate::plan::Plan;
use crate::watch::Usage;
use interval::{Counts, Interval, Sample, Slice};
use tls::Secure;
use worker::Worker;

/// What workers and the thread that adds up share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The common start on the monotonic clock; 0: not yet.
    start: AtomicU64,
    /// The run is to end now.
    pub stop: Arc<AtomicBool>,
    tickets: AtomicU64,
}

impl Shared {
    /// Whether one more request of a closed loop may be sent.
    fn take_ticket(&self, plan: &Plan) -> bool {
        match plan.requests {
            Some(requests) => self.tickets.fetch_add(1, Ordering::Relaxed) < requests,
            None => true,
        }
    }
}

/// What a worker says.
pub enum Message {
    /// So many connections are open.
    Ready(usize),
    Interval(Box<Interval>),
    /// It ends; with the CPU time that it took since the start, what it spent looking for the time
    /// aside, or why it failed.
    Done(Result<Duration, String>),
}

/// A run as it was.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub plan: Arc<Plan>,
    /// `io_uring` or `epoll`.
    pub backend: &'static str,
    pub backend_warning: Option<String>,
    /// Everything.
    pub total: Interval,
    /// The time line; intervals without anything are there, too.
    pub slices: Vec<Slice>,
    /// Start of the measurement: monotonic, and the same on the wall clock in nanoseconds.
    pub start: u64,
    pub start_unix_ns: u64,
    /// From the start of the measurement until the last answer was waited for.
    pub elapsed: Duration,
    /// Connections that were open at the start.
    pub connections_open: usize,
    /// CPU time of the workers during the run, warm-up included and looking for the time aside, one
    /// entry each.
    pub worker_cpu: Vec<Duration>,
    /// CPU time of the whole process, user and system, in the same time.
    pub process_cpu: Duration,
    /// Time from the common start until the workers were done.
    pub wall: Duration,
    /// Share of the machine's CPU time that a hypervisor took.
    pub steal: f64,
    /// What the watched processes used, where any are: their memory is that at the end.
    pub server: Option<Usage>,
    /// Somebody ended it before its time.
    pub interrupted: bool,
}

impl Outcome {
    /// Answers per second, as they came.
    pub fn answers_per_second(&self) -> f64 {
        self.total.counts.answers() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// Something that the server used, per answer.
    pub fn per_answer(&self, total: u64) -> f64 {
        total as f64 / self.total.counts.answers().max(1) as f64
    }

    /// The share of requests that got what was expected.
    pub fn success_ratio(&self) -> f64 {
        let (good, bad) = (self.total.counts.succeeded, self.total.counts.failures());
        if good + bad == 0 { 0.0 } else { good as f64 / (good + bad) as f64 }
    }
}

/// Who wants to know how a run goes, while it goes.
pub trait Observer {
    /// All connections are open, or not.
    fn ready(&mut self, _plan: &Plan, _open: usize) {}
    /// One interval of all workers is complete.
    fn interval(&mut self, _plan: &Plan, _interval: &Interval, _total: &Interval) {}
    /// Samples of one worker's interval; `to_unix_ns` is to be added to their times.
    fn samples(&mut self, _plan: &Plan, _samples: &[Sample], _to_unix_ns: i64) {}
    /// The run is over.
    fn end(&mut self) {}
}

/// An observer that does not care.
pub struct Unobserved;

impl Observer for Unobserved {}

/// Runs the plan to its end, or until `stop` is set.
///
/// # Errors
///
/// When a worker has no backend or cannot go on; not when the target fails.
pub fn run(
    plan: Plan,
    stop: &Arc<AtomicBool>,
    observer: &mut dyn Observer,
) -> Result<Outcome, String> {
    let choice = plan.backend.choose().map_err(|error| error.to_string())?;
    machine::allow_files(plan.connections as u64 + 256);
    let plan = Arc::new(plan);
    let shared = Arc::new(Shared { stop: Arc::clone(stop), ..Shared::default() });
    let (sender, messages) = mpsc::channel();
    let mut recycling = Vec::new();
    for number in 0..plan.threads {
        let (give_back, recycled) = mpsc::channel();
        for _ in 0..2 {
            let _ = give_back.send(Box::new(Interval::new(0)));
        }
        recycling.push(give_back);
        let (plan, shared, sender) = (Arc::clone(&plan), Arc::clone(&shared), sender.clone());
        let messages = sender.clone();
        let assignment = Assignment { plan, shared, number, messages, recycled };
        let spawned =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let _ = sender.send(Message::Done(assignment.work(choice.backend)));
            });
        spawned.map_err(|error| format!("no thread: {error}"))?;
    }
    drop(sender);
    let mut collector = Collector::new(Arc::clone(&plan), recycling);
    collector.wait_ready(&messages)?;
    observer.ready(&plan, collector.open);
    let before = machine::Cpu::read();
    let process_before = machine::process_cpu();
    let now = Now::read();
    let start = now.instant.0 + 2_000_000;
    let measured_from = start + plan.warm_up.as_nanos() as u64;
    let to_unix_ns = now.unix_us as i64 * 1000 - now.instant.0 as i64;
    shared.start.store(start, Ordering::Release);
    collector.collect(&messages, observer, to_unix_ns)?;
    collector.close();
    let end = Now::read().instant.0;
    observer.end();
    Ok(Outcome {
        backend: if choice.backend == Chosen::IoUring { "io_uring" } else { "epoll" },
        backend_warning: choice.warning,
        total: collector.total,
        slices: collector.slices,
        start: measured_from,
        start_unix_ns: (measured_from as i64 + to_unix_ns) as u64,
        elapsed: Duration::from_nanos(end.saturating_sub(measured_from)),
        connections_open: collector.open,
        worker_cpu: collector.worker_cpu,
        process_cpu: machine::process_cpu().saturating_sub(process_before),
        wall: Duration::from_nanos(end.saturating_sub(start)),
        steal: machine::Cpu::read().steal_since(&before),
        server: None,
        interrupted: stop.load(Ordering::Relaxed),
        plan,
    })
}

/// What one worker is given.
struct Assignment {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    /// Which of the workers it is.
    number: usize,
    messages: Sender<Message>,
    /// Intervals that were added up, to be filled again.
    recycled: Receiver<Box<Interval>>,
}

impl Assignment {
    /// Its share of the connections.
    fn connections(&self) -> usize {
        let (all, threads) = (self.plan.connections, self.plan.threads);
        all / threads + usize::from(self.number < all % threads)
    }

    /// The worker's thread, from its beginning to its end.
    fn work(self, backend: Chosen) -> Result<Duration, String> {
        if let Some(cpu) = self.plan.cpus.get(self.number) {
            cpu::pin(*cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
        }
        // Without it timers end up to 50 us late. A kernel that refuses makes the lateness visible.
        let _ = cpu::set_timer_slack(Duration::from_nanos(1));
        // Whoever shares the CPU, our own other thread among them, lets it in at once when it
        // wakes.
        let _ = cpu::set_slice(Duration::from_micros(100));
        let entries = (self.connections() as u32).next_power_of_two().clamp(128, 4096);
        let options = IoOptions {
            gather: Duration::ZERO,
            submission_entries: entries,
            completion_entries: entries * 8,
            ..IoOptions::default()
        };
        match backend {
            Chosen::IoUring => {
                let io = Uring::new(&options).map_err(|error| format!("io_uring: {error}"))?;
                self.secure(io)
            }
            Chosen::Epoll => {
                let io = Epoll::new(&options).map_err(|error| format!("epoll: {error}"))?;
                self.secure(io)
            }
        }
    }

    /// With TLS where the plan has it.
    fn secure<I: Io>(self, io: I) -> Result<Duration, String> {
        match self.plan.tls.clone() {
            Some(tls) => self.drive(Secure::new(io, tls)),
            None => self.drive(io),
        }
    }

    fn drive<I: Io>(self, io: I) -> Result<Duration, String> {
        let (number, messages) = (self.number, self.messages.clone());
        let mut worker = Worker::new(io, self);
        let open = worker.connect().map_err(|error| error.to_string())?;
        let _ = messages.send(Message::Ready(open));
        let before = machine::thread_cpu();
        worker.run(number).map_err(|error| error.to_string())?;
        Ok(machine::thread_cpu().saturating_sub(before).saturating_sub(worker.spun()))
    }
}

/// Adds up what workers hand over.
struct Collector {
    plan: Arc<Plan>,
    recycling: Vec<Sender<Box<Interval>>>,
    open: usize,
    total: Interval,
    slices: Vec<Slice>,
    /// Intervals that not all workers have handed over, from number `slices.len()`, and how many
    /// have.
    open_intervals: VecDeque<(Interval, usize)>,
    /// Empty ones: their memory is paid for.
    spare: Vec<Interval>,
    worker_cpu: Vec<Duration>,
}

impl Collector {
    fn new(plan: Arc<Plan>, recycling: Vec<Sender<Box<Interval>>>) -> Collector {
        Collector {
            plan,
            recycling,
            open: 0,
            total: Interval::new(0),
            slices: Vec::new(),
            open_intervals: VecDeque::new(),
            spare: Vec::new(),
            worker_cpu: Vec::new(),
        }
    }

    fn wait_ready(&mut self, messages: &Receiver<Message>) -> Result<(), String> {
        for _ in 0..self.plan.threads {
            match messages.recv() {
                Ok(Message::Ready(open)) => self.open += open,
                Ok(Message::Done(Err(error))) => return Err(error),
                Ok(_) | Err(_) => return Err("a worker ended before the run".to_owned()),
            }
        }
        Ok(())
    }

    fn collect(
        &mut self,
        messages: &Receiver<Message>,
        observer: &mut dyn Observer,
        to_unix_ns: i64,
    ) -> Result<(), String> {
        let mut left = self.plan.threads;
        while left > 0 {
            match messages.recv_timeout(Duration::from_secs(3600)) {
                Ok(Message::Interval(part)) => {
                    observer.samples(&self.plan, &part.samples, to_unix_ns);
                    self.add(part, observer);
                }
                Ok(Message::Done(Ok(cpu))) => {
                    self.worker_cpu.push(cpu);
                    left -= 1;
                }
                Ok(Message::Done(Err(error))) => return Err(error),
                Ok(Message::Ready(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("a worker died".to_owned());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, part: Box<Interval>, observer: &mut dyn Observer) {
        self.total.add(&part);
        if self.plan.threads == 1 {
            observer.interval(&self.plan, &part, &self.total);
            self.slices.push(Slice::of(&part));
            return self.give_back(0, part);
        }
        let at = part.index as usize - self.slices.len();
        while self.open_intervals.len() <= at {
            let index = self.slices.len() + self.open_intervals.len();
            let mut empty = self.spare.pop().unwrap_or_else(|| Interval::new(0));
            empty.index = index as u64;
            self.open_intervals.push_back((empty, 0));
        }
        let (interval, parts) = &mut self.open_intervals[at];
        interval.add(&part);
        *parts += 1;
        let worker = *parts % self.recycling.len();
        self.give_back(worker, part);
        while self.open_intervals.front().is_some_and(|(_, parts)| *parts == self.plan.threads) {
            if let Some((mut interval, _)) = self.open_intervals.pop_front() {
                observer.interval(&self.plan, &interval, &self.total);
                self.slices.push(Slice::of(&interval));
                interval.clear();
                self.spare.push(interval);
            }
        }
    }

    fn give_back(&self, worker: usize, mut part: Box<Interval>) {
        part.clear();
        // A worker that has ended needs none.
        let _ = self.recycling[worker].send(part);
    }

    /// What some workers had no part in any more.
    fn close(&mut self) {
        for (interval, _) in self.open_intervals.drain(..) {
            self.slices.push(Slice::of(&interval));
        }
        // The last one is there for what came after the end, if anything did.
        if self.slices.last().is_some_and(|slice| slice.counts == Counts::default()) {
            self.slices.pop();
        }
    }
}
