//! Sends stats to sinks, at intervals or when the stats page is asked for, on a thread of its own.
//!
//! What it leaves to others: which series there are (`metrics`), lines (`statsd`).

use super::metrics::{Series, View, Wanted};
use super::prometheus::tagged;
use super::statsd::{self, Name};
use super::{Admin, server};
use crate::config::{SinkTarget, StatsFlush, StatsSink};
use crate::log::{self, Component};
use crate::stats::{Bucket, Histogram, Kind, Value};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How long a TCP sink may take to accept a connection or bytes.
const TCP_MAX: Duration = Duration::from_secs(2);

/// Starts the thread. `asked` tells of requests for the stats page.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn start(
    admin: Arc<Admin>,
    sinks: Vec<StatsSink>,
    flush: StatsFlush,
    asked: Receiver<()>,
) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("stats".to_owned());
    let run = move || {
        server::step_back();
        let mut senders: Vec<_> = sinks.into_iter().map(Sender::new).collect();
        let mut before = Before::default();
        while wait(flush, &asked) {
            let view = View::new(&admin, Wanted { used_only: true, ..Wanted::default() });
            before.send(&admin, &view, &mut senders);
        }
    };
    thread.spawn(run).map(drop)
}

/// Waits for the next flush; false when there will be none.
fn wait(flush: StatsFlush, asked: &Receiver<()>) -> bool {
    match flush {
        StatsFlush::OnAdmin => asked.recv().is_ok(),
        StatsFlush::Every(interval) => {
            matches!(asked.recv_timeout(interval), Err(RecvTimeoutError::Timeout) | Ok(()))
        }
    }
}

/// What was sent before: sinks get what was added since.
#[derive(Debug, Default)]
struct Before {
    counters: HashMap<String, u64>,
    histograms: HashMap<String, Vec<Bucket>>,
}

impl Before {
    fn send(&mut self, admin: &Admin, view: &View, senders: &mut [Sender]) {
        for run in view.runs() {
            let numbers = view.series(run.clone(), Kind::is_number);
            let histograms = view.series(run, |kind| kind == Kind::Histogram);
            for series in numbers.into_iter().chain(histograms) {
                let change = self.change(&series.name, &series.sample.value);
                for sender in &mut *senders {
                    sender.add(view, &series, &change);
                }
            }
            senders.iter_mut().for_each(|sender| sender.flush(admin, false));
        }
        senders.iter_mut().for_each(|sender| sender.flush(admin, true));
    }

    fn change(&mut self, name: &str, value: &Value) -> Change {
        match value {
            Value::Gauge(number) => Change::Gauge(*number),
            Value::Counter(number) => {
                let last = self.counters.insert(name.to_owned(), *number).unwrap_or(0);
                // Below what it was: `/reset_counters` was asked for.
                Change::Counter(number.checked_sub(last).unwrap_or(*number))
            }
            Value::Histogram(histogram) => Change::Values(self.values(name, histogram)),
            // Sinks are sent no texts.
            Value::Text(_) => Change::Counter(0),
        }
    }

    fn values(&mut self, name: &str, histogram: &Histogram) -> Vec<Bucket> {
        let last = self.histograms.insert(name.to_owned(), histogram.buckets.clone());
        let last = last.unwrap_or_default();
        let earlier = |bucket: &Bucket| {
            last.binary_search_by_key(&bucket.low, |b| b.low).map_or(0, |at| last[at].count)
        };
        let new = histogram.buckets.iter().map(|bucket| Bucket {
            count: bucket.count.saturating_sub(earlier(bucket)),
            ..*bucket
        });
        new.filter(|bucket| bucket.count > 0).collect()
    }
}

/// What a sink is told of one series.
#[derive(Clone, PartialEq, Debug)]
enum Change {
    Counter(u64),
    Gauge(u64),
    Values(Vec<Bucket>),
}

