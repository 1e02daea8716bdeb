//! `tidegate explain route`: which route a request takes, where that is written, and why no earlier
//! one.
//!
//! What it leaves to others: finding out (`snapshot::RouteTable::explain`), the words about single
//! conditions (`reasons`).

use super::explain_support::ExplainSupportArgs;
use super::{Failure, reasons};
use crate::config::{
    HttpConnectionManager, Listener, NetworkFilter, Options, Position, RoutePlaces, RouteTarget,
};
use crate::control::ConfigSource;
use crate::snapshot::{Explanation, RouteQuery, RouteTable};
use clap::{Args, Subcommand};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tidegate_http::{Method, RequestHead};

/// Longer lists of routes are told by those whose path matches, and by a number.
const ROUTES_SHOWN_MAX: usize = 20;

/// What to explain.
#[derive(Subcommand, Debug, Clone)]
pub enum Explain {
    /// Which route a request takes, and why no earlier one
    Route(ExplainRouteArgs),
    /// Which fields of Envoy's configuration are supported
    Support(ExplainSupportArgs),
}

/// Flags of `tidegate explain route`.
#[derive(Args, Debug, Clone)]
pub struct ExplainRouteArgs {
    /// The bootstrap: a YAML or JSON file in Envoy's v3 form
    #[arg(short, long, value_name = "FILE")]
    pub config_path: PathBuf,
    /// The request's method
    #[arg(short, long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// The request's URL: http://HOST[:PORT]/PATH?QUERY; HOST:PORT for CONNECT
    #[arg(short, long, value_name = "URL")]
    pub url: String,
    /// A header field of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The name of the listener, when there are several
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// The name of the filter chain, or its number from 0, when there are several
    #[arg(long, value_name = "NAME")]
    pub filter_chain: Option<String>,
    /// Warn about fields that Envoy has and Tidegate lacks, instead of refusing the configuration
    #[arg(long)]
    pub allow_unsupported: bool,
    /// The random number that decides about shares of requests
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub random: u64,
}

/// Explains the route of a request, in several lines.
///
/// # Errors
///
/// A configuration that is not valid, or a command line that does not make sense.
pub fn route(args: &ExplainRouteArgs) -> Result<String, Failure> {
    let path = Some(args.config_path.clone());
    let options = Options { allow_unsupported: args.allow_unsupported };
    let source = ConfigSource { path, options, ..ConfigSource::default() };
    let (bootstrap, _) = source.load().map_err(Failure::Configuration)?;
    let places = RoutePlaces::read(&source.read().map_err(Failure::Configuration)?);
    let (head, https) = request(args)?;
    let index = listener(&bootstrap.listeners, args)?;
    let listener = &bootstrap.listeners[index];
    let (chain, filter) = filter_chain(listener, args)?;
    let NetworkFilter::HttpConnectionManager(manager) = filter else {
        let text = "that filter chain has a TcpProxy, which takes whole connections: no route";
        return Err(Failure::Usage(text.to_owned()));
    };
    let table = RouteTable::compile(manager.route_config.clone(), |_| None);
    let query = RouteQuery { https, ..RouteQuery::new(&head, args.random) };
    let explanation = table.explain(&query);
    let found = table.find(&query).map(|route| route.id.route);
    debug_assert!(explanation.requires_tls || found == explanation.route, "the table disagrees");
    let places = Places { places, chain: [index, chain] };
    let text = Text { manager, places, head: &head, args };
    Ok(text.of(&listener.name, &explanation))
}

