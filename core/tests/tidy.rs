//! Rules about the code that no compiler holds: first lines, widths, `unsafe`, edges between crates
//! and modules, lengths, names, documents that must match the tree.
//!
//! What it leaves to others: what rustfmt, clippy and cargo-deny check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const WIDTH_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Functions that may be longer, with the length that they have and why. A number here only goes
/// down.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Files that may be longer, with their length and why. A number here only goes down.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// What a package may use, of the packages of this workspace. A missing package may use none.
const PACKAGE_EDGES: &[(&str, &[&str])] = &[
    ("proto-http", &[]),
    ("core/io", &[]),
    ("xds-client", &[]),
    ("core", &["tidegate-io", "tidegate-http", "tidegate-xds"]),
    ("loadtest", &["tidegate-io", "tidegate-http"]),
];

/// Folders of `core/src` and words that must not stand in them, with the reason.
const MODULE_EDGES: &[(&str, &[&str], &str)] = &[
    (
        "core/src/shard",
        &["tokio", "prost", "envoy_types", "hyper", "std::sync::Mutex", "std::sync::RwLock"],
        "a shard is synchronous, takes no lock and sees no protobuf",
    ),
    (
        "core/src/proxy",
        &["tokio", "prost", "envoy_types", "hyper", "std::sync::Mutex", "std::sync::RwLock"],
        "runs inside a shard",
    ),
    (
        "core/src/upstream",
        &["tokio", "prost", "envoy_types", "hyper", "std::sync::Mutex", "std::sync::RwLock"],
        "runs inside a shard",
    ),
    (
        "core/src/snapshot",
        &["tokio", "prost", "envoy_types", "hyper", "std::sync::RwLock"],
        "plain data that shards read",
    ),
    ("core/src/control", &["prost_reflect", "envoy_types"], "protobuf stops at config"),
    ("core/src/admin", &["prost_reflect", "envoy_types"], "protobuf stops at config"),
];

struct File {
    /// Path from the repository's root, with `/`.
    name: String,
    text: String,
}

impl File {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn is_rust(&self) -> bool {
        self.name.ends_with(".rs")
    }

    /// Part of a product, not of its tests.
    fn is_source(&self) -> bool {
        self.is_rust() && self.name.contains("src/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn collect(directory: &Path, files: &mut Vec<File>) {
    let skipped = ["target", ".git", "corpus", "artifacts", "shared", "__pycache__"];
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let base = path.file_name().unwrap().to_string_lossy().into_owned();
        if skipped.contains(&base.as_str()) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            files.push(File { name, text });
        }
    }
}

fn all_files() -> Vec<File> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    assert!(files.iter().any(|f| f.name == "core/tests/tidy.rs"), "the walk found nothing");
    files
}

/// Fails with one line per finding.
fn none(rule: &str, findings: &[String]) {
    let mut text = String::new();
    for finding in findings {
        let _ = write!(text, "\n  {finding}");
    }
    assert!(findings.is_empty(), "{rule}:{text}");
}

/// A line of code without its trailing comment and without the insides of plain string literals.
fn code_of(line: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    let bytes: Vec<char> = line.chars().collect();
    for (at, &c) in bytes.iter().enumerate() {
        match (in_string, c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (true, '"') => {
                in_string = false;
                out.push(c);
            }
            (true, _) => {}
            (false, '/') if bytes.get(at + 1) == Some(&'/') => break,
            (false, '"') if at == 0 || bytes[at - 1] != '\'' => {
                in_string = true;
                out.push(c);
            }
            (false, _) => out.push(c),
        }
    }
    out
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn files_say_first_what_they_are_for() {
    let mut findings = Vec::new();
    for file in all_files() {
        let first = file.text.lines().next().unwrap_or_default();
        let good = match file.name.rsplit('.').next().unwrap_or_default() {
            "rs" => first.starts_with("//! "),
            "py" => first.starts_with("\"\"\"") || file.text.contains("\n\"\"\""),
            "vtc" => first.starts_with("varnishtest \""),
            _ => continue,
        };
        if !good {
            findings.push(format!("{}: {first}", file.name));
        }
        let outer: Vec<_> = file.text.lines().take_while(|l| l.starts_with("//!")).collect();
        if file.is_source()
            && file.name.ends_with("/lib.rs")
            && !outer.iter().any(|l| l.contains("leaves to others"))
        {
            findings.push(format!("{}: does not say what it leaves to others", file.name));
        }
    }
    none("a file begins with what it is for", &findings);
}

#[test]
fn lines_are_at_most_100_columns() {
    let mut findings = Vec::new();
    for file in all_files() {
        let extension = file.name.rsplit('.').next().unwrap_or_default();
        let script = file.text.starts_with("#!");
        if !["rs", "py"].contains(&extension) && !script {
            continue;
        }
        let mut in_drawing = false;
        for (number, line) in file.lines() {
            let comment = line.trim_start().starts_with("//");
            in_drawing ^= comment && line.contains("```");
            // A string, a drawing or an address is not broken for its width.
            let free = in_drawing || line.contains("://") || line.contains("googleapis.com");
            let string = !comment && code_of(line).chars().count() <= WIDTH_MAX;
            if line.chars().count() > WIDTH_MAX && !free && !string {
                findings.push(format!("{}:{number}: {}", file.name, line.chars().count()));
            }
        }
    }
    none("lines have at most 100 columns", &findings);
}

#[test]
fn unsafe_stands_only_in_core_io_with_its_reason() {
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.is_rust() && f.name != "core/tests/tidy.rs") {
        let lines: Vec<&str> = file.text.lines().collect();
        for (number, line) in file.lines() {
            let code = code_of(line);
            if !has_word(&code, "unsafe") {
                continue;
            }
            let place = format!("{}:{number}", file.name);
            if !file.name.starts_with("core/io/") {
                findings.push(format!("{place}: unsafe outside core/io"));
                continue;
            }
            let is_block = code.contains("unsafe {") || code.contains("unsafe impl");
            let reason = lines[..number - 1]
                .iter()
                .rev()
                .take_while(|l| {
                    let start = l.trim_start();
                    start.starts_with("//") || start.starts_with("#[") || !start.ends_with(';')
                })
                .take(12)
                .any(|l| l.contains("SAFETY:"));
            if is_block && !reason && !line.contains("SAFETY:") {
                findings.push(format!("{place}: no SAFETY comment"));
            }
        }
    }
    for name in [
        "core/src/lib.rs",
        "loadtest/src/main.rs",
        "proto-http/src/lib.rs",
        "xds-client/src/lib.rs",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        if !text.contains("#![forbid(unsafe_code)]") {
            findings.push(format!("{name}: does not forbid unsafe_code"));
        }
    }
    none("unsafe", &findings);
}

