//! Numbers as people type them: durations (`30`, `1m30s`, `500us`), counts (`20k`), rates
//! (`500/1s`), and the same written out again.
//!
//! What it leaves to others: which option a number belongs to.

use std::time::Duration;

/// `30`, `30s`, `1m30s`, `1.5h`, `500us`. A number without a unit is seconds, as for wrk.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: 30, 30s, 100ms, 1m30s, 2h");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Duration::try_from_secs_f64(total).map_err(|_| wrong())
    }
}

/// Whether a text can only be meant as a duration: a number with a unit of time.
pub fn is_duration_with_unit(text: &str) -> bool {
    text.parse::<f64>().is_err() && duration(text).is_ok()
}

/// `500`, `20k`, `1.5m`: k, m and g are powers of 1000, in either case.
pub fn count(text: &str) -> Result<u64, String> {
    let number = scaled(text, 1000.0)?;
    Ok(number.round() as u64)
}

/// A size in bytes: as [`count`], but k, m and g are powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.strip_suffix(['b', 'B']).unwrap_or(text);
    let number = scaled(text.strip_suffix('i').unwrap_or(text), 1024.0)?;
    Ok(number.round() as u64)
}

fn scaled(text: &str, step: f64) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no number: 500, 20k, 1.5m");
    let (digits, factor) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], step),
        Some('m' | 'M') => (&text[..text.len() - 1], step * step),
        Some('g' | 'G') => (&text[..text.len() - 1], step * step * step),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let number = number * factor;
    if number.is_finite() && (0.0..1e15).contains(&number) { Ok(number) } else { Err(wrong()) }
}

/// Requests per second: `500`, `20k`, and vegeta's `500/1s`, `30/1m`, `20k/s`. Zero and
/// `infinity` are no rate: as fast as answers come.
pub fn rate(text: &str) -> Result<f64, String> {
    if text == "infinity" {
        return Ok(0.0);
    }
    let Some((number, unit)) = text.split_once('/') else { return scaled(text, 1000.0) };
    let unit = if unit.starts_with(|c: char| c.is_ascii_digit()) {
        duration(unit)?
    } else {
        duration(&format!("1{unit}"))?
    };
    if unit.is_zero() {
        return Err(format!("`{text}` is no rate: 500/1s"));
    }
    Ok(scaled(number, 1000.0)? / unit.as_secs_f64())
}

/// wrk's form of a time: `9.75ms`, `1.32s`.
pub fn wrk_time(nanoseconds: f64) -> String {
    let us = nanoseconds / 1e3;
    match us {
        _ if us < 1000.0 => format!("{us:.2}us"),
        _ if us < 1e6 => format!("{:.2}ms", us / 1e3),
        _ if us < 60e6 => format!("{:.2}s", us / 1e6),
        _ if us < 3600e6 => format!("{:.2}m", us / 60e6),
        _ => format!("{:.2}h", us / 3600e6),
    }
}

/// wrk's form of a number: `2.50k`.
pub fn wrk_number(number: f64) -> String {
    match number {
        _ if number < 1e3 => format!("{number:.2}"),
        _ if number < 1e6 => format!("{:.2}k", number / 1e3),
        _ if number < 1e9 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.2}G", number / 1e9),
    }
}

/// wrk's form of a size: `19.81MB`.
pub fn wrk_bytes(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1024.0 => format!("{bytes:.2}B"),
        _ if bytes < 1048576.0 => format!("{:.2}KB", bytes / 1024.0),
        _ if bytes < 1073741824.0 => format!("{:.2}MB", bytes / 1048576.0),
        _ => format!("{:.2}GB", bytes / 1073741824.0),
    }
}

/// Go's form of a duration, as vegeta prints it: `1.5ms`, `1m30s`.
pub fn go_duration(nanoseconds: u64) -> String {
    let short = |value: f64, unit: &str| {
        let text = format!("{value:.9}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => short(nanoseconds as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => short(nanoseconds as f64 / 1e6, "ms"),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let seconds = short(rest as f64 / 1e9, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_of_every_form() {
        let cases = [
            ("30", 30_000_000_000),
            ("0.5", 500_000_000),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500us", 500_000),
            ("500µs", 500_000),
            ("7ns", 7),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(duration(text).unwrap().as_nanos(), nanoseconds, "{text}");
        }
        for text in ["", "s", "1d", "10 s", "-3", "-3s", "1s2", "nan", "inf", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(is_duration_with_unit("10s") && !is_duration_with_unit("10"));
    }

    #[test]
    fn rates_counts_and_sizes() {
        assert_eq!(rate("2000"), Ok(2000.0));
        assert_eq!(rate("20k"), Ok(20_000.0));
        assert_eq!(rate("500/1s"), Ok(500.0));
        assert_eq!(rate("30/1m"), Ok(0.5));
        assert_eq!(rate("1k/s"), Ok(1000.0));
        assert_eq!(rate("5/100ms"), Ok(50.0));
        assert_eq!(rate("infinity"), Ok(0.0));
        for text in ["", "k", "-5", "5/0s", "5/x", "nan"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!((count("1.5m"), count("20K")), (Ok(1_500_000), Ok(20_000)));
        assert_eq!((bytes("1k"), bytes("1KiB"), bytes("7")), (Ok(1024), Ok(1024), Ok(7)));
    }

    #[test]
    fn numbers_look_as_in_the_tools_that_print_them() {
        assert_eq!(wrk_time(6_464_000.0), "6.46ms");
        assert_eq!(wrk_time(61e9), "1.02m");
        assert_eq!(wrk_number(1050.0), "1.05k");
        assert_eq!(wrk_bytes(20_772_290.0), "19.81MB");
        let times = [
            (0, "0s"),
            (90_438_129, "90.438129ms"),
            (9_949_883_921, "9.949883921s"),
            (622_289, "622.289µs"),
            (1_500_000, "1.5ms"),
            (90_000_000_000, "1m30s"),
        ];
        for (nanoseconds, text) in times {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_in_gos_form_is_read_again(nanoseconds in 0_u64..100_000_000_000_000) {
            let read = duration(&go_duration(nanoseconds)).unwrap().as_nanos() as u64;
            prop_assert!(read.abs_diff(nanoseconds) <= 1 + nanoseconds / 1_000_000_000);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,12}") {
            let _ = (duration(&text), rate(&text), count(&text), bytes(&text));
        }
    }
}
