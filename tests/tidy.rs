//! The rules of the house, checked against the text of `src/`.
//!
//! Which rooms there are, and on which floor, is read from the map in `src/lib.rs`. A rule that needs an exception
//! gets it in a list here, with the reason; an exception that nothing needs any more is itself an error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that may contain `unsafe`.
const UNSAFE_FILES: &[&str] = &["shell/clock.rs", "shell/socket.rs", "shell/volume.rs"];

/// Uses of a banned word that do no harm: file, word, why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("base/bug.rs", "thread_local!", "tests choose a bug for the shards of their thread, and no product has any")];

const FILE_LINES_MAX: usize = 1000;

/// What decisions do not know (rooms below `shell`), and what they take instead.
const BANNED_BELOW_SHELL: &[(&str, &str)] = &[
    ("std::time::Instant", "take `now: base::time::Now` as an argument"),
    ("std::time::SystemTime", "take `now: base::time::Now` as an argument"),
    ("Instant::now", "take `now: base::time::Now` as an argument"),
    ("SystemTime", "take `now: base::time::Now` as an argument"),
    ("std::thread", "return an effect; `shell` has the threads"),
    ("thread_local!", "keep it in the state machine that needs it"),
    ("async", "return an effect, and be told how it ended by an `on_*`"),
    (".await", "return an effect, and be told how it ended by an `on_*`"),
    ("rand", "take `rng: &mut base::rng::Rng` as an argument"),
    ("getrandom", "take `rng: &mut base::rng::Rng` as an argument"),
    ("fastrand", "take `rng: &mut base::rng::Rng` as an argument"),
    ("RandomState", "use BTreeMap: its order is the same in every run"),
    ("HashMap", "use BTreeMap or base::slab: their order is the same in every run"),
    ("HashSet", "use BTreeSet: its order is the same in every run"),
    ("tokio", "return an effect; `shell` has the runtime"),
    ("glommio", "return an effect; `shell` has the runtime"),
    ("futures_lite", "return an effect; `shell` has the runtime"),
    ("core_affinity", "return an effect; `shell` has the processors"),
    ("signal_hook", "take it as an input; `shell` has the signals"),
    ("libc", "return an effect; `shell` talks to the operating system"),
    ("std::fs", "return a base::disk::DiskOp"),
    ("std::net", "return an effect; `shell` has the sockets"),
    ("std::env", "take it as an argument; `cli` reads the environment"),
    ("std::process", "return an effect; `main` ends the process"),
    ("Mutex", "own the state: a core shares nothing"),
    ("RwLock", "own the state: a core shares nothing"),
    ("println!", "return it, or use tracing"),
    ("print!", "return it, or use tracing"),
    ("eprintln!", "return it, or use tracing"),
    ("eprint!", "return it, or use tracing"),
];

/// What no code but tests contains.
const BANNED_EVERYWHERE: &[(&str, &str)] = &[
    (".unwrap()", "handle it, or `expect` with the reason why it cannot be"),
    ("todo!", "write it"),
    ("unimplemented!", "write it"),
    ("dbg!", "use tracing"),
];

#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The floor of each room.
type Map = BTreeMap<String, u32>;

