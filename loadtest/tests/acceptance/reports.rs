//! The forms of reports: wrk2's blocks, the JSON that the schema describes, tables, files.
//!
//! What it leaves to others: whether the figures in them are right (`measuring`).

use crate::common::{Origin, json, loadtest, stdout};
use serde_json::Value;

/// What of JSON Schema our schema uses.
fn check(value: &Value, schema: &Value, root: &Value, path: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return check(value, &root["$defs"][name], root, path);
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{path}: type {other}"),
    };
    match &schema["type"] {
        Value::String(name) => assert!(is(name), "{path} is {value}"),
        Value::Array(names) => {
            assert!(names.iter().any(|name| is(name.as_str().unwrap())), "{path} is {value}");
        }
        _ => {}
    }
    if value.is_object() {
        for key in schema["required"].as_array().unwrap_or(&Vec::new()) {
            assert!(value.get(key.as_str().unwrap()).is_some(), "{path} has no {key}");
        }
    }
    if let (Some(properties), Some(object)) = (schema["properties"].as_object(), value.as_object())
    {
        for (key, property) in properties {
            if let Some(part) = object.get(key) {
                check(part, property, root, &format!("{path}.{key}"));
            }
        }
    }
    for (number, item) in value.as_array().unwrap_or(&Vec::new()).iter().enumerate() {
        check(item, &schema["items"], root, &format!("{path}[{number}]"));
    }
}

#[test]
fn json_is_what_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../result.schema.json")).unwrap();
    let origin = Origin::start(&[]);
    let pid = origin.pid();
    for load in [&["-n", "50"][..], &["-R", "500", "-z", "250ms", "--threshold", "p99<1s"]] {
        let (report, _) = json(&[load, &["-c", "3", "--watch-pid", &pid, &*origin.url]].concat());
        assert!(report["loadtest"]["server"]["cpuMicrosecondsPerRequest"].as_f64() > Some(0.0));
        check(&report, &schema, &schema, "report");
    }
}

#[test]
fn wrk2s_blocks() {
    let origin = Origin::start(&[]);
    let output = loadtest(&["-t1", "-c4", "-d0.3s", "-R400", "--latency", &origin.url]);
    let text = stdout(&output);
    for part in [
        "test @ http://",
        "  1 threads and 4 connections\n",
        "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n",
        "  Latency Distribution (HdrHistogram - Recorded Latency)\n 50.000%",
        "\n100.000%",
        "  Detailed Percentile spectrum:\n       Value   Percentile   TotalCount 1/(1-Percentile)\n",
        "#[Mean    =",
        "\nRequests/sec:",
        "\nTransfer/sec:",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(!progress.contains('\x1b'), "no terminal, no escapes: {progress}");
}

#[test]
fn a_line_per_request_and_nothing() {
    let origin = Origin::start(&["--size", "5"]);
    let csv = loadtest(&["-n", "10", "-c", "2", "--output-format", "csv", &origin.url]);
    let lines: Vec<String> = stdout(&csv).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 11);
    assert_eq!(
        lines[0],
        "request-start,DNS,DNS+dialup,Response-delay,request-duration,bytes,status"
    );
    assert!(lines[1].ends_with(",5,200"), "{}", lines[1]);
    let quiet = loadtest(&["-n", "10", "-c", "2", "--output-format", "quiet", &origin.url]);
    assert!(quiet.stdout.is_empty() && quiet.status.success());
}

#[test]
fn files_of_every_kind_from_one_run() {
    let folder = std::env::temp_dir().join(format!("loadtest-reports-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let names = ["r.json", "r.hgrm", "r.hlog", "r.csv", "r.html"].map(file);
    let origin = Origin::start(&[]);
    let output = loadtest(&[
        "-c",
        "4",
        "-R",
        "1k",
        "-z",
        "400ms",
        "--quiet",
        "--json",
        &names[0],
        "--hgrm",
        &names[1],
        "--hlog",
        &names[2],
        "--csv",
        &names[3],
        "--html",
        &names[4],
        &origin.url,
    ]);
    assert!(output.status.success());
    let text = names.map(|name| std::fs::read_to_string(name).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(text[0].starts_with('{'));
    assert!(text[1].contains("1/(1-Percentile)") && text[1].contains("#[Mean"));
    assert!(text[2].starts_with("#[Logged with loadtest") && text[2].contains("HISTFAAA"));
    assert!(text[3].lines().count() >= 4, "{}", text[3]);
    let html = text[4].replace(&origin.url, "").replace("http://www.w3.org/2000/svg", "");
    assert!(html.contains("<svg") && !html.contains("http") && !html.contains("<script"));
}

#[test]
fn mistakes_are_answered_with_status_two_and_what_to_do() {
    for (arguments, said) in [
        (&["--nonsense", "http://127.0.0.1/"][..], "--nonsense"),
        (&[][..], "URL"),
        (&["-R", "fast", "http://127.0.0.1/"][..], "500"),
        (&["--threshold", "p99", "http://127.0.0.1/"][..], "p99.9<2ms"),
    ] {
        let output = loadtest(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}
