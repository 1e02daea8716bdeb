//! The configuration reader, by its public face: text in, a bootstrap or errors with their place
//! out.
//!
//! What it leaves to others: what is done with a bootstrap.
#![allow(clippy::panic, reason = "a test that fails says why")]

mod envoy_gateway;
mod envoy_verdicts;
mod examples;
mod filter_chains;
mod fuzz;
mod grpc_stats;
mod http2;
mod limits;
mod merging;
mod noun_values;
mod old_configurations;
mod places;
mod scale;
mod support;
mod tcp_proxy;

use tidegate::config::{Bootstrap, ConfigError, ConfigErrors, Options, Source, load};

/// A configuration that loads. Tests replace parts of it.
pub const BASE: &str = r#"static_resources:
  listeners:
  - name: l
    address:
      socket_address: { address: 127.0.0.1, port_value: 10000 }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config:
            name: r
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route: { cluster: c }
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: c
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: c
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 80 } } }
"#;

/// `BASE` with parts replaced; each part must be there.
pub fn with(edits: &[(&str, &str)]) -> String {
    let mut text = BASE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from:?} is not in the base");
        text = text.replacen(from, to, 1);
    }
    text
}

/// A source called `c.yaml`.
pub fn source(text: &str) -> Source {
    Source { name: "c.yaml".to_owned(), text: text.to_owned() }
}

/// What loading one text gives.
pub fn try_load(text: &str) -> Result<(Bootstrap, Vec<ConfigError>), ConfigErrors> {
    load(&[source(text)], &Options::default())
}

/// The bootstrap of a text that must load without a warning.
pub fn loaded(text: &str) -> Bootstrap {
    match try_load(text) {
        Ok((bootstrap, warnings)) => {
            assert_eq!(warnings, [], "{text}");
            bootstrap
        }
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

/// What is wrong with a text, one line each, as `Display` writes it.
pub fn problems(text: &str) -> Vec<String> {
    match try_load(text) {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
        Err(ConfigErrors(errors)) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// The only HTTP connection manager of a bootstrap.
pub fn manager(bootstrap: &Bootstrap) -> &tidegate::config::HttpConnectionManager {
    match &bootstrap.listeners[0].filter_chains[0].filter {
        tidegate::config::NetworkFilter::HttpConnectionManager(manager) => manager,
        other => panic!("{other:?}"),
    }
}

/// The only route of a bootstrap.
pub fn route(bootstrap: &Bootstrap) -> &tidegate::config::Route {
    &manager(bootstrap).route_config.virtual_hosts[0].routes[0]
}