/// One file of `src/`, and its text with less and less in it. Every form has the same lines.
struct Source {
    /// Relative to `src`.
    path: String,
    text: String,
    /// Without comments and the insides of texts; each `use` of several things split into as many.
    code: String,
    /// `code` without what is compiled for tests alone.
    product: String,
    /// Whether another file declares this one as tests.
    is_tests: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let bare = without_comments_and_texts(text);
        let product = flat_uses(&without_tests(&bare));
        Source { path: path.into(), text: text.into(), code: flat_uses(&bare), product, is_tests: false }
    }

    /// The directory of `src` this lies in; of a file that lies in none, its name.
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The same file as a module of tests, declared so elsewhere.
    fn into_tests(self) -> Source {
        let product = self.product.chars().filter(|c| *c == '\n').collect();
        Source { product, is_tests: true, ..self }
    }

    /// Paths, without `.rs`, of the modules in files of their own that are compiled for tests alone.
    fn test_modules(&self) -> Vec<String> {
        let dir = match self.path.rsplit_once('/') {
            _ if matches!(self.path.as_str(), "lib.rs" | "main.rs") => String::new(),
            Some((dir, "mod.rs")) => format!("{dir}/"),
            _ => format!("{}/", self.path.trim_end_matches(".rs")),
        };
        let marks = self.code.match_indices("#[cfg(test)]").map(|(at, mark)| &self.code[at + mark.len()..]);
        let items = marks.map(|code| code[..item_end(code)].trim_end_matches(';').trim());
        let names = items.filter(|item| !item.contains('{')).filter_map(|item| item.split("mod ").nth(1));
        names.map(|name| format!("{dir}{name}")).collect()
    }

    fn is_top(&self) -> bool {
        !self.path.contains('/')
    }

    fn finding(&self, at: usize, message: String) -> Finding {
        Finding { path: format!("src/{}", self.path), line: line_of(&self.code, at), message }
    }
}

// The rules.

fn check_file(map: &Map, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_floors(map, source, &mut findings);
    check_bans(map, source, &mut findings);
    check_unsafe(source, UNSAFE_FILES, &mut findings);
    check_form(source, &mut findings);
    findings
}

/// Lower floors never import higher ones, and rooms of one floor never import each other. Holds for tests too.
fn check_floors(map: &Map, source: &Source, findings: &mut Vec<Finding>) {
    if matches!(source.path.as_str(), "lib.rs" | "main.rs") {
        return;
    }
    let Some(&floor) = map.get(source.room()) else {
        findings.push(source.finding(0, format!("the map in src/lib.rs has no row for `{}`", source.room())));
        return;
    };
    for at in tokens(&source.code, "crate::") {
        let other = identifier(&source.code[at + "crate::".len()..]);
        let Some(&other_floor) = map.get(other) else { continue };
        if other_floor > floor {
            let message = format!(
                "`{}` (F{floor}) imports `{other}` (F{other_floor}): lower floors never import higher ones; \
                 let `{other}` call down, or move what both need to a lower floor",
                source.room()
            );
            findings.push(source.finding(at, message));
        } else if other_floor == floor && other != source.room() {
            let message = format!(
                "`{}` imports `{other}` of the same floor (F{floor}): let the floor above join them, or move what \
                 both need to a lower floor",
                source.room()
            );
            findings.push(source.finding(at, message));
        }
    }
    // `super` must not be the way round this.
    let depth = source.path.split('/').count() - usize::from(source.path.ends_with("/mod.rs"));
    for at in tokens(&source.product, &"super::".repeat(depth)) {
        findings.push(source.finding(at, "`super` leaves the room here: write `crate::…`".into()));
    }
}

fn check_bans(map: &Map, source: &Source, findings: &mut Vec<Finding>) {
    let shell = map.get("shell").copied().unwrap_or(u32::MAX);
    let below = !source.is_top() && map.get(source.room()).is_some_and(|floor| *floor < shell);
    let rows = BANNED_EVERYWHERE.iter().chain(BANNED_BELOW_SHELL.iter().filter(|_| below));
    for (word, instead) in rows {
        let allowed = EXCEPTIONS.iter().any(|(path, excepted, _)| *path == source.path && excepted == word);
        for at in tokens(&source.product, word).filter(|_| !allowed) {
            findings.push(source.finding(at, format!("`{word}` is not used here: {instead}")));
        }
    }
}

