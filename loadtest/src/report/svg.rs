//! Plots as inline SVG: lines, steps and bars over linear, logarithmic and quantile axes. The same
//! data make the same bytes.
//!
//! What it leaves to others: which data, and the page around (`html`).

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// How values spread along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    Linear,
    Log,
    /// Quantiles from 0 to below 1, by the logarithm of 1 / (1 - quantile).
    Quantile,
}

/// What numbers on an axis mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Plain,
    Nanoseconds,
    Percent,
    Quantile,
    Seconds,
}

#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub unit: Unit,
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Line,
    /// Bars from the bottom, of the given points and as wide as the distance to the next.
    Bars,
    /// The space between a line (its points) and the same line back (the rest of the points).
    Band,
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// One of the page's colours, from 1.
    pub color: u8,
    pub mark: Mark,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Debug)]
pub struct Plot {
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// A horizontal line that means something.
    pub rule: Option<f64>,
}

impl Axis {
    /// An axis from 0 over all values.
    pub fn linear(label: &str, unit: Unit, max: f64) -> Axis {
        let max = if max > 0.0 && max.is_finite() { max * 1.05 } else { 1.0 };
        Axis { label: label.to_owned(), scale: Scale::Linear, unit, min: 0.0, max }
    }

    /// A logarithmic axis from just below `min` to just above `max`.
    pub fn log(label: &str, unit: Unit, min: f64, max: f64) -> Axis {
        let min = min.max(1.0) / 1.2;
        let max = (max * 1.2).max(min * 10.0);
        Axis { label: label.to_owned(), scale: Scale::Log, unit, min, max }
    }

    /// Quantiles until the last that `count` values have.
    pub fn quantiles(count: u64) -> Axis {
        Axis {
            label: "percentile, by 1/(1-p)".to_owned(),
            scale: Scale::Quantile,
            unit: Unit::Quantile,
            min: 0.0,
            max: 1.0 - 1.0 / (count.max(10) as f64 * 1.1),
        }
    }

    fn along(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.min).log10(),
            Scale::Quantile => -(1.0 - value.min(self.max)).log10(),
        }
    }

    /// 0 at the beginning of the axis, 1 at its end.
    fn share(&self, value: f64) -> f64 {
        let (first, last) = (self.along(self.min), self.along(self.max));
        ((self.along(value) - first) / (last - first)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => linear_ticks(self.min, self.max),
            Scale::Log => log_ticks(self.min, self.max),
            Scale::Quantile => {
                let nines = (1..10).map(|n| 1.0 - 10_f64.powi(-n));
                let all = [0.0, 0.5].into_iter().chain(nines);
                all.filter(|quantile| *quantile <= self.max).collect()
            }
        }
    }

    fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Plain => match value.abs() {
                v if v >= 1e6 => format!("{}M", trimmed(value / 1e6)),
                v if v >= 1e4 => format!("{}k", trimmed(value / 1e3)),
                _ => trimmed(value),
            },
            Unit::Nanoseconds => match value.abs() {
                v if v >= 1e9 => format!("{} s", trimmed(value / 1e9)),
                v if v >= 1e6 => format!("{} ms", trimmed(value / 1e6)),
                v if v >= 1e3 => format!("{} µs", trimmed(value / 1e3)),
                0.0 => "0".to_owned(),
                _ => format!("{} ns", trimmed(value)),
            },
            Unit::Percent => format!("{} %", trimmed(value)),
            Unit::Quantile => format!("{}%", trimmed_at(value * 100.0, 7)),
            Unit::Seconds => format!("{} s", trimmed(value)),
        }
    }
}

fn trimmed(value: f64) -> String {
    trimmed_at(value, 3)
}

