//! The frame of the tools that ask a broker: flags that all have, what they print, how they end.
//!
//! *Owns*: the common flags, the exit codes, the form of a refusal. *Never*: knows a request. *Runs on*: the main
//! thread.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use crate::admin::advice::advice;
use crate::admin::duration::parse_duration;
use crate::client::client::Client;
use crate::client::error::{ClientError, Kind, Refusal};
use crate::terminal::paint::Paint;
use crate::terminal::printed;
use crate::terminal::table::{Cell, Table};
use crate::terminal::waiting::Waiting;

const CLIENT_ID: &str = "corelog-tool";

/// The exit code of a command that was not done, or not all of it.
const NOT_DONE: u8 = 1;
/// Of brokers that do not answer. What became of the last request is not known.
const NO_ANSWER: u8 = 3;

pub const EXIT_CODES: &str = "\
Any broker that speaks Kafka's protocol can be asked. Tables go to standard output, errors to standard error.
Exit codes: 0 done; 1 not done, or not all of it, because a broker refused or one of several is down; 2 the command line
is wrong, and nothing was asked; 3 no broker answered.";

/// One command of a tool.
pub struct Verb {
    pub command: fn() -> Command,
    pub run: fn(&mut Asked<'_>) -> Result<Said, Failure>,
}

/// What a command works with.
pub struct Asked<'a> {
    pub client: Client,
    pub matches: &'a ArgMatches,
    pub paint: Paint,
    /// Says on a terminal what is waited for; taken away by what shows more itself.
    pub waiting: Option<Waiting>,
}

/// What a command has to say, for people and for programs.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub json: Value,
    /// All of what was asked for.
    pub is_done: bool,
}

/// Why a command ended before it had anything to say.
#[derive(Debug)]
pub enum Failure {
    Client(ClientError),
    /// Something stands in the way of what was asked for.
    NotDone(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Client(error) if error.kind == Kind::NoAnswer => NO_ANSWER,
            Failure::Client(_) | Failure::NotDone(_) => NOT_DONE,
        }
    }

    pub fn text(&self) -> String {
        match self {
            Failure::NotDone(message) => message.clone(),
            Failure::Client(error) => match error.kind {
                Kind::NoAnswer => format!("{error}; --bootstrap says which brokers are asked, --timeout how long"),
                Kind::NotSpoken => format!("{error}: this cannot be done with that broker"),
                Kind::Refused(code) => match code.and_then(advice) {
                    Some(advice) => format!("{error}\n{advice}"),
                    None => error.to_string(),
                },
            },
        }
    }
}

impl Asked<'_> {
    /// The values of an argument that may be given several times.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
    }

    pub fn flag(&self, name: &str) -> bool {
        self.matches.get_flag(name)
    }

    /// Tells at once what will be missing from what the command says.
    pub fn complain(&mut self, what: &str) {
        self.waiting = None;
        eprintln!("error: {what}");
    }
}

/// The command with its verbs.
pub fn command(name: &'static str, about: &'static str, verbs: &[Verb]) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(EXIT_CODES)
        .args(common_flags().map(|arg| arg.global(true)))
        .subcommands(verbs.iter().map(|verb| (verb.command)()))
}

/// What everything that asks a broker takes.
pub fn common_flags() -> [Arg; 3] {
    let bootstrap = Arg::new("bootstrap").long("bootstrap").value_name("HOST:PORT,…").default_value("127.0.0.1:9092");
    let timeout = Arg::new("timeout").long("timeout").value_name("TIME").default_value("30s");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    let common = [
        bootstrap.value_parser(parse_bootstrap).help("Brokers to begin with; the first that answers names the others"),
        timeout.value_parser(parse_duration).help("How long a request may take, with all its repetitions"),
        json.help("Print JSON, for programs"),
    ];
    common.map(|arg| arg.help_heading("Common flags"))
}

/// Does what the user asked for, and prints what there is to say.
pub fn run(verbs: &[Verb], matches: &ArgMatches) -> ExitCode {
    let (name, matches) = matches.subcommand().expect("clap asks for one");
    let verb = verbs.iter().find(|verb| (verb.command)().get_name() == name);
    let verb = verb.expect("clap knows the commands from this table");
    let bootstrap: &String = matches.get_one("bootstrap").expect("it has a default");
    let wait: &Duration = matches.get_one("timeout").expect("it has a default");
    let waiting = Waiting::start(format!("for {bootstrap}"));
    let said = Client::connect(bootstrap, CLIENT_ID, *wait).map_err(Failure::from).and_then(|client| {
        let paint = Paint { is_coloured: printed::is_coloured() };
        (verb.run)(&mut Asked { client, matches, paint, waiting: Some(waiting) })
    });
    let (code, printed) = match said {
        Ok(said) => {
            let text = if matches.get_flag("json") { format!("{:#}\n", said.json) } else { said.text };
            (if said.is_done { 0 } else { NOT_DONE }, printed::print(text.as_bytes()))
        }
        Err(failure) => (failure.code(), Err(failure.text())),
    };
    match printed {
        Ok(()) => ExitCode::from(code),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(code.max(NOT_DONE))
        }
    }
}

