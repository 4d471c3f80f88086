//! The command line: `serve` with every setting as a flag, `settings` that prints the manual, and the tools.
//!
//! *Owns*: the flags of `serve`, which come from the settings table, and THE table of tools. *Never*: checks a value
//! (the table does) or runs anything. *Runs on*: the main thread, before the first executor.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

#[cfg(feature = "shell")]
use crate::admin;
#[cfg(feature = "shell")]
use crate::bench::{command as bench, compare_table, convert, report};
use crate::config::{Kind, Notation, Origin, Row, SettingError, Settings, TABLE, Unit, nearest};
use crate::config::{manual_json, manual_text};

const PREFIX: &str = "CORELOG_";

const EXAMPLES: &str = "\
Every flag is also an environment variable (--log-segment-bytes is CORELOG_LOG_SEGMENT_BYTES) and, by its name
with dots (log.segment.bytes), a line of the --config file. A flag beats the environment, which beats the file.
`corelog settings` prints the whole manual.

Examples:
  corelog serve
  corelog serve --listen 0.0.0.0:9092 --advertised-host broker1.example --data-dir /var/lib/corelog
  corelog serve --cores 2,3 --per-core-port 19092
  corelog serve --config server.properties --log-segment-bytes 256MiB --log-flush-interval-messages 1";

/// What the user asked for.
#[derive(Debug)]
pub enum Action {
    Serve(Box<Settings>),
    /// Print this and be done.
    Print(String),
    /// Call `run` with these and end with its exit code.
    Tool {
        run: fn(&ArgMatches) -> ExitCode,
        matches: Box<ArgMatches>,
    },
}

/// A subcommand with flags of its own, which prints its errors itself.
struct Tool {
    command: fn() -> Command,
    run: fn(&ArgMatches) -> ExitCode,
}

/// THE table of tools.
#[cfg(feature = "shell")]
const TOOLS: &[Tool] = &[
    Tool { command: bench::command, run: bench::run },
    Tool { command: compare_table::command, run: compare_table::run },
    Tool { command: convert::command, run: convert::run },
    Tool { command: report::command, run: report::run },
    Tool { command: admin::cluster::command, run: admin::cluster::run },
    Tool { command: admin::log::command, run: admin::log::run },
    Tool { command: admin::topic::command, run: admin::topic::run },
    Tool { command: admin::group::command, run: admin::group::run },
    Tool { command: admin::config::command, run: admin::config::run },
    Tool { command: admin::quota::command, run: admin::quota::run },
];

/// They all need files, threads or sockets.
#[cfg(not(feature = "shell"))]
const TOOLS: &[Tool] = &[];

