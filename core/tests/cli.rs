//! The program from outside: its flags, its messages, its exit codes, its signals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

#[path = "cli/process.rs"]
mod process;

use process::{
    Folder, Running, Signal, answer, bootstrap, cluster, free_port, origin, request, route, run,
    tidegate,
};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn with_config(path: &Path) -> Command {
    let mut command = tidegate();
    command.arg("-c").arg(path);
    command
}

#[test]
fn the_version_has_envoys_form() {
    let (code, stdout, _) = run(tidegate().arg("--version"));
    assert_eq!(code, 0);
    let version = stdout.trim().strip_prefix("tidegate  version: ").unwrap();
    let parts: Vec<_> = version.split('/').collect();
    assert_eq!(parts.len(), 5, "{version}");
    assert_eq!(parts[1], env!("CARGO_PKG_VERSION"));
    assert_eq!(run(tidegate().arg("--hot-restart-version")).1, "disabled\n");
}

#[test]
fn help_names_signals_and_exit_codes() {
    let (code, stdout, _) = run(tidegate().arg("--help"));
    assert_eq!(code, 0);
    for text in ["--config-path", "--drain-time-s", "SIGHUP", "Exit codes", "reverse-proxy"] {
        assert!(stdout.contains(text), "{text}");
    }
    assert!(stdout.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn without_a_configuration_it_says_what_to_write() {
    let (code, _, stderr) = run(&mut tidegate());
    assert_eq!(code, 2);
    assert!(stderr.contains("tidegate -c FILE") && stderr.contains("reverse-proxy"), "{stderr}");
    assert_eq!(run(tidegate().arg("--no-such-flag")).0, 2);
}

#[test]
fn a_missing_file_is_named() {
    let (code, _, stderr) = run(&mut with_config(Path::new("/no/such/envoy.yaml")));
    assert_eq!(code, 2);
    assert!(stderr.contains("/no/such/envoy.yaml"), "{stderr}");
    assert_eq!(stderr.matches("error:").count(), 1, "{stderr}");
}

#[test]
fn a_wrong_field_is_located_and_the_right_one_suggested() {
    let folder = Folder::new();
    let text = bootstrap(0, &answer("x"), "").replace("    address: {", "    addres: {");
    let path = folder.write("envoy.yaml", &text);
    let line = 1 + text.lines().position(|line| line.contains("addres: {")).unwrap();
    let outputs =
        [run(&mut with_config(&path)), run(with_config(&path).args(["--mode", "validate"]))];
    for (code, stdout, stderr) in &outputs {
        assert_eq!(*code, 2);
        assert_eq!(stdout, "");
        assert!(stderr.contains(&format!("envoy.yaml:{line}:5")), "{stderr}");
        assert!(stderr.contains("`address`"), "{stderr}");
    }
    assert_eq!(outputs[0].2, outputs[1].2, "validating and starting say the same");
}

#[test]
fn a_valid_file_is_validated_without_opening_anything() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(port, &answer("x"), ""));
    let (code, stdout, stderr) = run(with_config(&path).args(["--mode", "validate"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, format!("configuration '{}' OK\n", path.display()));
}

#[test]
fn a_route_is_explained_with_its_place() {
    let folder = Folder::new();
    let routes = [
        "{ match: { prefix: /a, headers: [{ name: x, string_match: { exact: b } }] }, \
         direct_response: { status: 201 } }",
        "{ match: { prefix: /a }, direct_response: { status: 202 } }",
    ];
    let path = folder.write("c.yaml", &explained(&routes.join(", ")));
    let ask = |url: &str, header: &str| {
        let arguments = ["explain", "route", "--url", url, "-H", header, "-c"];
        let (code, stdout, stderr) = run(tidegate().args(arguments).arg(&path));
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let found = ask("http://h/a/1", "x: b");
    assert!(found.contains("routes[0]") && found.contains("matches: answers 201"), "{found}");
    let found = ask("http://h/a/1", "x: c");
    assert!(found.contains("the header field `x` must be `b`, and is `c`"), "{found}");
    assert!(found.contains("c.yaml:13:") && found.contains("matches: answers 202"), "{found}");
    assert!(ask("http://h/b", "x: b").contains("no route matches: 404 NR"));
    let wrong = ["explain", "route", "--url", "/", "-H", "x", "-c"];
    assert_eq!(run(tidegate().args(wrong).arg(&path)).0, 2);
    assert_eq!(run(tidegate().args(["explain", "route", "--url", "/", "-c", "/none"])).0, 2);
}

/// A configuration whose routes are in line 13.
fn explained(routes: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    format!(
        r#"static_resources:
  listeners:
  - name: l
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {types}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config:
            virtual_hosts:
            - {{ name: v, domains: ["*"], routes: [{routes}] }}
          http_filters:
          - name: router
            typed_config: {{ "@type": {types}.http.router.v3.Router }}
"#
    )
}

#[test]
fn an_occupied_port_is_refused_with_the_remedy() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = folder.write("envoy.yaml", &bootstrap(port, &answer("x"), ""));
    let (code, _, stderr) = run(&mut with_config(&path));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains(&format!("listener `web` cannot listen on 127.0.0.1:{port}")),
        "{stderr}"
    );
    assert!(stderr.contains("in use"), "{stderr}");
    // A Tidegate shares its port among its own shards, and yet not with another Tidegate.
    let first = Running::start(&[
        "-c",
        folder.write("first.yaml", &bootstrap(0, &answer("x"), "")).to_str().unwrap(),
    ]);
    let port = first.listener().port();
    let path = folder.write("second.yaml", &bootstrap(port, &answer("x"), ""));
    let (code, _, stderr) = run(&mut with_config(&path));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("in use"), "{stderr}");
}

