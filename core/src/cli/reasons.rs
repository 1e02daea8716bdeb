//! The words for why a route does not match a request.
//!
//! What it leaves to others: finding out (`snapshot`), and the lines around them (`explain`).

use crate::config::{
    HeaderMatcher, HeaderValueMatch, PathMatch, QueryParameterMatcher, QueryValueMatch, RouteMatch,
    StringMatcher, StringPattern,
};
use crate::snapshot::{Mismatch, Unmet};
use tidegate_http::RequestHead;

/// How a route is called.
pub(super) fn name_of(number: usize, name: &str) -> String {
    match name {
        "" => format!("routes[{number}]"),
        name => format!("routes[{number}] `{name}`"),
    }
}

/// Whether the path matched, so that something else decided.
pub(super) fn is_condition(mismatch: Mismatch) -> bool {
    matches!(mismatch, Mismatch::Condition(_))
}

/// Why a route with this match does not take the request.
pub(super) fn reason(mismatch: Mismatch, matches: &RouteMatch, head: &RequestHead) -> String {
    match mismatch {
        Mismatch::Path => path(matches),
        Mismatch::NotConnect => "`connect_matcher` takes CONNECT only".to_owned(),
        Mismatch::Connect => "CONNECT has no path; it needs a `connect_matcher`".to_owned(),
        Mismatch::Condition(unmet) => condition(unmet, matches, head),
    }
}

fn path(matches: &RouteMatch) -> String {
    let case = if matches.case_sensitive { "" } else { ", whatever the case" };
    match &matches.path {
        PathMatch::Prefix(prefix) => format!("the path does not begin with `{prefix}`{case}"),
        PathMatch::Exact(exact) => format!("the path is not `{exact}`{case}"),
        PathMatch::SeparatedPrefix(prefix) => {
            format!("the path is neither `{prefix}` nor below `{prefix}/`{case}")
        }
        PathMatch::Regex(regex) => format!("the whole path does not match the regex `{regex}`"),
        PathMatch::Template(template) => {
            format!("the path does not match the template `{}`", template.text)
        }
        PathMatch::Connect => String::new(),
    }
}

fn condition(unmet: Unmet, matches: &RouteMatch, head: &RequestHead) -> String {
    let conditions = matches.conditions();
    match unmet {
        Unmet::RuntimeFraction => match conditions.runtime_fraction {
            Some(share) => format!(
                "`runtime_fraction` takes {} of {} requests, and not this random number",
                share.numerator, share.denominator
            ),
            None => String::new(),
        },
        Unmet::Grpc => "`content-type` is not that of gRPC".to_owned(),
        Unmet::Header(index) => {
            conditions.headers.get(index).map_or(String::new(), |matcher| header(matcher, head))
        }
        Unmet::QueryParameter(index) => {
            conditions.query_parameters.get(index).map_or(String::new(), query_parameter)
        }
        Unmet::TlsContext => "`tls_context` asks for a certificate; there is no TLS".to_owned(),
        Unmet::Template => path(matches),
    }
}

fn header(matcher: &HeaderMatcher, head: &RequestHead) -> String {
    let name = &matcher.name;
    let wanted = match &matcher.value {
        HeaderValueMatch::Present(present) => match *present != matcher.invert {
            true => return format!("the header field `{name}` is not there"),
            false => return format!("the header field `{name}` is there"),
        },
        HeaderValueMatch::Range(start, end) => {
            format!("a number from {start} to below {end}")
        }
        HeaderValueMatch::Text(matcher) => text(matcher),
    };
    let values: Vec<String> = match name.as_str() {
        ":method" => vec![shown(head.method_name())],
        ":path" => vec![shown(head.path())],
        ":authority" | "host" => vec![shown(head.authority())],
        name => {
            let fields = head.headers.iter().filter(|(field, _)| *field == name.as_bytes());
            fields.map(|(_, value)| shown(value)).collect()
        }
    };
    if values.is_empty() {
        return format!("the header field `{name}` is not there");
    }
    let values = values.join(", ");
    match matcher.invert {
        true => format!("the header field `{name}` must not be {wanted}, and is {values}"),
        false => format!("the header field `{name}` must be {wanted}, and is {values}"),
    }
}

fn query_parameter(matcher: &QueryParameterMatcher) -> String {
    let name = &matcher.name;
    match &matcher.value {
        QueryValueMatch::Present(true) => format!("the query parameter `{name}` is not there"),
        QueryValueMatch::Present(false) => format!("the query parameter `{name}` is there"),
        QueryValueMatch::Text(matcher) => {
            format!("the query parameter `{name}` is not {}", text(matcher))
        }
    }
}

fn text(matcher: &StringMatcher) -> String {
    let case = if matcher.ignore_case { ", whatever the case" } else { "" };
    match &matcher.pattern {
        StringPattern::Exact(text) => format!("`{text}`{case}"),
        StringPattern::Prefix(text) => format!("something that begins with `{text}`{case}"),
        StringPattern::Suffix(text) => format!("something that ends with `{text}`{case}"),
        StringPattern::Contains(text) => format!("something that contains `{text}`{case}"),
        StringPattern::Regex(regex) => format!("what the regex `{regex}` matches"),
    }
}

fn shown(value: &[u8]) -> String {
    format!("`{}`", value.escape_ascii())
}
