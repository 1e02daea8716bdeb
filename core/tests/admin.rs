//! The admin server's pages, against the shapes that Envoy's tools read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "cli/process.rs"]
#[allow(dead_code)] // shared with the tests of the command line
mod process;

use process::{Folder, Running, answer, bootstrap, cluster, request, route};
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use tidegate_io::Now;

fn start() -> (Running, Folder) {
    let folder = Folder::new();
    let clusters = [
        cluster("one.a", "STATIC", "127.0.0.1", 9),
        cluster("named", "STRICT_DNS", "localhost", 9),
    ]
    .join(", ");
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), &clusters));
    (Running::start(&["-c", path.to_str().unwrap()]), folder)
}

fn json(running: &Running, path: &str) -> Value {
    let (status, body) = running.get(path);
    assert_eq!(status, 200, "{path}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}\n{body}"))
}

#[test]
fn every_reply_has_envoys_headers() {
    let (running, _folder) = start();
    for (path, kind) in [
        ("/ready", "text/plain; charset=UTF-8"),
        ("/nosuch", "text/plain; charset=UTF-8"),
        ("/stats/prometheus", "text/plain; charset=UTF-8"),
        ("/server_info", "application/json"),
        ("/clusters?format=json", "application/json"),
        ("/listeners?format=json", "application/json"),
        ("/stats?format=json", "application/json"),
        ("/", "text/html; charset=UTF-8"),
    ] {
        let (_, head, _) = request(running.admin, "GET", path);
        for header in [
            &format!("content-type: {kind}"),
            "cache-control: no-cache, max-age=0",
            "x-content-type-options: nosniff",
            "server: envoy",
        ] {
            assert!(head.lines().any(|line| line == header), "{path}: {header}\n{head}");
        }
    }
}

#[test]
fn methods_and_paths() {
    let (running, _folder) = start();
    assert_eq!(running.get("/ready"), (200, "LIVE\n".to_owned()));
    assert_eq!(running.post("/ready"), (200, "LIVE\n".to_owned()));
    for path in
        ["/quitquitquit", "/drain_listeners", "/reset_counters", "/healthcheck/fail", "/logging"]
    {
        let expected = "Method GET not allowed, POST required.".to_owned();
        assert_eq!(running.get(path), (405, expected), "{path}");
    }
    let (status, body) = running.get("/nosuch?x=1");
    assert_eq!(status, 404);
    assert!(
        body.starts_with("invalid path. admin commands are:\n  /: Admin home page\n"),
        "{body}"
    );
    let (status, help) = running.get("/help");
    assert_eq!(status, 200);
    assert_eq!(help, body.trim_start_matches("invalid path. "));
}

#[test]
fn server_info_tells_version_state_and_command_line() {
    let (running, _folder) = start();
    let info = json(&running, "/server_info");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["version"].as_str().unwrap().split('/').count(), 5);
    assert!(
        Regex::new("^[0-9]+s$").unwrap().is_match(info["uptime_current_epoch"].as_str().unwrap())
    );
    assert_eq!(info["command_line_options"]["concurrency"], 2);
    assert_eq!(info["command_line_options"]["drain_time"], "600s");
    assert_eq!(info["node"]["id"], "n1");
    assert_eq!(info["node"]["user_agent_name"], "tidegate");
}

#[test]
fn clusters_as_text() {
    let (running, _folder) = start();
    let (_, text) = running.get("/clusters?filter=^one");
    let lines: Vec<_> = text.lines().collect();
    let host: Vec<_> = [
        "cx_active::0",
        "cx_connect_fail::0",
        "cx_total::0",
        "rq_active::0",
        "rq_error::0",
        "rq_pending_active::0",
        "rq_success::0",
        "rq_timeout::0",
        "rq_total::0",
        "hostname::",
        "health_flags::healthy",
        "weight::1",
        "region::",
        "zone::",
        "sub_zone::",
        "canary::false",
        "priority::0",
        "success_rate::-1",
        "local_origin_success_rate::-1",
    ]
    .map(|line| format!("one.a::127.0.0.1:9::{line}"))
    .into();
    let mut expected: Vec<_> = [
        "observability_name::one.a",
        "default_priority::max_connections::1024",
        "default_priority::max_pending_requests::1024",
        "default_priority::max_requests::1024",
        "default_priority::max_retries::3",
        "high_priority::max_connections::1024",
        "high_priority::max_pending_requests::1024",
        "high_priority::max_requests::1024",
        "high_priority::max_retries::3",
        "added_via_api::false",
    ]
    .map(|line| format!("one.a::{line}"))
    .into();
    expected.extend(host);
    assert_eq!(lines, expected);
    let (_, text) = running.get("/clusters");
    assert!(text.contains("named::127.0.0.1:9::hostname::localhost\n"), "{text}");
}