#[test]
fn a_privileged_port_is_refused_with_the_remedy() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(
        rustix::process::geteuid().is_root(),
        "this test gives up root's rights, so it needs them"
    );
    assert!(first.trim().parse::<u32>().unwrap() > 81, "no port is privileged here");
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(81, &answer("x"), ""));
    let (code, _, stderr) = run(with_config(&path).uid(65534).gid(65534));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("127.0.0.1:81"), "{stderr}");
    assert!(stderr.contains("setcap cap_net_bind_service=+ep"), "{stderr}");
    assert!(stderr.contains("ip_unprivileged_port_start=81"), "{stderr}");
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let folder = Folder::new();
    let port = free_port();
    let text = bootstrap(port, &answer("x"), "");
    let (head, rest) = text.split_once("  - name: web\n").unwrap();
    let (listener, tail) = rest.split_once("  clusters:").unwrap();
    let text =
        format!("{head}  - name: web\n{listener}  - name: other\n{listener}  clusters:{tail}");
    let (code, _, stderr) = run(&mut with_config(&folder.write("envoy.yaml", &text)));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("the listener `web` is at 127.0.0.1"), "{stderr}");
}

#[test]
fn without_descriptors_it_says_so_and_ends() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    let script = "ulimit -n 9; exec \"$0\" -c \"$1\" --concurrency 4";
    let program = env!("CARGO_BIN_EXE_tidegate");
    let (code, _, stderr) = run(Command::new("sh").args(["-c", script, program]).arg(&path));
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("descriptor"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn few_descriptors_are_told() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    let script = "ulimit -n 256; exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_tidegate");
    let log = folder.path("log");
    let mut command = Command::new("sh");
    command.args(["-c", script, program, "-c"]).arg(&path).arg("--log-path").arg(&log);
    let mut child = command.spawn().unwrap();
    let told = || std::fs::read_to_string(&log).unwrap_or_default().contains("256 descriptors");
    for _ in 0..500 {
        if told() {
            break;
        }
        process::pause();
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.contains("256 descriptors") && text.contains("LimitNOFILE"), "{text}");
}

#[test]
fn an_unresolvable_host_is_told_once_and_costs_only_its_own_requests() {
    let folder = Folder::new();
    let routes = format!(
        "{{ match: {{ prefix: /ok }}, direct_response: {{ status: 200 }} }}, {}",
        route("gone")
    );
    let clusters = cluster("gone", "STRICT_DNS", "no-such-host.invalid", 80);
    let path = folder.write("envoy.yaml", &bootstrap(0, &routes, &clusters));
    let running = Running::start(&["-c", path.to_str().unwrap()]);
    running.wait_for_log("serving");
    let log = running.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("no-such-host.invalid")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("[warning][dns]") && lines[0].contains("cluster gone"), "{log}");
    let address = running.listener();
    assert_eq!(request(address, "GET", "/ok").0, 200);
    let (status, _, body) = request(address, "GET", "/");
    assert_eq!((status, body.as_str()), (503, "no healthy upstream"));
}

