//! Scoped routes (`ScopedRoutes`, `config.route.v3.ScopedRouteConfiguration`): which route
//! configuration a request has, by a key that is built from its header.
//!
//! What it leaves to others: scopes that come while we run (`control`), building the key of a
//! request (`snapshot`).

use super::config_source::ConfigSource;
use super::convert::At;
use super::route::RouteConfiguration;
use super::support::{SupportedMessage, message, only, refused, used};
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use pb::scoped_routes::ConfigSpecifier;
use pb::scoped_routes::scope_key_builder::FragmentBuilder;
use pb::scoped_routes::scope_key_builder::fragment_builder::Type as BuilderType;
use pb::scoped_routes::scope_key_builder::fragment_builder::header_value_extractor::ExtractType;
use route::scoped_route_configuration::key::fragment::Type as FragmentType;
use std::collections::HashSet;
use std::sync::Arc;

/// A key has at most so many fragments.
pub const FRAGMENTS_MAX: usize = 8;

/// `ScopedRoutes`
#[derive(Clone, PartialEq, Debug)]
pub struct ScopedRoutes {
    /// `name`: for stats.
    pub name: String,
    /// `scope_key_builder.fragments`, at most [`FRAGMENTS_MAX`].
    pub key_builder: Vec<HeaderValueExtractor>,
    /// `rds_config_source`; there is one where a scope names its routes.
    pub route_source: Option<ConfigSource>,
    /// Where the scopes come from.
    pub source: ScopeSource,
    /// The scopes that there are, with their routes.
    pub scopes: Vec<Scope>,
}

/// Where scopes come from.
#[derive(Clone, PartialEq, Debug)]
pub enum ScopeSource {
    /// `scoped_route_configurations_list`
    Given(Vec<Arc<ScopedRouteConfiguration>>),
    /// `scoped_rds.scoped_rds_config_source`
    Server(ConfigSource),
}

/// A scope with its routes.
#[derive(Clone, PartialEq, Debug)]
pub struct Scope {
    /// `key.fragments`
    pub key: Vec<String>,
    /// The routes of requests with this key.
    pub routes: Arc<RouteConfiguration>,
}

/// `HeaderValueExtractor`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderValueExtractor {
    /// `name` in lower case.
    pub name: String,
    /// `element_separator`; empty: the whole value is one element.
    pub element_separator: String,
    /// Which element.
    pub element: ScopeElement,
}

/// Which element of a header's value is the fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScopeElement {
    /// `index`
    Index(u32),
    /// `element`: what follows `separator` in the first element that begins with `key`.
    Value {
        /// `separator`
        separator: String,
        /// `key`
        key: String,
    },
}

/// `config.route.v3.ScopedRouteConfiguration`
#[derive(Clone, PartialEq, Debug)]
pub struct ScopedRouteConfiguration {
    /// `name`
    pub name: String,
    /// `key.fragments`, which are texts.
    pub key: Vec<String>,
    /// Its routes.
    pub routes: ScopeRoutes,
}