fn check_unsafe(source: &Source, files: &[&str], findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = source.text.lines().collect();
    for at in tokens(&source.code, "unsafe") {
        let line = line_of(&source.code, at);
        if !files.contains(&source.path.as_str()) {
            let message = "`unsafe` is only in the files that tests/tidy.rs lists: find a safe way, or a listed file";
            findings.push(source.finding(at, message.into()));
            continue;
        }
        let above = lines[..line - 1].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
        if !above.chain([&lines[line - 1]]).any(|line| line.contains("// SAFETY:")) {
            findings.push(source.finding(at, "say why this is sound in a `// SAFETY:` comment right above".into()));
        }
    }
}

/// The head of the file, and its length.
fn check_form(source: &Source, findings: &mut Vec<Finding>) {
    let head: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    if head.first().is_none_or(|line| line.trim_end().len() < "//! What.".len()) {
        findings.push(source.finding(0, "the first line is `//! ` and what this file is".into()));
    } else if (!source.is_top() || source.path == "cli.rs") && !source.is_tests {
        for word in ["*Owns*", "*Never*", "*Runs on*"] {
            if !head.iter().any(|line| line.contains(word)) {
                findings.push(source.finding(0, format!("the doc at the top says nothing of {word}")));
            }
        }
    }
    let lines = source.product.trim_end().lines().count();
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines before the tests, more than {FILE_LINES_MAX}: split it by nouns");
        findings.push(source.finding(0, message));
    }
}

/// Every name in backquotes in the map, of the form `room` in a row or `room/file` in the text, is really there.
fn check_map(lib: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in lib.lines().enumerate().filter(|(_, line)| line.starts_with("//!")) {
        let is_row = map_row(line).is_some();
        for name in line.split('`').skip(1).step_by(2) {
            let is_path =
                name.contains('/') && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'/' | b'_'));
            let there = [format!("{name}.rs"), format!("{name}/mod.rs")].iter().any(|path| exists(path));
            if (is_path || (is_row && map_row(line).is_some_and(|(room, _)| room == name))) && !there {
                let message = format!("the map names `{name}`, which is not there");
                findings.push(Finding { path: "src/lib.rs".into(), line: index + 1, message });
            }
        }
    }
    findings
}

/// The rooms and floors in the table of `src/lib.rs`.
fn read_map(lib: &str) -> Map {
    lib.lines().filter_map(map_row).map(|(room, floor)| (room.to_owned(), floor)).collect()
}

/// `//! | F2 | `log` | … |` is room `log` on floor 2.
fn map_row(line: &str) -> Option<(&str, u32)> {
    let mut cells = line.strip_prefix("//! |")?.split('|').map(str::trim);
    let floor = cells.next()?.strip_prefix('F')?.parse().ok()?;
    let room = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((room, floor))
}

// Reading Rust, as far as the rules need it.

/// Positions of `word` in `code`, where it is not a part of a longer word.
fn tokens<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let longer_before = word.starts_with(part_of_word) && before.is_some_and(part_of_word);
        let longer_after = word.ends_with(part_of_word) && after.is_some_and(part_of_word);
        !longer_before && !longer_after
    })
}

fn identifier(code: &str) -> &str {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default()
}

fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Blanks comments and the insides of texts and characters.
fn without_comments_and_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment, text or character that begins at `at`; `at` if none does.
fn skipped(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['r', '"' | '#', ..] if !in_word => raw_text(rest),
        ['b', 'r', '"' | '#', ..] if !in_word => 1 + raw_text(&rest[1..]),
        // A lifetime has no second quote.
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    };
    at + length.min(rest.len())
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn quoted(chars: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// 0 if this is a raw identifier.
fn raw_text(chars: &[char]) -> usize {
    let hashes = chars[1..].iter().take_while(|c| **c == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = 2 + hashes;
    while at < chars.len() {
        if chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// Blanks every item marked `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    for mark in ["#[cfg(test)]", "#[cfg(all(test"] {
        while let Some(start) = out.find(mark) {
            let end = start + item_end(&out[start + 1..]) + 1;
            let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
            out.replace_range(start..end, &blank);
        }
    }
    out
}

/// Where the first item in `code` ends: after its `;`, or after the brace that closes it.
fn item_end(code: &str) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Writes `use a::{b, c::d};` as `use a::b;use a::c::d;`.
fn flat_uses(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut copied = 0;
    for start in tokens(code, "use") {
        let Some(length) = code[start..].find(';').filter(|_| start >= copied) else { continue };
        let statement = &code[start + "use".len()..start + length];
        if !statement.contains('{') {
            continue;
        }
        out.push_str(&code[copied..start]);
        let mut paths = Vec::new();
        expand(String::new(), &statement.split_whitespace().collect::<Vec<_>>().join(" "), &mut paths);
        paths.iter().for_each(|path| out.push_str(&format!("use {path};")));
        out.extend(statement.chars().filter(|c| *c == '\n'));
        copied = start + length + 1;
    }
    out.push_str(&code[copied..]);
    out
}

fn expand(prefix: String, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        if !tree.is_empty() {
            paths.push(prefix + tree);
        }
        return;
    };
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(format!("{prefix}{}", head.trim()), &group[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

// The tree, and the rules applied to it.

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut dirs = vec![src()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src()).expect("found below it").to_str().expect("named in ASCII");
                sources.push(Source::new(name, &read(&path)));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 10, "this is not all of src");
    mark_tests(sources)
}

/// Empties the product of what other files declare as tests, and of what lies below.
fn mark_tests(sources: Vec<Source>) -> Vec<Source> {
    let tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    let marked = sources.into_iter().map(|source| {
        let module = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let within =
            |test: &String| module.strip_prefix(test.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        if tests.iter().any(within) { source.into_tests() } else { source }
    });
    marked.collect()
}

fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "{} findings\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn the_house_is_tidy() {
    let map = read_map(&read(&src().join("lib.rs")));
    assert!(map.contains_key("base") && map.contains_key("shell"), "the map in src/lib.rs cannot be read");
    report(&sources().iter().flat_map(|source| check_file(&map, source)).collect::<Vec<_>>());
}

#[test]
fn every_exception_is_needed() {
    let sources = sources();
    for (path, word, why) in EXCEPTIONS {
        assert!(why.len() > 10, "{path}: say why `{word}` does no harm");
        let used = sources.iter().any(|s| s.path == *path && tokens(&s.product, word).next().is_some());
        assert!(used, "{path} has no `{word}` any more: take the exception out");
    }
    for path in UNSAFE_FILES {
        let used = sources.iter().any(|s| s.path == *path && tokens(&s.code, "unsafe").next().is_some());
        assert!(used, "{path} has no `unsafe` any more: take it off the list");
        assert!(path.starts_with("shell/"), "{path}: `unsafe` stays in the shell");
    }
}

#[test]
fn no_test_is_ignored() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut all = sources();
    for entry in fs::read_dir(&tests).expect("tests can be listed") {
        let path = entry.expect("tests can be listed").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(Source::new(&format!("../tests/{}", path.display()), &read(&path)));
        }
    }
    for source in all {
        assert!(!source.code.contains("#[ignore"), "{} ignores a test: mend it or remove it", source.path);
    }
}

// The rules, applied to what they must find.

const MAP: &str = "//! | F0 | `base` | x |\n//! | F1 | `wire` | x |\n//! | F1 | `config` | x |\n//! | F2 | `log` | x |\n\
                   //! | F5 | `shell` | x |\n//! | F6 | `cli` | x |\n";
const HEAD: &str = "//! What this is.\n//!\n//! *Owns*: a. *Never*: b. *Runs on*: c.\n";

#[track_caller]
fn check(path: &str, code: &str, expect: &[&str]) {
    let source = Source::new(path, &format!("{HEAD}{code}"));
    let found: Vec<String> = check_file(&read_map(MAP), &source).iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), expect.len(), "{code}: {found:?}");
    for (found, part) in found.iter().zip(expect) {
        assert!(found.contains(part), "{code}: {found}");
    }
}