/// The request that the arguments describe, and whether it comes by TLS.
fn request(args: &ExplainRouteArgs) -> Result<(RequestHead, bool), Failure> {
    let mut head = RequestHead { method: Method::of(args.method.as_bytes()), ..Default::default() };
    head.method_name = head.headers.store(args.method.as_bytes());
    let (https, rest) = match (args.url.strip_prefix("https://"), args.url.strip_prefix("http://"))
    {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => (false, args.url.as_str()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    head.set_authority(authority.as_bytes());
    if head.method != Method::Connect {
        let slash = if path.starts_with('/') { "" } else { "/" };
        head.set_path(format!("{slash}{path}").as_bytes());
    }
    for field in &args.headers {
        let Some((name, value)) = field.split_once(':') else {
            let text = format!("`{field}` is no header field: write -H 'name: value'");
            return Err(Failure::Usage(text));
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "host" => head.set_authority(value.as_bytes()),
            name => head.headers.append(name.as_bytes(), value.as_bytes()),
        }
    }
    let proto = head.headers.get(tidegate_http::Name::XForwardedProto);
    let https = https || proto == Some(b"https");
    Ok((head, https))
}

/// The place of the listener that is meant.
fn listener(listeners: &[Arc<Listener>], args: &ExplainRouteArgs) -> Result<usize, Failure> {
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let found = match (&args.listener, names.len()) {
        (Some(name), _) => names.iter().position(|other| other == name),
        (None, 1) => Some(0),
        (None, _) => None,
    };
    found.ok_or_else(|| {
        Failure::Usage(match names.len() {
            0 => "the configuration has no listener".to_owned(),
            _ => format!("name one of the listeners with --listener: {}", names.join(", ")),
        })
    })
}

/// The filter chain that is meant, and its place.
fn filter_chain<'l>(
    listener: &'l Listener,
    args: &ExplainRouteArgs,
) -> Result<(usize, &'l NetworkFilter), Failure> {
    let mut chains = listener.chains().map(|chain| &chain.filter).enumerate();
    let place = match &args.filter_chain {
        None if listener.chains().count() == 1 => Some(0),
        None => None,
        Some(name) => {
            let named = listener.chains().position(|chain| chain.name == *name);
            named.or_else(|| name.parse().ok())
        }
    };
    place.and_then(|place| chains.nth(place)).ok_or_else(|| {
        let names = listener.chains().enumerate().map(|(place, chain)| match &*chain.name {
            "" => place.to_string(),
            name => name.to_owned(),
        });
        let names = names.collect::<Vec<_>>().join(", ");
        Failure::Usage(format!("name one of the filter chains with --filter-chain: {names}"))
    })
}

/// Where things are written.
struct Places {
    places: Option<RoutePlaces>,
    /// The places of the listener and of its filter chain.
    chain: [usize; 2],
}

impl Places {
    fn virtual_host(&self, host: usize) -> String {
        shown(self.places.as_ref().and_then(|places| places.virtual_host(self.chain, host)))
    }

    fn route(&self, host: usize, route: usize) -> String {
        shown(self.places.as_ref().and_then(|places| places.route(self.chain, host, route)))
    }
}

fn shown(position: Option<Position>) -> String {
    position.map_or(String::new(), |at| format!(" ({}:{}:{})", at.file, at.line, at.column))
}

/// What the words are about.
struct Text<'t> {
    manager: &'t HttpConnectionManager,
    places: Places,
    head: &'t RequestHead,
    args: &'t ExplainRouteArgs,
}

impl Text<'_> {
    fn of(&self, listener: &str, explanation: &Explanation) -> String {
        let mut out = String::new();
        let authority = String::from_utf8_lossy(self.head.authority());
        let path = String::from_utf8_lossy(self.head.path());
        let _ =
            writeln!(out, "{} {authority}{path} at the listener `{listener}`", self.args.method);
        let Some(place) = explanation.virtual_host else {
            let _ = writeln!(out, "no virtual host has a domain for `{authority}`: 404 NR");
            return out;
        };
        let place = place as usize;
        let host = &self.manager.route_config.virtual_hosts[place];
        let at = self.places.virtual_host(place);
        let domains = host.domains.join(", ");
        let _ = writeln!(out, "virtual host `{}`{at}: domains {domains}", host.name);
        if explanation.requires_tls {
            let _ = writeln!(out, "  require_tls: a redirect to https, before any route");
            return out;
        }
        if explanation.by_matcher {
            let _ = writeln!(out, "  the virtual host's `matcher` chooses which routes are tried");
        }
        self.write_rejected(&mut out, place, explanation);
        match explanation.route {
            Some(number) => {
                let number = number as usize;
                let route = &host.routes[number];
                let at = self.places.route(place, number);
                let name = reasons::name_of(number, &route.name);
                let _ = writeln!(out, "  {name}{at} matches: {}", target(&route.target));
            }
            None => {
                let _ = writeln!(out, "  no route matches: 404 NR");
            }
        }
        out
    }

    fn write_rejected(&self, out: &mut String, place: usize, explanation: &Explanation) {
        let host = &self.manager.route_config.virtual_hosts[place];
        let all = explanation.rejected.len() <= ROUTES_SHOWN_MAX;
        let mut left_out = 0;
        let first = explanation.first as usize;
        for (number, mismatch) in (first..).zip(&explanation.rejected) {
            if !all && !reasons::is_condition(*mismatch) {
                left_out += 1;
                continue;
            }
            let route = &host.routes[number];
            let at = self.places.route(place, number);
            let name = reasons::name_of(number, &route.name);
            let reason = reasons::reason(*mismatch, &route.matches, self.head);
            let _ = writeln!(out, "  {name}{at} does not match: {reason}");
        }
        if left_out > 0 {
            let _ = writeln!(out, "  {left_out} earlier routes are for other paths");
        }
    }
}

fn target(target: &RouteTarget) -> String {
    match target {
        RouteTarget::Forward(action) => {
            let name = |cluster: &crate::config::WeightedCluster| match &cluster.cluster_header {
                Some(header) => format!("the cluster named by `{header}`"),
                None => format!("cluster `{}`", cluster.name),
            };
            let clusters: Vec<String> = match &*action.clusters {
                [only] => vec![name(only)],
                all => all.iter().map(|one| format!("{} ({})", name(one), one.weight)).collect(),
            };
            format!("forwards to {}", clusters.join(", "))
        }
        RouteTarget::Redirect(redirect) => format!("redirects with {}", redirect.status),
        RouteTarget::DirectResponse(response) => format!("answers {}", response.status),
    }
}
