//! The configurations in `examples/` load.
//!
//! What it leaves to others: that they load in Envoy, which is not here when tests run.

use std::path::Path;
use tidegate::config::{Options, load, read_file};

#[test]
fn every_example_loads_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let source = read_file(&path).unwrap();
        match load(&[source], &Options::default()) {
            Ok((bootstrap, warnings)) => {
                assert_eq!(warnings, [], "{}", path.display());
                assert!(bootstrap.admin.is_some(), "{}", path.display());
                assert!(!bootstrap.listeners.is_empty(), "{}", path.display());
            }
            Err(errors) => panic!("{}: {errors}", path.display()),
        }
        count += 1;
    }
    assert!(count >= 3, "{count} examples");
}

#[test]
fn a_file_that_cannot_be_read_is_one_error_with_its_name() {
    let missing = read_file(Path::new("/nonexistent/envoy.yaml")).unwrap_err();
    let text = missing.to_string();
    assert!(text.starts_with("/nonexistent/envoy.yaml:1:1: error: cannot read"), "{text}");
    let folder = read_file(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert!(folder.to_string().contains("cannot read the configuration"), "{folder}");
}

#[test]
fn a_file_that_is_not_utf_8_is_refused_with_its_line() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("not-utf-8.yaml");
    std::fs::write(&path, b"a: 1\nb: \xff\n").unwrap();
    let error = read_file(&path).unwrap_err();
    assert!(error.to_string().contains(":2:1: error: the file is not UTF-8 text"), "{error}");
}