#[test]
fn packages_depend_in_one_direction() {
    let mut findings = Vec::new();
    for (package, allowed) in PACKAGE_EDGES {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|l| l.starts_with("tidegate")) {
            let name = line.split([' ', '=', '.']).next().unwrap();
            if !allowed.contains(&name) {
                findings.push(format!("{package} depends on {name}"));
            }
        }
    }
    let http = fs::read_to_string(root().join("proto-http/src/lib.rs")).unwrap();
    if !http.contains("#![no_std]") && !http.contains("#![cfg_attr(not(test), no_std)]") {
        findings.push("proto-http/src/lib.rs: not no_std, so IO could come in".to_owned());
    }
    none("edges between packages", &findings);
}

#[test]
fn modules_keep_their_edges() {
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.is_source()) {
        for (folder, words, reason) in MODULE_EDGES {
            if !file.name.starts_with(&format!("{folder}/")) {
                continue;
            }
            for (number, line) in file.lines() {
                let code = code_of(line);
                for word in words.iter().filter(|word| has_word(&code, word)) {
                    findings.push(format!("{}:{number}: {word}: {reason}", file.name));
                }
            }
        }
    }
    none("edges between modules", &findings);
}

/// Name and first and last line of each function, from code that rustfmt has laid out: a function
/// ends at the first line that is a `}` at the column where its `fn` line begins.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(at) = line.find("fn ") else { continue };
        let words = line[indent..at].split_whitespace();
        let is_function = words.into_iter().all(|w| {
            w.starts_with("pub")
                || ["const", "async", "unsafe", "extern", "in", "\"C\""].contains(&w)
                || w.ends_with(')')
        });
        if !is_function {
            continue;
        }
        let name: String =
            line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let semicolon = format!("{});", " ".repeat(indent));
        let end = lines[start + 1..].iter().position(|l| *l == close || l.starts_with(&semicolon));
        if let Some(length) = end {
            found.push((name, start + 1, start + 2 + length));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    // A table of cases in a test may be as long as its cases.
    for file in all_files().iter().filter(|f| f.is_source()) {
        for (name, first, last) in functions(&file.text) {
            let length = last - first + 1;
            let exception = LONG_FUNCTIONS
                .iter()
                .find(|(path, function, _, _)| *path == file.name && *function == name);
            match exception {
                Some((_, _, max, _)) if length > *max => {
                    findings.push(format!("{}:{first}: {name} grew to {length}", file.name));
                }
                Some((_, _, max, _)) if length <= FUNCTION_LINES_MAX || length + 10 < *max => {
                    findings.push(format!("{}: {name} shrank: lower its exception", file.name));
                }
                None if length > FUNCTION_LINES_MAX => {
                    findings.push(format!("{}:{first}: {name} has {length} lines", file.name));
                }
                _ => {}
            }
        }
    }
    none("functions have at most 70 lines", &findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.is_source()) {
        let length = file.text.lines().count();
        match LONG_FILES.iter().find(|(path, _, _)| *path == file.name) {
            Some((_, max, _)) if length > *max => {
                findings.push(format!("{} grew to {length}", file.name));
            }
            Some((_, max, _)) if length <= FILE_LINES_MAX || length + 50 < *max => {
                findings.push(format!("{} shrank to {length}: lower its exception", file.name));
            }
            None if length > FILE_LINES_MAX => {
                findings.push(format!("{} has {length} lines", file.name));
            }
            _ => {}
        }
    }
    none("files have at most 500 lines", &findings);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["todo!", "unimplemented!", "dbg!", "#[ignore", "FIXME", "XXX"];
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.is_rust() && f.name != "core/tests/tidy.rs") {
        for (number, line) in file.lines() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {word}", file.name));
            }
        }
    }
    none("nothing is left for later", &findings);
}

