//! The admin server's longer pages, what they change, and the sinks of stats.
//!
//! What it leaves to others: short pages and forms of stats (`admin`), Envoy's own (`parity`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "cli/process.rs"]
#[allow(dead_code)] // shared with the tests of the command line
mod process;

use process::{Folder, Running, answer, bootstrap, cluster, request};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const WAIT_MAX: Duration = Duration::from_secs(20);

/// A server with these lines before its `admin`, and these clusters.
fn start(lines: &str, routes: &str, clusters: &str) -> (Running, Folder) {
    let folder = Folder::new();
    let text = format!("{lines}\n{}", bootstrap(0, routes, clusters));
    let path = folder.write("envoy.yaml", &text);
    (Running::start(&["-c", path.to_str().unwrap()]), folder)
}

fn json(running: &Running, path: &str) -> Value {
    let (status, body) = running.get(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}\n{body}"))
}

#[test]
fn a_dump_has_the_messages_that_were_given() {
    let clusters =
        [cluster("one", "STATIC", "127.0.0.1", 9), cluster("two", "STATIC", "127.0.0.1", 9)]
            .join(", ");
    let (running, _folder) = start("", &answer("x"), &clusters);
    let dump = json(&running, "/config_dump");
    let kinds: Vec<_> =
        dump["configs"].as_array().unwrap().iter().map(|one| &one["@type"]).collect();
    let expected = ["Bootstrap", "Clusters", "Listeners", "ScopedRoutes", "Routes", "Secrets"]
        .map(|kind| format!("type.googleapis.com/envoy.admin.v3.{kind}ConfigDump"));
    assert_eq!(kinds, expected.iter().collect::<Vec<_>>());
    let bootstrap = &dump["configs"][0]["bootstrap"];
    assert_eq!(bootstrap["node"]["id"], "n1");
    assert_eq!(bootstrap["static_resources"]["clusters"][1]["name"], "two");
    assert_eq!(bootstrap["admin"]["address"]["socket_address"]["address"], "127.0.0.1");
    let first = &dump["configs"][1]["static_clusters"][0]["cluster"];
    assert_eq!(first["@type"], "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    assert_eq!((&first["name"], first.get("lb_policy")), (&json!("one"), None));
    let route = &dump["configs"][4]["static_route_configs"][0]["route_config"];
    assert_eq!(route["virtual_hosts"][0]["routes"][0]["direct_response"]["status"], 200);
    let two = json(&running, "/config_dump?resource=static_clusters&name_regex=tw.");
    assert_eq!(two["configs"].as_array().unwrap().len(), 1);
    let hosts = json(&running, "/config_dump?include_eds&name_regex=two");
    let endpoints = &hosts["configs"][2]["static_endpoint_configs"];
    assert_eq!(endpoints.as_array().unwrap().len(), 1);
    let host = &endpoints[0]["endpoint_config"]["endpoints"][0]["lb_endpoints"][0];
    assert_eq!(host["health_status"], "HEALTHY");
}

#[test]
fn a_reload_shows_in_the_dump_and_keeps_runtime_values() {
    let layers = "layered_runtime: { layers: [ { name: a, admin_layer: {} } ] }";
    let share = "{ match: { prefix: /s, runtime_fraction: { runtime_key: share, \
                 default_value: { numerator: 0 } } }, direct_response: { status: 204 } }";
    let routes = |text: &str| format!("{share}, {}", answer(text));
    let (running, folder) = start(layers, &routes("before"), "");
    let status = || request(running.listener(), "GET", "/s").0;
    assert_eq!(status(), 200);
    assert_eq!(running.post("/runtime_modify?share=100"), (200, "OK\n".to_owned()));
    running.wait_for("the new share", || status() == 204);
    let entries = json(&running, "/runtime")["entries"].clone();
    assert_eq!(entries, json!({ "share": { "layer_values": ["100"], "final_value": "100" } }));
    let text = format!("{layers}\n{}", bootstrap(0, &routes("after"), ""));
    folder.write("envoy.yaml", &text);
    running.signal(rustix::process::Signal::HUP);
    running.wait_for("the reload", || running.get("/config_dump").1.contains("after"));
    running.wait_for("the new answer", || request(running.listener(), "GET", "/").2 == "after");
    assert_eq!(status(), 204);
    assert_eq!(running.post("/runtime_modify?share=").0, 200);
    running.wait_for("the old share", || status() == 200);
}

#[test]
fn connections_close_while_health_checks_fail() {
    let (running, _folder) = start("", &answer("x"), "");
    let mut stream = TcpStream::connect(running.listener()).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut ask = || {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(!ask().contains("connection: close"));
    assert_eq!(running.post("/healthcheck/fail").0, 200);
    running.wait_for("connection: close", || {
        request(running.listener(), "GET", "/").1.contains("connection: close")
    });
    // The connection's shard may hear of it later than the other one.
    assert!((0..10_000).any(|_| ask().contains("connection: close")));
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn draining_without_exit_stops_no_listener() {
    let (running, _folder) = start("", &answer("x"), "");
    let closes = || request(running.listener(), "GET", "/").1.contains("connection: close");
    assert_eq!(running.post("/drain_listeners?inboundonly&skip_exit").0, 200);
    assert_eq!(running.post("/drain_listeners?inboundonly").0, 200);
    // The listener has no direction, so it is not meant.
    assert_eq!(request(running.listener(), "GET", "/").0, 200);
    assert_eq!(running.post("/drain_listeners?graceful&skip_exit").0, 200);
    running.wait_for("connection: close", closes);
    assert_eq!(request(running.listener(), "GET", "/").0, 200);
}

#[test]
fn a_client_that_takes_nothing_holds_nobody_up() {
    let clusters: Vec<_> =
        (0..2_000).map(|i| cluster(&format!("c{i}"), "STATIC", "127.0.0.1", 9)).collect();
    let (running, _folder) = start("", &answer("x"), &clusters.join(", "));
    let stuck: Vec<_> = ["/stats", "/config_dump", "/stats/prometheus", "/stats?format=json"]
        .map(|path| {
            let mut stream = TcpStream::connect(running.admin).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            stream
        })
        .into();
    assert_eq!(running.get("/ready").0, 200);
    assert_eq!(request(running.listener(), "GET", "/").0, 200);
    let whole = running.get("/stats").1;
    assert!(whole.contains("cluster.c1999.upstream_rq_total: 0\n") && whole.ends_with('\n'));
    drop(stuck);
}

#[test]
fn stats_are_sent_to_statsd() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let dog = UdpSocket::bind("127.0.0.1:0").unwrap();
    dog.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let kind = "type.googleapis.com/envoy.config.metrics.v3";
    let address = |socket: &UdpSocket| {
        let port = socket.local_addr().unwrap().port();
        format!(
            "address: {{ socket_address: {{ protocol: UDP, address: 127.0.0.1, port_value: {port} }} }}"
        )
    };
    let (plain, tagged) = (address(&udp), address(&dog));
    let lines = format!(
        "stats_flush_interval: 0.1s\n\
         stats_sinks:\n\
         - {{ name: a, typed_config: {{ \"@type\": {kind}.StatsdSink, prefix: p, {plain} }} }}\n\
         - {{ name: b, typed_config: {{ \"@type\": {kind}.StatsdSink, tcp_cluster_name: s }} }}\n\
         - {{ name: c, typed_config: {{ \"@type\": {kind}.DogStatsdSink, {tagged}, \
         max_bytes_per_datagram: 1400 }} }}"
    );
    let clusters = cluster("s", "STATIC", "127.0.0.1", tcp.local_addr().unwrap().port());
    let (running, _folder) = start(&lines, &answer("x"), &clusters);
    assert_eq!(request(running.listener(), "GET", "/").0, 200);
    let until = |socket: &UdpSocket, wanted: &str| {
        let mut bytes = [0; 2048];
        loop {
            let length = socket.recv(&mut bytes).expect(wanted);
            let text = String::from_utf8_lossy(&bytes[..length]);
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    until(&udp, "p.http.ingress.downstream_rq_2xx:1|c");
    let tags = "envoy.response_code_class:2,envoy.http_conn_manager_prefix:ingress";
    until(&dog, &format!("envoy.http.downstream_rq_xx:1|c|#{tags}"));
    let (mut stream, _) = tcp.accept().unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let mut seen = String::new();
    while !seen.contains("envoy.http.ingress.downstream_rq_2xx:1|c\n") {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
}

#[test]
fn stats_can_be_left_out_and_tagged() {
    let lines = "stats_config:\n  stats_matcher: { exclusion_list: { patterns: [ { prefix: io } ] } }\n  \
                 stats_tags: [ { tag_name: site, fixed_value: x } ]\n  use_all_default_tags: false";
    let (running, _folder) = start(lines, &answer("x"), "");
    let (_, text) = running.get("/stats");
    assert!(!text.contains("\nio.") && text.contains("\nserver.live: 1\n"), "{text}");
    let (_, text) = running.get("/stats/prometheus");
    for line in
        ["envoy_http_ingress_downstream_rq_2xx{site=\"x\"} 0", "envoy_server_live{site=\"x\"} 1"]
    {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
