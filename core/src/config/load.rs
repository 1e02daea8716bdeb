//! From sources to a [`Bootstrap`]: parse, read by the descriptors, decode, convert.
//!
//! What it leaves to others: the steps themselves (`yaml`, `json`, `reader`, `convert`, and each
//! noun).

use super::ast::{Mark, Node};
use super::convert::{At, Conversion};
use super::reader::Reader;
use super::report::Report;
use super::{
    Bootstrap, ConfigError, ConfigErrors, Position, Received, RuntimeValues, Severity, descriptors,
    json, protobuf, yaml,
};
use envoy_types::pb::envoy::config::bootstrap::v3 as pb;
use prost::Message;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The longest text that is read, in bytes: about 200,000 routes.
pub const MAX_SOURCE_BYTES: usize = 64 << 20;

/// A configuration's text and where it came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    /// The file name as the user gave it, or `--config-yaml`; errors begin with it.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// How strictly to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// A field that Envoy has and we do not implement is a warning instead of an error, unless
    /// ignoring it would change which requests are let through or where they go.
    pub allow_unsupported: bool,
}

/// Reads a bootstrap from its sources. A later source is merged over the earlier ones as Envoy
/// merges `--config-yaml` over `-c`: single values are replaced, lists are appended to, messages
/// are merged.
///
/// Returns the bootstrap and the warnings, or everything that is wrong, warnings included.
///
/// # Errors
///
/// All faults that were found, in the order of the text.
pub fn load(
    sources: &[Source],
    options: &Options,
) -> Result<(Bootstrap, Vec<ConfigError>), ConfigErrors> {
    let mut report = Report::new(sources);
    let bootstrap =
        parse(sources, &mut report).and_then(|roots| read(&roots, options, &mut report));
    let found = report.finish();
    match bootstrap {
        Some(bootstrap) if found.iter().all(|error| error.severity == Severity::Warning) => {
            Ok((bootstrap, found))
        }
        _ => Err(ConfigErrors(found)),
    }
}

/// Reads a file.
///
/// # Errors
///
/// One error: the file is not there, cannot be read, is too long, or is not UTF-8.
pub fn read_file(path: &Path) -> Result<Source, ConfigErrors> {
    let name = path.display().to_string();
    let bytes = read_limited(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => Some("is the path right?".to_owned()),
            std::io::ErrorKind::PermissionDenied => {
                Some("this process must be allowed to read it".to_owned())
            }
            _ => None,
        };
        of_file(&name, None, format!("cannot read the configuration: {error}"), hint)
    })?;
    read_bytes(name, bytes)
}

/// The bytes of a file, or one more than it may have: a device has no end.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let longest = u64::try_from(MAX_SOURCE_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Takes the bytes of a file: text, or protobuf where the name ends in `.pb`, as in Envoy.
///
/// # Errors
///
/// One error: the bytes are too many, not UTF-8, or no bootstrap.
pub fn read_bytes(name: String, bytes: Vec<u8>) -> Result<Source, ConfigErrors> {
    if bytes.len() > MAX_SOURCE_BYTES {
        let reason = format!("longer than {} MiB", MAX_SOURCE_BYTES >> 20);
        return Err(of_file(&name, None, reason, None));
    }
    if name.ends_with(".pb") {
        return match protobuf::to_json(protobuf::BOOTSTRAP, bytes.into()) {
            Ok(text) => Ok(Source { name: format!("{name} (as JSON)"), text }),
            Err(reason) => {
                let hint = "it must be an encoded envoy.config.bootstrap.v3.Bootstrap".to_owned();
                Err(of_file(&name, None, reason, Some(hint)))
            }
        };
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        of_file(&name, Some(line), "the file is not UTF-8 text".to_owned(), None)
    })?;
    Ok(Source { name, text })
}

fn of_file(name: &str, line: Option<u32>, reason: String, hint: Option<String>) -> ConfigErrors {
    let position = Position { file: name.to_owned(), line: line.unwrap_or(1), column: 1 };
    ConfigErrors(vec![ConfigError {
        position: Some(position),
        path: String::new(),
        reason,
        hint,
        severity: Severity::Error,
    }])
}