#[test]
fn names_say_what_a_thing_is() {
    let endings = ["Manager", "Helper", "Impl", "Inner", "Util", "Utils"];
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.is_source()) {
        for (number, line) in file.lines() {
            let code = code_of(line);
            let mut words = code.split_whitespace().skip_while(|w| w.starts_with("pub"));
            if !["struct", "enum", "trait", "type"].contains(&words.next().unwrap_or_default()) {
                continue;
            }
            let name: String = words
                .next()
                .unwrap_or_default()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if endings.iter().any(|e| name.ends_with(e)) && name != "HttpConnectionManager" {
                findings.push(format!("{}:{number}: {name}", file.name));
            }
        }
    }
    none("no Manager, Helper, Impl, Inner, Util", &findings);
}

#[test]
fn every_dependency_has_a_reason() {
    let mut findings = Vec::new();
    for file in all_files().iter().filter(|f| f.name.ends_with("Cargo.toml")) {
        let mut in_dependencies = false;
        for (number, line) in file.lines() {
            if line.starts_with('[') {
                in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
                let is_ours = line.contains("path = ");
                if !is_ours && !line.contains(" # ") {
                    findings.push(format!("{}:{number}: {line}", file.name));
                }
                let banned = ["serde_yaml", "serde_yml"];
                if banned.iter().any(|name| line.starts_with(name)) {
                    findings.push(format!("{}:{number}: unmaintained", file.name));
                }
            }
        }
    }
    none("every dependency line says why", &findings);
}

#[test]
fn no_paths_of_a_machine() {
    let home = ["/ho", "me/"].concat();
    let root_home = ["/ro", "ot/"].concat();
    let work = ["/wo", "rk/"].concat();
    let mut findings = Vec::new();
    for file in all_files() {
        for (number, line) in file.lines() {
            for path in [&home, &root_home, &work] {
                let starts = line.match_indices(path.as_str()).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/}".contains(c))
                });
                if starts {
                    findings.push(format!("{}:{number}: {path}", file.name));
                }
            }
        }
    }
    none("no paths of somebody's machine", &findings);
}

#[test]
fn feature_table_is_complete() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table: Vec<Vec<&str>> = readme
        .lines()
        .skip_while(|l| !l.starts_with("## Features"))
        .skip(1)
        .take_while(|l| !l.starts_with("## "))
        .filter(|l| l.starts_with('|') && !l.starts_with("|--") && !l.starts_with("| Feature"))
        .map(|l| l.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let mut findings = Vec::new();
    assert!(table.len() > 10, "README has no feature table");
    for row in &table {
        if row.len() != 3 || row.iter().any(|cell| cell.is_empty()) {
            findings.push(format!("not feature, Envoy field, since: {row:?}"));
        } else if !row[2].starts_with(|c: char| c.is_ascii_digit()) {
            findings.push(format!("not a version: {row:?}"));
        }
    }
    let filters = root().join("core/src/filters");
    for entry in fs::read_dir(filters).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !table.iter().any(|row| row.join(" ").contains(&name)) {
            findings.push(format!("the filter {name} has no row"));
        }
    }
    none("README's feature table", &findings);
}

#[test]
fn the_map_is_true() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut findings = Vec::new();
    for word in map.split(|c: char| c.is_whitespace() || "`(),;".contains(c)) {
        let word = word.trim_end_matches(['.', ':']);
        let folders = [
            "core/",
            "loadtest/",
            "proto-http/",
            "xds-client/",
            "scripts/",
            "tuning/",
            "examples/",
        ];
        let is_path =
            folders.iter().any(|prefix| word.starts_with(prefix) && word.len() > prefix.len());
        if is_path && !word.contains(['*', '<', '{']) && !root().join(word).exists() {
            findings.push(format!("ARCHITECTURE.md names {word}, which is not there"));
        }
    }
    for entry in fs::read_dir(root().join("core/src")).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let module = name.trim_end_matches(".rs");
        if !["lib", "main"].contains(&module) && !has_word(&map, module) {
            findings.push(format!("ARCHITECTURE.md does not name core/src/{name}"));
        }
    }
    none("the map", &findings);
}

#[test]
fn the_tools_of_this_file_work() {
    assert_eq!(code_of("let a = \"unsafe // x\"; // unsafe"), "let a = \"\"; ");
    assert!(has_word("unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
    let text = "fn a() {\n    b();\n}\n\nimpl X {\n    pub(crate) fn c(\n        d: u8,\n    ) {\n        e();\n    }\n    fn f();\n}\n";
    let found = functions(text);
    assert_eq!(found, [("a".to_owned(), 1, 3), ("c".to_owned(), 6, 10)]);
}
