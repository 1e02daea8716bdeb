//! Header fields that routes add and remove (`config.core.v3.HeaderValueOption` and the lists of
//! names beside it).
//!
//! What it leaves to others: the order of the levels (`snapshot`), doing it (`proxy`).

use super::convert::At;
use super::support::{SupportedMessage, message, refused, used};
use crate::access_log::Format;
use envoy_types::pb::envoy::config::core::v3 as core;

/// What one level (weighted cluster, route, virtual host, route configuration) changes in the
/// header of one direction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderMutations {
    /// `request_headers_to_remove` or `response_headers_to_remove`, in lower case; done first.
    pub remove: Vec<String>,
    /// `request_headers_to_add` or `response_headers_to_add`.
    pub add: Vec<HeaderValueOption>,
}

/// Both directions of one level. Most routes have none, and take no room for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LevelMutations(Option<Box<[HeaderMutations; 2]>>);

/// `config.core.v3.HeaderValueOption`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderValueOption {
    /// `header.key`, in lower case.
    pub name: String,
    /// `header.value`: a format that is known to compile.
    pub format: String,
    /// `append_action`, or what the deprecated `append` says.
    pub append_action: AppendAction,
    /// `keep_empty_value`: an empty value is added, too.
    pub keep_empty_value: bool,
}

/// `HeaderAppendAction`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // Envoy's own words
pub enum AppendAction {
    #[default]
    AppendIfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.core.v3.HeaderValueOption",
        &[used("header"), used("append"), used("append_action"), used("keep_empty_value")],
    ),
    message(
        "envoy.config.core.v3.HeaderValue",
        &[used("key"), used("value"), refused("raw_value")],
    ),
];

/// Fields that say where a message ends or how a connection is used: each side of the proxy writes
/// its own.
const OF_THE_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl LevelMutations {
    /// Converts the four lists of a message, which is `at`; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        [request_add, response_add]: [&[core::HeaderValueOption]; 2],
        [request_remove, response_remove]: [&[String]; 2],
    ) -> LevelMutations {
        let request = HeaderMutations {
            remove: removed(&at.field("request_headers_to_remove"), request_remove),
            add: added(&at.field("request_headers_to_add"), request_add, true),
        };
        let response = HeaderMutations {
            remove: removed(&at.field("response_headers_to_remove"), response_remove),
            add: added(&at.field("response_headers_to_add"), response_add, false),
        };
        match request.is_empty() && response.is_empty() {
            true => LevelMutations(None),
            false => LevelMutations(Some(Box::new([request, response]))),
        }
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `request_headers_to_add`, `request_headers_to_remove`, if there are any.
    #[must_use]
    pub fn request(&self) -> Option<&HeaderMutations> {
        self.0.as_ref().map(|both| &both[0])
    }

    /// `response_headers_to_add`, `response_headers_to_remove`, if there are any.
    #[must_use]
    pub fn response(&self) -> Option<&HeaderMutations> {
        self.0.as_ref().map(|both| &both[1])
    }
}

impl HeaderMutations {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// The four lists of a message that has them.
macro_rules! level_mutations {
    ($at:expr, $message:expr) => {
        $crate::config::header_mutation::LevelMutations::from_proto(
            $at,
            [&$message.request_headers_to_add, &$message.response_headers_to_add],
            [&$message.request_headers_to_remove, &$message.response_headers_to_remove],
        )
    };
}
pub(super) use level_mutations;

fn removed(at: &At<'_>, names: &[String]) -> Vec<String> {
    let mut removed = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let name = name.to_ascii_lowercase();
        if name.starts_with(':') || name == "host" {
            at.index(index).error(format!("`{name}` cannot be removed: a request needs it"));
        } else if OF_THE_CONNECTION.contains(&name.as_str()) {
            at.index(index).warning(format!(
                "`{name}` has no effect here: it belongs to the connection, and each side of the \
                 proxy has its own"
            ));
        } else {
            removed.push(name);
        }
    }
    removed
}

pub(super) fn added(
    at: &At<'_>,
    options: &[core::HeaderValueOption],
    is_request: bool,
) -> Vec<HeaderValueOption> {
    let mut added = Vec::with_capacity(options.len());
    for (index, option) in options.iter().enumerate() {
        let at = at.index(index);
        added.extend(HeaderValueOption::from_proto(&at, option, is_request));
    }
    added
}

impl HeaderValueOption {
    #[allow(deprecated, reason = "configurations still have `append`")]
    fn from_proto(
        at: &At<'_>,
        option: &core::HeaderValueOption,
        is_request: bool,
    ) -> Option<HeaderValueOption> {
        use core::header_value_option::HeaderAppendAction as Action;
        // That it is missing breaks a rule of the .proto file, which the reader has reported.
        let header = option.header.as_ref()?;
        let at_header = at.field("header");
        let name = header.key.to_ascii_lowercase();
        if name.starts_with(':') || name == "host" {
            at_header.field("key").error_hint(
                format!("`{name}` cannot be set as a field"),
                "a route's rewrites change the path and the host",
            );
        } else if OF_THE_CONNECTION.contains(&name.as_str()) {
            at_header.field("key").error(format!(
                "`{name}` belongs to the connection, and each side of the proxy has its own"
            ));
        }
        let at_value = at_header.field("value");
        match Format::parse(&header.value) {
            Ok(format) if is_request => {
                if let Some(operator) = format.answered_later() {
                    at_value.warning(format!(
                        "%{operator}% has no value yet when a request is sent: it stays empty"
                    ));
                }
            }
            Ok(_) => {}
            Err(error) => at_value.error(format!("not a format of a header's value: {error}")),
        }
        let append_action = match (option.append, option.append_action()) {
            (None, Action::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
            (None, Action::AddIfAbsent) => AppendAction::AddIfAbsent,
            (None, Action::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
            (None, Action::OverwriteIfExists) => AppendAction::OverwriteIfExists,
            (Some(append), Action::AppendIfExistsOrAdd) if append.value => {
                AppendAction::AppendIfExistsOrAdd
            }
            (Some(_), Action::AppendIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
            (Some(_), _) => {
                at.field("append").error("`append` and `append_action` exclude each other");
                return None;
            }
        };
        Some(HeaderValueOption {
            name,
            format: header.value.clone(),
            append_action,
            keep_empty_value: option.keep_empty_value,
        })
    }
}
