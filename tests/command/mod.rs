//! The tools that ask a broker, as commands of the real binary: what they say, and how they end.
#![allow(dead_code)]

use std::process::{Command, Output};

use serde_json::Value;

use crate::binary::Broker;

/// Exit codes.
pub const DONE: i32 = 0;
pub const NOT_DONE: i32 = 1;
pub const WRONG: i32 = 2;
pub const NO_ANSWER: i32 = 3;

fn tool(bootstrap: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
    command.args(arguments).args(["--bootstrap", bootstrap]).output().expect("the binary runs")
}

/// What it says to people, on both outputs, after checking how it ends.
pub fn said(bootstrap: &str, arguments: &[&str], code: i32) -> String {
    let output = tool(bootstrap, arguments);
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    assert!(!text.contains('\x1b'), "colours are for terminals: {text:?}");
    text
}

pub fn says(bootstrap: &str, arguments: &[&str], code: i32, parts: &[&str]) {
    let text = said(bootstrap, arguments, code);
    parts.iter().for_each(|part| assert!(text.contains(part), "{arguments:?}: no `{part}` in\n{text}"));
}

pub fn json_of(bootstrap: &str, arguments: &[&str], code: i32) -> Value {
    let output = tool(bootstrap, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// The names of an object's members, which programs rely on.
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

pub fn started(dir: &std::path::Path, arguments: &[&str]) -> (Broker, String) {
    let broker = Broker::start(dir, arguments);
    let bootstrap = broker.address.to_string();
    (broker, bootstrap)
}