/// The trees of all sources; `None` if one of them is not a tree.
pub(super) fn parse(sources: &[Source], report: &mut Report<'_>) -> Option<Vec<Node>> {
    let mut roots = Vec::with_capacity(sources.len());
    for (number, source) in sources.iter().enumerate() {
        if source.text.len() > MAX_SOURCE_BYTES {
            let at = Mark { source: number, line: 1, column: 1 };
            let reason = format!("longer than {} MiB", MAX_SOURCE_BYTES >> 20);
            report.error(Some(at), "", reason, None);
            continue;
        }
        match parse_one(source, number) {
            Ok(root) => roots.push(root),
            Err(error) => {
                report.error(Some(error.at), "", error.reason, error.hint.map(str::to_owned));
            }
        }
    }
    (roots.len() == sources.len()).then_some(roots)
}

fn parse_one(source: &Source, number: usize) -> Result<Node, yaml::SyntaxError> {
    let named_json = source.name.ends_with(".json");
    if named_json || source.text.trim_start().starts_with('{') {
        let parsed = json::parse(&source.text, number);
        // YAML's `{` is more generous: keys without quotes, comments.
        if parsed.is_ok() || named_json {
            return parsed;
        }
    }
    yaml::parse(&source.text, number)
}

fn read(roots: &[Node], options: &Options, report: &mut Report<'_>) -> Option<Bootstrap> {
    let pool = match descriptors::pool() {
        Ok(pool) => pool,
        Err(error) => {
            report.error(None, "", format!("the built-in descriptors are broken: {error}"), None);
            return None;
        }
    };
    let descriptor = pool.get_message_by_name("envoy.config.bootstrap.v3.Bootstrap")?;
    let parts: Vec<&Node> = roots.iter().collect();
    let message = Reader::new(pool, options, report).read(&parts, &descriptor);
    let received = Arc::new(Received::new(message.encode_to_vec()));
    convert(received, roots, &RuntimeValues::default(), report)
}

/// Reads one message that is not a bootstrap, and what it means.
pub(super) fn read_message<M: Message + Default, T>(
    sources: &[Source],
    name: &str,
    options: &Options,
    mean: impl FnOnce(&At<'_>, &M) -> T,
) -> Result<T, ConfigErrors> {
    let mut report = Report::new(sources);
    let meaning = parse(sources, &mut report).and_then(|roots| {
        let pool = descriptors::pool().ok()?;
        let descriptor = pool.get_message_by_name(name)?;
        let parts: Vec<&Node> = roots.iter().collect();
        let message = Reader::new(pool, options, &mut report).read(&parts, &descriptor);
        let message = M::decode(message.encode_to_vec().as_slice()).ok()?;
        let conversion = Conversion::new(&roots, &report);
        Some(conversion.run(&mut report, |at| mean(at, &message)))
    });
    let found = report.finish();
    match meaning {
        Some(meaning) if found.iter().all(|error| error.severity == Severity::Warning) => {
            Ok(meaning)
        }
        _ => Err(ConfigErrors(found)),
    }
}

/// The configuration that a message asks for, with these runtime values.
pub(super) fn convert(
    received: Arc<Received>,
    roots: &[Node],
    values: &RuntimeValues,
    report: &mut Report<'_>,
) -> Option<Bootstrap> {
    let bootstrap = match pb::Bootstrap::decode(received.bytes()) {
        Ok(bootstrap) => bootstrap,
        Err(error) => {
            let error = error.to_string();
            let reason = match error.contains("recursion limit") {
                true => "messages are nested deeper than 100 levels".to_owned(),
                false => format!("cannot be decoded: {error}"),
            };
            report.error(None, "", reason, None);
            return None;
        }
    };
    let conversion = Conversion::new(roots, report);
    conversion.run(report, |at| Bootstrap::from_proto(at, &bootstrap, values, received))
}
