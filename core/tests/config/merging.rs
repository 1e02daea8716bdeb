//! Several sources, and JSON.
//!
//! What it leaves to others: what each field means.

use super::{BASE, loaded, source};
use tidegate::config::{Bootstrap, ConfigErrors, LbPolicy, Options, Source, load};

fn merged(over: &str) -> Result<Bootstrap, ConfigErrors> {
    let over = Source { name: "--config-yaml".to_owned(), text: over.to_owned() };
    load(&[source(BASE), over], &Options::default()).map(|(bootstrap, _)| bootstrap)
}

#[test]
fn json_is_the_same_as_yaml() {
    let json = r#"{"static_resources": {
	"listeners": [{"name": "l",
		"address": {"socketAddress": {"address": "127.0.0.1", "portValue":	10000}},
		"filterChains": [{"filters": [{"name": "hcm", "typedConfig": {
			"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"statPrefix": "s",
			"routeConfig": {"name": "r", "virtualHosts": [{"name": "v", "domains": ["*"],
				"routes": [{"match": {"prefix": "\/"}, "route": {"cluster": "\u0063"}}]}]},
			"httpFilters": [{"name": "router", "typedConfig": {
				"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
	"clusters": [{"name": "c", "type": "STATIC", "connectTimeout": "1s",
		"loadAssignment": {"clusterName": "c", "endpoints": [{"lbEndpoints": [
			{"endpoint": {"address": {"socketAddress":
				{"address": "127.0.0.1", "portValue": "80"}}}}]}]}}]}}"#;
    // The names of filters are others, which only a dump shows.
    let meaning = |bootstrap| Bootstrap { received: Default::default(), ..bootstrap };
    assert_eq!(meaning(loaded(json)), meaning(loaded(BASE)));
    let named = Source { name: "c.json".to_owned(), text: format!("\u{feff}{json}") };
    let of_named = load(&[named], &Options::default()).unwrap().0;
    assert_eq!(meaning(of_named), meaning(loaded(BASE)));
    let bad = Source { name: "c.json".to_owned(), text: "{\"admin\": {},}".to_owned() };
    let error = load(&[bad], &Options::default()).unwrap_err().to_string();
    assert!(error.starts_with("c.json:1:14: error: not valid JSON"), "{error}");
}

#[test]
fn single_values_are_replaced_lists_appended_to_and_messages_merged() {
    let over = "
node: { id: me }
static_resources:
  clusters:
  - name: d
    type: STRICT_DNS
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 9901 } } }
";
    let bootstrap = merged(over).unwrap();
    assert_eq!(bootstrap.node.id, "me");
    assert_eq!(bootstrap.admin.unwrap().address.port(), 9901);
    let names: Vec<&str> = bootstrap.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["c", "d"]);
    assert_eq!(bootstrap.clusters[1].load_balancing.policy, LbPolicy::RoundRobin);
    assert_eq!(bootstrap.listeners.len(), 1);

    let admin = |port: u16| {
        format!(
            "admin:\n  address:\n    socket_address: {{ address: 127.0.0.1, port_value: {port} }}\n"
        )
    };
    let sources = [source(&admin(1)), source(&admin(2))];
    let (bootstrap, _) = load(&sources, &Options::default()).unwrap();
    assert_eq!(bootstrap.admin.unwrap().address.port(), 2);
}

#[test]
fn a_part_that_is_only_whole_after_the_merge_is_accepted() {
    let parts = [
        "admin: { address: { socket_address: { address: 127.0.0.1 } } }",
        "admin: { address: { socket_address: { port_value: 9901 } } }",
    ];
    let sources = parts.map(source);
    let (bootstrap, _) = load(&sources, &Options::default()).unwrap();
    assert_eq!(bootstrap.admin.unwrap().address.to_string(), "127.0.0.1:9901");
}

#[test]
fn a_oneof_of_a_later_source_replaces_that_of_an_earlier_one() {
    let first = "admin: { address: { pipe: { path: /x } } }";
    let second = "admin: { address: { socket_address: { address: ::1, port_value: 1 } } }";
    let (bootstrap, _) = load(&[source(first), source(second)], &Options::default()).unwrap();
    assert_eq!(bootstrap.admin.unwrap().address.to_string(), "[::1]:1");
}

#[test]
fn errors_name_the_source_that_they_are_in() {
    let error = merged("static_resources: { clusters: [{ name: c }, { nam: x }] }").unwrap_err();
    let texts: Vec<String> = error.0.iter().map(ToString::to_string).collect();
    let expected = [
        "--config-yaml:1:40: error: static_resources.clusters[1].name: duplicate cluster `c` (rename one of them, or leave it out)",
        "--config-yaml:1:47: error: static_resources.clusters[2].nam: unknown field `nam` in \
         envoy.config.cluster.v3.Cluster (did you mean `name`?)",
    ];
    assert_eq!(texts, expected);
}

#[test]
fn an_empty_source_changes_nothing() {
    assert_eq!(merged("").unwrap(), loaded(BASE));
    assert!(load(&[], &Options::default()).is_err());
}
