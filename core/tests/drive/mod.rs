//! A shard over real sockets whose turns the test takes itself.
//!
//! What it leaves to others: what is said on the sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::sync::Arc;
use tidegate::config::{self, Source};
use tidegate::control::build::Prepared;
use tidegate::control::listeners::open_all;
use tidegate::control::resources::{Action, Resources};
use tidegate::shard::Shard;
use tidegate::snapshot::{Publisher, Snapshot};
use tidegate::stats::{Registry, ServerStat};
use tidegate_io::{Instant, Io};

/// A shard, and the address that it listens at. `cluster` are further fields of the one cluster.
pub fn shard<I: Io>(
    io: I,
    origin: SocketAddr,
    routes: &str,
    cluster: &str,
) -> (Shard<I>, SocketAddr) {
    let registry = Arc::new(Registry::new(1));
    let first = snapshot(configuration(origin, routes, cluster), &registry);
    let address = first.listeners[0].sockets.address;
    let publisher = Arc::new(Publisher::new(first));
    let server = registry.scope("", ServerStat::ALL);
    (Shard::new(io, 0, publisher, registry.shard(0), server, 1).unwrap(), address)
}

fn configuration(origin: SocketAddr, routes: &str, cluster: &str) -> String {
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                   HttpConnectionManager";
    format!(
        r#"
static_resources:
  listeners:
  - name: one
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": {manager}
          stat_prefix: test
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes: [ {routes} ]
          http_filters: [ {{ name: router, typed_config: {{ "@type": {router} }} }} ]
  clusters:
  - name: c
    type: STATIC
    {cluster}
    load_assignment:
      cluster_name: c
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }}
"#,
        origin.ip(),
        origin.port()
    )
}

/// The first snapshot of this configuration.
fn snapshot(yaml: String, registry: &Arc<Registry>) -> Snapshot {
    let source = Source { name: "test.yaml".to_owned(), text: yaml };
    let (bootstrap, _) = config::load(&[source], &config::Options::default()).unwrap();
    let mut resources = Resources::new(registry.clone(), 1);
    let sockets = open_all(&bootstrap.listeners, &resources.sockets(), 1).unwrap();
    let prepared =
        Prepared { bootstrap, sockets, access_logs: Vec::new(), tls: Default::default() };
    resources.handle_update(&prepared, Instant::default());
    loop {
        match resources.poll_action() {
            Some(Action::Publish(snapshot)) => return snapshot,
            Some(_) => {}
            None => panic!("nothing was published"),
        }
    }
}
