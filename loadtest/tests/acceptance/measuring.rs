//! Whether the figures are right: known delays, a stall, what counts as a failure.
//!
//! What it leaves to others: forms of reports (`reports`), comparing (`comparing`).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{Origin, alone, json, loadtest, scripted, stdout};
use serde_json::Value;

fn us(report: &Value, quantile: &str) -> f64 {
    report["loadtest"]["latencyMicroseconds"][quantile].as_f64().unwrap()
}

fn count(report: &Value, key: &str) -> u64 {
    report["loadtest"][key].as_u64().unwrap()
}

fn is_near(value: f64, expected: f64, tolerance: f64) -> bool {
    (value / expected - 1.0).abs() <= tolerance
}

/// Something else on the machine may delay one run: the figures must be right in one of a few.
fn in_one_of_a_few(check: impl Fn() -> Result<(), String>) {
    alone(|| {
        let mut last = Ok(());
        for _ in 0..8 {
            last = check();
            if last.is_ok() {
                return;
            }
        }
        panic!("{}", last.unwrap_err());
    });
}

#[test]
fn percentiles_of_known_delays_are_right_to_one_percent() {
    in_one_of_a_few(|| {
        let served = AtomicU64::new(0);
        let address = scripted(move || {
            Duration::from_millis(match served.fetch_add(1, Ordering::Relaxed) % 100 {
                0..80 => 100,
                80..98 => 200,
                _ => 400,
            })
        });
        let (report, _) =
            json(&["-c", "128", "-R", "500", "-d", "1.2s", &format!("http://{address}/")]);
        let expected = [("p50", 100e3), ("p90", 200e3), ("p99", 400e3)];
        for (quantile, expected) in expected {
            let value = us(&report, quantile);
            if !is_near(value, expected, 0.01) {
                return Err(format!("{quantile} is {value} us, not {expected}"));
            }
        }
        assert_eq!(count(&report, "succeeded"), 600);
        Ok(())
    });
}

#[test]
fn a_stall_shows_in_full() {
    in_one_of_a_few(|| {
        // 400 ms of 2 s: a fifth of the requests is due while nothing is answered, and these wait
        // for 0 to 400 ms, evenly.
        let stall: Mutex<Option<Instant>> = Mutex::new(None);
        let served = AtomicU64::new(0);
        let address = scripted(move || {
            let number = served.fetch_add(1, Ordering::Relaxed);
            let mut until = stall.lock().unwrap();
            if number == 800 {
                *until = Some(Instant::now() + Duration::from_millis(400));
            }
            until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
        });
        let url = format!("http://{address}/");
        // Fewer connections than requests that come due: the rest waits in the generator.
        let (report, _) = json(&["-c", "16", "-R", "1000", "-d", "2s", &url]);
        for (quantile, expected) in [("p90", 200e3), ("p99", 380e3), ("max", 400e3)] {
            let value = us(&report, quantile);
            if !is_near(value, expected, 0.02) {
                return Err(format!("{quantile} is {value} us, not {expected}"));
            }
        }
        if us(&report, "p50") > 20e3 {
            return Err("the rest was quick".to_owned());
        }
        assert_eq!(count(&report, "succeeded"), 2000);
        Ok(())
    });
}

