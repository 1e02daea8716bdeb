//! `tidegate reverse-proxy`: a bootstrap made from two flags.
//!
//! It goes the way of every other configuration, as text, so there is no second way to configure
//! anything.
//!
//! What it leaves to others: reading the text (`config`).

use clap::Args;
use serde_json::{Value, json};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// Flags of `tidegate reverse-proxy`.
#[derive(Args, Debug, Clone)]
pub struct ReverseProxyArgs {
    /// Where to listen: ADDRESS:PORT or :PORT (all IPv4 addresses)
    #[arg(long, value_name = "[ADDRESS]:PORT", default_value = ":8080")]
    pub from: Endpoint,
    /// Where to send requests: HOST:PORT or :PORT (this machine); several take turns
    #[arg(long, value_name = "[HOST]:PORT", required = true, num_args = 1..)]
    pub to: Vec<Endpoint>,
    /// Where the admin server listens; there is none without this
    #[arg(long, value_name = "[ADDRESS]:PORT")]
    pub admin: Option<Endpoint>,
    /// Write an access log to stdout
    #[arg(long)]
    pub access_log: bool,
    /// Print the bootstrap that this makes, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// An address or a name, and a port, as users write them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Name or address without brackets; empty in `:8080`.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        if bare.starts_with("https://") {
            return Err("TLS to the upstream needs a configuration file".to_owned());
        }
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None if bare != text => (bare, "80"),
            None => return Err("a port is missing: write HOST:PORT or :PORT".to_owned()),
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inside) if inside.parse::<std::net::Ipv6Addr>().is_ok() => inside,
            Some(_) => return Err(format!("`{host}` is not an IPv6 address")),
            None if host.contains(':') => {
                return Err("write an IPv6 address in brackets: [::1]:8080".to_owned());
            }
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !host.chars().all(plain) {
            return Err(format!("`{host}` is not a host name"));
        }
        let port = port.parse().map_err(|_| format!("`{port}` is not a port (0 to 65535)"))?;
        Ok(Endpoint { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    fn json(&self, default_host: &str) -> Value {
        let host = if self.host.is_empty() { default_host } else { &self.host };
        json!({ "socket_address": { "address": host, "port_value": self.port } })
    }

    fn is_address(&self) -> bool {
        self.host.is_empty() || self.host.parse::<IpAddr>().is_ok()
    }
}

/// The bootstrap, as JSON text (which is YAML too).
///
/// It is the configuration of an edge proxy: the client's address is added to `x-forwarded-for`,
/// WebSocket upgrades pass, and no timeout ends a slow answer, as users of other one-line proxies
/// expect.
#[must_use]
pub fn bootstrap(args: &ReverseProxyArgs) -> String {
    let any_address = Ipv4Addr::UNSPECIFIED.to_string();
    let mut bootstrap = json!({
        "static_resources": {
            "listeners": [{
                "name": "reverse_proxy",
                "address": args.from.json(&any_address),
                "filter_chains": [{ "filters": [connection_manager(args)] }],
            }],
            "clusters": [cluster(args)],
        },
    });
    if let Some(admin) = &args.admin {
        bootstrap["admin"] = json!({ "address": admin.json("127.0.0.1") });
    }
    format!("{bootstrap:#}\n")
}

fn connection_manager(args: &ReverseProxyArgs) -> Value {
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "reverse_proxy",
        "use_remote_address": true,
        "upgrade_configs": [{ "upgrade_type": "websocket" }],
        "route_config": {
            "name": "reverse_proxy",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": { "prefix": "/" },
                    "route": { "cluster": "upstream", "timeout": "0s" },
                }],
            }],
        },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    });
    if args.access_log {
        manager["access_log"] = json!([{
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            },
        }]);
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
}

fn cluster(args: &ReverseProxyArgs) -> Value {
    let addresses = args.to.iter().all(Endpoint::is_address);
    let endpoints: Vec<_> = args
        .to
        .iter()
        .map(|to| json!({ "endpoint": { "address": to.json("127.0.0.1") } }))
        .collect();
    json!({
        "name": "upstream",
        "type": if addresses { "STATIC" } else { "STRICT_DNS" },
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{ "lb_endpoints": endpoints }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16) {
        assert_eq!(text.parse(), Ok(Endpoint { host: host.to_owned(), port }));
    }

    #[test]
    fn endpoints_as_users_write_them() {
        check(":8080", "", 8080);
        check("10.0.0.1:80", "10.0.0.1", 80);
        check("app.example:9000", "app.example", 9000);
        check("[::1]:80", "::1", 80);
        check("http://app.example", "app.example", 80);
        check("http://app.example:81/", "app.example", 81);
    }

    #[test]
    fn endpoints_that_are_refused_say_why() {
        for (text, why) in [
            ("app", "port is missing"),
            ("app:", "not a port"),
            ("app:65536", "not a port"),
            ("::1:80", "brackets"),
            ("[app]:80", "not an IPv6 address"),
            ("https://app:443", "TLS"),
            ("a b:80", "not a host name"),
            ("http://app/path", "not a host name"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    fn args(to: &[&str]) -> ReverseProxyArgs {
        ReverseProxyArgs {
            from: ":8080".parse().unwrap(),
            to: to.iter().map(|to| to.parse().unwrap()).collect(),
            admin: None,
            access_log: false,
            print_config: false,
        }
    }

    fn read(to: &[&str]) -> Value {
        serde_json::from_str(&bootstrap(&args(to))).unwrap()
    }

    #[test]
    fn names_are_resolved_and_addresses_are_not() {
        let fixed = read(&["10.0.0.1:80", ":9000"]);
        assert_eq!(fixed["static_resources"]["clusters"][0]["type"], "STATIC");
        assert_eq!(fixed["admin"], Value::Null);
        let named = read(&["10.0.0.1:80", "app:80"]);
        assert_eq!(named["static_resources"]["clusters"][0]["type"], "STRICT_DNS");
    }
}