#[test]
fn clusters_as_json() {
    let (running, _folder) = start();
    let clusters = json(&running, "/clusters?format=json");
    let cluster = &clusters["cluster_statuses"][0];
    assert_eq!(cluster["name"], "one.a");
    assert_eq!(cluster["observability_name"], "one.a");
    assert_eq!(cluster.get("added_via_api"), None, "defaults are left out");
    let host = &cluster["host_statuses"][0];
    assert_eq!(host["address"]["socket_address"]["address"], "127.0.0.1");
    assert_eq!(host["address"]["socket_address"]["port_value"], 9);
    assert_eq!(host["health_status"]["eds_health_status"], "HEALTHY");
    assert_eq!(host["weight"], 1);
    assert_eq!(host["locality"], serde_json::json!({}));
    assert_eq!(host["stats"][0], serde_json::json!({ "name": "cx_connect_fail" }));
    assert!(
        host["stats"]
            .as_array()
            .unwrap()
            .contains(&serde_json::json!({ "type": "GAUGE", "name": "cx_active" }))
    );
    let thresholds = &cluster["circuit_breakers"]["thresholds"];
    assert_eq!(thresholds[0].get("priority"), None);
    assert_eq!(thresholds[1]["priority"], "HIGH");
    assert_eq!(thresholds[1]["max_retries"], 3);
}

#[test]
fn listeners_in_both_forms() {
    let (running, _folder) = start();
    let address = running.listener();
    assert_eq!(running.get("/listeners").1, format!("web::{address}\n"));
    let listeners = json(&running, "/listeners?format=json");
    let listener = &listeners["listener_statuses"][0];
    assert_eq!(listener["name"], "web");
    assert_eq!(listener["local_address"]["socket_address"]["port_value"], address.port());
}

#[test]
fn stats_as_text_are_numbers_by_name_then_histograms_by_name() {
    let (running, _folder) = start();
    let (_, text) = running.get("/stats");
    let number = Regex::new(r"^[A-Za-z0-9_.:]+: [0-9]+$").unwrap();
    let histogram =
        Regex::new(r"^[A-Za-z0-9_.:]+: (No recorded values|P0\(.*P100\(.*\))$").unwrap();
    let (numbers, histograms): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| number.is_match(line));
    assert!(histograms.iter().all(|line| histogram.is_match(line)), "{histograms:?}");
    assert!(
        text.starts_with(numbers[0]) && text.trim_end().ends_with(histograms[histograms.len() - 1])
    );
    for lines in [&numbers, &histograms] {
        let names: Vec<_> = lines.iter().map(|line| line.split_once(": ").unwrap().0).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(
            names.iter().collect::<HashSet<_>>().len(),
            names.len(),
            "a name is there twice"
        );
    }
    for name in [
        "cluster.one.a.upstream_cx_total",
        "cluster.one.a.upstream_rq_timeout",
        "cluster.one.a.membership_healthy",
        "cluster.one.a.circuit_breakers.default.cx_open",
        "cluster.one.a.circuit_breakers.high.rq_pending_open",
        "cluster_manager.active_clusters",
        "http.ingress.downstream_rq_total",
        "listener.127.0.0.1_0.downstream_cx_total",
        "listener_manager.total_listeners_active",
        "listener_manager.workers_started",
        "server.concurrency",
        "server.live",
        "server.state",
        "server.uptime",
        "server.version",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name}: "))), "{name}");
    }
}