/// A sink with what waits to be sent to it.
#[derive(Debug)]
struct Sender {
    sink: StatsSink,
    udp: Option<UdpSocket>,
    tcp: Option<TcpStream>,
    lines: String,
    /// The last attempt failed, which was said.
    failing: bool,
}

impl Sender {
    fn new(sink: StatsSink) -> Sender {
        Sender { sink, udp: None, tcp: None, lines: String::new(), failing: false }
    }

    fn add(&mut self, view: &View, series: &Series, change: &Change) {
        if *change == Change::Counter(0) {
            return;
        }
        let (plain, tags) = match self.sink.tags {
            true => tagged(view, series),
            false => (series.name.clone(), Vec::new()),
        };
        let name = Name { prefix: &self.sink.prefix, name: &plain, tags: &tags };
        match change {
            Change::Counter(more) => statsd::counter(&mut self.lines, &name, *more),
            Change::Gauge(value) => statsd::gauge(&mut self.lines, &name, *value),
            Change::Values(buckets) => {
                buckets.iter().for_each(|bucket| statsd::values(&mut self.lines, &name, bucket));
            }
        }
    }

    /// Sends what waits, when it is much or when `all` of it is to go.
    fn flush(&mut self, admin: &Admin, all: bool) {
        const ENOUGH: usize = 64 << 10;
        if self.lines.is_empty() || !all && self.lines.len() < ENOUGH {
            return;
        }
        let sent = match self.sink.target.clone() {
            SinkTarget::Udp(address) => self.send_udp(address),
            SinkTarget::TcpCluster(cluster) => self.send_tcp(admin, &cluster),
        };
        self.lines.clear();
        match sent {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.tcp = None;
                if !std::mem::replace(&mut self.failing, true) {
                    let text =
                        format_args!("stats cannot be sent to {:?}: {error}", self.sink.target);
                    log::warning(Component::Stats, text);
                }
            }
        }
    }

    fn send_udp(&mut self, address: SocketAddr) -> io::Result<()> {
        let socket = match &self.udp {
            Some(socket) => socket,
            None => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                self.udp.insert(UdpSocket::bind(any)?)
            }
        };
        for datagram in statsd::datagrams(&self.lines, self.sink.datagram_bytes_max) {
            socket.send_to(datagram.as_bytes(), address)?;
        }
        Ok(())
    }

    fn send_tcp(&mut self, admin: &Admin, cluster: &str) -> io::Result<()> {
        let stream = match &mut self.tcp {
            Some(stream) => stream,
            None => {
                let snapshot = admin.publisher.load();
                let entry = snapshot.clusters.named(cluster.as_bytes());
                let host = entry
                    .and_then(|id| snapshot.clusters.get(id)?.endpoints.hosts.first().cloned())
                    .ok_or_else(|| io::Error::other(format!("cluster `{cluster}` has no host")))?;
                let stream = TcpStream::connect_timeout(&host.address, TCP_MAX)?;
                stream.set_write_timeout(Some(TCP_MAX))?;
                self.tcp.insert(stream)
            }
        };
        stream.write_all(self.lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_get_what_was_added_since() {
        let mut before = Before::default();
        let mut counter = |number| before.change("a", &Value::Counter(number));
        assert_eq!(counter(5), Change::Counter(5));
        assert_eq!(counter(7), Change::Counter(2));
        assert_eq!(counter(1), Change::Counter(1));
        let bucket = |low, count| Bucket { low, high: low, count };
        let mut values = |buckets: &[Bucket]| {
            let buckets = buckets.to_vec();
            before.change("h", &Value::Histogram(Histogram { count: 0, sum: 0, buckets }))
        };
        assert_eq!(values(&[bucket(1, 2)]), Change::Values(vec![bucket(1, 2)]));
        let more = values(&[bucket(1, 2), bucket(2, 1), bucket(9, 3)]);
        assert_eq!(more, Change::Values(vec![bucket(2, 1), bucket(9, 3)]));
    }
}