/// What is wrong with the command line, the environment or the file. Says where, and what would be right.
#[derive(Debug)]
pub enum CliError {
    /// Also help and the version: clap prints these and ends the process.
    Usage(clap::Error),
    Setting {
        place: String,
        error: SettingError,
    },
    File {
        path: PathBuf,
        why: std::io::Error,
    },
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Usage(error) => error.fmt(f),
            CliError::Setting { place, error } => write!(f, "{place}{error}"),
            CliError::File { path, why } => {
                write!(
                    f,
                    "the file of --config, {}, cannot be read: {why}; correct the path or leave the flag out",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for CliError {}

/// Reads the command line, with the program's name first, the environment and the file they name.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Action, CliError> {
    let matches = command().try_get_matches_from(arguments).map_err(CliError::Usage)?;
    match matches.subcommand() {
        Some(("settings", matches)) if matches.get_flag("json") => Ok(Action::Print(manual_json())),
        Some(("settings", _)) => Ok(Action::Print(manual_text())),
        Some(("serve", matches)) => Ok(Action::Serve(Box::new(settings(matches, environment)?))),
        Some((name, matches)) => {
            let tool = TOOLS.iter().find(|tool| (tool.command)().get_name() == name);
            let run = tool.expect("clap knows the tools from this table").run;
            Ok(Action::Tool { run, matches: Box::new(matches.clone()) })
        }
        None => unreachable!("clap asks for one"),
    }
}

fn command() -> Command {
    let mut serve = Command::new("serve")
        .about("Run the broker")
        .after_help("`corelog serve --help` lists every setting.")
        .after_long_help(EXAMPLES)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A settings file, with Kafka's names: log.segment.bytes=1073741824"),
        );
    for row in TABLE {
        serve = serve.arg(argument(row));
    }
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("For programs: an array of objects");
    Command::new("corelog")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kafka-wire-compatible log broker for Linux")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(Command::new("settings").about("Print the manual of settings").arg(json))
        .subcommands(TOOLS.iter().map(|tool| (tool.command)()))
}

fn argument(row: &'static Row) -> Arg {
    let value_name = match (row.kind, row.unit) {
        (Kind::Boolean, _) => "true|false",
        (_, Unit::Bytes) => "BYTES",
        (_, Unit::Ms) => "TIME",
        (kind, Unit::Count) if kind.is_number() => "N",
        _ => "VALUE",
    };
    let first_heading = TABLE[0].heading();
    Arg::new(row.name)
        .long(row.flag())
        .value_name(value_name)
        .help_heading(row.heading())
        .visible_aliases(row.aliases.iter().filter(|(_, factor)| *factor == 1).map(|(name, _)| name.replace('.', "-")))
        .help(format!("{} [default: {}]", row.doc(), row.default_text()))
        // Negative numbers mean "without bound" for some.
        .allow_negative_numbers(true)
        .hide_short_help(row.heading() != first_heading)
}

fn settings(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, CliError> {
    let mut settings = Settings::default();
    let mut file = matches.get_one::<PathBuf>("config").cloned();
    for (variable, value) in environment {
        let Some(variable) = variable.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if variable == "CORELOG_CONFIG" {
            file.get_or_insert(value.into());
            continue;
        }
        set_from_variable(&mut settings, variable, &value)?;
    }
    for row in TABLE {
        if let Some(text) = matches.get_one::<String>(row.name) {
            settings.set(row.name, text, Notation::Typed, Origin::Flag).map_err(|error| CliError::Setting {
                place: String::new(),
                error: SettingError { name: format!("--{}", row.flag()), ..error },
            })?;
        }
    }
    if let Some(path) = file {
        set_from_file(&mut settings, &path)?;
    }
    settings.check_together().map_err(|error| CliError::Setting { place: String::new(), error })?;
    Ok(settings)
}

/// A variable that is nearly a setting's is a slip of the pen; any other may be somebody else's.
fn set_from_variable(settings: &mut Settings, variable: &str, value: &OsString) -> Result<(), CliError> {
    let wrong = |message: String| CliError::Setting {
        place: "environment: ".into(),
        error: SettingError { name: variable.to_owned(), message },
    };
    let Some(row) = TABLE.iter().find(|row| row.variable() == variable) else {
        let names: Vec<String> = TABLE.iter().map(Row::variable).collect();
        let stems = names.iter().map(|name| &name[PREFIX.len()..]);
        return match nearest(&variable[PREFIX.len()..], stems) {
            Some(near) => Err(wrong(format!("is not a setting; did you mean {PREFIX}{near}? If not, unset it"))),
            None => Ok(()),
        };
    };
    let text = value.to_str().ok_or_else(|| wrong("is not UTF-8".into()))?;
    settings.set(row.name, text, Notation::Typed, Origin::Environment).map_err(|error| wrong(error.message))
}

fn set_from_file(settings: &mut Settings, path: &Path) -> Result<(), CliError> {
    let text = std::fs::read_to_string(path).map_err(|why| CliError::File { path: path.to_owned(), why })?;
    let place = format!("{}: ", path.display());
    settings.set_from_file(&text).map_err(|error| CliError::Setting { place, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Action, CliError> {
        let arguments = std::iter::once("corelog").chain(arguments.iter().copied()).map(OsString::from);
        parse(arguments, environment.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn served(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
        match parsed(&[&["serve"], arguments].concat(), environment) {
            Ok(Action::Serve(settings)) => *settings,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_and_a_variable() {
        let defaults = Settings::default();
        for row in TABLE {
            let text = row.show(&defaults);
            let by_flag = served(&[&format!("--{}", row.flag()), &text], &[]);
            assert_eq!(by_flag.origin(row), Origin::Flag, "{}", row.name);
            let by_variable = served(&[], &[(&row.variable(), &text)]);
            assert_eq!(by_variable.origin(row), Origin::Environment, "{}", row.name);
        }
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("server.properties");
        std::fs::write(&path, "num.partitions=2\nlog.roll.ms=2\nlog.segment.bytes=100000\n").expect("written");
        let path = path.to_str().expect("UTF-8");
        let environment = [("CORELOG_NUM_PARTITIONS", "3"), ("CORELOG_LOG_ROLL_MS", "3s"), ("CORELOG_BIN", "x")];
        let settings = served(&["--config", path, "--num-partitions", "4"], &environment);
        assert_eq!((settings.num_partitions, settings.log_roll_ms, settings.log_segment_bytes), (4, 3000, 100_000));
        let settings = served(&[], &[("CORELOG_CONFIG", path)]);
        assert_eq!(settings.num_partitions, 2);
        assert_eq!(served(&["--log-segment-bytes", "64MiB"], &[]).log_segment_bytes, 64 << 20);
        assert_eq!(served(&["--log-retention-ms", "-1"], &[]).log_retention_ms, -1);
    }

    #[test]
    fn errors_name_the_place_and_the_remedy() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("bad.properties");
        std::fs::write(&path, "# mine\nnum.partition=2\n").expect("written");
        let bad = path.to_str().expect("UTF-8");
        let check = |arguments: &[&str], environment: &[(&str, &str)], expect: &str| {
            let error = parsed(&[&["serve"], arguments].concat(), environment).expect_err("refused").to_string();
            assert!(error.contains(expect), "{arguments:?}: {error}");
        };
        check(&["--num-partitions", "0"], &[], "--num-partitions must be 1 to 10000, not `0`");
        check(&["--num-partition", "1"], &[], "--num-partitions");
        check(&["--config", bad], &[], "bad.properties: line 2: num.partition is not a setting; did you mean");
        check(&["--config", "/does/not/exist"], &[], "/does/not/exist, cannot be read: No such file");
        check(&[], &[("CORELOG_NUM_PARTITION", "1")], "did you mean CORELOG_NUM_PARTITIONS? If not, unset it");
        check(&[], &[("CORELOG_CORES", "x")], "environment: CORELOG_CORES must be `all`");
        check(&["--message-max-bytes", "200MiB"], &[], "message.max.bytes is 209715200, more than");
    }

    #[test]
    fn the_manual_can_be_printed() {
        for (arguments, start) in [(&["settings"][..], "Settings of corelog"), (&["settings", "--json"], "[\n")] {
            match parsed(arguments, &[]) {
                Ok(Action::Print(text)) => assert!(text.starts_with(start)),
                other => panic!("{other:?}"),
            }
        }
        let version = parsed(&["--version"], &[]).expect_err("clap prints it").to_string();
        assert_eq!(version, format!("corelog {}\n", env!("CARGO_PKG_VERSION")));
    }
}
