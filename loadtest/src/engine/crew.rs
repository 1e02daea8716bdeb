//! The workers of a plan: threads that keep their connections from one run to the next.
//!
//! A comparison runs in slices of a few milliseconds, for which connecting anew would be most of
//! the work. Between runs a worker sleeps, and looks at nothing.
//!
//! What it leaves to others: what a worker does (`worker`), and adding up (`collect`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tidegate_io::backend::{Choice, Chosen};
use tidegate_io::epoll::Epoll;
use tidegate_io::uring::Uring;
use tidegate_io::{Io, IoOptions, Now, cpu};

use super::collect::Collector;
use super::interval::Interval;
use super::tls::Secure;
use super::worker::Worker;
use super::{Message, Observer, Outcome, Part, Shared};
use crate::machine;
use crate::plan::Plan;

/// From the order to the common start: all workers have to be awake by then.
const AHEAD: u64 = 500_000;

/// What a worker is told: what to do, and when to begin on the monotonic clock.
struct Order {
    plan: Arc<Plan>,
    start: u64,
}

/// Workers with their connections.
pub struct Crew {
    plan: Arc<Plan>,
    choice: Choice,
    shared: Arc<Shared>,
    orders: Vec<Sender<Order>>,
    messages: Receiver<Message>,
    recycling: Vec<Sender<Box<Interval>>>,
    threads: Vec<JoinHandle<()>>,
    /// Connections that were open in the beginning.
    pub open: usize,
}

impl Crew {
    /// Starts the workers of a plan, and waits for their connections.
    ///
    /// # Errors
    ///
    /// When a worker has no backend or cannot go on; not when the target fails.
    pub fn start(plan: &Arc<Plan>, stop: &Arc<AtomicBool>) -> Result<Crew, String> {
        let choice = plan.backend.choose().map_err(|error| error.to_string())?;
        machine::allow_files(plan.connections as u64 + 256);
        let shared = Arc::new(Shared { stop: Arc::clone(stop), ..Shared::default() });
        let (sender, messages) = mpsc::channel();
        let mut crew = Crew {
            plan: Arc::clone(plan),
            choice,
            shared,
            orders: Vec::new(),
            messages,
            recycling: Vec::new(),
            threads: Vec::new(),
            open: 0,
        };
        for number in 0..plan.threads {
            crew.hire(number, &sender)?;
        }
        drop(sender);
        for _ in 0..plan.threads {
            match crew.messages.recv() {
                Ok(Message::Ready(open)) => crew.open += open,
                Ok(Message::Done(Err(error))) => return Err(error),
                Ok(_) | Err(_) => return Err("a worker ended before the run".to_owned()),
            }
        }
        Ok(crew)
    }

    fn hire(&mut self, number: usize, messages: &Sender<Message>) -> Result<(), String> {
        let (give_back, recycled) = mpsc::channel();
        for _ in 0..2 {
            let _ = give_back.send(Box::new(Interval::new(0)));
        }
        let (order, orders) = mpsc::channel();
        self.recycling.push(give_back);
        self.orders.push(order);
        let (plan, shared) = (Arc::clone(&self.plan), Arc::clone(&self.shared));
        let (messages, backend) = (messages.clone(), self.choice.backend);
        let assignment =
            Assignment { plan, shared, number, messages: messages.clone(), recycled, orders };
        let spawned =
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                if let Err(error) = assignment.work(backend) {
                    let _ = messages.send(Message::Done(Err(error)));
                }
            });
        self.threads.push(spawned.map_err(|error| format!("no thread: {error}"))?);
        Ok(())
    }

    /// One run of a plan to its end, or until the crew is stopped. Only its load and its times may
    /// differ from those of the plan that the crew was started for.
    ///
    /// # Errors
    ///
    /// When a worker cannot go on.
    pub fn run(
        &mut self,
        plan: &Arc<Plan>,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, String> {
        let mut collector = Collector::new(Arc::clone(plan), &self.recycling);
        let before = machine::Cpu::read();
        let process_before = machine::process_cpu();
        let now = Now::read();
        let start = now.instant.0 + AHEAD;
        let measured_from = start + plan.warm_up.as_nanos() as u64;
        let to_unix_ns = now.unix_us as i64 * 1000 - now.instant.0 as i64;
        self.shared.tickets.store(0, Ordering::Relaxed);
        for order in &self.orders {
            // A worker that is gone has said why.
            let _ = order.send(Order { plan: Arc::clone(plan), start });
        }
        collector.collect(&self.messages, observer, to_unix_ns)?;
        collector.close();
        observer.end();
        Ok(Outcome {
            backend: if self.choice.backend == Chosen::IoUring { "io_uring" } else { "epoll" },
            backend_warning: self.choice.warning.clone(),
            total: collector.total,
            slices: collector.slices,
            phases: collector.phases,
            start: measured_from,
            start_unix_ns: (measured_from as i64 + to_unix_ns) as u64,
            elapsed: Duration::from_nanos(collector.end.saturating_sub(measured_from)),
            connections_open: self.open,
            worker_cpu: collector.worker_cpu,
            process_cpu: machine::process_cpu().saturating_sub(process_before),
            wall: Duration::from_nanos(collector.end.saturating_sub(start)),
            steal: machine::Cpu::read().steal_since(&before),
            server: None,
            system_calls: None,
            interrupted: self.shared.stop.load(Ordering::Relaxed),
            plan: Arc::clone(plan),
        })
    }
}

impl Drop for Crew {
    /// The connections are closed when this is over.
    fn drop(&mut self) {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What one worker is given.
pub struct Assignment {
    pub plan: Arc<Plan>,
    pub shared: Arc<Shared>,
    /// Which of the workers it is.
    number: usize,
    pub messages: Sender<Message>,
    /// Intervals that were added up, to be filled again.
    pub recycled: Receiver<Box<Interval>>,
    orders: Receiver<Order>,
}

impl Assignment {
    /// Its share of the connections.
    pub fn connections(&self) -> usize {
        let (all, threads) = (self.plan.connections, self.plan.threads);
        all / threads + usize::from(self.number < all % threads)
    }

    /// The worker's thread, from its beginning to its end.
    fn work(self, backend: Chosen) -> Result<(), String> {
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
    fn secure<I: Io>(self, io: I) -> Result<(), String> {
        match self.plan.tls.clone() {
            Some(tls) => self.drive(Secure::new(io, tls)),
            None => self.drive(io),
        }
    }

    /// Connects, and does what it is told until nobody tells it anything any more.
    fn drive<I: Io>(mut self, io: I) -> Result<(), String> {
        let (number, messages) = (self.number, self.messages.clone());
        let orders = std::mem::replace(&mut self.orders, mpsc::channel().1);
        let mut worker = Worker::new(io, self);
        let open = worker.connect().map_err(|error| error.to_string())?;
        let _ = messages.send(Message::Ready(open));
        while let Ok(Order { plan, start }) = orders.recv() {
            let (before, spun) = (machine::thread_cpu(), worker.spun());
            let end = worker.run(plan, start, number).map_err(|error| error.to_string())?;
            let looked = worker.spun().saturating_sub(spun);
            let cpu = machine::thread_cpu().saturating_sub(before).saturating_sub(looked);
            let _ = messages.send(Message::Done(Ok(Part { cpu, end })));
        }
        Ok(())
    }
}
