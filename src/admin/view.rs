//! A view that goes on: the same table again and again, until Ctrl-C.
//!
//! *Owns*: the flags, the rounds, what fits the terminal. *Never*: ends because of a broker that is away. *Runs on*:
//! the main thread.

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use clap::{Arg, Command};

use crate::admin::duration::parse_duration;
use crate::admin::tool::{Asked, Failure, Said, switch};
use crate::client::client::Client;
use crate::terminal::numbers::counted;
use crate::terminal::paint::Paint;
use crate::terminal::printed;

/// Lines of the view, where the terminal does not say how many it has.
const LINES: usize = 24;

/// What the view has besides rows: the head, the line below, and one for the cursor.
const OTHER_LINES: usize = 4;

pub fn with_view(command: Command) -> Command {
    let interval = Arg::new("interval").long("interval").value_name("TIME").default_value("2s");
    command
        .arg(switch("once", "Print it once, as is done where the output is no terminal"))
        .arg(interval.value_parser(parse_duration).help("From one look to the next"))
}

/// Whether what there is to say is to be said once.
pub fn is_once(asked: &Asked<'_>) -> bool {
    asked.flag("once") || asked.flag("json") || !io::stdout().is_terminal()
}

/// Shows what `round` says, again and again.
pub fn watch(
    asked: &mut Asked<'_>,
    mut round: impl FnMut(&mut Client, Paint) -> Result<String, Failure>,
) -> Result<Said, Failure> {
    asked.waiting = None;
    let interval: Duration = *asked.matches.get_one("interval").expect("it has a default");
    loop {
        let text = round(&mut asked.client, asked.paint)
            .unwrap_or_else(|failure| format!("{}\n", asked.paint.bad(&failure.text())));
        printed::print(view(&text, printed::lines().unwrap_or(LINES), interval).as_bytes())
            .map_err(Failure::NotDone)?;
        thread::sleep(interval);
    }
}

/// What takes the place of the view before. What does not fit below is left out: a terminal would show its last lines.
fn view(text: &str, lines: usize, interval: Duration) -> String {
    let all: Vec<&str> = text.lines().collect();
    let shown = all.len().min(lines.saturating_sub(OTHER_LINES).max(2));
    let more = match all.len() - shown {
        0 => String::new(),
        more => format!("{}; --once prints all. ", counted(more as u64, "more line")),
    };
    let mut view = "\x1b[H\x1b[2J".to_owned();
    for line in &all[..shown] {
        view += line;
        view.push('\n');
    }
    view + &format!("\n{more}Every {:.1} s; Ctrl-C ends.\n", interval.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_no_longer_than_the_terminal() {
        let check = |lines: usize, expect: &str| {
            assert_eq!(view("head\na\nb\nc\n", lines, Duration::from_millis(1500)), format!("\x1b[H\x1b[2J{expect}"));
        };
        check(8, "head\na\nb\nc\n\nEvery 1.5 s; Ctrl-C ends.\n");
        check(7, "head\na\nb\n\n1 more line; --once prints all. Every 1.5 s; Ctrl-C ends.\n");
        check(0, "head\na\n\n2 more lines; --once prints all. Every 1.5 s; Ctrl-C ends.\n");
    }
}
