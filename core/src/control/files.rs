//! Resources in files (`path_config_source`): read when they are first named, and whenever a file
//! is moved into place.
//!
//! What it leaves to others: watching (`tidegate-xds`), what the resources make (`dynamic`).

use super::book::Asked;
use super::dynamic::{Dynamic, Raw, Received, Want};
use super::first_of::first_of;
use super::xds::{Read, read_one};
use crate::config::{
    ConfigPlace, PathConfigSource, ResourceContext, ResourceKind, Source, read_response,
};
use crate::log::{self, Component};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegate_xds::transport::file::{Contents, File, Format};

/// No file of resources is longer.
const BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
struct Watched {
    place: PathConfigSource,
    kind: ResourceKind,
    /// The names that are wanted; none: all that there are.
    names: BTreeSet<String>,
    file: File,
}

/// All files that are followed.
#[derive(Debug, Default)]
pub(super) struct Files {
    watched: Vec<Watched>,
}

impl Files {
    /// Follows the files that are named, and no others.
    pub fn want(&mut self, wants: &[Want]) {
        let mut wanted: BTreeMap<(PathConfigSource, ResourceKind), BTreeSet<String>> =
            BTreeMap::new();
        for want in wants {
            // A secret in a file is read with its context.
            let ConfigPlace::Path(place) = &want.source.place else { continue };
            let names = wanted.entry(((**place).clone(), want.kind)).or_default();
            names.extend(want.name.clone());
        }
        self.watched.retain(|it| wanted.contains_key(&(it.place.clone(), it.kind)));
        for ((place, kind), names) in wanted {
            let is_same = |it: &&mut Watched| it.place == place && it.kind == kind;
            match self.watched.iter_mut().find(is_same) {
                Some(watched) if watched.names == names => {}
                // What the file has of the new names is read now.
                Some(watched) => match watch(&place) {
                    Some(file) => (watched.file, watched.names) = (file, names),
                    None => watched.names = names,
                },
                None => self.watched.extend(watch(&place).map(|file| Watched {
                    place: place.clone(),
                    kind,
                    names,
                    file,
                })),
            }
        }
    }

    /// The next file that has changed.
    pub async fn changed(&mut self) -> (usize, Contents) {
        let watched = self.watched.iter_mut().enumerate();
        first_of(watched.map(|(index, it)| async move { (index, it.file.next().await) })).await
    }

    /// What pages show of it.
    pub fn asked(&self) -> impl Iterator<Item = Asked> {
        self.watched.iter().map(|watched| Asked {
            kind: watched.kind,
            place: watched.place.path.clone(),
            names: (!watched.names.is_empty()).then_some(watched.names.len()),
            state: None,
        })
    }

    /// The names that are wanted of a file.
    pub fn names(&self, index: usize) -> impl Iterator<Item = &String> {
        self.watched.get(index).into_iter().flat_map(|watched| &watched.names)
    }

    /// What a file has of what is wanted; `None`: it cannot be read, which is told.
    pub fn read(
        &self,
        index: usize,
        contents: &Contents,
        before: &Dynamic,
        context: &ResourceContext,
    ) -> Option<(ResourceKind, String, Read)> {
        let watched = self.watched.get(index)?;
        let response = match &contents.bytes {
            Ok(bytes) => response(&contents.path, contents.format, bytes),
            Err(error) => Err(error.to_string()),
        };
        let (version, resources) = match response {
            Ok(read) => read,
            Err(reason) => {
                let path = contents.path.display();
                let text = format_args!("{path}: {reason}; what was in use before stays in use");
                log::warning(Component::Config, text);
                return None;
            }
        };
        let at_unix_us = tidegate_io::Now::read().unix_us;
        let read = resources.into_iter().filter_map(|bytes| {
            let raw = Raw::Message(bytes.into());
            let name = raw.name().unwrap_or_default();
            let is_wanted = watched.names.is_empty() || watched.names.contains(&name);
            let received = Received { name, version: version.clone(), at_unix_us, raw };
            let before = |name: &str| before.assignment(name).cloned();
            is_wanted.then(|| read_one(watched.kind, received, before, context))
        });
        let read = read.collect();
        Some((watched.kind, version, read))
    }
}

fn watch(place: &PathConfigSource) -> Option<File> {
    let directory = place.watched_directory.as_deref().map(Path::new);
    match File::watch(Path::new(&place.path), directory, BYTES_MAX) {
        Ok(file) => Some(file),
        Err(error) => {
            let text = format_args!("`{}` cannot be watched: {error}", place.path);
            log::warning(Component::Config, text);
            None
        }
    }
}

/// The version and the messages of a `DiscoveryResponse`.
fn response(path: &Path, format: Format, bytes: &[u8]) -> Result<(String, Vec<Vec<u8>>), String> {
    let name = path.display().to_string();
    let read = match format {
        Format::Yaml | Format::Json => {
            let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
            read_response(&Source { name, text })
        }
        Format::Protobuf => crate::config::decode_response(&name, bytes.to_vec()),
        Format::ProtobufText => return Err("protobuf's text format is not supported".to_owned()),
    };
    read.map_err(|errors| errors.to_string().trim_end().replace('\n', "; "))
}
