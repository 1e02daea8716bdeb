//! Which fields of which messages are implemented, as tables that stand beside each noun.
//!
//! A message that has no table has no field that is implemented. What is not in a table is refused
//! by name, so that a new field of Envoy's is never ignored silently.
//!
//! What it leaves to others: the tables (`SUPPORTED` in each noun's file), and refusing (`reader`).

use std::collections::HashMap;
use std::sync::OnceLock;

/// The implemented fields of one message.
#[derive(Debug)]
pub struct SupportedMessage {
    /// The message's full name, `envoy.config.listener.v3.Listener`.
    pub message: &'static str,
    /// The fields.
    pub fields: &'static [SupportedField],
    /// Whether ignoring one of the other fields would change which requests are let through or
    /// where they go. Such a field is refused even where unsupported fields are allowed.
    pub strict: bool,
}

/// One field and how it is implemented.
#[derive(Debug)]
pub struct SupportedField {
    /// The field's name in the .proto file.
    pub name: &'static str,
    /// How.
    pub support: Support,
}

/// How a field is implemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Read and carried out.
    Used,
    /// A `google.protobuf.Any` that can contain these messages.
    Types(&'static [&'static str]),
    /// A list of extensions of which the first that is one of these messages counts; what the
    /// others say is not looked at.
    FirstOf(&'static [&'static str]),
    /// Carried out for these values only.
    Only(&'static [&'static str]),
    /// Carried out for these values only; the others are refused even where unsupported fields are
    /// allowed.
    Must(&'static [&'static str]),
    /// Not implemented, and refused even where unsupported fields are allowed.
    Refused,
    /// Accepted; it has nothing to do here, for this reason.
    Kept(&'static str),
    /// Accepted with a warning: it has no effect, for this reason.
    Reported(&'static str),
}

/// A message's table.
pub(super) const fn message(
    message: &'static str,
    fields: &'static [SupportedField],
) -> SupportedMessage {
    SupportedMessage { message, fields, strict: false }
}

/// A message's table; its other fields are refused even where unsupported fields are allowed.
pub(super) const fn strict(
    message: &'static str,
    fields: &'static [SupportedField],
) -> SupportedMessage {
    SupportedMessage { message, fields, strict: true }
}

pub(super) const fn used(name: &'static str) -> SupportedField {
    SupportedField { name, support: Support::Used }
}

pub(super) const fn types(name: &'static str, messages: &'static [&'static str]) -> SupportedField {
    SupportedField { name, support: Support::Types(messages) }
}

pub(super) const fn first_of(
    name: &'static str,
    messages: &'static [&'static str],
) -> SupportedField {
    SupportedField { name, support: Support::FirstOf(messages) }
}

pub(super) const fn only(name: &'static str, values: &'static [&'static str]) -> SupportedField {
    SupportedField { name, support: Support::Only(values) }
}

pub(super) const fn must(name: &'static str, values: &'static [&'static str]) -> SupportedField {
    SupportedField { name, support: Support::Must(values) }
}

pub(super) const fn refused(name: &'static str) -> SupportedField {
    SupportedField { name, support: Support::Refused }
}

pub(super) const fn kept(name: &'static str, reason: &'static str) -> SupportedField {
    SupportedField { name, support: Support::Kept(reason) }
}

pub(super) const fn reported(name: &'static str, reason: &'static str) -> SupportedField {
    SupportedField { name, support: Support::Reported(reason) }
}

/// The tables of all nouns.
pub fn supported_messages() -> impl Iterator<Item = &'static SupportedMessage> {
    [
        super::bootstrap::SUPPORTED,
        super::runtime::SUPPORTED,
        super::disk_layer::SUPPORTED,
        super::stats_config::SUPPORTED,
        super::stats_sink::SUPPORTED,
        super::listener::SUPPORTED,
        super::filter_chain_match::SUPPORTED,
        super::tls_inspector::SUPPORTED,
        super::http_connection_manager::SUPPORTED,
        super::tcp_proxy::SUPPORTED,
        super::scoped_routes::SUPPORTED,
        super::http_filters::SUPPORTED,
        super::grpc_stats::SUPPORTED,
        super::google_grpc::SUPPORTED,
        super::grpc_timeout::SUPPORTED,
        super::proxy_status::SUPPORTED,
        super::client_address::SUPPORTED,
        super::client_certificate::SUPPORTED,
        super::http1::SUPPORTED,
        super::http2::SUPPORTED,
        super::typed_extension::SUPPORTED,
        super::route::SUPPORTED,
        super::route_match::SUPPORTED,
        super::matcher::SUPPORTED,
        super::metadata::SUPPORTED,
        super::route_action::SUPPORTED,
        super::retry_policy::SUPPORTED,
        super::internal_redirect::SUPPORTED,
        super::header_mutation::SUPPORTED,
        super::string_matcher::SUPPORTED,
        super::regex_rewrite::SUPPORTED,
        super::redirect::SUPPORTED,
        super::circuit_breakers::SUPPORTED,
        super::cluster::SUPPORTED,
        super::dns::SUPPORTED,
        super::upstream_options::SUPPORTED,
        super::load_balancing::SUPPORTED,
        super::endpoint::SUPPORTED,
        super::address::SUPPORTED,
        super::access_log::SUPPORTED,
        super::access_log_filter::SUPPORTED,
        super::grpc_access_log::SUPPORTED,
        super::config_source::SUPPORTED,
        super::substitution_format::SUPPORTED,
        super::local_reply::SUPPORTED,
        super::data_source::SUPPORTED,
        super::tls::SUPPORTED,
    ]
    .into_iter()
    .flatten()
}

/// The table of a message, by its full name.
pub(super) fn supported_message(message: &str) -> Option<&'static SupportedMessage> {
    static BY_NAME: OnceLock<HashMap<&'static str, &'static SupportedMessage>> = OnceLock::new();
    BY_NAME
        .get_or_init(|| supported_messages().map(|entry| (entry.message, entry)).collect())
        .get(message)
        .copied()
}

/// How a field is implemented; `None` if it is not.
pub(super) fn support(message: &str, field: &str) -> Option<Support> {
    let entry = supported_message(message)?;
    entry.fields.iter().find(|supported| supported.name == field).map(|supported| supported.support)
}

#[cfg(test)]
mod tests {
    use super::super::descriptors;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tables_name_fields_that_exist_and_each_once() {
        let pool = descriptors::pool().unwrap();
        let mut messages = HashSet::new();
        for entry in supported_messages() {
            assert!(messages.insert(entry.message), "{} has two tables", entry.message);
            let descriptor = pool.get_message_by_name(entry.message).unwrap();
            let mut fields = HashSet::new();
            for field in entry.fields {
                let place = format!("{}.{}", entry.message, field.name);
                assert!(descriptor.get_field_by_name(field.name).is_some(), "{place}");
                assert!(fields.insert(field.name), "{place} is there twice");
                if let Support::Types(types) | Support::FirstOf(types) = field.support {
                    for name in types {
                        assert!(pool.get_message_by_name(name).is_some(), "{place}: {name}");
                    }
                }
            }
        }
    }
}
