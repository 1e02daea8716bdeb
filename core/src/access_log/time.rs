//! `%START_TIME(...)%`: a compiled time format, in UTC.
//!
//! What it leaves to others: reading the clock.

use super::write_number;

/// A compiled time format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TimeFormat(Vec<Item>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Item {
    Literal(Vec<u8>),
    Year,
    YearOfCentury,
    Month,
    MonthName,
    MonthShort,
    Day,
    DaySpace,
    DayOfYear,
    WeekdayName,
    WeekdayShort,
    Hour,
    Hour12,
    HalfDay,
    Minute,
    Second,
    /// So many digits of the second's fraction; those beyond microseconds are 0.
    Fraction(u8),
    Unix,
}

/// A moment, taken apart.
struct Civil {
    unix: u64,
    microseconds: u64,
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From 1.
    day_of_year: u64,
    /// 0 is Sunday.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Default for TimeFormat {
    /// `2026-11-20T14:54:58.087Z`
    fn default() -> TimeFormat {
        TimeFormat::of_line(false)
    }
}

impl TimeFormat {
    /// What a line has without a format: the default, or for `START_TIME_LOCAL`
    /// `2026-11-20T14:54:58.087+0000`. The local time is UTC: time zones are not looked up.
    pub(super) fn of_line(local: bool) -> TimeFormat {
        use Item::{Day, Fraction, Hour, Minute, Month, Second, Year};
        let literal = |text: &str| Item::Literal(text.into());
        TimeFormat(vec![
            Year,
            literal("-"),
            Month,
            literal("-"),
            Day,
            literal("T"),
            Hour,
            literal(":"),
            Minute,
            literal(":"),
            Second,
            literal("."),
            Fraction(3),
            literal(if local { "+0000" } else { "Z" }),
        ])
    }

    /// Parses `strftime`'s conversions, with Envoy's `%f` and `%1f` to `%9f` for the second's
    /// fraction and `%E3S` for seconds with it. The error is the conversion that is not known.
    pub(super) fn parse(format: &str) -> Result<TimeFormat, String> {
        let mut items = TimeFormat(Vec::new());
        let mut rest = format.chars();
        while let Some(char) = rest.next() {
            match char {
                '%' => items.parse_conversion(&mut rest)?,
                other => items.literal(other.encode_utf8(&mut [0; 4])),
            }
        }
        Ok(items)
    }

    fn parse_conversion(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), String> {
        let conversion = rest.next();
        let item = match conversion {
            Some('Y') => Item::Year,
            Some('y') => Item::YearOfCentury,
            Some('m') => Item::Month,
            Some('B') => Item::MonthName,
            Some('b' | 'h') => Item::MonthShort,
            Some('d') => Item::Day,
            Some('e') => Item::DaySpace,
            Some('j') => Item::DayOfYear,
            Some('A') => Item::WeekdayName,
            Some('a') => Item::WeekdayShort,
            Some('H') => Item::Hour,
            Some('I') => Item::Hour12,
            Some('p') => Item::HalfDay,
            Some('M') => Item::Minute,
            Some('S') => Item::Second,
            Some('s') => Item::Unix,
            Some('f') => Item::Fraction(9),
            Some(digit @ '1'..='9') => match rest.next() {
                Some('f') => Item::Fraction(digit as u8 - b'0'),
                _ => return Err(format!("%{digit} without f")),
            },
            Some('E') => return self.parse_extended(rest),
            other => return self.parse_composed(other),
        };
        self.0.push(item);
        Ok(())
    }

    /// `%E3S`, `%E3f`.
    fn parse_extended(&mut self, rest: &mut std::str::Chars<'_>) -> Result<(), String> {
        let (digits, unit) = (rest.next(), rest.next());
        let Some(digits @ '1'..='9') = digits else { return Err("%E".to_owned()) };
        match unit {
            Some('S') => {
                self.0.push(Item::Second);
                self.literal(".");
            }
            Some('f') => {}
            _ => return Err(format!("%E{digits}")),
        }
        self.0.push(Item::Fraction(digits as u8 - b'0'));
        Ok(())
    }

    /// Conversions that stand for text or for several others.
    fn parse_composed(&mut self, conversion: Option<char>) -> Result<(), String> {
        let composed = match conversion {
            Some('T') => "%H:%M:%S",
            Some('R') => "%H:%M",
            Some('F') => "%Y-%m-%d",
            Some('D') => "%m/%d/%y",
            Some(text @ ('Z' | 'z' | '%' | 'n' | 't')) => {
                self.literal(match text {
                    'Z' => "UTC",
                    'z' => "+0000",
                    'n' => "\n",
                    't' => "\t",
                    _ => "%",
                });
                return Ok(());
            }
            Some(other) => return Err(format!("%{other}")),
            None => return Err("% at the end".to_owned()),
        };
        self.0.extend(TimeFormat::parse(composed)?.0);
        Ok(())
    }

    fn literal(&mut self, text: &str) {
        if let Some(Item::Literal(before)) = self.0.last_mut() {
            before.extend_from_slice(text.as_bytes());
        } else {
            self.0.push(Item::Literal(text.into()));
        }
    }

