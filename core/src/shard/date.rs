//! The value of the `date` field (RFC 9110 5.6.7).
//!
//! What it leaves to others: what time it is.

use tidegate_io::Now;

/// The value of the `date` field, made anew when the second changes (RFC 9110 5.6.7).
#[derive(Debug, Default)]
pub struct Date {
    second: u64,
    text: [u8; 29],
}

impl Date {
    pub(super) fn update(&mut self, now: Now) {
        let second = now.unix_us / 1_000_000;
        if second != self.second {
            self.second = second;
            self.text = imf_fixdate(second);
        }
    }

    /// The same, to keep.
    #[must_use]
    pub fn text(&self) -> &[u8; 29] {
        &self.text
    }

    /// For example `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// Seconds since 1970 as IMF-fixdate.
fn imf_fixdate(second: u64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let days = second / 86_400;
    let (year, month, day) = civil_date(days);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let weekday = (days % 7) as usize * 3;
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    let month = (month as usize - 1) * 3;
    text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
    let mut two = |at: usize, value: u64| {
        text[at] = b'0' + (value / 10 % 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    };
    two(5, day);
    two(12, year / 100);
    two(14, year % 100);
    two(17, second / 3600 % 24);
    two(20, second / 60 % 60);
    two(23, second % 60);
    text
}

/// Days since 1970 as year, month and day; counts in years that begin on 1 March, so that leap days
/// come last.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_795_205_703, "Fri, 20 Nov 2026 20:15:03 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(second)).unwrap(), text);
        }
    }
}
