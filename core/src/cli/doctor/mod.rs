//! `tidegate doctor`: what this machine and this process lack, and the commands that mend it.
//!
//! What it leaves to others: reading files of the kernel (`machine`), judging (`checks`), setting
//! things (the operator; `tuning/tune` does it for a whole host and takes it back).

mod checks;
mod machine;

use super::{Failure, ServerArgs};
use checks::Process;
use clap::Args;
use machine::Machine;
use serde_json::{Value, json};
use std::fmt::Write;

/// Flags of `tidegate doctor`.
#[derive(Args, Debug, Clone)]
pub struct DoctorArgs {
    /// Print only the commands that mend what is lacking, as a script for root
    #[arg(long, conflicts_with = "json")]
    pub fix_cmds: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// As it should be.
    Good,
    /// It would be better otherwise, on a host whose main work is proxying.
    Advice,
    /// Tidegate does less than it can, or does it worse, because of this.
    Lacking,
}

/// What mends a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fix {
    /// A command for root's shell.
    Command(String),
    /// Something that no command of this machine can do.
    ByHand(String),
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    name: String,
    verdict: Verdict,
    found: String,
    wanted: String,
    why: &'static str,
    fix: Option<Fix>,
}

/// Looks at everything: what to print, and a failure when something that matters is lacking.
pub fn doctor(args: &DoctorArgs, server: &ServerArgs) -> (String, Result<(), Failure>) {
    let process = Process::read(server);
    let findings = checks::findings(&Machine::here(), &process);
    let text = if args.json {
        as_json(&findings)
    } else if args.fix_cmds {
        as_commands(&findings)
    } else {
        as_text(&findings)
    };
    (text, verdict(&findings))
}

fn verdict(findings: &[Finding]) -> Result<(), Failure> {
    let lacking = findings.iter().filter(|finding| finding.verdict == Verdict::Lacking);
    let names: Vec<_> = lacking.map(|finding| finding.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::Environment(format!("lacking here: {}", names.join(", "))))
}

/// For people. What is good takes one line; the rest also says why, and what to do.
fn as_text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { name, verdict, found, wanted, why, fix } in findings {
        // Writing to a String cannot fail.
        let _ = match verdict {
            Verdict::Good => writeln!(out, "ok       {name:width$}  {found}"),
            Verdict::Advice => writeln!(out, "advice   {name:width$}  {found}; wanted: {wanted}"),
            Verdict::Lacking => writeln!(out, "LACKING  {name:width$}  {found}; wanted: {wanted}"),
        };
        if *verdict != Verdict::Good {
            let _ = writeln!(out, "           {why}");
        }
        let _ = match fix {
            Some(Fix::Command(command)) => writeln!(out, "           # {command}"),
            Some(Fix::ByHand(what)) => writeln!(out, "           {what}"),
            None => Ok(()),
        };
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let _ = writeln!(
        out,
        "{} ok, {} advice, {} lacking",
        count(Verdict::Good),
        count(Verdict::Advice),
        count(Verdict::Lacking)
    );
    out
}

/// For root's shell.
fn as_commands(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { name, found, wanted, fix, .. } = finding;
        let _ = match fix {
            Some(Fix::Command(command)) => {
                writeln!(out, "# {name}: {found}; wanted: {wanted}\n{command}")
            }
            Some(Fix::ByHand(what)) => {
                writeln!(out, "# {name}: {found}; wanted: {wanted}\n# by hand: {what}")
            }
            None => Ok(()),
        };
    }
    out
}

/// For programs.
fn as_json(findings: &[Finding]) -> String {
    let rows: Vec<Value> = findings
        .iter()
        .map(|Finding { name, verdict, found, wanted, why, fix }| {
            let (command, by_hand) = match fix {
                Some(Fix::Command(text)) => (Some(text), None),
                Some(Fix::ByHand(text)) => (None, Some(text)),
                None => (None, None),
            };
            let verdict = match verdict {
                Verdict::Good => "ok",
                Verdict::Advice => "advice",
                Verdict::Lacking => "lacking",
            };
            json!({
                "name": name, "verdict": verdict, "found": found, "wanted": wanted, "why": why,
                "command": command, "by_hand": by_hand,
            })
        })
        .collect();
    format!("{:#}", json!({ "findings": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, fix: Option<Fix>) -> Finding {
        Finding {
            name: "thing".to_owned(),
            verdict,
            found: "1".to_owned(),
            wanted: "2".to_owned(),
            why: "Because.",
            fix,
        }
    }

    #[test]
    fn what_is_printed_fits_its_reader() {
        let findings = [
            finding(Verdict::Good, None),
            finding(Verdict::Advice, Some(Fix::Command("mend it".to_owned()))),
            finding(Verdict::Lacking, Some(Fix::ByHand("Buy another one.".to_owned()))),
        ];
        let text = as_text(&findings);
        assert!(text.starts_with("ok       thing  1\nadvice   thing  1; wanted: 2\n"), "{text}");
        assert!(text.contains("           Because.\n           # mend it\n"), "{text}");
        assert!(text.ends_with("1 ok, 1 advice, 1 lacking\n"), "{text}");
        let script = as_commands(&findings);
        let commands: Vec<_> = script.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(commands, ["mend it"]);
        let value: Value = serde_json::from_str(&as_json(&findings)).unwrap();
        assert_eq!(value["findings"][1]["command"], "mend it");
        assert_eq!(value["findings"][2]["verdict"], "lacking");
        assert_eq!(verdict(&findings).unwrap_err().exit_code(), 3);
        assert!(verdict(&findings[..2]).is_ok());
    }
}
