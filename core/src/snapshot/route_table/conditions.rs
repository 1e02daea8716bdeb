//! What a route asks of a request besides its path, compiled.
//!
//! What it leaves to others: the path (`paths`).

use super::text::{TextMatch, WholeRegex};
use crate::config::{
    HeaderMatcher, HeaderValueMatch, MatchConditions, QueryParameterMatcher, QueryValueMatch,
    RuntimeFraction,
};
use std::borrow::Cow;
use tidegate_http::{Headers, Name, RequestHead, ResponseHead, Scheme};

/// Everything that must hold besides the path.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    runtime_fraction: Option<RuntimeFraction>,
    grpc: bool,
    headers: Vec<HeaderCondition>,
    query_parameters: Vec<QueryCondition>,
    /// `tls_context` asks for a certificate, and there is no TLS.
    certificate: bool,
    /// A path template where the other path specifiers are matched without path parameters.
    template: Option<WholeRegex>,
}

/// A condition that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmet {
    /// `runtime_fraction`
    RuntimeFraction,
    /// `grpc`
    Grpc,
    /// The item of `headers`.
    Header(usize),
    /// The item of `query_parameters`.
    QueryParameter(usize),
    /// `tls_context`
    TlsContext,
    /// `path_match_policy`, where it stands among the conditions.
    Template,
}

/// What a header field must be.
#[derive(Debug)]
pub struct HeaderCondition {
    source: Source,
    value: ValueCondition,
    invert: bool,
    treat_missing_as_empty: bool,
}

/// Where a value is.
#[derive(Debug)]
pub(super) enum Source {
    Method,
    Path,
    Authority,
    Scheme,
    Known(Name),
    /// In lower case.
    Field(Vec<u8>),
}

#[derive(Debug)]
enum ValueCondition {
    Present(bool),
    Range(i64, i64),
    Text(TextMatch),
}

#[derive(Debug)]
struct QueryCondition {
    name: Vec<u8>,
    value: ValueCondition,
}

impl Conditions {
    pub(super) fn new(conditions: &MatchConditions, failures: &mut u32) -> Conditions {
        let headers = conditions.headers.iter();
        let parameters = conditions.query_parameters.iter();
        let wants = |flag: Option<bool>| flag == Some(true);
        Conditions {
            runtime_fraction: conditions.runtime_fraction,
            grpc: conditions.grpc,
            headers: headers.map(|matcher| HeaderCondition::new(matcher, failures)).collect(),
            query_parameters: parameters.map(|one| QueryCondition::new(one, failures)).collect(),
            certificate: conditions
                .tls_context
                .is_some_and(|context| wants(context.presented) || wants(context.validated)),
            template: None,
        }
    }

    /// Adds a regex that the whole path, without its query, must match.
    pub(super) fn with_template(mut self, regex: &str, failures: &mut u32) -> Conditions {
        self.template = Some(WholeRegex::new(regex, failures));
        self
    }

    /// The first condition that does not hold, in Envoy's order. `random` decides about shares of
    /// requests.
    pub(super) fn unmet(&self, request: &RequestHead, random: u64) -> Option<Unmet> {
        let within = |fraction: RuntimeFraction| {
            random % u64::from(fraction.denominator) < u64::from(fraction.numerator)
        };
        if !self.runtime_fraction.is_none_or(within) {
            return Some(Unmet::RuntimeFraction);
        }
        if self.grpc && !is_grpc(request) {
            return Some(Unmet::Grpc);
        }
        if let Some(index) = self.headers.iter().position(|header| !header.holds(request)) {
            return Some(Unmet::Header(index));
        }
        let parameter = |parameter: &QueryCondition| !parameter.holds(request.path());
        if let Some(index) = self.query_parameters.iter().position(parameter) {
            return Some(Unmet::QueryParameter(index));
        }
        if self.certificate {
            return Some(Unmet::TlsContext);
        }
        let path = super::without_query(request.path());
        match &self.template {
            Some(template) if !template.matches(path) => Some(Unmet::Template),
            _ => None,
        }
    }
}

/// `application/grpc`, or that with a message format behind a plus sign.
#[must_use]
pub fn is_grpc(request: &RequestHead) -> bool {
    let value = request.headers.get(Name::ContentType).unwrap_or_default();
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
}

impl HeaderCondition {
    fn new(matcher: &HeaderMatcher, failures: &mut u32) -> HeaderCondition {
        let value = match &matcher.value {
            HeaderValueMatch::Present(present) => ValueCondition::Present(*present),
            HeaderValueMatch::Range(start, end) => ValueCondition::Range(*start, *end),
            HeaderValueMatch::Text(text) => ValueCondition::Text(TextMatch::new(text, failures)),
        };
        HeaderCondition {
            source: Source::of(&matcher.name),
            value,
            invert: matcher.invert,
            treat_missing_as_empty: matcher.treat_missing_as_empty,
        }
    }

    /// Compiles a matcher, which was validated.
    #[must_use]
    pub fn compile(matcher: &HeaderMatcher) -> HeaderCondition {
        HeaderCondition::new(matcher, &mut 0)
    }

    /// Whether it holds of a request.
    #[must_use]
    pub fn holds(&self, request: &RequestHead) -> bool {
        self.holds_if(self.source.any(request, |value| self.value.holds(value)))
    }