/// What became of each of several things.
#[derive(Debug)]
pub struct Outcomes {
    /// What the things are: the head of the first column, and their key in JSON.
    what: &'static str,
    key: &'static str,
    rows: Vec<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    name: String,
    /// What was done, in words, or why not.
    result: Result<String, Refusal>,
    /// More members of the JSON object.
    more: Value,
}

impl Outcomes {
    pub fn new(what: &'static str, key: &'static str) -> Outcomes {
        Outcomes { what, key, rows: Vec::new() }
    }

    /// `more` is an object, or null for nothing more.
    pub fn push(&mut self, name: impl Into<String>, result: Result<String, Refusal>, more: Value) {
        self.rows.push(Outcome { name: name.into(), result, more });
    }

    pub fn said(self, paint: Paint) -> Said {
        let mut table = Table::new(&[self.what, "RESULT"]);
        let mut advices: Vec<&'static str> = Vec::new();
        let mut rows = Vec::new();
        for Outcome { name, result, more } in &self.rows {
            let cell = match result {
                Ok(words) => Cell::good(words),
                Err(refusal) => {
                    let advice = refusal.error().and_then(advice);
                    advices.extend(advice.filter(|advice| !advices.contains(advice)));
                    Cell::bad(refusal.to_string())
                }
            };
            table.row([name.as_str().into(), cell]);
            let mut row =
                json!({ self.key: name, "done": result.is_ok(), "error": result.as_ref().err().map(refusal_json) });
            for (key, value) in more.as_object().into_iter().flatten() {
                row[key] = value.clone();
            }
            rows.push(row);
        }
        let mut text = table.text(paint);
        if !advices.is_empty() {
            text += &format!("\n{}\n", advices.join("\n"));
        }
        Said { text, json: rows.into(), is_done: self.rows.iter().all(|row| row.result.is_ok()) }
    }
}

pub fn refusal_json(refusal: &Refusal) -> Value {
    json!({ "code": refusal.name(), "message": refusal.sentence() })
}

/// An argument that names one thing or several.
pub fn names(id: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).value_name(value_name).required(true).num_args(1..).value_parser(value_parser!(String)).help(help)
}

pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// What a plan ends with that was not carried out.
pub const NOTHING_CHANGED: &str = "\nNothing was changed. Add --execute to do this.\n";

pub fn execute_argument() -> Arg {
    switch("execute", "Do it; without this, only say what would be done")
}

/// Whether a name is as a pattern says, in which `*` stands for any characters.
pub fn is_like(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(left) = name.strip_prefix(head) else { return false };
    (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| is_like(rest, &left[at..]))
}

fn parse_bootstrap(text: &str) -> Result<String, String> {
    let is_address = |address: &str| {
        let parts = address.trim().rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match text.split(',').find(|address| !is_address(address)) {
        Some(wrong) => Err(format!("`{wrong}` is no HOST:PORT, such as 127.0.0.1:9092")),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expect) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("*", "", true),
            ("ord*", "orders", true),
            ("*ers", "orders", true),
            ("o*e*s", "orders", true),
            ("o*x*s", "orders", false),
            ("*größe*", "die größen", true),
        ] {
            assert_eq!(is_like(pattern, name), expect, "{pattern} {name}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        for (text, is_good) in [
            ("a:1", true),
            ("a:1, b:2", true),
            ("[::1]:9", true),
            ("a", false),
            ("a:x", false),
            ("a:1,", false),
            (":1", false),
        ] {
            assert_eq!(parse_bootstrap(text).is_ok(), is_good, "{text}");
        }
    }

    #[test]
    fn outcomes_are_told_to_people_and_programs() {
        let mut outcomes = Outcomes::new("TOPIC", "name");
        outcomes.push("a", Ok("created".into()), json!({ "partitions": 3 }));
        outcomes.push("b", Err(Refusal::of(36, None).expect("no")), Value::Null);
        outcomes.push("c", Err(Refusal::of(36, Some("is there")).expect("no")), Value::Null);
        let said = outcomes.said(Paint { is_coloured: false });
        assert!(!said.is_done);
        assert_eq!(
            said.text,
            "TOPIC  RESULT\na      created\nb      TOPIC_ALREADY_EXISTS: There is a topic of that name.\n\
             c      TOPIC_ALREADY_EXISTS: is there\n\n\
             Choose another name, or add --if-not-exists to take the topic as it is.\n"
        );
        assert_eq!(said.json[0], json!({ "name": "a", "done": true, "error": null, "partitions": 3 }));
        assert_eq!(said.json[2]["error"], json!({ "code": "TOPIC_ALREADY_EXISTS", "message": "is there" }));
    }
}
