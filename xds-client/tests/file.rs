//! Files that are watched, on a real file system: only a move into place is a change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_xds::transport::file::{Contents, File, Format};

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-xds-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// As Envoy wants it.
    fn move_into_place(&self, name: &str, text: &str) {
        fs::write(self.at("new"), text).unwrap();
        fs::rename(self.at("new"), self.at(name)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn next(file: &mut File) -> Contents {
    tokio::time::timeout(Duration::from_secs(20), file.next()).await.expect("no change")
}

async fn text(file: &mut File) -> String {
    String::from_utf8(next(file).await.bytes.unwrap()).unwrap()
}

async fn is_quiet(file: &mut File) -> bool {
    tokio::time::timeout(Duration::from_millis(100), file.next()).await.is_err()
}

#[test]
fn formats_are_told_by_extensions() {
    let format = |name: &str| Format::of(Path::new(name));
    assert_eq!(format("a.yaml"), Format::Yaml);
    assert_eq!(format("a.yml"), Format::Yaml);
    assert_eq!(format("a.pb"), Format::Protobuf);
    assert_eq!(format("a.pb_text"), Format::ProtobufText);
    assert_eq!(format("a.json"), Format::Json);
    assert_eq!(format("a"), Format::Json);
}

#[tokio::test]
async fn only_a_move_into_place_is_a_change() {
    let directory = Directory::new("move");
    let path = directory.at("cds.yaml");
    fs::write(&path, "one").unwrap();
    let mut file = File::watch(&path, None, 1000).unwrap();
    let first = next(&mut file).await;
    assert_eq!(
        (first.path, first.format, first.bytes.unwrap()),
        (path.clone(), Format::Yaml, b"one".to_vec())
    );
    fs::write(&path, "two").unwrap();
    directory.move_into_place("other.yaml", "other");
    assert!(is_quiet(&mut file).await);
    directory.move_into_place("cds.yaml", "three");
    assert_eq!(text(&mut file).await, "three");
    // Several at once are one.
    directory.move_into_place("cds.yaml", "four");
    directory.move_into_place("cds.yaml", "five");
    assert_eq!(text(&mut file).await, "five");
    assert!(is_quiet(&mut file).await);
}

#[tokio::test]
async fn a_watched_directory_stands_for_the_file() {
    // As Kubernetes does it: the file is a link through `..data`, which is moved.
    let directory = Directory::new("links");
    for (version, content) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(directory.at(version)).unwrap();
        fs::write(directory.at(version).join("cds.json"), content).unwrap();
    }
    symlink("v1", directory.at("..data")).unwrap();
    symlink("..data/cds.json", directory.at("cds.json")).unwrap();
    let path = directory.at("cds.json");
    let mut file = File::watch(&path, Some(&directory.0), 1000).unwrap();
    assert_eq!(text(&mut file).await, "one");
    symlink("v2", directory.at("..data_tmp")).unwrap();
    fs::rename(directory.at("..data_tmp"), directory.at("..data")).unwrap();
    assert_eq!(text(&mut file).await, "two");
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_watched_on() {
    let directory = Directory::new("errors");
    let path = directory.at("cds.pb");
    let mut file = File::watch(&path, None, 10).unwrap();
    assert_eq!(next(&mut file).await.bytes.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    directory.move_into_place("cds.pb", "01234567890");
    assert_eq!(next(&mut file).await.bytes.unwrap_err().to_string(), "more than 10 bytes");
    directory.move_into_place("cds.pb", "0123456789");
    assert_eq!(text(&mut file).await, "0123456789");
    File::watch(&directory.at("none").join("x"), None, 10).unwrap_err();
}

#[tokio::test]
async fn a_directory_that_is_made_anew_is_watched_anew() {
    let directory = Directory::new("anew");
    let inner = directory.at("in");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("cds.yaml");
    fs::write(&path, "one").unwrap();
    let mut file = File::watch(&path, None, 1000).unwrap();
    assert_eq!(text(&mut file).await, "one");
    // Another directory takes its place in one step.
    fs::create_dir(directory.at("next")).unwrap();
    fs::write(directory.at("next").join("cds.yaml"), "two").unwrap();
    fs::rename(&inner, directory.at("old")).unwrap();
    fs::rename(directory.at("next"), &inner).unwrap();
    assert_eq!(text(&mut file).await, "two");
    fs::write(inner.join("new"), "three").unwrap();
    fs::rename(inner.join("new"), &path).unwrap();
    assert_eq!(text(&mut file).await, "three");
}

#[tokio::test]
async fn a_directory_that_is_gone_for_a_while_is_found_again() {
    let directory = Directory::new("gone");
    let inner = directory.at("in");
    fs::create_dir(&inner).unwrap();
    let mut file = File::watch(&inner.join("cds.yaml"), None, 1000).unwrap();
    next(&mut file).await.bytes.unwrap_err();
    fs::remove_dir(&inner).unwrap();
    next(&mut file).await.bytes.unwrap_err();
    assert!(is_quiet(&mut file).await);
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cds.yaml"), "one").unwrap();
    assert_eq!(text(&mut file).await, "one");
    fs::write(inner.join("new"), "two").unwrap();
    fs::rename(inner.join("new"), inner.join("cds.yaml")).unwrap();
    assert_eq!(text(&mut file).await, "two");
}
