//! The settings file: lines of `name=value`, as in Kafka's `server.properties`.
//!
//! *Owns*: the syntax. *Never*: opens the file, or knows a name. *Runs on*: core 0, at start.

use std::cmp::Reverse;

use super::row::{Notation, Origin, SettingError};
use super::table::{Settings, TABLE};

/// One assignment and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileLine {
    /// From 1.
    pub number: usize,
    pub name: String,
    pub value: String,
}

/// Splits a file into its assignments. Blank lines and lines that begin with `#` or `!` are left out. Spaces around
/// name and value do not count. Java's continuation lines and escapes are refused rather than misread.
pub fn parse_file(text: &str) -> Result<Vec<FileLine>, SettingError> {
    let mut lines: Vec<FileLine> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let wrong = |message: &str| SettingError { name: format!("line {number}:"), message: message.to_owned() };
        let Some((name, value)) = line.split_once('=') else {
            return Err(wrong(&format!("`{line}` is not name=value")));
        };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err(wrong("there is no name before `=`"));
        }
        if value.ends_with('\\') {
            return Err(wrong("a value cannot go on in the next line; write it in one"));
        }
        if let Some(first) = lines.iter().find(|earlier| earlier.name == name) {
            return Err(wrong(&format!("{name} was set in line {} already; remove one", first.number)));
        }
        lines.push(FileLine { number, name: name.to_owned(), value: value.to_owned() });
    }
    Ok(lines)
}

impl Settings {
    /// Takes over what a settings file says. Where a setting is there under several names, the one in the finest
    /// unit counts, as in Kafka. Errors carry the line's number; some lines may have been taken.
    pub fn set_from_file(&mut self, text: &str) -> Result<(), SettingError> {
        let mut lines = parse_file(text)?;
        lines.sort_by_key(|line| Reverse(coarseness(&line.name)));
        for line in lines {
            self.set(&line.name, &line.value, Notation::Kafka, Origin::File)
                .map_err(|error| SettingError { name: format!("line {}: {}", line.number, error.name), ..error })?;
        }
        Ok(())
    }
}

/// 0 for a setting's own name, otherwise the factor of the alias.
fn coarseness(name: &str) -> i64 {
    TABLE.iter().flat_map(|row| row.aliases).find(|(alias, _)| *alias == name).map_or(0, |(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_or_refused_with_the_line() {
        let check = |text: &str, expect: Result<&[(usize, &str, &str)], &str>| match (parse_file(text), expect) {
            (Ok(lines), Ok(wanted)) => {
                let got: Vec<_> = lines.iter().map(|l| (l.number, l.name.as_str(), l.value.as_str())).collect();
                assert_eq!(got, wanted, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("", Ok(&[]));
        check("# a\n! b\n\n  a.b = c d \r\nx=\ny=1=2", Ok(&[(4, "a.b", "c d"), (5, "x", ""), (6, "y", "1=2")]));
        check("a=1\nb", Err("line 2: `b` is not name=value"));
        check("=1", Err("line 1: there is no name"));
        check("a=1\n#\na=2", Err("line 3: a was set in line 1 already"));
        check("a=b,\\\n c", Err("line 1: a value cannot go on"));
    }

    #[test]
    fn a_file_is_taken_over_or_refused_with_line_and_nearest_name() {
        let check = |text: &str, expect: &str| {
            let error = Settings::default().set_from_file(text).expect_err("refused");
            assert_eq!(error.to_string(), expect);
        };
        check("\nnum.partition=3", "line 2: num.partition is not a setting; did you mean `num.partitions`?");
        check("num.partitions=x", "line 1: num.partitions must be a whole number, not `x`");
        let mut settings = Settings::default();
        settings.set_from_file("num.partitions=3\nlog.roll.hours=1").expect("good");
        assert_eq!((settings.num_partitions, settings.log_roll_ms), (3, 3_600_000));
        let retention = ["log.retention.minutes=5", "log.retention.ms=7", "log.retention.hours=168"];
        for turn in 0..3 {
            let mut lines = retention;
            lines.rotate_left(turn);
            let mut settings = Settings::default();
            settings.set_from_file(&lines.join("\n")).expect("good");
            assert_eq!(settings.log_retention_ms, 7);
            let mut settings = Settings::default();
            settings.set_from_file(&lines.join("\n").replace("log.retention.ms", "#")).expect("good");
            assert_eq!(settings.log_retention_ms, 300_000);
        }
    }
}