#[test]
fn a_closed_loop_says_what_it_does_not_see() {
    let origin = Origin::start(&["--size", "10"]);
    let output = crate::common::loadtest(&["-c", "4", "-z", "300ms", "--no-tui", &origin.url]);
    let text = crate::common::stdout(&output);
    assert!(text.contains("closed loop: latencies omit queueing"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn exactly_so_many_requests_on_both_backends() {
    let origin = Origin::start(&[]);
    for backend in ["io_uring", "epoll"] {
        for load in [&["-n", "1001"][..], &["-n", "1001", "-R", "5k"]] {
            let arguments =
                [&["--io-backend", backend, "-t", "2", "-c", "7"], load, &[&*origin.url]].concat();
            let (report, status) = json(&arguments);
            assert_eq!(count(&report, "sent"), 1001, "{arguments:?}");
            assert_eq!(count(&report, "succeeded"), 1001, "{arguments:?}");
            assert_eq!(report["statusCodeDistribution"]["200"], 1001, "{arguments:?}");
            assert_eq!((status, count(&report, "connectionsOpen")), (0, 7), "{arguments:?}");
            assert_eq!(report["summary"]["totalData"], 1001 * 1024, "{arguments:?}");
        }
    }
}

#[test]
fn another_status_is_a_failure_unless_it_is_expected() {
    let origin = Origin::start(&["--status", "503"]);
    let (report, status) = json(&["-n", "20", "-c", "2", &origin.url]);
    assert_eq!((count(&report, "failed"), count(&report, "succeeded")), (20, 0));
    assert_eq!(report["summary"]["successRate"], 0.0);
    assert_eq!((report["loadtest"]["latencyMicroseconds"].is_null(), status), (true, 0));
    let (report, _) = json(&["-n", "20", "-c", "2", "--expect", "2xx,503", &origin.url]);
    assert_eq!((count(&report, "failed"), count(&report, "succeeded")), (0, 20));
}

#[test]
fn thresholds_decide_the_exit_status() {
    let origin = Origin::start(&[]);
    let url = origin.url("t=20ms");
    let run = |condition: &str| {
        json(&["-n", "30", "-c", "3", "--lateness-max", "1s", "--threshold", condition, &url])
    };
    let (report, status) = run("p50<5ms");
    assert_eq!(status, 4);
    assert_eq!(report["loadtest"]["thresholds"][0]["holds"], false);
    let (report, _) = run("p50>=20ms");
    assert_eq!(report["loadtest"]["thresholds"][0]["holds"], true);
}

#[test]
fn nobody_there_and_nobody_answering() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let (report, status) = json(&["-n", "5", "-c", "2", &format!("http://{closed}/")]);
    assert_eq!((status, report["errorDistribution"]["connect"].as_u64()), (1, Some(5)));
    let silent = format!("http://{}/", listener.local_addr().unwrap());
    let (report, status) = json(&["-n", "4", "-c", "2", "--timeout", "150ms", &silent]);
    assert_eq!((status, report["errorDistribution"]["timeout"].as_u64()), (1, Some(4)));
    assert!(us(&report, "p50") >= 150e3, "a timeout took its time: {report}");
    // In an open loop what never got a connection is not forgotten.
    let (report, _) = json(&["-R", "100", "-d", "200ms", "-c", "2", "--timeout", "150ms", &silent]);
    assert_eq!(count(&report, "failed"), 20);
    let void = report["loadtest"]["void"].to_string();
    assert!(void.contains("never sent"), "{void}");
}

#[test]
fn connections_are_made_anew_when_asked_for_and_when_the_origin_ends_them() {
    let origin = Origin::start(&[]);
    let (report, _) = json(&["-n", "40", "-c", "4", "--disable-keepalive", &origin.url]);
    assert_eq!((count(&report, "succeeded"), count(&report, "connects")), (40, 40));
    let (report, _) = json(&["-n", "40", "-c", "2", &origin.url("close")]);
    assert_eq!((count(&report, "succeeded"), count(&report, "failed")), (40, 0));
    let (report, _) = json(&["-n", "40", "-c", "2", "--requests-per-connection", "5", &origin.url]);
    assert_eq!(count(&report, "succeeded"), 40);
}

#[test]
fn methods_fields_and_bodies_arrive() {
    let origin = Origin::start(&[]);
    let (report, _) = json(&["-n", "3", "-c", "1", "-m", "HEAD", &origin.url]);
    assert_eq!(
        (count(&report, "succeeded"), &report["summary"]["totalData"]),
        (3, &Value::from(0))
    );
    let (report, _) =
        json(&["-n", "3", "-c", "1", "-m", "POST", "-d", "hello", &origin.url("s=7")]);
    assert_eq!(
        (count(&report, "succeeded"), &report["summary"]["totalData"]),
        (3, &Value::from(21))
    );
}

#[test]
fn phases_have_their_rates_and_their_own_figures() {
    let origin = Origin::start(&[]);
    let arguments = [
        &["--phase", "low=300ms@100", "--phase", "ramp=600ms@100..500"][..],
        &["--phase", "pause=100ms@0", "--phase", "high=300ms@500"],
        &["-c", "16", "--lateness-max", "1s", "--steal-max", "100", &origin.url],
    ]
    .concat();
    let (report, _) = json(&arguments);
    let phases = report["loadtest"]["phases"].as_array().unwrap();
    let sent: Vec<u64> = phases.iter().map(|phase| phase["sent"].as_u64().unwrap()).collect();
    assert_eq!(sent, [30, 180, 0, 150], "{report}");
    assert_eq!(report["loadtest"]["succeeded"], 360, "{report}");
    assert_eq!(
        (phases[1]["name"].as_str(), phases[1]["rateTo"].as_f64()),
        (Some("ramp"), Some(500.0))
    );
    assert!(phases[2]["latencyMicroseconds"].is_null(), "{report}");
    let text = stdout(&loadtest(&[&arguments[..], &["--no-tui"]].concat()));
    let line = text.lines().find(|line| line.trim_start().starts_with("ramp")).unwrap();
    assert!(line.contains("100/s to 500/s") && line.contains("300.0"), "{text}");
    for wrong in [&["-R", "5"][..], &["-z", "1s"], &["--phase", "low=1s@1"]] {
        let output = loadtest(&[&arguments[..], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn phases_of_a_closed_loop_have_their_requests_at_a_time() {
    let origin = Origin::start(&[]);
    let url = origin.url("t=10ms");
    let phases =
        ["--phase", "one=500ms@1c", "--phase", "ramp=500ms@1..7c", "--phase", "pause=100ms@0c"];
    let arguments =
        [&phases[..], &["--phase", "four=500ms@4c", "-t2", "--steal-max", "100", &url]].concat();
    let (report, _) = alone(|| json(&arguments));
    let phases = report["loadtest"]["phases"].as_array().unwrap();
    let sent: Vec<f64> = phases.iter().map(|phase| phase["sent"].as_f64().unwrap()).collect();
    // The ramp has four at a time in its middle.
    let ratios = [sent[1] / sent[0], sent[3] / sent[0]];
    assert!(ratios.iter().all(|ratio| (3.0..5.0).contains(ratio)), "{ratios:?} {report}");
    assert!((20.0..=50.0).contains(&sent[0]) && sent[2] == 0.0, "{report}");
    assert_eq!(
        (report["loadtest"]["connections"].as_u64(), &phases[0]["rateTo"]),
        (Some(7), &Value::Null)
    );
    assert_eq!(phases[1]["concurrencyTo"].as_f64(), Some(7.0));
    let text = stdout(&loadtest(&[&arguments[..], &["--no-tui"]].concat()));
    assert!(text.contains("closed loop, one=500ms@1c, ramp=500ms@1..7c"), "{text}");
    assert!(text.contains("1 to 7 at a time"), "{text}");
}

#[test]
fn connections_come_from_the_addresses_that_were_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        let accepted = (0..6).map(|_| listener.accept().unwrap());
        let answered = accepted.map(|(mut client, peer)| {
            let _ = client.read(&mut [0; 1024]).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            peer.ip().to_string()
        });
        answered.collect::<Vec<_>>()
    });
    let addresses = ["--local-address", "127.0.0.2,127.0.0.3"];
    let run = ["-n", "6", "-c", "1", "--disable-keepalive", "--no-tui", &url];
    assert!(loadtest(&[&addresses[..], &run].concat()).status.success());
    assert_eq!(seen.join().unwrap(), ["127.0.0.2", "127.0.0.3"].repeat(3));
    let wrong = loadtest(&[&["--local-address", "::1"][..], &run].concat());
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("--local-address ::1: the target is 127.0.0.1"), "{said}");
}

#[test]
fn conditions_may_be_about_one_phase() {
    let origin = Origin::start(&[]);
    let url = origin.url("t=20ms");
    let phases = ["--phase", "low=300ms@10", "--phase", "high=300ms@50", "--quiet"];
    let host = ["--steal-max", "100", "--lateness-max", "1s", &url];
    for (condition, holds) in
        [("low:rate<30", true), ("high : rate<30", false), ("high:p50>10ms", true)]
    {
        let output = loadtest(&[&phases[..], &["--threshold", condition], &host].concat());
        assert_eq!(output.status.code(), Some(if holds { 0 } else { 4 }), "{condition}");
    }
}

#[test]
fn a_stall_is_in_the_phase_whose_requests_it_met() {
    let origin = Origin::start(&[]);
    // The second phase asks for what takes longer than the phase itself.
    let (report, _) = json(&[
        "--phase",
        "one=200ms@50",
        "--phase",
        "two=200ms@50",
        "-c",
        "32",
        "--steal-max",
        "100",
        &origin.url("t=300ms"),
    ]);
    for phase in report["loadtest"]["phases"].as_array().unwrap() {
        assert_eq!((phase["sent"].as_u64(), phase["succeeded"].as_u64()), (Some(10), Some(10)));
        assert!(phase["latencyMicroseconds"]["p50"].as_f64().unwrap() >= 290_000.0, "{report}");
    }
}

#[test]
fn system_calls_are_counted_or_it_is_said_why_not() {
    let origin = Origin::start(&[]);
    let pid = origin.pid();
    let output = loadtest(&[
        "-n",
        "300",
        "-c",
        "1",
        "--no-tui",
        "--watch-pid",
        &pid,
        "--watch-system-calls",
        &origin.url,
    ]);
    let text = stdout(&output);
    let line = text.lines().find_map(|line| line.strip_prefix("System calls: ")).unwrap();
    match line.strip_suffix(" per request") {
        // Each request makes the origin wait and answer.
        Some(count) => assert!((0.9..20.0).contains(&count.parse::<f64>().unwrap()), "{text}"),
        None => assert!(line.starts_with("not available: "), "{text}"),
    }
}
