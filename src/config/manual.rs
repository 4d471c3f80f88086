//! The manual of settings, as text and as JSON.
//!
//! *Owns*: its layout. *Never*: says what no row says. *Runs on*: nowhere in the broker; `corelog settings` prints it.

use std::fmt::Write;

use super::row::Row;
use super::table::{Settings, TABLE};

const WIDTH: usize = 100;
const INDENT: &str = "    ";

/// The manual for reading.
pub fn manual_text() -> String {
    let mut out = String::from(
        "Settings of corelog. Each can be given in the file of --config as `name=value`, in the environment, or as\n\
         a flag; a flag beats the environment, which beats the file, which beats the default. What is changed while the\n\
         broker runs (AlterConfigs) beats them all, and is kept. A topic's or a group's own setting beats the\n\
         broker's. Flags and variables also take sizes as 64MiB and times as 7d.\n",
    );
    let mut heading = "";
    for row in TABLE {
        if row.heading() != heading {
            heading = row.heading();
            write!(out, "\n{heading}\n{}\n", "-".repeat(heading.len())).expect("writing to a string");
        }
        entry(&mut out, row);
    }
    out
}

/// The manual for programs: an array of objects, one a setting.
pub fn manual_json() -> String {
    let defaults = Settings::default();
    let mut out = String::from("[");
    for (index, row) in TABLE.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { ",\n" });
        let mut fields = vec![
            ("name", quoted(row.name)),
            ("type", quoted(row.kind.name())),
            ("default", quoted(&row.show(&defaults))),
        ];
        if !row.range().is_empty() {
            fields.push(("range", quoted(&row.range())));
        }
        if let Some(name) = row.topic_name {
            fields.push(("topic_name", quoted(name)));
        }
        if let Some(name) = row.group_name {
            fields.push(("group_name", quoted(name)));
        }
        fields.push(("dynamic", row.dynamic.to_string()));
        let aliases: Vec<String> = row.aliases.iter().map(|(name, _)| quoted(name)).collect();
        fields.push(("aliases", format!("[{}]", aliases.join(", "))));
        fields.push(("flag", quoted(&format!("--{}", row.flag()))));
        fields.push(("variable", quoted(&row.variable())));
        fields.push(("heading", quoted(row.heading())));
        fields.push(("doc", quoted(&row.doc())));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        write!(out, "  {{{}}}", fields.join(", ")).expect("writing to a string");
    }
    out.push_str("\n]\n");
    out
}

fn entry(out: &mut String, row: &Row) {
    let mut facts = format!("{}, default {}", row.kind.name(), row.default_text());
    if row.dynamic {
        facts.push_str("; can change while the broker runs");
    }
    if !row.range().is_empty() {
        write!(facts, "; {}", row.range()).expect("writing to a string");
    }
    writeln!(out, "\n{}", row.name).expect("writing to a string");
    wrap(out, &facts);
    wrap(out, &row.doc());
    let mut names = format!("--{}, {}", row.flag(), row.variable());
    if let Some(name) = row.topic_name {
        write!(names, "; in a topic: {name}").expect("writing to a string");
    }
    if let Some(name) = row.group_name {
        write!(names, "; in a group: {name}").expect("writing to a string");
    }
    if !row.aliases.is_empty() {
        let aliases: Vec<&str> = row.aliases.iter().map(|(name, _)| *name).collect();
        write!(names, "; in the file also: {}", aliases.join(", ")).expect("writing to a string");
    }
    wrap(out, &names);
}

fn wrap(out: &mut String, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column == 0 || column + 1 + length > WIDTH {
            out.push_str(if column == 0 { INDENT } else { "\n    " });
            column = INDENT.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_names_every_setting_and_stays_narrow() {
        let (text, json) = (manual_text(), manual_json());
        for row in TABLE {
            assert!(text.contains(&format!("\n{}\n", row.name)), "{}", row.name);
            assert!(text.contains(&row.variable()) && text.contains(&row.flag()), "{}", row.name);
            assert!(json.contains(&format!("\"name\": \"{}\"", row.name)), "{}", row.name);
        }
        assert!(text.lines().all(|line| line.chars().count() <= 112), "a line is too long");
        assert_eq!(json.lines().count(), TABLE.len() + 2);
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n−"), "\"a\\\"b\\\\c\\u000a−\"");
    }
}