/// The routes of a scope.
#[derive(Clone, PartialEq, Debug)]
pub enum ScopeRoutes {
    /// `route_configuration_name`
    Named(String),
    /// `route_configuration`
    Given(Arc<RouteConfiguration>),
}

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes",
        &[
            used("name"),
            used("scope_key_builder"),
            used("rds_config_source"),
            used("scoped_route_configurations_list"),
            used("scoped_rds"),
        ],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRds",
        &[used("scoped_rds_config_source"), refused("srds_resources_locator")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRouteConfigurationsList",
        &[used("scoped_route_configurations")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder",
        &[used("fragments")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder",
        &[used("header_value_extractor")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor",
        &[used("name"), used("element_separator"), used("index"), used("element")],
    ),
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.HeaderValueExtractor.KvElement",
        &[used("separator"), used("key")],
    ),
    message(
        "envoy.config.route.v3.ScopedRouteConfiguration",
        &[
            only("on_demand", &["false"]),
            used("name"),
            used("route_configuration_name"),
            used("route_configuration"),
            used("key"),
        ],
    ),
    message("envoy.config.route.v3.ScopedRouteConfiguration.Key", &[used("fragments")]),
    message("envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment", &[used("string_key")]),
];

impl ScopedRoutes {
    /// Converts `scoped_routes`; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, routes: &pb::ScopedRoutes) -> Option<ScopedRoutes> {
        let at_builder = at.field("scope_key_builder");
        let at_builder = at_builder.field("fragments");
        let fragments = routes.scope_key_builder.iter().flat_map(|builder| &builder.fragments);
        let builders: Vec<_> = fragments.enumerate().collect();
        if builders.len() > FRAGMENTS_MAX {
            at_builder.error(format!("a key has at most {FRAGMENTS_MAX} fragments"));
        }
        let extractor = |(index, builder): (usize, &FragmentBuilder)| {
            HeaderValueExtractor::from_proto(&at_builder.index(index), builder)
        };
        let key_builder = builders.into_iter().filter_map(extractor).collect();
        let at_source = at.field("rds_config_source");
        let route_source = routes.rds_config_source.as_ref();
        let route_source = route_source
            .and_then(|source| at_source.converted(ConfigSource::from_proto(&at_source, source)));
        let source = match routes.config_specifier.as_ref() {
            Some(ConfigSpecifier::ScopedRouteConfigurationsList(list)) => {
                let at = at.field("scoped_route_configurations_list");
                ScopeSource::Given(given(&at.field("scoped_route_configurations"), list)?)
            }
            Some(ConfigSpecifier::ScopedRds(scoped)) => {
                let at = at.field("scoped_rds");
                let at = at.field("scoped_rds_config_source");
                let source = scoped.scoped_rds_config_source.as_ref()?;
                ScopeSource::Server(at.converted(ConfigSource::from_proto(&at, source))?)
            }
            // The reader says that one is required.
            None => return None,
        };
        let names_routes = match &source {
            ScopeSource::Given(list) => {
                list.iter().any(|scope| matches!(scope.routes, ScopeRoutes::Named(_)))
            }
            ScopeSource::Server(_) => true,
        };
        if names_routes && routes.rds_config_source.is_none() {
            at.missing("rds_config_source", Some("it says where the scopes' routes come from"));
        }
        let name = routes.name.clone();
        Some(ScopedRoutes { name, key_builder, route_source, source, scopes: Vec::new() })
    }
}

fn given(
    at: &At<'_>,
    list: &pb::ScopedRouteConfigurationsList,
) -> Option<Vec<Arc<ScopedRouteConfiguration>>> {
    let mut keys = HashSet::new();
    let scopes = list.scoped_route_configurations.iter().enumerate();
    let scopes = scopes.map(|(index, scope)| {
        let at = at.index(index);
        let scope = at.converted(ScopedRouteConfiguration::from_proto(&at, scope))?;
        if !keys.insert(scope.key.clone()) {
            at.field("key").error("two scopes have this key");
        }
        Some(Arc::new(scope))
    });
    scopes.collect()
}

impl HeaderValueExtractor {
    fn from_proto(at: &At<'_>, builder: &FragmentBuilder) -> Option<HeaderValueExtractor> {
        // The reader says that it is required.
        let BuilderType::HeaderValueExtractor(extractor) = builder.r#type.as_ref()?;
        let at = at.field("header_value_extractor");
        let element = match extractor.extract_type.as_ref() {
            Some(ExtractType::Index(index)) => {
                if *index > 0 && extractor.element_separator.is_empty() {
                    let hint = "set `element_separator`, or take element 0";
                    at.field("index").error_hint("without a separator there is one element", hint);
                }
                ScopeElement::Index(*index)
            }
            Some(ExtractType::Element(element)) => ScopeElement::Value {
                separator: element.separator.clone(),
                key: element.key.clone(),
            },
            None => {
                at.error_hint("it does not say which element", "set `index: 0` for the first");
                return None;
            }
        };
        Some(HeaderValueExtractor {
            name: extractor.name.to_ascii_lowercase(),
            element_separator: extractor.element_separator.clone(),
            element,
        })
    }