    /// Whether it holds of a response, whose one pseudo field is `:status`.
    #[must_use]
    pub fn holds_of_response(&self, response: &ResponseHead) -> bool {
        let test = |value: &[u8]| self.value.holds(value);
        self.holds_if(match &self.source {
            Source::Field(name) if name == b":status" => {
                Some(test(response.status.to_string().as_bytes()))
            }
            source => source.any_field(&response.headers, test),
        })
    }

    /// Whether it holds, when any value passes the test or none does, or there is none.
    fn holds_if(&self, any: Option<bool>) -> bool {
        let found = match any {
            None if self.treat_missing_as_empty => Some(self.value.holds(b"")),
            found => found,
        };
        match (&self.value, found) {
            (ValueCondition::Present(present), found) => {
                (found.is_some() == *present) != self.invert
            }
            // A field that is not there matches nothing, not even the contrary.
            (_, None) => false,
            (_, Some(holds)) => holds != self.invert,
        }
    }
}

impl ValueCondition {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            ValueCondition::Present(present) => *present,
            ValueCondition::Range(start, end) => {
                integer(value).is_some_and(|number| (*start..*end).contains(&number))
            }
            ValueCondition::Text(text) => text.matches(value),
        }
    }
}

impl Source {
    pub(super) fn of(lower: &str) -> Source {
        match lower {
            ":method" => Source::Method,
            ":path" => Source::Path,
            ":authority" | "host" => Source::Authority,
            ":scheme" => Source::Scheme,
            name => match Name::of(name.as_bytes()) {
                Name::Other => Source::Field(name.as_bytes().to_vec()),
                known => Source::Known(known),
            },
        }
    }

    /// Whether any value passes the test; `None` when there is no value. Envoy 1.40 looks at each
    /// value alone.
    fn any(&self, request: &RequestHead, mut test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        let mut one = |value: &[u8]| (!value.is_empty()).then(|| test(value));
        match self {
            Source::Method => one(request.method_name()),
            Source::Path => one(request.path()),
            Source::Authority => one(request.authority()),
            Source::Scheme => one(scheme(request)),
            Source::Known(_) | Source::Field(_) => self.any_field(&request.headers, test),
        }
    }

    /// The same of a header.
    fn any_field(&self, headers: &Headers, test: impl FnMut(&[u8]) -> bool) -> Option<bool> {
        match self {
            Source::Known(name) => any(headers.get_all(*name), test),
            Source::Field(lower) => {
                let fields = headers.iter().filter(|(name, _)| name == lower);
                any(fields.map(|(_, value)| value), test)
            }
            Source::Method | Source::Path | Source::Authority | Source::Scheme => None,
        }
    }
}

impl Source {
    /// The value, several values joined by commas. Allocates only where there are several.
    pub(super) fn joined<'r>(&self, request: &'r RequestHead) -> Option<Cow<'r, [u8]>> {
        let one = |value: &'r [u8]| (!value.is_empty()).then_some(Cow::Borrowed(value));
        match self {
            Source::Method => one(request.method_name()),
            Source::Path => one(request.path()),
            Source::Authority => one(request.authority()),
            Source::Scheme => one(scheme(request)),
            Source::Known(name) => joined(request.headers.get_all(*name)),
            Source::Field(lower) => {
                let fields = request.headers.iter().filter(|(name, _)| name == lower);
                joined(fields.map(|(_, value)| value))
            }
        }
    }
}

fn scheme(request: &RequestHead) -> &'static [u8] {
    match request.scheme {
        Some(Scheme::Https) => b"https",
        _ => b"http",
    }
}

fn joined<'r>(mut values: impl Iterator<Item = &'r [u8]>) -> Option<Cow<'r, [u8]>> {
    let mut value = Cow::Borrowed(values.next()?);
    for more in values {
        let value = value.to_mut();
        value.push(b',');
        value.extend_from_slice(more);
    }
    Some(value)
}

fn any<'r>(
    values: impl Iterator<Item = &'r [u8]>,
    mut test: impl FnMut(&[u8]) -> bool,
) -> Option<bool> {
    let mut found = None;
    for value in values {
        if test(value) {
            return Some(true);
        }
        found = Some(false);
    }
    found
}

/// A decimal integer between white space, as Envoy reads it.
fn integer(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    // Two signs are what `from_str` refuses, too.
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl QueryCondition {
    fn new(matcher: &QueryParameterMatcher, failures: &mut u32) -> QueryCondition {
        let value = match &matcher.value {
            QueryValueMatch::Present(present) => ValueCondition::Present(*present),
            QueryValueMatch::Text(text) => ValueCondition::Text(TextMatch::new(text, failures)),
        };
        QueryCondition { name: matcher.name.clone().into_bytes(), value }
    }

    fn holds(&self, path: &[u8]) -> bool {
        let value = query_parameter(path, &self.name);
        match &self.value {
            ValueCondition::Present(present) => value.is_some() == *present,
            condition => value.is_some_and(|value| condition.holds(value)),
        }
    }
}

/// The first value of a query parameter, as it is written.
fn query_parameter<'p>(path: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let start = memchr::memchr(b'?', path)? + 1;
    path[start..].split(|byte| *byte == b'&').find_map(|parameter| {
        match parameter.strip_prefix(name)? {
            [] => Some(&[][..]),
            [b'=', value @ ..] => Some(value),
            _ => None,
        }
    })
}
