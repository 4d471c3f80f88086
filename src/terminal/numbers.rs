//! Numbers as people read them.
//!
//! *Owns*: the form of times, counts and rates in all tables. *Never*: knows what is counted. *Runs on*: any thread.

/// A measured time: three digits and a unit.
pub fn duration(ns: u64) -> String {
    // Each unit goes to where three digits would round up to the next one.
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..999_500 => (ns as f64 / 1e3, "µs"),
        999_500..999_500_000 => (ns as f64 / 1e6, "ms"),
        999_500_000..100_000_000_000 => (ns as f64 / 1e9, "s"),
        _ => return clock(ns),
    };
    format!("{} {unit}", three_digits(value))
}

/// A time to wait: whole seconds, minutes, hours.
pub fn clock(ns: u64) -> String {
    let s = ns.div_ceil(1_000_000_000);
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} m {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} m"),
    }
}

/// A count, its digits in groups of three.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 partition`, `1,200 partitions`.
pub fn counted(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), if value == 1 { "" } else { "s" })
}

/// A large number in three digits: `1.25 M`.
pub fn short(value: f64) -> String {
    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    match value {
        0.0..999.5 => three_digits(value),
        999.5..999_500.0 => format!("{} k", three_digits(value / 1e3)),
        999_500.0..999_500_000.0 => format!("{} M", three_digits(value / 1e6)),
        _ => format!("{} G", three_digits(value / 1e9)),
    }
}

/// Bytes, in decimal units as disks and networks are sold.
pub fn bytes(value: u64) -> String {
    format!("{}B", short(value as f64)).replace("B", if value < 1000 { " B" } else { "B" })
}

fn three_digits(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        // Rounded up these would have a digit more.
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_true() {
        for (ns, expect) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (123_456, "123 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (999_500_000, "1.00 s"),
            (59_940_000_000, "59.9 s"),
            (100_000_000_000, "1 m 40 s"),
            (3_600_000_000_000, "1 h 00 m"),
            (u64::MAX, "5124095 h 34 m"),
        ] {
            assert_eq!(duration(ns), expect);
        }
        for (ns, expect) in [(0, "0 s"), (1, "1 s"), (59_000_000_001, "1 m 00 s"), (7_325_000_000_000, "2 h 02 m")] {
            assert_eq!(clock(ns), expect);
        }
    }

    #[test]
    fn numbers_are_short_and_true() {
        for (value, expect) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(value), expect);
        }
        assert_eq!((counted(1, "topic"), counted(1200, "topic")), ("1 topic".into(), "1,200 topics".into()));
        for (value, expect) in [
            (0.0, "0"),
            (1.5, "1.50"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (999_600.0, "1.00 M"),
            (6.28e6, "6.28 M"),
            (1.5e12, "1500 G"),
            (-1.0, "0"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(short(value), expect);
        }
        for (value, expect) in [(0, "0 B"), (512, "512 B"), (1_000, "1.00 kB"), (1_500_000_000, "1.50 GB")] {
            assert_eq!(bytes(value), expect);
        }
    }
}
