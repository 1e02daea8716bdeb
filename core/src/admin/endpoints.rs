//! Which path does what, and who may do it: one table, from which help is made too.
//!
//! What it leaves to others: the pages themselves.

use super::query::Query;
use super::{Admin, Reply, clusters, info, logging, prometheus, stats_page};
use crate::cli::version;
use crate::control::Command;
use hyper::Method;

type Handler = fn(&Admin, &Query) -> Reply;

struct Endpoint {
    path: &'static str,
    /// It changes something, so it wants POST.
    post: bool,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    handler: Handler,
}

const FILTER: (&str, &str) = ("filter", "Regular expression (Google re2) for filtering stats");
const INVERT: (&str, &str) = ("invert_filter", "Invert the filter regex");
const USED_ONLY: (&str, &str) =
    ("usedonly", "Only include stats that have been written by system since restart");

/// In the order of `/help`.
const ENDPOINTS: &[Endpoint] = &[
    get("/", "Admin home page", &[], |_, _| Reply::html(home())),
    get(
        "/clusters",
        "upstream cluster status",
        &[
            ("filter", "Regular expression (Google re2) for filtering clusters by name"),
            ("format", "File format to use; One of (text, json)"),
        ],
        clusters::page,
    ),
    post(
        "/drain_listeners",
        "drain listeners",
        &[("graceful", "Stop listeners after the drain time instead of at once")],
        drain_listeners,
    ),
    post("/healthcheck/fail", "cause the server to fail health checks", &[], |admin, _| {
        admin.state.set_health_failed(true);
        Reply::ok()
    }),
    post("/healthcheck/ok", "cause the server to pass health checks", &[], |admin, _| {
        admin.state.set_health_failed(false);
        Reply::ok()
    }),
    get("/help", "print out list of admin commands", &[], |_, _| {
        Reply::text(format!("admin commands are:\n{}", help()))
    }),
    get("/hot_restart_version", "print the hot restart compatibility version", &[], |_, _| {
        Reply::text(version::HOT_RESTART)
    }),
    get(
        "/listeners",
        "print listener info",
        &[("format", "File format to use; One of (text, json)")],
        info::listeners,
    ),
    post(
        "/logging",
        "query/change logging levels",
        &[
            ("paths", "Change several levels: <logger_name1>:<level1>,<logger_name2>:<level2>"),
            (
                "level",
                "Change all levels; One of (trace, debug, info, warning, error, critical, off)",
            ),
        ],
        logging::page,
    ),
    post("/quitquitquit", "exit the server", &[], |admin, _| command(admin, Command::Quit)),
    get("/ready", "print server state, return 200 if LIVE, otherwise return 503", &[], info::ready),
    post("/reopen_logs", "reopen access logs", &[], |admin, _| command(admin, Command::ReopenLogs)),
    post("/reset_counters", "reset all counters to zero", &[], stats_page::reset_counters),
    get("/server_info", "print server version/status information", &[], info::server_info),
    get(
        "/stats",
        "print server stats",
        &[
            USED_ONLY,
            FILTER,
            INVERT,
            ("format", "Format to use; One of (text, json, prometheus)"),
            (
                "type",
                "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)",
            ),
            (
                "histogram_buckets",
                "Histogram bucket display mode; One of (cumulative, disjoint, summary)",
            ),
        ],
        stats_page::page,
    ),
    get(
        "/stats/prometheus",
        "print server stats in prometheus format",
        &[
            USED_ONLY,
            FILTER,
            INVERT,
            ("histogram_buckets", "Histogram bucket display mode; One of (cumulative, summary)"),
        ],
        prometheus::page,
    ),
];

const fn get(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    handler: Handler,
) -> Endpoint {
    Endpoint { path, post: false, help, parameters, handler }
}

const fn post(
    path: &'static str,
    help: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    handler: Handler,
) -> Endpoint {
    Endpoint { path, post: true, help, parameters, handler }
}

/// Answers a request. What reads may be asked for by any method, as in Envoy.
pub(super) fn answer(admin: &Admin, method: &Method, path: &str, query: Option<&str>) -> Reply {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path) else {
        let text = format!("invalid path. admin commands are:\n{}", help());
        return Reply::text(text).status(404);
    };
    if endpoint.post && method != Method::POST {
        return Reply::text(format!("Method {method} not allowed, POST required.")).status(405);
    }
    (endpoint.handler)(admin, &Query::parse(query.unwrap_or_default()))
}

fn help() -> String {
    let mut text = String::new();
    for endpoint in ENDPOINTS {
        let method = if endpoint.post { " (POST)" } else { "" };
        text.push_str(&format!("  {}{method}: {}\n", endpoint.path, endpoint.help));
        for (name, help) in endpoint.parameters {
            text.push_str(&format!("      {name}: {help}\n"));
        }
    }
    text
}

fn home() -> String {
    let mut rows = String::new();
    for Endpoint { path, post, help, .. } in ENDPOINTS.iter().skip(1) {
        let name = &path[1..];
        let action = if *post {
            format!("<form action=\"{name}\" method=\"post\"><button>{name}</button></form>")
        } else {
            format!("<a href=\"{name}\">{name}</a>")
        };
        rows.push_str(&format!("<tr><td>{action}</td><td>{help}</td></tr>\n"));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"UTF-8\">\
         <title>Tidegate admin</title></head>\n\
         <body><h1>Tidegate admin</h1>\n<table>\n{rows}</table>\n</body></html>\n"
    )
}

fn drain_listeners(admin: &Admin, query: &Query) -> Reply {
    if query.has("inboundonly") || query.has("skip_exit") {
        let text =
            "inboundonly and skip_exit are not implemented: listeners have no direction here\n";
        return Reply::text(text).status(400);
    }
    command(admin, Command::DrainListeners { graceful: query.has("graceful") })
}

fn command(admin: &Admin, command: Command) -> Reply {
    match admin.commands.try_send(command) {
        Ok(()) => Reply::ok(),
        Err(_) => Reply::text("too many commands are waiting\n").status(503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_path_once_and_in_order() {
        let paths: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(paths, sorted);
        assert!(help().contains("  /quitquitquit (POST): exit the server\n"));
        assert!(help().contains("      usedonly: Only include"));
    }

    #[test]
    fn the_home_page_links_what_reads_and_posts_what_changes() {
        assert!(home().contains("<a href=\"stats/prometheus\">"));
        assert!(home().contains("<form action=\"quitquitquit\" method=\"post\">"));
    }
}
