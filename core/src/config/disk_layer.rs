//! Runtime values in a directory: a file for each key, subdirectories for its parts
//! (`RuntimeLayer.DiskLayer`).
//!
//! What it leaves to others: noticing that another directory was moved into place (`control`).

use super::convert::At;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::bootstrap::v3::runtime_layer as pb;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Subdirectories within each other, as in Envoy.
const DEPTH_MAX: usize = 16;

/// Files of a layer; what is in a directory by mistake fills no memory.
const FILES_MAX: usize = 10_000;

/// Bytes of a file.
const BYTES_MAX: u64 = 64 << 10;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer",
    &[used("symlink_root"), used("subdirectory"), used("append_service_cluster")],
)];

/// `RuntimeLayer.DiskLayer`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiskLayer {
    /// `symlink_root`: what is moved into its place is a change.
    pub root: PathBuf,
    /// Where the files are.
    pub path: PathBuf,
    /// `append_service_cluster`
    pub appends_cluster: bool,
}

impl DiskLayer {
    /// Converts a layer.
    pub(super) fn from_proto(at: &At<'_>, layer: &pb::DiskLayer, cluster: &str) -> DiskLayer {
        if layer.symlink_root.is_empty() {
            at.missing("symlink_root", Some("the directory of the files, or a link to it"));
        }
        let root = PathBuf::from(&layer.symlink_root);
        let mut path = root.clone();
        let parts =
            [layer.subdirectory.as_str(), if layer.append_service_cluster { cluster } else { "" }];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            path.push(part.trim_start_matches('/'));
        }
        DiskLayer { root, path, appends_cluster: layer.append_service_cluster }
    }

    /// The directory in which a move can be a change: of the root itself where its path ends with a
    /// slash, else of the one in which it stands.
    #[must_use]
    pub fn watched(&self) -> PathBuf {
        if self.root.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return self.root.clone();
        }
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    /// What stands at the root now, to be told from what is moved there later; `None`: every move
    /// counts, or there is nothing.
    #[must_use]
    pub fn mark(&self) -> Option<(u64, u64)> {
        if self.watched() == self.root {
            return None;
        }
        let found = fs::symlink_metadata(&self.root).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// What the files hold now; `None`: there is no such directory, which is no mistake.
    ///
    /// # Errors
    ///
    /// What cannot be read; then nothing of the layer counts.
    pub(super) fn read(&self) -> Result<Option<BTreeMap<String, String>>, String> {
        if !self.path.is_dir() {
            return Ok(None);
        }
        let mut values = BTreeMap::new();
        walk(&self.path, "", DEPTH_MAX, &mut values)?;
        Ok(Some(values))
    }
}

fn walk(
    directory: &Path,
    prefix: &str,
    depth: usize,
    values: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    if depth == 0 {
        return Err(format!("more than {DEPTH_MAX} directories in `{}`", directory.display()));
    }
    let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let key = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
        let path = entry.path();
        // A link counts as what it leads to.
        let kind = fs::metadata(&path).map_err(failed)?;
        if kind.is_dir() {
            walk(&path, &key, depth - 1, values)?;
        } else if kind.is_file() {
            if values.len() == FILES_MAX {
                return Err(format!("more than {FILES_MAX} files"));
            }
            values.insert(key, value_of(&path)?);
        }
    }
    Ok(())
}

fn value_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|it| it.take(BYTES_MAX + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("`{}` is longer than {BYTES_MAX} bytes", path.display()));
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let value = lines.join("\n");
    let value = value.trim_end();
    Ok(share_of(value).unwrap_or_else(|| value.to_owned()))
}

/// `numerator: 5` and `denominator: TEN_THOUSAND`, on a line each, as `5/10000`.
fn share_of(text: &str) -> Option<String> {
    let (mut numerator, mut denominator) = (None, 100);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':')?;
        match (name.trim(), value.trim()) {
            ("numerator", number) => numerator = number.parse::<u32>().ok(),
            ("denominator", "HUNDRED") => denominator = 100,
            ("denominator", "TEN_THOUSAND") => denominator = 10_000,
            ("denominator", "MILLION") => denominator = 1_000_000,
            _ => return None,
        }
    }
    numerator.map(|numerator| format!("{numerator}/{denominator}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_written_in_files() {
        let share = |text: &str| share_of(text);
        assert_eq!(share("numerator: 5\ndenominator: TEN_THOUSAND"), Some("5/10000".to_owned()));
        assert_eq!(share("numerator: 5"), Some("5/100".to_owned()));
        assert_eq!([share("5"), share("a: b"), share("denominator: MILLION")], [None, None, None]);
    }

    #[test]
    fn a_move_into_place_happens_where_the_link_stands() {
        let layer = |root: &str| DiskLayer { root: root.into(), ..DiskLayer::default() };
        assert_eq!(layer("/srv/runtime/current").watched(), Path::new("/srv/runtime"));
        assert_eq!(layer("/srv/runtime/").watched(), Path::new("/srv/runtime/"));
        assert_eq!(layer("current").watched(), Path::new("."));
    }
}