#[test]
fn envoys_flags_are_accepted() {
    let folder = Folder::new();
    let text = bootstrap(0, &answer("x"), "").replace("node: { id: n1, cluster: c1 }\n", "");
    let path = folder.write("envoy.yaml", &text);
    let running = Running::start(&[
        "--config-path",
        path.to_str().unwrap(),
        "--drain-strategy",
        "immediate",
        "--drain-time-s",
        "1",
        "--parent-shutdown-time-s",
        "60",
        "--disable-hot-restart",
        "--restart-epoch",
        "0",
        "--base-id",
        "1",
        "--use-dynamic-base-id",
        "--allow-unknown-static-fields",
        "--reject-unknown-dynamic-fields",
        "--skip-deprecated-logs",
        "--local-address-ip-version",
        "v4",
        "--file-flush-interval-msec",
        "1000",
        "--cpuset-threads",
        "--service-cluster",
        "sc",
        "--service-node",
        "sn",
        "--service-zone",
        "sz",
        "-l",
        "debug",
        "--component-log-level",
        "upstream:off,filter:trace",
        "--log-format",
        "%l|%n|%v",
    ]);
    running.wait_for_log("info|main|accepted without effect: --base-id");
    running.wait_for_log("debug|config|published snapshot 1");
    let (_, info) = running.get("/server_info");
    for text in
        ["\"id\": \"sn\"", "\"cluster\": \"sc\"", "\"zone\": \"sz\"", "\"drain_time\": \"1s\""]
    {
        assert!(info.contains(text), "{text}: {info}");
    }
}

#[test]
fn yaml_on_the_command_line_is_merged_over_the_file() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    let running =
        Running::start(&["-c", path.to_str().unwrap(), "--config-yaml", "node: { id: other }"]);
    let (_, info) = running.get("/server_info");
    assert!(info.contains("\"id\": \"other\"") && info.contains("\"cluster\": \"c1\""), "{info}");
}

#[test]
fn the_reverse_proxy_needs_no_file() {
    let (one, two) = (origin("one").to_string(), origin("two").to_string());
    let running = Running::start(&[
        "reverse-proxy",
        "--from",
        "127.0.0.1:0",
        "--to",
        &one,
        "--to",
        &two,
        "--admin",
        ":0",
    ]);
    let address = running.listener();
    let mut answers: Vec<_> = (0..16).map(|_| request(address, "GET", "/").2).collect();
    answers.sort();
    answers.dedup();
    assert_eq!(answers, ["one", "two"]);
}

