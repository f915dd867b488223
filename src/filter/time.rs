//! Dates and times in ISO 8601.

use crate::model::Timestamp;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// The years 0000 to 9999, in UTC.
const FIRST: i64 = -62_167_219_200_000_000;
const LAST: i64 = 253_402_300_799_999_999;

/// Reads `YYYY-MM-DD`, with an optional time of day to microseconds and an optional offset; without one it is UTC.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = days(date)?;
    let (clock, offset) = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => ("00:00", 0),
        None => return None,
        Some(time) => match time.find(['Z', 'z', '+', '-']) {
            None => (time, 0),
            Some(at) => (&time[..at], offset(&time[at..])?),
        },
    };
    let micros = micros_of_day(clock)?;
    let time = day * DAY + micros - offset;
    (FIRST..=LAST).contains(&time).then_some(Timestamp(time))
}

/// As [`parse_time`] reads it.
pub fn format_time(time: Timestamp) -> String {
    let (day, micros) = (time.0.div_euclid(DAY), time.0.rem_euclid(DAY));
    let (year, month, date) = civil(day);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// Year, month and day of so many days since 1970-01-01; the inverse of [`days`], from the same source.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let date = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, date)
}

fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes[4] != b'-' || bytes[7] != b'-' || !date.is_ascii() {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

fn micros_of_day(clock: &str) -> Option<i64> {
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?)?;
    let minute = digits(parts.next()?)?;
    let second = parts.next().map_or(Some(0), digits)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(fraction) if fraction.len() <= 9 => digits(&format!("{fraction:0<6}")[..6])?,
        Some(_) => return None,
    };
    Some((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)
}

fn offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes()[0] {
        b'Z' | b'z' => return (text.len() == 1).then_some(0),
        b'+' => 1,
        _ => -1,
    };
    let digits_only = text[1..].replace(':', "");
    let (hours, minutes) = match digits_only.len() {
        2 => (digits(&digits_only)?, 0),
        4 => (digits(&digits_only[..2])?, digits(&digits_only[2..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for time in [0, -1, 951_868_800_250_000, FIRST, LAST, 1_709_164_800_000_000] {
            assert_eq!(parse_time(&format_time(Timestamp(time))), Some(Timestamp(time)), "{time}");
        }
        assert_eq!(format_time(Timestamp(-1)), "1969-12-31T23:59:59.999999Z");
        assert_eq!(parse_time("0000-01-01T00:00+01:00"), None);
    }

    #[test]
    fn times_are_read() {
        let read = |text: &str| parse_time(text).map(|t| t.0);
        assert_eq!(read("1970-01-01"), Some(0));
        assert_eq!(read("2000-03-01T00:00:00Z"), Some(951_868_800_000_000));
        assert_eq!(read("2000-03-01T01:30:00.25+01:30"), Some(951_868_800_250_000));
        assert_eq!(read("1969-12-31T23:59:59.999999"), Some(-1));
        for bad in ["2000-02-30", "2000-13-01", "2000-01-01X", "2000-01-01T25:00", "é000-01-01", "2000-01-01T10:00+9"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