#[test]
fn floors_are_kept() {
    check("log/a.rs", "use crate::base::ids;\nuse crate::wire::x;\nuse crate::log::b;", &[]);
    check("wire/a.rs", "use crate::log::x;", &["src/wire/a.rs:4: `wire` (F1) imports `log` (F2)"]);
    check("wire/a.rs", "\nuse crate::{base::b,\n    log::x as y};", &["a.rs:5: `wire` (F1) imports `log` (F2)"]);
    check("wire/a.rs", "use crate::{\n base::{ids, time},\n config::{x, y}};", &["same floor", "same floor"]);
    check("wire/a/b.rs", "fn f() { crate::config::x() }", &["`wire` imports `config` of the same floor (F1)"]);
    check("wire/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::log::x;\n}", &["a.rs:6: `wire` (F1) imports"]);
    check("wire/a.rs", "// use crate::log::x;\nconst A: &str = \"crate::log::\";\n/* crate::log::x */", &[]);
    check("wire/a.rs", "use super::super::log;", &["`super` leaves the room"]);
    check("wire/mod.rs", "use super::log;", &["`super` leaves the room"]);
    check("wire/a/b.rs", "use super::super::c;", &[]);
    check("wire/a.rs", "#[cfg(test)]\nmod tests {\n    use super::super::c;\n}", &[]);
    check("new/a.rs", "", &["no row for `new`"]);
    check("cli.rs", "use crate::config::x;", &[]);
    check("lib.rs", "use crate::shell::x;", &[]);
}

#[test]
fn banned_words_are_found_with_their_replacement() {
    for (word, instead) in BANNED_BELOW_SHELL {
        let code = format!("fn f() {{ {word} }}");
        let source = Source::new("log/a.rs", &format!("{HEAD}{code}"));
        let found = check_file(&read_map(MAP), &source);
        assert!(
            found.iter().any(|finding| finding.message.contains(instead) && finding.line == 4),
            "{word}: {found:?}"
        );
        check("shell/a.rs", &code, &[]);
        check("cli.rs", &code, &[]);
        check("log/a.rs", &format!("#[cfg(test)]\nmod tests {{\n    {code}\n}}"), &[]);
    }
    for (word, instead) in BANNED_EVERYWHERE {
        check("shell/a.rs", &format!("fn f() {{ x; {word} }}"), &[instead]);
        check("cli.rs", &format!("#[cfg(test)]\nmod tests {{ fn f() {{ x; {word} }} }}"), &[]);
    }
    check("log/a.rs", "use std::{fs, io};", &["`std::fs` is not used here: return a base::disk::DiskOp"]);
    check("log/a.rs", "use std::time::{Duration, Instant};", &["`std::time::Instant`"]);
    check("log/a.rs", "use std::time::Duration;", &[]);
    check("log/a.rs", "use crate::base::time::Instant;\nfn asynchronous(brand: MyHashMap) {}", &[]);
    check("log/a.rs", "#[cfg(test)]\nuse std::fs;\nfn f() { std::fs::read() }", &["a.rs:6: `std::fs`"]);
    check("log/a.rs", "#[cfg(all(test, unix))]\nconst A: u8 = std::fs::x();\nuse std::net::IpAddr;", &["a.rs:6"]);
    check("log/a.rs", "fn f() -> &'static str { '\"'; r#\"\"std::fs\"#; b'\\''; \"\\\"std::net\" }", &[]);
    check("log/a.rs", "/* /* */ std::fs */ fn f<'a>(x: &'a str) { HashSet::new() }", &["`HashSet`"]);
}

