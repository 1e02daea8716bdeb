//! Small changes to a good configuration, each with the verdict of Envoy 1.40, which is also ours,
//! except where Envoy accepts what we do not implement and where we are stricter: two spellings of
//! one field, an empty domain, a redirect to a port above 65535, and no router.
//!
//! What it leaves to others: where exactly an error points (`places`).

use super::{problems, with};

/// One change and what it leads to.
#[derive(Default)]
struct Case<'t> {
    name: &'t str,
    /// What is replaced in the base, and by what.
    edits: Vec<(String, String)>,
    /// What each problem contains, in order.
    expected: Vec<&'t str>,
}

/// Cases as text: `case` and a name, then lines that begin with `-`, `+` and `!`.
fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case<'_>> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if kind == "case" {
            cases.push(Case { name: rest, ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { panic!("{line:?} is before the first case") };
        let unescaped = rest.replace("\\n", "\n");
        match kind {
            "-" => case.edits.push((unescaped, String::new())),
            "+" => match case.edits.last_mut() {
                Some(edit) => edit.1 = unescaped,
                None => panic!("{line:?} replaces nothing"),
            },
            "!" => case.expected.push(rest),
            _ => panic!("{line:?} is no line of a case"),
        }
    }
    cases
}

fn check(text: &str, at_least: usize) {
    let cases = cases(text);
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    for case in cases {
        let edits: Vec<(&str, &str)> =
            case.edits.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        let text = with(&edits);
        let found = problems(&text);
        let fits = found.len() == case.expected.len()
            && found.iter().zip(&case.expected).all(|(found, part)| found.contains(part));
        let (name, expected) = (case.name, case.expected);
        assert!(fits, "{name}: expected {expected:#?}, found {found:#?}\n{text}");
    }
}

#[test]
fn writing() {
    check(include_str!("../fixtures/verdicts/writing.txt"), 20);
}

#[test]
fn ranges() {
    check(include_str!("../fixtures/verdicts/ranges.txt"), 15);
}

#[test]
fn required() {
    check(include_str!("../fixtures/verdicts/required.txt"), 14);
}

#[test]
fn routes() {
    check(include_str!("../fixtures/verdicts/routes.txt"), 25);
}

#[test]
fn clusters() {
    check(include_str!("../fixtures/verdicts/clusters.txt"), 15);
}

#[test]
fn filters() {
    check(include_str!("../fixtures/verdicts/filters.txt"), 9);
}

#[test]
fn a_direct_response_has_4096_bytes_at_most() {
    let of = |length: usize, limit: &str| {
        let body = "x".repeat(length);
        let response =
            format!("direct_response: {{ status: 200, body: {{ inline_string: {body} }} }}");
        problems(&with(&[("route: { cluster: c }", &response), ("name: r\n", limit)]))
    };
    assert_eq!(of(4096, "name: r\n"), [] as [String; 0]);
    assert!(of(4097, "name: r\n")[0].contains("longer than 4096 bytes"));
    let higher = "name: r\n            max_direct_response_body_size_bytes: 5000\n";
    assert_eq!(of(5000, higher), [] as [String; 0]);
}