    /// Appends the time, which is in microseconds since 1970.
    pub(super) fn write(&self, out: &mut Vec<u8>, unix_us: u64) {
        let civil = Civil::new(unix_us);
        self.0.iter().for_each(|item| item.write(out, &civil));
    }
}

impl Item {
    fn write(&self, out: &mut Vec<u8>, time: &Civil) {
        let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
        match self {
            Item::Literal(literal) => out.extend_from_slice(literal),
            Item::Year => write_number(out, time.year, 4),
            Item::YearOfCentury => write_number(out, time.year % 100, 2),
            Item::Month => write_number(out, time.month as u64 + 1, 2),
            Item::MonthName => text(MONTHS[time.month]),
            Item::MonthShort => text(&MONTHS[time.month][..3]),
            Item::Day => write_number(out, time.day, 2),
            Item::DaySpace => {
                if time.day < 10 {
                    out.push(b' ');
                }
                write_number(out, time.day, 1);
            }
            Item::DayOfYear => write_number(out, time.day_of_year, 3),
            Item::WeekdayName => text(WEEKDAYS[time.weekday]),
            Item::WeekdayShort => text(&WEEKDAYS[time.weekday][..3]),
            Item::Hour => write_number(out, time.hour, 2),
            Item::Hour12 => write_number(out, (time.hour + 11) % 12 + 1, 2),
            Item::HalfDay => text(if time.hour < 12 { "AM" } else { "PM" }),
            Item::Minute => write_number(out, time.minute, 2),
            Item::Second => write_number(out, time.second, 2),
            Item::Fraction(digits) => {
                let start = out.len();
                write_number(out, time.microseconds * 1_000, 9);
                out.truncate(start + usize::from(*digits));
            }
            Item::Unix => write_number(out, time.unix, 1),
        }
    }
}

impl Civil {
    fn new(unix_us: u64) -> Civil {
        let unix = unix_us / 1_000_000;
        let (days, second_of_day) = (unix / 86_400, unix % 86_400);
        // Years begin on March 1st, so that a leap day is the last of its year; eras are 400 years
        // of 146,097 days (Howard Hinnant, "chrono-compatible low-level date algorithms").
        // 1970-01-01 is day 719,468 of year 0.
        let day = days + 719_468;
        let (era, day_of_era) = (day / 146_097, day % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        // March is 0 in `shifted_month`, 2 in `month`.
        let month = (shifted_month as usize + 2) % 12;
        let year = era * 400 + year_of_era + u64::from(month < 2);
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        // 306 days from March 1st to December 31st.
        let day_of_year = match month {
            0 | 1 => day_of_year - 306 + 1,
            _ => day_of_year + 60 + u64::from(leap),
        };
        Civil {
            unix,
            microseconds: unix_us % 1_000_000,
            year,
            month,
            day,
            day_of_year,
            weekday: ((days + 4) % 7) as usize,
            hour: second_of_day / 3_600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }
}

/// A moment as `2026-11-20T14:54:26.689Z`.
#[must_use]
pub fn iso_8601_ms(unix_us: u64) -> String {
    let mut out = Vec::with_capacity(24);
    TimeFormat::default().write(&mut out, unix_us);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(format: &str, unix_us: u64) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).unwrap().write(&mut out, unix_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_default_is_envoys() {
        let mut out = Vec::new();
        TimeFormat::default().write(&mut out, 1_795_186_498_087_654);
        assert_eq!(out, b"2026-11-20T14:54:58.087Z");
        assert_eq!(write("%Y-%m-%dT%H:%M:%E3SZ", 1_795_186_498_087_654).as_bytes(), out);
    }

    #[test]
    fn calendars_turn_over_where_they_must() {
        let day = |unix_s: u64| write("%F %j %a", unix_s * 1_000_000);
        assert_eq!(day(0), "1970-01-01 001 Thu");
        assert_eq!(day(951_782_400), "2000-02-29 060 Tue");
        assert_eq!(day(951_868_800), "2000-03-01 061 Wed");
        assert_eq!(day(1_798_761_599), "2026-12-31 365 Thu");
        assert_eq!(day(1_709_251_200), "2024-03-01 061 Fri");
        assert_eq!(day(1_735_603_200), "2024-12-31 366 Tue");
        assert_eq!(day(4_107_456_000), "2100-02-28 059 Sun");
        assert_eq!(day(4_107_542_400), "2100-03-01 060 Mon");
    }

    #[test]
    fn conversions_are_strftimes() {
        let at = |format| write(format, 1_795_186_498_087_654);
        assert_eq!(at("%s.%3f"), "1795186498.087");
        assert_eq!(at("%f %1f %6f"), "087654000 0 087654");
        assert_eq!(at("%d/%b/%Y:%T %z %Z"), "20/Nov/2026:14:54:58 +0000 UTC");
        assert_eq!(
            at("%A %B %e %I %p %y %D %R %%"),
            "Friday November 20 02 PM 26 11/20/26 14:54 %"
        );
        assert_eq!(write("%e|%I|%p", 0), " 1|12|AM");
        assert_eq!(at("plain é"), "plain é");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for format in ["%Q", "%", "%3", "%3d", "%E", "%E3", "%Ef", "%EY"] {
            assert!(TimeFormat::parse(format).is_err(), "{format}");
        }
    }
}
