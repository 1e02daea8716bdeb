//! The format of a log line: the part of spdlog's pattern language that Envoy's users write.
//!
//! What it leaves to others: where lines go.

use super::{Component, Level};
use std::fmt::Write;
use std::time::Duration;
use tidegate_io::Now;

/// Envoy's default format without the source file and line, which would mean nothing to an
/// operator.
pub const DEFAULT_FORMAT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] %v";

/// A compiled `--log-format`. Times are UTC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(String),
    Flag(char),
}

impl Default for Format {
    fn default() -> Format {
        Format::new(DEFAULT_FORMAT)
    }
}

impl Format {
    /// Compiles a pattern. Known flags: `%Y %m %d %H %M %S %T %e %f %E %t %P %l %L %n %v %_ %j %%`;
    /// `%^ %$` (colours) and `%g %s %#` (source places) print nothing; any other flag is printed as
    /// it stands.
    #[must_use]
    pub fn new(pattern: &str) -> Format {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                literal.push(character);
                continue;
            }
            match characters.next() {
                Some('%') => literal.push('%'),
                Some('^' | '$' | 'g' | 's' | '#') => {}
                Some(flag) if "YmdHMSTefEtPlLnv_j".contains(flag) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Flag(flag));
                }
                Some(other) => {
                    literal.push('%');
                    literal.push(other);
                }
                None => literal.push('%'),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Format { parts }
    }

    /// One line, without its end.
    pub(super) fn line(&self, level: Level, component: Component, text: &str) -> String {
        let now = Duration::from_micros(Now::read().unix_us);
        self.line_at(now, level, component, text)
    }

    fn line_at(&self, at: Duration, level: Level, component: Component, text: &str) -> String {
        let mut line = String::with_capacity(64 + text.len());
        let time = Civil::of(at);
        for part in &self.parts {
            match part {
                Part::Literal(literal) => line.push_str(literal),
                Part::Flag(flag) => flag_text(&mut line, *flag, &time, level, component, text),
            }
        }
        line
    }
}

fn flag_text(
    line: &mut String,
    flag: char,
    time: &Civil,
    level: Level,
    component: Component,
    text: &str,
) {
    // Writing to a String cannot fail.
    let _ = match flag {
        'Y' => write!(line, "{:04}", time.year),
        'm' => write!(line, "{:02}", time.month),
        'd' => write!(line, "{:02}", time.day),
        'H' => write!(line, "{:02}", time.hour),
        'M' => write!(line, "{:02}", time.minute),
        'S' => write!(line, "{:02}", time.second),
        'T' => write!(line, "{:02}:{:02}:{:02}", time.hour, time.minute, time.second),
        'e' => write!(line, "{:03}", time.microsecond / 1000),
        'f' => write!(line, "{:06}", time.microsecond),
        'E' => write!(line, "{}", time.unix_s),
        't' => write!(line, "{}", rustix::thread::gettid().as_raw_nonzero()),
        'P' => write!(line, "{}", std::process::id()),
        'l' => write!(line, "{}", level.name()),
        'L' => write!(line, "{}", &level.name()[..1].to_uppercase()),
        'n' => write!(line, "{}", component.name()),
        '_' => write!(line, "{}", text.replace('\n', "\\n")),
        'j' => write!(line, "{}", serde_json::Value::from(text).to_string().trim_matches('"')),
        _ => write!(line, "{text}"),
    };
}

/// A point in time by the Gregorian calendar, UTC.
struct Civil {
    year: i64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    microsecond: u32,
    unix_s: u64,
}

impl Civil {
    /// Howard Hinnant's `civil_from_days`, for times after 1970.
    fn of(at: Duration) -> Civil {
        let unix_s = at.as_secs();
        let days = i64::try_from(unix_s / 86_400).unwrap_or(0) + 719_468;
        let era = days / 146_097;
        let day_of_era = (days % 146_097).unsigned_abs();
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = i64::try_from(year_of_era).unwrap_or(0) + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: unix_s / 3600 % 24,
            minute: unix_s / 60 % 60,
            second: unix_s % 60,
            microsecond: at.subsec_micros(),
            unix_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pattern: &str, unix_ms: u64, text: &str) -> String {
        let at = Duration::from_millis(unix_ms);
        Format::new(pattern).line_at(at, Level::Warning, Component::Main, text)
    }

    #[test]
    fn the_default_format_is_envoys() {
        let line = line(DEFAULT_FORMAT, 1_795_186_535_042, "hello");
        let (before, rest) = line.split_once("][").unwrap();
        assert_eq!(before, "[2026-11-20 14:55:35.042");
        assert!(rest.ends_with("][warning][main] hello"), "{line}");
    }

    #[test]
    fn dates_at_the_edges_of_months_and_leap_years() {
        for (unix_s, date) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(line("%Y-%m-%d", unix_s * 1000, ""), date);
        }
    }

    #[test]
    fn flags_and_escapes() {
        assert_eq!(line("%L %% %q %^%v%$ %", 0, "a"), "W % %q a %");
        assert_eq!(line("%_", 0, "a\nb"), "a\\nb");
        assert_eq!(line("\"%j\"", 0, "a\"b"), "\"a\\\"b\"");
        assert_eq!(line("[%g:%#] %v", 0, "x"), "[:] x");
    }
}