    /// The fragment in a header's value.
    #[must_use]
    pub fn extract<'v>(&'v self, value: &'v [u8]) -> Option<&'v [u8]> {
        let mut elements = split(value, self.element_separator.as_bytes());
        match &self.element {
            ScopeElement::Index(index) => elements.nth(*index as usize),
            ScopeElement::Value { separator, key } => elements.find_map(|element| {
                let mut parts = splitn(element, separator.as_bytes());
                (parts.next()? == key.as_bytes()).then(|| parts.next().unwrap_or_default())
            }),
        }
    }
}

fn split<'v>(value: &'v [u8], separator: &'v [u8]) -> impl Iterator<Item = &'v [u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let mut parts = splitn(rest?, separator);
        let first = parts.next();
        rest = parts.next();
        first
    })
}

/// What is before the first separator, and what is behind it.
fn splitn<'v>(value: &'v [u8], separator: &[u8]) -> impl Iterator<Item = &'v [u8]> + use<'v> {
    let at = match separator {
        [] => None,
        _ => memchr::memmem::find(value, separator),
    };
    let (first, second) = match at {
        Some(at) => (&value[..at], Some(&value[at + separator.len()..])),
        None => (value, None),
    };
    std::iter::once(first).chain(second)
}

impl ScopedRouteConfiguration {
    /// Converts a scope; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        scope: &route::ScopedRouteConfiguration,
    ) -> Option<ScopedRouteConfiguration> {
        let at_key = at.field("key");
        let at_key = at_key.field("fragments");
        let fragments = scope.key.iter().flat_map(|key| &key.fragments).enumerate();
        let fragments = fragments.map(|(index, fragment)| match fragment.r#type.as_ref() {
            Some(FragmentType::StringKey(text)) => Some(text.clone()),
            None => {
                at_key.index(index).missing("string_key", None);
                None
            }
        });
        let key = fragments.collect::<Option<Vec<_>>>()?;
        let name = &scope.route_configuration_name;
        let routes = match &scope.route_configuration {
            Some(_) if !name.is_empty() => {
                at.error("only one of `route_configuration_name` and `route_configuration`");
                return None;
            }
            Some(routes) => {
                let at = at.field("route_configuration");
                ScopeRoutes::Given(Arc::new(RouteConfiguration::from_proto(&at, routes, &None)?))
            }
            None if name.is_empty() => {
                at.missing("route_configuration_name", None);
                return None;
            }
            None => ScopeRoutes::Named(name.clone()),
        };
        Some(ScopedRouteConfiguration { name: scope.name.clone(), key, routes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(element_separator: &str, element: ScopeElement, value: &str) -> Option<String> {
        let element_separator = element_separator.to_owned();
        let extractor = HeaderValueExtractor { name: "x".into(), element_separator, element };
        extractor.extract(value.as_bytes()).map(|found| String::from_utf8_lossy(found).into())
    }

    #[test]
    fn fragments_are_elements_or_values() {
        let value = |separator: &str, key: &str| ScopeElement::Value {
            separator: separator.to_owned(),
            key: key.to_owned(),
        };
        for (separator, element, text, found) in [
            ("", ScopeElement::Index(0), "a;b", Some("a;b")),
            (";", ScopeElement::Index(0), "a;b", Some("a")),
            (";", ScopeElement::Index(1), "a;b", Some("b")),
            (";", ScopeElement::Index(2), "a;b", None),
            (";", ScopeElement::Index(1), "a;", Some("")),
            (", ", ScopeElement::Index(1), "a, b", Some("b")),
            (";", value("=", "k"), "a=b;k=v=w", Some("v=w")),
            (";", value("=", "k"), "a=b;k", Some("")),
            (";", value("=", "z"), "a=b;k=v", None),
            ("", value("=", "a"), "a=b;k=v", Some("b;k=v")),
        ] {
            let name = format!("{separator:?} {element:?} {text}");
            assert_eq!(extract(separator, element, text).as_deref(), found, "{name}");
        }
    }
}
