//! `tidegate status`: what a running Tidegate has of its management servers, as its admin server
//! tells it.
//!
//! What it leaves to others: knowing it (`admin::xds_status`).

use super::Failure;
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Flags of `tidegate status`.
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    /// The admin server of the running process
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9901")]
    pub admin: String,
    /// Print what the admin server says as it is: JSON
    #[arg(long)]
    pub json: bool,
}

/// How long the admin server may take for each step.
const STEP_MAX: Duration = Duration::from_secs(5);

/// No answer is longer.
const BYTES_MAX: u64 = 64 << 20;

/// Asks: what to print, and a failure when something is not as the servers want it.
pub fn status(args: &StatusArgs) -> (String, Result<(), Failure>) {
    let body = match fetch(&args.admin, "/xds_status") {
        Ok(body) => body,
        Err(error) => {
            let text = format!(
                "the admin server at {} does not answer: {error}; name it with --admin HOST:PORT",
                args.admin
            );
            return (String::new(), Err(Failure::Environment(text)));
        }
    };
    let status: Value = match serde_json::from_str(&body) {
        Ok(status) => status,
        Err(error) => {
            let text = format!("{} gave no JSON: {error}; is it Tidegate?", args.admin);
            return (String::new(), Err(Failure::Environment(text)));
        }
    };
    let text = if args.json { body } else { as_text(&status) };
    (text, verdict(&status))
}

/// The body of a page.
fn fetch(address: &str, path: &str) -> io::Result<String> {
    let mut last = io::Error::other("it names no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP_MAX) {
            Ok(stream) => return ask(stream, path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// In HTTP/1.0 a body ends with its connection.
fn ask(mut stream: TcpStream, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(STEP_MAX))?;
    stream.set_write_timeout(Some(STEP_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("`{line}`"))),
    }
}

/// What is not as it should be.
fn verdict(status: &Value) -> Result<(), Failure> {
    let kinds = list(&status["kinds"]);
    let bad = kinds.filter(|kind| kind["status"] != "SYNCED");
    let mut bad: Vec<_> =
        bad.map(|kind| format!("{} is {}", text(&kind["kind"]), text(&kind["status"]))).collect();
    let behind = behind(status).count();
    if behind > 0 {
        bad.push(format!("{behind} shards have an older configuration"));
    }
    if bad.is_empty() { Ok(()) } else { Err(Failure::Running(bad.join(", "))) }
}

/// The shards that have not taken up what was published, and what they have.
fn behind(status: &Value) -> impl Iterator<Item = (usize, &Value)> {
    let published = &status["snapshot"]["published"];
    list(&status["snapshot"]["shards"]).enumerate().filter(move |(_, it)| *it != published)
}

/// For people: a line for each kind, and what is wrong below it.
fn as_text(status: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:5} {:7} {:>9}  {:20} SOURCE", "KIND", "STATUS", "HERE", "VERSION");
    for kind in list(&status["kinds"]) {
        let here = match &kind["asked"] {
            Value::Null => kind["here"].to_string(),
            asked => format!("{} of {asked}", kind["here"]),
        };
        let [name, state, version, source] =
            ["kind", "status", "version", "source"].map(|field| text(&kind[field]));
        let version = if version.is_empty() { "-" } else { version };
        let _ = writeln!(out, "{name:5} {state:7} {here:>9}  {version:20} {source}");
        let reason = text(&kind["reason"]);
        if state == "STALE" {
            let _ = writeln!(out, "      {reason}");
        }
        let refused = list(&kind["refused"]);
        for one in refused {
            let (version, details) = (text(&one["version"]), text(&one["details"]));
            let _ = writeln!(out, "      refused in version {version}: {details}");
        }
        if state == "NACKED" && list(&kind["refused"]).next().is_none() {
            let _ = writeln!(out, "      refused: {reason}");
        }
    }
    if list(&status["kinds"]).next().is_none() {
        let _ = writeln!(out, "nothing is asked of a management server");
    }
    for one in list(&status["waiting"]) {
        let targets: Vec<_> = list(&one["for"]).map(text).collect();
        let _ = writeln!(out, "{} waits for {}", text(&one["name"]), targets.join(", "));
    }
    let published = &status["snapshot"]["published"];
    let shards = list(&status["snapshot"]["shards"]).count();
    let behind: Vec<_> =
        behind(status).map(|(shard, has)| format!("shard {shard} has {has}")).collect();
    let _ = match behind.is_empty() {
        true => writeln!(out, "configuration {published} is live on all {shards} shards"),
        false => writeln!(out, "configuration {published}: {}", behind.join(", ")),
    };
    out
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_told_and_fails() {
        let good = json!({
            "kinds": [{
                "kind": "CDS", "status": "SYNCED", "version": "7", "source": "ads", "here": 2,
                "asked": null, "reason": "", "refused": [],
            }],
            "waiting": [],
            "snapshot": { "published": 3, "shards": [3, 3] },
        });
        assert!(verdict(&good).is_ok());
        let text = as_text(&good);
        assert!(text.contains("CDS   SYNCED          2  7                    ads\n"), "{text}");
        assert!(text.ends_with("configuration 3 is live on all 2 shards\n"), "{text}");
        let mut bad = good;
        bad["kinds"][0]["status"] = json!("NACKED");
        bad["kinds"][0]["refused"] = json!([{ "version": "8", "details": "cluster `b`: no" }]);
        bad["waiting"] = json!([{ "name": "listener `l`", "for": ["routes `r`"] }]);
        bad["snapshot"]["shards"] = json!([3, 2]);
        let text = as_text(&bad);
        assert!(text.contains("\n      refused in version 8: cluster `b`: no\n"), "{text}");
        assert!(text.contains("\nlistener `l` waits for routes `r`\n"), "{text}");
        assert!(text.ends_with("configuration 3: shard 1 has 2\n"), "{text}");
        let failure = verdict(&bad).unwrap_err();
        let said = "error: CDS is NACKED, 1 shards have an older configuration";
        assert_eq!((failure.to_string().as_str(), failure.exit_code()), (said, 1));
    }
}
