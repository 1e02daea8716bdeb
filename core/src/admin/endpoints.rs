//! Which path does what, and who may do it: one table, from which help is made too.
//!
//! What it leaves to others: the pages themselves.

use super::query::Query;
use super::{
    Admin, Reply, certs, clusters, config_dump, home, info, logging, memory, prometheus,
    runtime_page, stats_page, xds_status,
};
use crate::cli::version;
use crate::control::{Command, DrainListeners};
use hyper::Method;

type Handler = fn(&Admin, &Query) -> Reply;

pub(super) struct Endpoint {
    pub path: &'static str,
    /// It changes something, so it wants POST.
    pub post: bool,
    pub help: &'static str,
    pub parameters: &'static [(&'static str, &'static str)],
    handler: Handler,
}

const FILTER: (&str, &str) = ("filter", "Regular expression (Google re2) for filtering stats");
const INVERT: (&str, &str) = ("invert_filter", "Invert the filter regex");
const USED_ONLY: (&str, &str) =
    ("usedonly", "Only include stats that have been written by system since restart");

/// In the order of `/help`.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/", "Admin home page", &[], home::page),
    get("/certs", "print certs on machine", &[], certs::page),
    get(
        "/clusters",
        "upstream cluster status",
        &[
            ("filter", "Regular expression (Google re2) for filtering clusters by name"),
            ("format", "File format to use; One of (text, json)"),
        ],
        clusters::page,
    ),
    get(
        "/config_dump",
        "dump current configuration, as it was given",
        &[
            ("resource", "The list of resources to dump, static_clusters for one"),
            ("mask", "Fields to keep, with dots and commas; with a resource, of each of its items"),
            ("name_regex", "Only resources whose whole name matches"),
            ("include_eds", "With the hosts of all clusters"),
        ],
        config_dump::page,
    ),
    get("/contention", "dump current mutex contention stats (never enabled)", &[], |_, _| {
        Reply::text(CONTENTION)
    }),
    post(
        "/drain_listeners",
        "drain listeners",
        &[
            ("graceful", "Close connections after their next response, listeners after drain time"),
            ("skip_exit", "Close connections after their next response, and no listener"),
            ("inboundonly", "Only listeners whose traffic_direction is INBOUND"),
        ],
        drain_listeners,
    ),
    post("/healthcheck/fail", "cause the server to fail health checks", &[], |admin, _| {
        fail_health_checks(admin, true)
    }),
    post("/healthcheck/ok", "cause the server to pass health checks", &[], |admin, _| {
        fail_health_checks(admin, false)
    }),
    get("/help", "print out list of admin commands", &[], |_, _| {
        Reply::text(format!("admin commands are:\n{}", help()))
    }),
    get("/hot_restart_version", "print the hot restart compatibility version", &[], |_, _| {
        Reply::text(version::HOT_RESTART)
    }),
    get(
        "/init_dump",
        "print what an update of the configuration waits for",
        &[],
        config_dump::init_dump,
    ),
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
            ("group", "Change the level of one: <logger_name>:<level>"),
        ],
        logging::page,
    ),
    get("/memory", "print current memory usage", &[], memory::page),
    post("/quitquitquit", "exit the server", &[], |admin, _| command(admin, Command::Quit)),
    get("/ready", "print server state, return 200 if LIVE, otherwise return 503", &[], info::ready),
    post("/reopen_logs", "reopen access logs", &[], |admin, _| command(admin, Command::ReopenLogs)),
    post("/reset_counters", "reset all counters to zero", &[], stats_page::reset_counters),
    get("/runtime", "print runtime values", &[], runtime_page::page),
    post(
        "/runtime_modify",
        "set runtime values: ?key1=value1&key2=value2; an empty value takes an earlier one back",
        &[],
        runtime_page::modify,
    ),
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
                "Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)",
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
            ("text_readouts", "Render texts as gauges with value 0 and the text as a label"),
        ],
        prometheus::page,
    ),
    get("/stats/recentlookups", "show recent stat-name lookups (there are none)", &[], |a, q| {
        stats_page::recent_lookups(a, q)
    }),
    get(
        "/xds_status",
        "print whether dynamic resources are what servers have sent last (tidegate status)",
        &[],
        xds_status::page,
    ),
];

/// Envoy's words, with the flag that it names.
const CONTENTION: &str = "Mutex contention tracing is not enabled. To enable, run Envoy with flag \
     --enable-mutex-tracing.";

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

fn drain_listeners(admin: &Admin, query: &Query) -> Reply {
    let asked = DrainListeners {
        graceful: query.has("graceful"),
        skip_exit: query.has("skip_exit"),
        inbound_only: query.has("inboundonly"),
    };
    command(admin, Command::DrainListeners(asked))
}

fn fail_health_checks(admin: &Admin, failing: bool) -> Reply {
    admin.state.set_health_failed(failing);
    command(admin, Command::FailHealthChecks(failing))
}

/// Sends a command to control.
pub(super) fn command(admin: &Admin, command: Command) -> Reply {
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
}
