//! Moments as ISO 8601 and people write them.
//!
//! *Owns*: reading and showing them. *Never*: asks the clock, or knows a time zone other than by its offset.
//! *Runs on*: any thread.

const DAY_MS: i64 = 86_400_000;

/// A smaller number alone is more likely seconds, or a year.
const MS_MIN: i64 = 100_000_000_000;

/// Reads `2026-03-01T12:30:00Z`, with a fraction, an offset or neither time nor zone (UTC then), or milliseconds since
/// 1970.
pub fn parse_moment(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>()
        && ms >= MS_MIN
    {
        return Ok(ms);
    }
    moment_ms(text).filter(|ms| *ms >= 0).ok_or_else(|| {
        format!(
            "`{text}` is no moment since 1970, such as 2026-03-01T12:30:00Z, 2026-03-01T12:30:00.5+01:00, 2026-03-01 \
             (UTC) or 1772368200000 (milliseconds)"
        )
    })
}

/// A moment in UTC, to the millisecond where it has any.
pub fn show_moment(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    let fraction = if in_day % 1000 == 0 { String::new() } else { format!(".{:03}", in_day % 1000) };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

fn moment_ms(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let days = days(date)?;
    let sign = clock.rfind(['+', '-', 'Z']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(sign);
    let offset_ms = match zone {
        "" | "Z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "0"));
            let ms = number(hours, 0, 18)? * 3_600_000 + number(minutes, 0, 59)? * 60_000;
            if zone.starts_with('-') { -ms } else { ms }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 0, 23)?;
    let minute = number(parts.next()?, 0, 59)?;
    let second = parts.next().map_or(Some(0), |second| number(second, 0, 59))?;
    if parts.next().is_some() || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = number(&format!("{fraction:0<9}"), 0, 999_999_999)?;
    Some(days * DAY_MS + hour * 3_600_000 + minute * 60_000 + second * 1000 + nanoseconds / 1_000_000 - offset_ms)
}

/// Days since 1970 of a date in Gregory's calendar.
fn days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let (year, month, day) = (number(parts.next()?, 1970, 9999)?, parts.next()?, parts.next()?);
    let month = number(month, 1, 12)?;
    let day = number(day, 1, 31)?;
    // Months count from March, so that the leap day is a year's last.
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let in_year = (153 * from_march + 2) / 5 + day - 1;
    let found = year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719_468;
    // The 31st of a shorter month is a day of the next.
    (parts.next().is_none() && date(found).2 == day).then_some(found)
}

/// Year, month and day.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, in_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_digits && (min..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        for (text, expect) in [
            ("1970-01-01", "1970-01-01T00:00:00Z"),
            ("1772368200000", "2026-03-01T12:30:00Z"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01T12:30", "2026-03-01T12:30:00Z"),
            ("2026-03-01 12:30:15.25", "2026-03-01T12:30:15.250Z"),
            ("2026-03-01T00:30:00+01:00", "2026-02-28T23:30:00Z"),
            ("2024-02-29T23:59:59.999Z", "2024-02-29T23:59:59.999Z"),
            ("2000-12-31T20:00:00-05:30", "2001-01-01T01:30:00Z"),
            ("9999-12-31", "9999-12-31T00:00:00Z"),
        ] {
            assert_eq!(parse_moment(text).map(show_moment).as_deref(), Ok(expect), "{text}");
        }
        for text in [
            "",
            "-1",
            "now",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "1969-12-31",
            "2026-03-01T24:00",
            "2026-03-01T1:2:3:4",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }
}
