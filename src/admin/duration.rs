//! Durations as people and ISO 8601 write them.
//!
//! *Owns*: reading them. *Never*: guesses a unit. *Runs on*: any thread.

use std::time::Duration;

/// Reads `90s`, `1h30m`, `2d`, or ISO 8601's `PT1H30M`. A number alone is refused: it could be seconds or milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration, such as 500ms, 30s, 1h30m, 7d or PT1H30M");
    let units: &[(&str, u64)] =
        &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];
    let plain = plain_form(text).ok_or_else(wrong)?;
    let mut rest = plain.as_str();
    let mut ms = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (_, scale) = units.iter().find(|(unit, _)| *unit == &rest[..end]).ok_or_else(wrong)?;
        ms = number.checked_mul(*scale).and_then(|part| ms.checked_add(part)).ok_or_else(wrong)?;
        rest = &rest[end..];
    }
    // Times on the wire are signed.
    if i64::try_from(ms).is_ok() && ms > 0 { Ok(Duration::from_millis(ms)) } else { Err(wrong()) }
}

/// ISO 8601's form as ours: whole numbers, and no months or years, whose lengths differ.
fn plain_form(text: &str) -> Option<String> {
    let Some(iso) = text.strip_prefix('P') else { return Some(text.to_owned()).filter(|text| !text.is_empty()) };
    let (date, time) = match iso.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (iso, ""),
    };
    let is_good = date.chars().all(|c| c.is_ascii_digit() || matches!(c, 'D' | 'W'))
        && time.chars().all(|c| c.is_ascii_digit() || matches!(c, 'H' | 'M' | 'S'));
    (is_good && !(date.is_empty() && time.is_empty())).then(|| format!("{date}{time}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expect_ms) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("2w", Some(1_209_600_000)),
            ("PT1H30M", Some(5_400_000)),
            ("P1DT12H", Some(129_600_000)),
            ("P2W", Some(1_209_600_000)),
            ("", None),
            ("30", None),
            ("0s", None),
            ("s", None),
            ("1y", None),
            ("-1h", None),
            ("P1M", None),
            ("P", None),
            ("PT", None),
            ("P1DT", None),
            ("99999999999999999999s", None),
            ("9999999999999999d", None),
        ] {
            assert_eq!(parse_duration(text).ok(), expect_ms.map(Duration::from_millis), "{text}");
        }
    }
}
