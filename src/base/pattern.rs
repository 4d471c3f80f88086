//! A regular expression over names, in the syntax of RE2: of topics (KIP-848, "SubscribedTopicRegex") and of what is
//! known of a client (KIP-714, `match`).
//!
//! It comes from a client, so what it costs is bounded: it becomes a table of states of bounded size, or is refused,
//! and a name then costs one step a byte. Topic names are ASCII, so classes such as `\w` are too, as in RE2.
//!
//! *Owns*: the syntax and the bounds. *Never*: backtracks. *Runs on*: every core.

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::{start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::base::limits::{PATTERN_BYTES_MAX, PATTERN_STEPS_BYTES_MAX, PATTERN_TABLE_BYTES_MAX};

#[derive(Debug)]
pub struct Pattern(dense::DFA<Vec<u32>>);

impl Pattern {
    /// Errors: one sentence about what is wrong with the pattern.
    pub fn new(pattern: &str) -> Result<Pattern, String> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("it has {} bytes, and may have {PATTERN_BYTES_MAX}", pattern.len()));
        }
        let table = dense::Config::new()
            .start_kind(StartKind::Anchored)
            // Whether the whole name matches is asked, not which match is found first.
            .match_kind(MatchKind::All)
            .dfa_size_limit(Some(PATTERN_TABLE_BYTES_MAX))
            .determinize_size_limit(Some(PATTERN_STEPS_BYTES_MAX));
        dense::Builder::new()
            .configure(table)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(PATTERN_STEPS_BYTES_MAX)))
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(&without_quotes(pattern))
            .map(Pattern)
            .map_err(|error| in_one_line(&error))
    }

    /// Whether the pattern matches the name from its first byte to its last.
    pub fn matches(&self, name: &str) -> bool {
        let start = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = self.0.start_state(&start) else { return false };
        for &byte in name.as_bytes() {
            state = self.0.next_state(state, byte);
            if self.0.is_dead_state(state) {
                return false;
            }
        }
        self.0.is_match_state(self.0.next_eoi_state(state))
    }
}

/// Turns `\Q…\E`, which takes everything between as it stands, into escapes: our engine does not know it.
fn without_quotes(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let escape = &rest[at..];
        let Some(quoted) = escape.strip_prefix("\\Q") else {
            let length = 1 + escape[1..].chars().next().map_or(0, char::len_utf8);
            plain.push_str(&escape[..length]);
            rest = &escape[length..];
            continue;
        };
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        for char in literal.chars() {
            if char.is_ascii_punctuation() {
                plain.push('\\');
            }
            plain.push(char);
        }
        rest = after;
    }
    plain + rest
}

/// The innermost cause, without the drawing that points at the place.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match() {
        let check = |pattern: &str, names: &[&str], others: &[&str]| {
            let compiled = Pattern::new(pattern).expect(pattern);
            names.iter().for_each(|name| assert!(compiled.matches(name), "{pattern} matches {name}"));
            others.iter().for_each(|name| assert!(!compiled.matches(name), "{pattern} does not match {name}"));
        };
        check("orders", &["orders"], &["orders2", "my-orders", "order", ""]);
        check("orders.*", &["orders", "orders2", "orders-eu"], &["my-orders"]);
        check("a|ab", &["a", "ab"], &["b", "abb"]);
        check("(?i)t\\w+\\.[0-9]{1,3}", &["Topic.1", "ta.999"], &["topic1", "topic.1000", "topic."]);
        check("^a.b$", &["a.b", "a-b"], &["a.b.c"]);
        check("a*?", &["", "aaa"], &["b"]);
        check("\\Qa.b\\E.*", &["a.b", "a.bc"], &["aXb"]);
        check("x\\Q-[\\Ey\\Q", &["x-[y"], &["x-y"]);
        check("[^.]+", &["a-b_c"], &["a.b"]);
        check("\\bin\\b.*", &["in", "in-1"], &["inn"]);
        check("[a-z]*(?:é)?", &["abc"], &["1"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_sentence() {
        let check = |pattern: &str, expect: &str| {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert!(error.contains(expect) && !error.contains('\n'), "{pattern}: {error}");
        };
        check("(", "unclosed group");
        check("a)(b", "unopened group");
        check("*", "repetition operator missing expression");
        check("[z-a]", "invalid character class range");
        check("(?=a)", "look-around");
        check("(a)\\1", "backreferences are not supported");
        check("\\", "incomplete escape");
        check(&format!("{}a{}", "(".repeat(300), ")".repeat(300)), "exceed");
        check(&"a".repeat(PATTERN_BYTES_MAX + 1), "bytes, and may have");
    }

    #[test]
    fn a_pattern_that_would_cost_too_much_is_refused() {
        for pattern in ["[ab]*a[ab]{40}", "(a{1,1000}){1,1000}", "((((a?){50}){50}){50}){50}", ".*(a.{9}){4}c"] {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert!(error.contains("limit") || error.contains("size"), "{pattern}: {error}");
        }
        // One that many would write is far from the bounds.
        let names: Vec<String> = (0..60).map(|topic| format!("department-{topic}.orders")).collect();
        let pattern = Pattern::new(&names.join("|")).expect("sixty names");
        assert!(pattern.matches("department-59.orders") && !pattern.matches("department-60.orders"));
    }
}
