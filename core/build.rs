//! Compiles the .proto files that `envoy-types` ships into one descriptor set, so that the
//! configuration reader knows every Envoy field by name. Needs neither protoc nor the network.
//!
//! What it leaves to others: reading the descriptor set (`config::descriptors`).
#![allow(clippy::disallowed_methods)]

use prost::Message;
use protox::prost_reflect::prost_types;
use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type AnyError = Box<dyn Error>;

/// The one file of envoy-types 0.7.7 whose names protox cannot resolve: inside
/// `envoy.extensions.clusters`, `common.` is found as `envoy.extensions.clusters.common`. Its
/// message is not one that we implement.
const UNRESOLVABLE: &str = "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto";

/// `google.protobuf.FileDescriptorSet` with its files as they are: decoded and encoded again they
/// would lose the rules of fields, which are extensions.
#[derive(Clone, PartialEq, prost::Message)]
struct FileSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

fn main() -> Result<(), AnyError> {
    println!("cargo::rerun-if-changed=build.rs");
    // A new version of envoy-types comes with a new lock file.
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let protos = envoy_types_folder()?.join("proto");
    let set = compile(&protos)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("envoy_descriptors.bin"), set.encode_to_vec())?;
    Ok(())
}

/// Where cargo has put the sources of `envoy-types`: `cargo metadata` knows it for the registry,
/// for vendored sources and for patches alike. It can refuse to answer offline when development
/// dependencies were never fetched; then the registry's own folder is looked into.
fn envoy_types_folder() -> Result<PathBuf, AnyError> {
    if let Some(folder) = from_cargo_metadata() {
        return Ok(folder);
    }
    from_registry()?.ok_or_else(|| {
        "the sources of envoy-types were not found: run `cargo fetch` and build again".into()
    })
}

fn from_cargo_metadata() -> Option<PathBuf> {
    let cargo = env::var_os("CARGO")?;
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform"])
        .arg(env::var_os("TARGET")?)
        .current_dir(env::var_os("CARGO_MANIFEST_DIR")?)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let package =
        metadata["packages"].as_array()?.iter().find(|package| package["name"] == "envoy-types")?;
    Path::new(package["manifest_path"].as_str()?).parent().map(Path::to_owned)
}

fn from_registry() -> Result<Option<PathBuf>, AnyError> {
    let lock = fs::read_to_string("../Cargo.lock")?;
    let version = lock
        .split("name = \"envoy-types\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .ok_or("Cargo.lock does not name envoy-types")?;
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME is set")?;
    let Ok(registries) = fs::read_dir(home.join("registry/src")) else {
        return Ok(None);
    };
    for registry in registries {
        let folder = registry?.path().join(format!("envoy-types-{version}"));
        if folder.is_dir() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// Compiles the files in rounds. In each one as many are compiled together as can be: a name that
/// is resolved among many files can be found in the wrong package (`config.core.v3` inside
/// `envoy.extensions` as `envoy.extensions.config`, where there is no `core`). The first file of a
/// round is alone and must succeed, so that the rounds come to an end.
fn compile(protos: &Path) -> Result<FileSet, AnyError> {
    let mut roots = Vec::new();
    for entry in fs::read_dir(protos)? {
        let root = entry?.path();
        roots.push(if root.join("proto").is_dir() { root.join("proto") } else { root });
    }
    roots.sort();
    let mut names = Vec::new();
    for root in &roots {
        find_protos(root, root, &mut names)?;
    }
    names.retain(|name| name != UNRESOLVABLE);
    names.sort();

    let mut files = BTreeMap::new();
    while let Some((first, others)) = names.split_first() {
        let mut compiler = protox::Compiler::new(&roots)?;
        compiler.include_imports(true).include_source_info(false).open_file(first)?;
        for name in others {
            // What fails here is the first of a later round, where it counts.
            let _ = compiler.open_file(name);
        }
        take_files(&compiler, &mut files)?;
        names.retain(|name| !files.contains_key(name));
    }
    Ok(FileSet { files: files.into_values().collect() })
}

/// Adds what was compiled to `files`, by name.
fn take_files(
    compiler: &protox::Compiler,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), AnyError> {
    for bytes in FileSet::decode(compiler.encode_file_descriptor_set().as_slice())?.files {
        let name = prost_types::FileDescriptorProto::decode(bytes.as_slice())?.name().to_owned();
        files.entry(name).or_insert(bytes);
    }
    Ok(())
}

/// The names of all .proto files under `folder`, relative to `root`, as imports write them.
fn find_protos(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<(), AnyError> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(root, &path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let name = path.strip_prefix(root)?.to_str().ok_or("a file name is not UTF-8")?;
            names.push(name.to_owned());
        }
    }
    Ok(())
}
