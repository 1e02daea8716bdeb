//! `ab`, `find-max` and `diff`.
//!
//! What it leaves to others: their statistics, which are tested from seeds.

use serde_json::Value;

use crate::common::{Origin, alone, loadtest, stdout};

/// What a busy machine may do without making runs of a test void.
const PATIENT: [&str; 4] = ["--lateness-max", "1s", "--steal-max", "100"];

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("loadtest-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_slower_target_is_called_slower_with_what_its_process_costs() {
    let origin = Origin::start(&[]);
    let folder = folder("ab");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (json, html) = (file("ab.json"), file("ab.html"));
    let quick = format!("quick={}", origin.url("t=2ms"));
    let slow = format!("slow={}", origin.url("t=6ms"));
    let [watch_quick, watch_slow] =
        ["quick", "slow"].map(|name| format!("{name}={}", origin.pid()));
    let may_count = std::fs::metadata("/sys/kernel/tracing/events/raw_syscalls").is_ok();
    let counting = if may_count { &["--watch-system-calls"][..] } else { &[] };
    if !may_count {
        println!("system calls may not be counted here: NOT tried");
    }
    let arguments = [
        &["ab", "--a", &quick, "--b", &slow, "--blocks", "32", "-z", "60ms", "-R", "400"][..],
        &["-c", "8", "--metric", "p50", "--json", &json, "--html", &html],
        &["--watch-pid", &watch_quick, "--watch-pid", &watch_slow],
        counting,
        &PATIENT,
    ]
    .concat();
    let output = alone(|| loadtest(&arguments));
    let text = stdout(&output);
    assert!(text.contains("slow is worse than quick in p50"), "{text}");
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let metrics = report["metrics"].as_array().unwrap();
    let ratio = |name: &str| {
        let metric = metrics.iter().find(|metric| metric["metric"] == name)?;
        metric["bOverA"]["ratio"].as_f64()
    };
    assert!((2.0..4.0).contains(&ratio("p50").unwrap()), "{report}");
    // It makes the same ones for both, whatever they wait for.
    let calls = ratio("syscalls");
    assert_eq!(calls.is_some(), may_count, "{report}");
    assert!(calls.is_none_or(|ratio| (0.5..2.0).contains(&ratio)), "{report}");
    assert!(std::fs::read_to_string(html).unwrap().contains("Difference by percentile"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_target_against_itself_is_no_different() {
    let origin = Origin::start(&[]);
    let url = origin.url("t=2ms");
    let folder = folder("aa");
    let json = folder.join("aa.json").to_string_lossy().into_owned();
    // So wide a margin that a busy machine decides, too.
    let arguments = [
        &["ab", "--a", &url, "--b", &url, "--blocks", "32", "-z", "40ms", "-R", "500", "-c", "8"],
        &["--metric", "p50", "--margin", "40", "--json", &json][..],
        &PATIENT,
    ]
    .concat();
    let text = stdout(&alone(|| loadtest(&arguments)));
    assert!(text.contains("no difference of more than 40.0 % between a and b in p50"), "{text}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let blocks = report["blocks"].as_u64().unwrap();
    assert!((8..=32).contains(&blocks), "{report}");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!((runs.len() as u64, runs[0].as_array().unwrap().len()), (blocks, 3));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nobody_there_is_said_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let output = loadtest(&["ab", "--a", &url, "--b", &url]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("no connection to it"), "{text}");
}

#[test]
fn runs_that_are_void_have_no_verdict() {
    let origin = Origin::start(&[]);
    let target = format!("x={}", origin.url);
    let output = loadtest(&[
        "ab",
        "--a",
        &target,
        "--b",
        &target,
        "--blocks",
        "8",
        "-z",
        "20ms",
        "-R",
        "100",
        "-c",
        "1",
        "--lateness-max",
        "1ns",
    ]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() != Some(0) && text.contains("sends were late"), "{text}");
}

#[test]
fn the_highest_rate_that_holds() {
    // Two connections, 10 ms each: 200 a second.
    let origin = Origin::start(&["--delay", "10ms"]);
    let arguments = [
        &["find-max", "--slo", "p90<40ms", "--slo", "errors<=0", "-c", "2", "-z", "300ms"][..],
        &["--to", "600", "--precision", "15", &origin.url],
        &PATIENT,
    ]
    .concat();
    let text = stdout(&loadtest(&arguments));
    let last = text.lines().last().unwrap();
    let rate: f64 = last.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!((100.0..=240.0).contains(&rate), "{text}");
}

#[test]
fn files_of_two_runs() {
    let origin = Origin::start(&[]);
    let folder = folder("diff");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let [a, b, hgrm] = ["a.hlog", "b.hlog", "b.hgrm"].map(file);
    for (delay, hlog) in [("t=2ms", &a), ("t=5ms", &b)] {
        let output = loadtest(&[
            "-R",
            "300",
            "-z",
            "600ms",
            "-c",
            "8",
            "--quiet",
            "--hlog",
            hlog,
            "--hgrm",
            &hgrm,
            &origin.url(delay),
        ]);
        assert!(output.status.success());
    }
    let text = stdout(&loadtest(&["diff", &a, &b]));
    let p50 = text.lines().find(|line| line.starts_with("p50")).unwrap();
    assert!(p50.contains("% to +") && !p50.contains("no difference"), "{text}");
    let text = stdout(&loadtest(&["diff", &a, &hgrm]));
    assert!(text.contains("percentile spectrum") && text.contains("No intervals"), "{text}");
    let wrong = loadtest(&["diff", &a, "Cargo.toml"]);
    assert_eq!(wrong.status.code(), Some(1));
    std::fs::remove_dir_all(folder).unwrap();
}
