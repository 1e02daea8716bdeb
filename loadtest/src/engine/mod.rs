//! Doing what a plan says: workers on threads of their own, one reactor each, and what they saw
//! added up.
//!
//! What it leaves to others: judging the result (`verdict`), and showing it (`report`).

mod collect;
mod concurrency;
pub mod crew;
pub mod interval;
mod schedule;
mod slot;
mod spin;
pub mod tls;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::plan::Plan;
use crate::watch::Usage;
use crew::Crew;
use interval::{Interval, Sample, Slice};

/// What workers and the thread that adds up share.
#[derive(Debug, Default)]
pub struct Shared {
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
    /// What each phase of the plan came to.
    Phases(Vec<Interval>),
    /// Its part of a run is over, or why it cannot go on.
    Done(Result<Part, String>),
}

/// What a worker's part of a run came to.
pub struct Part {
    /// CPU time since the start; what it spent looking for the time aside.
    pub cpu: Duration,
    /// When it was over, on the monotonic clock.
    pub end: u64,
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
    /// What each phase of the plan came to, by when requests were due.
    pub phases: Vec<Interval>,
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
    /// How many system calls they made, where that was asked for, or why it is not known.
    pub system_calls: Option<Result<u64, String>>,
    /// Somebody ended it before its time.
    pub interrupted: bool,
}

impl Outcome {
    /// Answers per second, as they came.
    pub fn answers_per_second(&self) -> f64 {
        self.total.counts.answers_per_second(self.elapsed)
    }

    /// Something that the server used, per answer.
    pub fn per_answer(&self, total: u64) -> f64 {
        total as f64 / self.total.counts.answers().max(1) as f64
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
    let plan = Arc::new(plan);
    let mut crew = Crew::start(&plan, stop)?;
    observer.ready(&plan, crew.open);
    crew.run(&plan, observer)
}
