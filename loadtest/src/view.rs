//! What is seen while a run goes: a live view on a terminal, else one line per interval; on
//! standard error, so that standard output is the report's.
//!
//! What it leaves to others: the report.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use hdrhistogram::Histogram;

use crate::engine::Observer;
use crate::engine::interval::Interval;
use crate::plan::Plan;
use crate::units::{wrk_number, wrk_time};

/// Rates that the sparkline shows.
const SPARKS: usize = 60;
const BAR: usize = 40;
/// Lines of the view's histogram.
const ROWS: usize = 10;

/// How a run is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Silent,
    /// One line that replaces itself, or a line a second where that cannot be.
    Line,
    Live {
        color: bool,
    },
}

impl Style {
    /// What suits the terminal, or the lack of one.
    pub fn of_terminal(no_tui: bool) -> Style {
        let terminal = std::io::stderr().is_terminal();
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if terminal && !no_tui { Style::Live { color } } else { Style::Line }
    }
}

pub struct View {
    style: Style,
    rates: VecDeque<f64>,
    /// Lines of the last picture, to be drawn over.
    drawn: usize,
    /// Intervals since the last line.
    since_line: u32,
}

impl View {
    pub fn new(style: Style) -> View {
        View { style, rates: VecDeque::new(), drawn: 0, since_line: 0 }
    }

    fn line(&mut self, plan: &Plan, interval: &Interval, total: &Interval) {
        self.since_line += 1;
        if f64::from(self.since_line) * plan.interval.as_secs_f64() < 0.999 {
            return;
        }
        self.since_line = 0;
        let seconds = (interval.index + 1) as f64 * plan.interval.as_secs_f64();
        let rate = interval.counts.answers() as f64 / plan.interval.as_secs_f64();
        let at = |quantile| wrk_time(total.latency.value_at_quantile(quantile) as f64);
        eprintln!(
            "  {seconds:5.0}s  {rate:9.0}/s  p50 {}  p99 {}  p99.9 {}  max {}  failed {}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            total.counts.failures()
        );
    }

    fn live(&mut self, plan: &Plan, interval: &Interval, total: &Interval, color: bool) {
        self.rates.push_back(interval.counts.answers() as f64 / plan.interval.as_secs_f64());
        if self.rates.len() > SPARKS {
            self.rates.pop_front();
        }
        let picture = picture(plan, interval, total, &self.rates, color);
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A\x1b[J", self.drawn);
        }
        self.drawn = picture.lines().count();
        text.push_str(&picture);
        // A terminal that is gone changes nothing about the run.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl Observer for View {
    fn interval(&mut self, plan: &Plan, interval: &Interval, total: &Interval) {
        match self.style {
            Style::Silent => {}
            Style::Line => self.line(plan, interval, total),
            Style::Live { color } => self.live(plan, interval, total, color),
        }
    }

    fn end(&mut self) {
        if self.drawn > 0 {
            eprint!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}

fn picture(
    plan: &Plan,
    interval: &Interval,
    total: &Interval,
    rates: &VecDeque<f64>,
    color: bool,
) -> String {
    let paint = |code: &str, text: String| {
        if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text }
    };
    let mut text = String::new();
    let seconds = (interval.index + 1) as f64 * plan.interval.as_secs_f64();
    let done = match (plan.duration, plan.requests) {
        (Some(duration), _) => seconds / duration.as_secs_f64(),
        (None, Some(requests)) => total.counts.answers() as f64 / requests as f64,
        (None, None) => 0.0,
    }
    .min(1.0);
    let filled = (done * BAR as f64) as usize;
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
    let _ = writeln!(text, "{} {:3.0}%  {seconds:.0}s", paint("36", bar), done * 100.0);
    let rate = rates.back().copied().unwrap_or(0.0);
    let _ = writeln!(
        text,
        "{} {}/s{}",
        paint("32", sparks(rates)),
        wrk_number(rate),
        plan.load.rate().map_or(String::new(), |wanted| format!(" of {}", wrk_number(wanted)))
    );
    for (name, quantile) in
        [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
    {
        let all = wrk_time(total.latency.value_at_quantile(quantile) as f64);
        let now = wrk_time(interval.latency.value_at_quantile(quantile) as f64);
        let _ = writeln!(text, "  {name:<6} {:>9}   now {now:>9}", paint("1", format!("{all:>9}")));
    }
    text.push_str(&rows(&total.latency, |bar| paint("34", bar)));
    let failures = total.counts.failures();
    let code = if failures > 0 { "31" } else { "32" };
    let said = format!("{} answered, {failures} failed", total.counts.answers());
    let _ = writeln!(text, "  {}  {}", paint(code, said), statuses(total));
    text
}

fn statuses(total: &Interval) -> String {
    let list: Vec<String> =
        total.counts.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    list.join("  ")
}

fn sparks(rates: &VecDeque<f64>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = rates.iter().copied().fold(1.0, f64::max);
    rates.iter().map(|rate| LEVELS[((rate / max * 7.0).round() as usize).min(7)]).collect()
}

/// Bars whose bounds grow by equal factors, from the fastest to p99.9.
fn rows(histogram: &Histogram<u64>, paint: impl Fn(String) -> String) -> String {
    let mut text = String::new();
    let low = histogram.min().max(1) as f64;
    let high = (histogram.value_at_quantile(0.999) as f64).max(low * 1.01);
    let factor = (high / low).powf(1.0 / ROWS as f64);
    let counts: Vec<(f64, u64)> = (0..ROWS)
        .map(|row| {
            let from = low * factor.powi(row as i32);
            (from, histogram.count_between(from as u64, (from * factor) as u64))
        })
        .collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (from, count) in counts {
        let bar = "■".repeat((count as f64 / most as f64 * BAR as f64).round() as usize);
        let _ = writeln!(text, "  {:>9} {} {count}", wrk_time(from), paint(bar));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_reaches_from_the_bottom_to_the_top() {
        let rates = VecDeque::from([0.0, 50.0, 100.0]);
        assert_eq!(sparks(&rates), "▁▅█");
    }

    #[test]
    fn rows_are_as_many_as_promised_even_of_nothing() {
        let mut histogram = crate::engine::interval::histogram();
        assert_eq!(rows(&histogram, |bar| bar).lines().count(), ROWS);
        histogram.saturating_record(5);
        assert_eq!(rows(&histogram, |bar| bar).lines().count(), ROWS);
    }
}
