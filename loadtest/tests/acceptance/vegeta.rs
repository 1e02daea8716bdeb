//! vegeta's pipeline, as its users type it.
//!
//! What it leaves to others: formats in detail, which have their tests beside them.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Origin, stdout};

fn pipe(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its options does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn attack_report_encode_plot() {
    let origin = Origin::start(&[]);
    let targets = format!("GET {0}?s=10\n\nPOST {0}?status=404\nX-A: b\n", origin.url);
    let attack =
        pipe(&["attack", "-rate=200/1s", "-duration=400ms", "-name", "n"], targets.as_bytes());
    let errors = String::from_utf8_lossy(&attack.stderr).into_owned();
    assert_eq!(attack.stdout.iter().filter(|b| **b == b'\n').count(), 80, "{errors}");
    let json = pipe(&["report", "-type=json"], &attack.stdout);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["requests"], &report["success"]), (&80.into(), &0.5.into()));
    assert_eq!(report["status_codes"], serde_json::json!({"200": 40, "404": 40}));
    assert!(report["latencies"]["99th"].as_u64().unwrap() > 0);
    let csv = pipe(&["encode", "-to", "csv"], &attack.stdout);
    let again = pipe(&["report", "-type", "json"], &csv.stdout);
    assert_eq!(again.stdout, json.stdout);
    let hist = stdout(&pipe(&["report", "-type=hist[0,1us,10s]"], &attack.stdout));
    assert!(hist.starts_with("Bucket ") && hist.contains("80    100.00%"), "{hist}");
    let text = stdout(&pipe(&["report"], &attack.stdout));
    assert!(
        text.contains("Status Codes  [code:count]                      200:40  404:40"),
        "{text}"
    );
    let page = stdout(&pipe(&["plot", "-title", "T"], &attack.stdout));
    assert!(page.contains("<svg") && page.contains("<h1>T</h1>"));
}

#[test]
fn what_is_not_there_is_said() {
    for (arguments, said) in [
        (&["attack", "-rate=0"][..], "-max-workers"),
        (&["report", "-type=xml"], "hdrplot"),
        (&["attack", "-resolvers=1.1.1.1"], "--resolvers"),
    ] {
        let output = pipe(arguments, b"GET http://127.0.0.1:1/\n");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let gob = pipe(&["report"], b"\x0f\xff\x81\x03");
    assert!(String::from_utf8(gob.stderr).unwrap().contains("vegeta encode"));
}