#[test]
fn stats_by_filter_type_and_use() {
    let (running, _folder) = start();
    // What Istio's agent asks for.
    let (_, text) = running
        .get("/stats?usedonly&filter=^(server%5C.state|listener_manager%5C.workers_started)");
    assert_eq!(text, "listener_manager.workers_started: 1\nserver.state: 0\n");
    let (_, text) = running.get("/stats?type=Gauges&filter=^server%5C.");
    assert!(text.contains("server.live: 1\n") && !text.contains("reload"), "{text}");
    let (_, text) = running.get("/stats?type=Histograms&filter=one");
    assert!(
        text.lines().count() >= 1 && text.lines().all(|line| line.contains("No recorded values"))
    );
    let (_, text) = running
        .get("/stats?type=Histograms&histogram_buckets=cumulative&filter=upstream_cx_length_ms$");
    assert!(text.contains(": B0.5(0,0) B1(0,0)") && text.contains("B3.6e+06(0,0)\n"), "{text}");
    let (_, text) = running.get("/stats?filter=cluster&invert_filter");
    assert!(!text.contains("cluster") && text.contains("server.live"), "{text}");
    let (status, text) = running.get("/stats?filter=(");
    assert_eq!(status, 400);
    assert!(text.starts_with("Invalid re2 regex: "), "{text}");
    let (status, text) = running.get("/stats?format=bogus");
    assert_eq!((status, text.starts_with("usage: /stats?format=(")), (400, true));
    assert_eq!(running.get("/stats?type=bogus").0, 400);
}

#[test]
fn stats_as_json() {
    let (running, _folder) = start();
    let stats = json(&running, "/stats?format=json");
    let stats = stats["stats"].as_array().unwrap();
    let live = stats.iter().find(|stat| stat["name"] == "server.live").unwrap();
    assert_eq!(live["value"], 1);
    let histograms = &stats[stats.len() - 1]["histograms"];
    let quantiles = serde_json::json!([0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0]);
    assert_eq!(histograms["supported_quantiles"], quantiles);
    let computed = &histograms["computed_quantiles"][0];
    assert_eq!(computed["values"][0], serde_json::json!({ "cumulative": null, "interval": null }));
    assert_eq!(computed["values"].as_array().unwrap().len(), 10);
    let buckets = json(
        &running,
        "/stats?format=json&histogram_buckets=cumulative&filter=upstream_cx_length_ms$",
    );
    let bucket = &buckets["stats"][0]["histograms"][0]["buckets"][0];
    assert_eq!(*bucket, serde_json::json!({ "upper_bound": 0.5, "interval": 0, "cumulative": 0 }));
}

#[test]
fn prometheus_pages_follow_the_exposition_format() {
    let (running, _folder) = start();
    for path in ["/stats/prometheus", "/stats?format=prometheus", "/stats/prometheus?usedonly"] {
        let (status, text) = running.get(path);
        assert_eq!(status, 200);
        check_exposition(&text);
    }
    let (_, text) = running.get("/stats/prometheus");
    for line in [
        "envoy_server_live{} 1",
        "# TYPE envoy_cluster_upstream_rq_total counter",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"one.a\"} 0",
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",\
         envoy_http_conn_manager_prefix=\"ingress\"} 0",
        "envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_0\"} 0",
        "# TYPE envoy_cluster_upstream_cx_connect_ms histogram",
        "envoy_cluster_upstream_cx_connect_ms_bucket{envoy_cluster_name=\"named\",le=\"+Inf\"} 0",
        "envoy_cluster_membership_total{envoy_cluster_name=\"one.a\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}

/// Every sample is of the form `name{labels} number`, stands under one `# TYPE` line of its family,
/// and is there once.
fn check_exposition(text: &str) {
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*""#;
    let sample = format!(r"^([a-zA-Z_][a-zA-Z0-9_]*)\{{((?:{label},?)*)\}} ([0-9.e+]+|nan)$");
    let sample = Regex::new(&sample).unwrap();
    let mut families = HashSet::new();
    let mut samples = HashSet::new();
    let mut current = (String::new(), String::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            current = (name.to_owned(), kind.to_owned());
            continue;
        }
        let parts = sample.captures(line).unwrap_or_else(|| panic!("not a sample: {line}"));
        let name = &parts[1];
        let stem = match current.1.as_str() {
            "histogram" => {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))
            }
            _ => Some(name),
        };
        assert_eq!(stem, Some(current.0.as_str()), "{line}");
        assert!(samples.insert(format!("{name}{}", &parts[2])), "{line} is there twice");
    }
    assert!(!families.is_empty());
}

