//! `config.core.v3.TypedExtensionConfig`: every extension that can be named in one.
//!
//! What it leaves to others: which of them makes sense where (each noun checks the type).

use super::client_address::{CUSTOM_HEADER, XFF};
use super::dns::{CARES, GETADDRINFO, HICKORY};
use super::http1::PRESERVE_CASE;
use super::load_balancing::{LEAST_REQUEST, RANDOM, ROUND_ROBIN};
use super::route_action::TEMPLATE_REWRITE;
use super::route_match::TEMPLATE_MATCH;
use super::support::{SupportedMessage, kept, message, types};
use super::tls::SPIFFE;

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[message(
    "envoy.config.core.v3.TypedExtensionConfig",
    &[
        kept("name", "the type in `@type` decides"),
        types(
            "typed_config",
            &[
                XFF,
                CUSTOM_HEADER,
                PRESERVE_CASE,
                TEMPLATE_MATCH,
                TEMPLATE_REWRITE,
                ROUND_ROBIN,
                LEAST_REQUEST,
                RANDOM,
                CARES,
                GETADDRINFO,
                HICKORY,
                SPIFFE,
            ],
        ),
    ],
)];
