//! Answers that a route gives by itself: redirects and direct responses (`config.route.v3`).
//!
//! What it leaves to others: making the response (`proxy`).

use super::convert::At;
use super::data_source;
use super::local_reply::BodyFormat;
use super::regex_rewrite::RegexRewrite;
use super::route::RouteContext;
use super::support::{SupportedMessage, message, used};
use envoy_types::pb::envoy::config::route::v3 as pb;
use pb::redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier};

/// `config.route.v3.RedirectAction`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RedirectAction {
    /// `https_redirect` (as `https`) or `scheme_redirect`
    pub scheme: Option<String>,
    /// `host_redirect`
    pub host: Option<String>,
    /// `port_redirect`
    pub port: Option<u16>,
    /// `path_redirect` or `prefix_rewrite`
    pub path: RedirectPath,
    /// `response_code` as a status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `strip_query`
    pub strip_query: bool,
}

/// How a redirect changes the path.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RedirectPath {
    /// Not at all.
    #[default]
    Keep,
    /// `path_redirect`
    Replace(String),
    /// `prefix_rewrite`: the matched prefix (or the whole exact path) is replaced.
    PrefixRewrite(String),
    /// `regex_rewrite`: every match in the path is replaced.
    RegexRewrite(RegexRewrite),
}

/// `config.route.v3.DirectResponseAction`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectResponse {
    /// `status`, 200 to 599.
    pub status: u16,
    /// `body` (inline string, inline bytes or the file's content), at most 4 KiB.
    pub body: Vec<u8>,
    /// `body_format`; `None` is the body as it is.
    pub body_format: Option<BodyFormat>,
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.route.v3.RedirectAction",
        &[
            used("https_redirect"),
            used("scheme_redirect"),
            used("host_redirect"),
            used("port_redirect"),
            used("path_redirect"),
            used("prefix_rewrite"),
            used("regex_rewrite"),
            used("response_code"),
            used("strip_query"),
        ],
    ),
    message(
        "envoy.config.route.v3.DirectResponseAction",
        &[used("status"), used("body"), used("body_format")],
    ),
];

impl RedirectAction {
    pub(super) fn from_proto(at: &At<'_>, redirect: &pb::RedirectAction) -> Option<RedirectAction> {
        use pb::redirect_action::RedirectResponseCode as Code;
        let scheme = match &redirect.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some("https".to_owned()),
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => {
                Some(scheme.clone()).filter(|scheme| !scheme.is_empty())
            }
            Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
        };
        let path = match &redirect.path_rewrite_specifier {
            Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Replace(path.clone()),
            Some(PathRewriteSpecifier::PrefixRewrite(path)) => {
                RedirectPath::PrefixRewrite(path.clone())
            }
            Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
                let at = at.field("regex_rewrite");
                RedirectPath::RegexRewrite(RegexRewrite::from_proto(&at, rewrite)?)
            }
            // The reader has refused the others by name.
            Some(_) | None => RedirectPath::Keep,
        };
        let Ok(port) = u16::try_from(redirect.port_redirect) else {
            at.field("port_redirect").error(format!("{} is not a port", redirect.port_redirect));
            return None;
        };
        Some(RedirectAction {
            scheme,
            host: Some(redirect.host_redirect.clone()).filter(|host| !host.is_empty()),
            port: Some(port).filter(|port| *port > 0),
            path,
            status: match redirect.response_code() {
                Code::MovedPermanently => 301,
                Code::Found => 302,
                Code::SeeOther => 303,
                Code::TemporaryRedirect => 307,
                Code::PermanentRedirect => 308,
            },
            strip_query: redirect.strip_query,
        })
    }
}

impl DirectResponse {
    pub(super) fn from_proto(
        at: &At<'_>,
        response: &pb::DirectResponseAction,
        context: &RouteContext<'_>,
    ) -> Option<DirectResponse> {
        let longest = usize::try_from(context.max_body_bytes).unwrap_or(usize::MAX);
        let body = match &response.body {
            Some(source) => data_source::read(&at.field("body"), source, longest)?,
            None => Vec::new(),
        };
        let at_format = at.field("body_format");
        let body_format = match &response.body_format {
            Some(format) => Some(BodyFormat::from_proto(&at_format, format)?),
            None => None,
        };
        // The .proto file allows 200 to 599.
        let status = u16::try_from(response.status).ok()?;
        Some(DirectResponse { status, body, body_format })
    }
}