fn trimmed_at(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// About six round numbers.
fn linear_ticks(min: f64, max: f64) -> Vec<f64> {
    let rough = (max - min) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(power * 10.0);
    let first = (min / step).ceil() as i64;
    let last = (max / step).floor() as i64;
    (first..=last).map(|n| n as f64 * step).collect()
}

/// 1, 2 and 5 of each power of ten; powers only, where those would be many.
fn log_ticks(min: f64, max: f64) -> Vec<f64> {
    let factors: &[f64] = if (max / min).log10() > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let (first, last) = (min.log10().floor() as i32, max.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
    all.filter(|tick| (min..=max).contains(tick)).collect()
}

impl Plot {
    /// The plot as an `svg` element, with a legend where there are several series.
    pub fn svg(&self) -> String {
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n"
        );
        self.grid(&mut out);
        for series in &self.series {
            self.series(series, &mut out);
        }
        if let Some(rule) = self.rule {
            let y = self.y(rule);
            let end = WIDTH - RIGHT;
            let _ = writeln!(out, "<path class=\"rule\" d=\"M{LEFT} {y:.1}H{end}\"/>");
        }
        out.push_str("</svg>\n");
        let named: Vec<&Series> =
            self.series.iter().filter(|series| !series.name.is_empty()).collect();
        if named.len() > 1 {
            out.push_str("<p class=\"legend\">");
            for series in named {
                let name = escape(&series.name);
                let _ = write!(out, "<span><i class=\"b{}\"></i>{name}</span> ", series.color);
            }
            out.push_str("</p>\n");
        }
        out
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn grid(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.y.ticks() {
            let y = self.y(tick);
            let text = escape(&self.y.text(tick));
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" \
                 class=\"end\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for tick in self.x.ticks() {
            let x = self.x(tick);
            let text = escape(&self.x.text(tick));
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" \
                 class=\"mid\">{text}</text>",
                bottom + 17.0
            );
        }
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{}\" class=\"mid label\">{}</text>\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" class=\"mid label\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escape(&self.x.label),
            (TOP + bottom) / 2.0,
            escape(&self.y.label)
        );
    }

    fn series(&self, series: &Series, out: &mut String) {
        if series.points.is_empty() {
            return;
        }
        if series.mark == Mark::Bars {
            return self.bars(series, out);
        }
        let mut path = String::new();
        for (number, (x, y)) in series.points.iter().enumerate() {
            let command = if number == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x(*x), self.y(*y));
        }
        let (class, close) = match series.mark {
            Mark::Band => ("f", "Z"),
            _ => ("c", ""),
        };
        let name = escape(&series.name);
        let _ = writeln!(
            out,
            "<path class=\"{class}{}\" d=\"{path}{close}\"><title>{name}</title></path>",
            series.color
        );
        if series.mark == Mark::Line && series.points.len() <= 150 {
            for (x, y) in &series.points {
                let said = format!("{name} {}: {}", self.x.text(*x), self.y.text(*y));
                let _ = writeln!(
                    out,
                    "<circle class=\"b{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"><title>{}</title>\
                     </circle>",
                    series.color,
                    self.x(*x),
                    self.y(*y),
                    said
                );
            }
        }
    }

    fn bars(&self, series: &Series, out: &mut String) {
        let bottom = HEIGHT - BOTTOM;
        for pair in series.points.windows(2) {
            let (x, y) = pair[0];
            if y <= 0.0 {
                continue;
            }
            let (left, top) = (self.x(x), self.y(y));
            let width = (self.x(pair[1].0) - left - 1.0).max(1.0);
            let _ = writeln!(
                out,
                "<rect class=\"b{}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\"><title>{} to {}: {}</title></rect>",
                series.color,
                (bottom - top).max(0.5),
                escape(&self.x.text(x)),
                escape(&self.x.text(pair[1].0)),
                escape(&self.y.text(y))
            );
        }
    }
}

/// Text within HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round_numbers_inside() {
        assert_eq!(linear_ticks(0.0, 100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(log_ticks(9.0, 110.0), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!(log_ticks(1.0, 1e5).len(), 6);
        let ticks = Axis::quantiles(1_000_000).ticks();
        assert_eq!(ticks.len(), 8, "{ticks:?}");
        let texts: Vec<String> = ticks[..5].iter().map(|t| Axis::quantiles(10).text(*t)).collect();
        assert_eq!(texts, ["0%", "50%", "90%", "99%", "99.9%"]);
    }

    #[test]
    fn units_are_written_as_people_write_them() {
        let axis = Axis::log("", Unit::Nanoseconds, 1.0, 1e9);
        let texts = [5.0, 1500.0, 2e6, 1e9].map(|v| axis.text(v));
        assert_eq!(texts, ["5 ns", "1.5 µs", "2 ms", "1 s"]);
        assert_eq!(Axis::linear("", Unit::Plain, 1e5).text(25_000.0), "25k");
        assert_eq!(escape("a<b>&\"c\""), "a&lt;b&gt;&amp;&quot;c&quot;");
    }

    proptest! {
        #[test]
        fn every_value_is_drawn_inside(
            values in prop::collection::vec((0.0_f64..1.0, 0.0_f64..1e10), 0..50),
            count in 0_u64..1_000_000,
        ) {
            let max = values.iter().map(|v| v.1).fold(0.0, f64::max);
            let y = Axis::log("y", Unit::Nanoseconds, 1.0, max);
            let x = Axis::quantiles(count);
            let name = "s".to_owned();
            let series = Series { name, color: 1, mark: Mark::Line, points: values };
            let plot = Plot { x, y, series: vec![series], rule: None };
            let svg = plot.svg();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
            for (x, y) in &plot.series[0].points {
                prop_assert!((LEFT..=WIDTH - RIGHT).contains(&plot.x(*x)));
                prop_assert!((TOP..=HEIGHT - BOTTOM + 0.001).contains(&plot.y(*y)));
            }
        }
    }
}