#[test]
fn what_the_reverse_proxy_makes_is_a_valid_configuration() {
    let arguments =
        ["reverse-proxy", "--to", "app:80", "--to", ":9000", "--access-log", "--print-config"];
    let (code, yaml, _) = run(tidegate().args(arguments));
    assert_eq!(code, 0);
    let (code, stdout, stderr) =
        run(tidegate().args(["--mode", "validate", "--config-yaml", &yaml]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "configuration '--config-yaml' OK\n");
    let (code, _, stderr) = run(tidegate().args(["reverse-proxy", "--to", "app"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("HOST:PORT"), "{stderr}");
    let (code, _, stderr) = run(tidegate().args(["-c", "x.yaml", "reverse-proxy", "--to", "a:1"]));
    assert_eq!(code, 2);
    assert!(stderr.contains("leave out -c"), "{stderr}");
}

#[test]
fn a_reload_takes_a_good_file_and_refuses_a_bad_one() {
    let folder = Folder::new();
    let port = free_port();
    let path = folder.write("envoy.yaml", &bootstrap(port, &answer("first"), ""));
    let running = Running::start(&["-c", path.to_str().unwrap()]);
    let address = running.listener();
    let body = || request(address, "GET", "/").2;
    assert_eq!(body(), "first");

    folder.write("envoy.yaml", &bootstrap(port, &answer("second"), ""));
    running.signal(Signal::HUP);
    running.wait_for_log("listener modified: web");
    running.wait_for("the second answer", || body() == "second");

    folder.write("envoy.yaml", &bootstrap(port, "{ matc: {} }", ""));
    running.signal(Signal::HUP);
    running.wait_for_log("stays in use");
    assert!(running.log().contains("envoy.yaml:"), "{}", running.log());
    assert!(running.log().contains("`match`"), "{}", running.log());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port();
    folder.write("envoy.yaml", &bootstrap(taken, &answer("third"), ""));
    running.signal(Signal::HUP);
    running.wait_for_log(&format!("127.0.0.1:{taken}"));
    running.wait_for("two refusals", || running.stat("server.reload_failure") == 2);
    assert_eq!(running.stat("server.reload_success"), 1);
    assert_eq!(running.stat("listener_manager.listener_create_failure"), 1);
    assert_eq!(body(), "second");
}

#[test]
fn a_reload_moves_a_listener() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(free_port(), &answer("x"), ""));
    let running = Running::start(&["-c", path.to_str().unwrap()]);
    let port = free_port();
    folder.write("envoy.yaml", &bootstrap(port, &answer("moved"), ""));
    running.signal(Signal::HUP);
    running.wait_for("the new address", || running.listener().port() == port);
    assert_eq!(request(running.listener(), "GET", "/").2, "moved");
}

#[test]
fn a_listener_that_is_gone_refuses_and_can_come_back_although_its_connections_live_on() {
    let folder = Folder::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let clusters = cluster("silent", "STATIC", "127.0.0.1", silent.local_addr().unwrap().port());
    let (port, other) = (free_port(), free_port());
    let path = folder.write("envoy.yaml", &bootstrap(port, &route("silent"), &clusters));
    let running = Running::start(&["-c", path.to_str().unwrap()]);
    let address = running.listener();
    let mut living = TcpStream::connect(address).unwrap();
    living.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    running.wait_for("the request", || running.stat("http.ingress.downstream_rq_active") == 1);

    let elsewhere = bootstrap(other, &answer("elsewhere"), "");
    folder.write("envoy.yaml", &elsewhere);
    running.signal(Signal::HUP);
    running.wait_for("the end of the listener", || TcpStream::connect(address).is_err());
    // Back and forth, quicker than shards close.
    for (port, text) in [(port, "back"), (other, "forth"), (port, "back again")] {
        folder.write("envoy.yaml", &bootstrap(port, &answer(text), ""));
        running.signal(Signal::HUP);
        running.wait_for(text, || running.listener().port() == port);
        assert_eq!(request(running.listener(), "GET", "/").2, text);
    }
    assert_eq!(running.stat("server.reload_failure"), 0);
    drop(living);
}

#[test]
fn sigterm_drains_and_ends_with_zero() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(&["-c", path.to_str().unwrap(), "--drain-time-s", "15"]);
        assert_eq!(request(running.listener(), "GET", "/").0, 200);
        running.signal(signal);
        assert_eq!(running.end().code(), Some(0));
        running.wait_for_log("drained, exiting");
    }
}

#[test]
fn a_drain_ends_with_the_drain_time_or_a_second_signal() {
    let folder = Folder::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let clusters = cluster("silent", "STATIC", "127.0.0.1", port);
    let path = folder.write("envoy.yaml", &bootstrap(0, &route("silent"), &clusters));
    for (seconds, again, expected) in
        [("1", false, "1 s are over"), ("60", true, "exiting at once")]
    {
        let arguments = ["-c", path.to_str().unwrap(), "--drain-time-s", seconds];
        let mut running = Running::start(&arguments);
        let address = running.listener();
        let client =
            std::thread::spawn(move || std::panic::catch_unwind(|| request(address, "GET", "/")));
        running.wait_for("the request", || running.stat("http.ingress.downstream_rq_active") == 1);
        running.signal(Signal::TERM);
        running.wait_for_log("draining 1 connections");
        assert_eq!(running.get("/ready"), (503, "DRAINING\n".to_owned()));
        if again {
            running.signal(Signal::TERM);
        }
        assert_eq!(running.end().code(), Some(0));
        running.wait_for_log(expected);
        let _ = client.join();
    }
}

#[test]
fn logs_are_opened_again_on_request() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    let log = folder.path("log");
    let running =
        Running::start(&["-c", path.to_str().unwrap(), "--log-path", log.to_str().unwrap()]);
    std::fs::rename(&log, folder.path("log.1")).unwrap();
    running.signal(Signal::USR1);
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    running.wait_for("the new log", || read().contains("opened again"));
    let (code, _, stderr) = run(with_config(&path).args(["--log-path", "/no/such/folder/log"]));
    assert_eq!(code, 3);
    assert!(stderr.contains("/no/such/folder/log"), "{stderr}");
}

#[test]
fn both_backends_can_be_asked_for() {
    let folder = Folder::new();
    let path = folder.write("envoy.yaml", &bootstrap(0, &answer("x"), ""));
    let running = Running::start(&["-c", path.to_str().unwrap(), "--io-backend", "epoll"]);
    running.wait_for_log("2 shards on epoll");
    assert_eq!(running.stat("io_uring.enabled"), 0);
    assert_eq!(request(running.listener(), "GET", "/").0, 200);
}