#[test]
fn files_of_tests_are_known_by_their_declaration() {
    let file = |path: &str, code: &str| Source::new(path, &format!("//! What this is.\n{code}"));
    let sources = mark_tests(vec![
        file("log/mod.rs", "#[cfg(test)]\npub(crate) mod disk;\nmod log;\n#[cfg(test)]\nmod inline {\n mod x; }"),
        file("log/log.rs", "fn f() {}\n#[cfg(test)]\nmod tests;"),
        file("log/disk.rs", "fn f() { x.unwrap() }"),
        file("log/log/tests.rs", "mod more;\nfn f() { x.unwrap() }"),
        file("log/log/tests/more.rs", "fn f() { x.unwrap() }"),
        file("log/log/tests_of.rs", "fn f() { x.unwrap() }"),
        file("log/tests.rs", "fn f() { x.unwrap() }"),
        file("log/x.rs", "fn f() { x.unwrap() }"),
    ]);
    let found = |source: &Source| check_file(&read_map(MAP), source).iter().any(|f| f.message.contains("unwrap"));
    let unwrapping: Vec<&str> = sources.iter().filter(|source| found(source)).map(|s| s.path.as_str()).collect();
    assert_eq!(unwrapping, ["log/log/tests_of.rs", "log/tests.rs", "log/x.rs"]);
}

#[test]
fn unsafe_is_found_unless_listed_and_explained() {
    let check = |path: &str, code: &str, expect: &[&str]| {
        let mut found = Vec::new();
        check_unsafe(&Source::new(path, code), &["shell/a.rs"], &mut found);
        assert_eq!(found.len(), expect.len(), "{code}: {found:?}");
        found.iter().zip(expect).for_each(|(found, part)| assert!(found.message.contains(part), "{found}"));
    };
    check("log/a.rs", "// SAFETY: x\nunsafe { f() }", &["only in the files that tests/tidy.rs lists"]);
    check("log/a.rs", "#![deny(unsafe_code)]\n// unsafe", &[]);
    check("log/a.rs", "#[cfg(test)]\nmod tests { unsafe { f() } }", &["only in the files"]);
    check("shell/a.rs", "unsafe { f() }", &["say why"]);
    check("shell/a.rs", "// SAFETY: x\n\nlet y = 1;\nunsafe { f() }", &["say why"]);
    check("shell/a.rs", "// SAFETY: x\n// and y\nlet z = unsafe { f() };", &[]);
}

#[test]
fn the_head_and_the_length_of_a_file_are_checked() {
    let check = |path: &str, text: &str, expect: &[&str]| {
        let mut found = Vec::new();
        check_form(&Source::new(path, text), &mut found);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        found.iter().zip(expect).for_each(|(found, part)| assert!(found.message.contains(part), "{found}"));
    };
    check("log/a.rs", HEAD, &[]);
    check("log/a.rs", "use x;", &["the first line is"]);
    check("log/a.rs", "//!\n//! *Owns* *Never* *Runs on*", &["the first line is"]);
    check(
        "log/a.rs",
        "//! What this is.\n//! *Owns*: x.\n\n//! *Never*",
        &["nothing of *Never*", "nothing of *Runs on*"],
    );
    check("lib.rs", "//! What this is.", &[]);
    let long = "fn f() {}\n".repeat(FILE_LINES_MAX);
    check("log/a.rs", &format!("{HEAD}{long}"), &["split it by nouns"]);
    check("log/a.rs", &format!("{HEAD}#[cfg(test)]\nmod tests {{\n{long}\n}}\n"), &[]);
}

#[test]
fn a_map_that_names_what_is_not_there_is_found() {
    let lib = "//! | F2 | `log` | says `x` |\n//! | F2 | `gone` | y |\n//! by `log/log` and `log/gone`, not `a / b`\nfn f() {}";
    let exists = |path: &str| matches!(path, "log/mod.rs" | "log/log.rs");
    let found: Vec<String> = check_map(lib, exists).iter().map(Finding::to_string).collect();
    assert_eq!(
        found,
        [
            "src/lib.rs:2: the map names `gone`, which is not there",
            "src/lib.rs:3: the map names `log/gone`, which is not there"
        ]
    );
}

#[test]
fn the_map_is_true() {
    report(&check_map(&read(&src().join("lib.rs")), |path| src().join(path).is_file()));
}
