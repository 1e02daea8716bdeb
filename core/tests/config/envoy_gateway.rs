//! What Envoy Gateway sends, all of which Envoy takes: each resource is taken, or refused for what
//! is not supported yet, and for nothing else.
//!
//! The resources (Apache-2.0) are read from the archive `shared/data/envoy-gateway-golden.tar.xz`
//! in a folder above. What it leaves to others: what is done with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::config::{Resource, ResourceContext, ResourceKind, Source};

const KINDS: [(&str, ResourceKind); 5] = [
    (".clusters.yaml", ResourceKind::Cluster),
    (".endpoints.yaml", ResourceKind::ClusterLoadAssignment),
    (".listeners.yaml", ResourceKind::Listener),
    (".routes.yaml", ResourceKind::RouteConfiguration),
    (".secrets.yaml", ResourceKind::Secret),
];

/// Other reasons: Envoy refuses the first, too; it takes a certificate without a key until
/// something uses it, and a picture as the body of a direct response.
const EXCEPTIONS: [&str; 3] = [
    "only one `*` can be in a route configuration",
    "`private_key` is required",
    "the format is not UTF-8 text",
];

/// So many there were when this was written.
const RESOURCES_MIN: usize = 900;
const TAKEN_MIN: usize = 700;

fn unpacked() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let archive = above
        .map(|folder| folder.join("shared/data/envoy-gateway-golden.tar.xz"))
        .find(|path| path.exists())?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("envoy-gateway");
    let _ = fs::remove_dir_all(&folder);
    let is_made = fs::create_dir_all(&folder).is_ok();
    assert!(is_made, "{} cannot be made", folder.display());
    let status = Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&folder).status();
    let unpacked = status.is_ok_and(|status| status.success());
    assert!(unpacked, "tar and xz are needed to unpack the resources");
    Some(folder.join("envoy-gateway-golden"))
}

/// The items of a list, without its indentation.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("- "), items.last_mut()) {
            (Some(first), _) => items.push(format!("{first}\n")),
            (None, Some(item)) => {
                item.push_str(line.strip_prefix("  ").unwrap_or(line));
                item.push('\n');
            }
            (None, None) => {}
        }
    }
    items
}

#[test]
fn what_is_refused_is_what_is_not_supported_yet() {
    let Some(folder) = unpacked() else {
        eprintln!("NOT TESTED: there is no shared/data/envoy-gateway-golden.tar.xz above");
        return;
    };
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut all, mut taken) = (0, 0);
    let mut scenarios: BTreeMap<String, bool> = BTreeMap::new();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some((end, kind)) = KINDS.iter().find(|(end, _)| name.ends_with(end)) else { continue };
        let is_taken = scenarios.entry(name.trim_end_matches(end).to_owned()).or_insert(true);
        for text in items(&fs::read_to_string(&path).unwrap()) {
            all += 1;
            let source = Source { name: name.clone(), text };
            match Resource::read(*kind, &source, &ResourceContext::default()) {
                Ok(_) => taken += 1,
                Err(errors) => {
                    *is_taken = false;
                    let (yet, others): (Vec<_>, Vec<_>) =
                        errors.0.iter().partition(|error| error.reason.contains(" yet"));
                    for error in &yet {
                        *missing.entry(error.reason.clone()).or_default() += 1;
                    }
                    // What follows from a part that is missing is no reason of its own.
                    let others = others.iter().filter(|error| {
                        yet.is_empty() && !EXCEPTIONS.iter().any(|it| error.reason.contains(it))
                    });
                    wrong.extend(others.map(|error| format!("{name}: {error}")));
                }
            }
        }
    }
    let whole = scenarios.values().filter(|is_taken| **is_taken).count();
    println!("{taken} of {all} resources, {whole} of {} scenarios are taken", scenarios.len());
    let mut missing: Vec<_> = missing.into_iter().collect();
    missing.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in missing {
        println!("{count:5} {reason}");
    }
    assert!(wrong.is_empty(), "{} refused for other reasons:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all >= RESOURCES_MIN && taken >= TAKEN_MIN, "{taken} of {all}");
}