#[test]
fn counters_count_and_can_be_reset() {
    let (running, _folder) = start();
    let address = running.listener();
    for _ in 0..3 {
        assert_eq!(request(address, "GET", "/").0, 200);
    }
    let total = "http.ingress.downstream_rq_total";
    running.wait_for("three requests", || running.stat(total) == 3);
    assert_eq!(running.post("/reset_counters"), (200, "OK\n".to_owned()));
    assert_eq!(running.stat(total), 0);
    assert_eq!(request(address, "GET", "/").0, 200);
    running.wait_for("one request", || running.stat(total) == 1);
}

#[test]
fn health_checks_can_be_failed() {
    let (running, _folder) = start();
    assert_eq!(running.post("/healthcheck/fail"), (200, "OK\n".to_owned()));
    assert_eq!(running.get("/ready"), (503, "DRAINING\n".to_owned()));
    assert_eq!(running.stat("server.state"), 1);
    assert_eq!(running.post("/healthcheck/ok").0, 200);
    assert_eq!(running.get("/ready").0, 200);
}

#[test]
fn levels_can_be_changed() {
    let (running, _folder) = start();
    let (status, text) = running.post("/logging");
    assert_eq!(status, 200);
    assert!(text.starts_with("active loggers:\n  admin: info\n"), "{text}");
    let (_, text) = running.post("/logging?level=warning&dns=debug");
    assert!(text.contains("  dns: debug\n") && text.contains("  main: warning\n"), "{text}");
    let (status, text) = running.post("/logging?level=loud");
    assert_eq!(status, 400);
    assert!(text.starts_with("error: unknown logger level\n"), "{text}");
}

#[test]
fn listeners_can_be_stopped() {
    let (running, _folder) = start();
    let address = running.listener();
    assert_eq!(running.post("/drain_listeners"), (200, "OK\n".to_owned()));
    running.wait_for("the listener's end", || std::net::TcpStream::connect(address).is_err());
    assert_eq!(running.get("/ready").0, 200);
    assert_eq!(running.get("/listeners").1, "");
}

#[test]
fn quitting_is_at_once_and_without_fault() {
    let (mut running, _folder) = start();
    assert_eq!(running.post("/quitquitquit"), (200, "OK\n".to_owned()));
    assert_eq!(running.end().code(), Some(0));
}

#[test]
fn before_the_first_lookups_it_is_not_ready() {
    // Nobody answers there, so the lookup takes as long as it may.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = Folder::new();
    let clusters = cluster("slow", "STRICT_DNS", "slow.test", 9);
    let path = folder.write("envoy.yaml", &bootstrap(0, &route("slow"), &clusters));
    let resolver = silent.local_addr().unwrap().to_string();
    let arguments = ["-c", path.to_str().unwrap(), "--dns-resolver", &resolver];
    let asked = Now::read().instant;
    let running = Running::start_unready(&arguments);
    assert_eq!(running.get("/ready"), (503, "PRE_INITIALIZING\n".to_owned()));
    assert_eq!(running.stat("server.live"), 0);
    running.wait_for("readiness", || running.get("/ready").0 == 200);
    assert!(Now::read().instant.since(asked).as_secs() < 10);
    running.wait_for_log("cannot resolve `slow.test`");
}

#[test]
fn a_client_that_sends_nothing_does_not_hold_others_up() {
    let (running, _folder) = start();
    let silent: Vec<_> =
        (0..8).map(|_| std::net::TcpStream::connect(running.admin).unwrap()).collect();
    assert_eq!(running.get("/ready").0, 200);
    drop(silent);
    let pages: BTreeMap<_, _> =
        ["/", "/help", "/clusters"].into_iter().map(|path| (path, running.get(path).0)).collect();
    assert!(pages.values().all(|status| *status == 200), "{pages:?}");
}
