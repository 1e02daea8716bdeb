//! The command line as `/server_info` shows it (`admin.v3.CommandLineOptions`).
//!
//! What it leaves to others: the page.

use super::{CommandLine, DrainStrategy, Mode};
use serde_json::{Value, json};
use std::path::PathBuf;

/// All options with their values, defaults included, in Envoy's order; then ours.
#[must_use]
pub fn shown(line: &CommandLine, concurrency: usize) -> Value {
    let CommandLine { server, config, envoy, .. } = line;
    let path = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(String::new, |path| path.display().to_string())
    };
    let seconds = |seconds: u64| format!("{seconds}s");
    let components = &server.component_log_level.0;
    let components: Vec<_> = components
        .iter()
        .map(|(name, level)| format!("{}:{}", name.name(), level.name()))
        .collect();
    json!({
        "base_id": envoy.base_id.to_string(),
        "concurrency": concurrency,
        "config_path": path(&config.config_path),
        "config_yaml": config.config_yaml.as_deref().unwrap_or_default(),
        "allow_unknown_static_fields": config.allow_unknown_static_fields,
        "admin_address_path": path(&server.admin_address_path),
        "local_address_ip_version": envoy.local_address_ip_version,
        "log_level": server.log_level.name(),
        "component_log_level": components.join(","),
        "log_format": server.log_format,
        "log_path": path(&server.log_path),
        "service_cluster": envoy.service_cluster,
        "service_node": envoy.service_node,
        "service_zone": envoy.service_zone,
        "file_flush_interval": format!("{}s", envoy.file_flush_interval_msec as f64 / 1000.0),
        "drain_time": seconds(server.drain_time_s),
        "parent_shutdown_time": seconds(envoy.parent_shutdown_time_s),
        "mode": match config.mode {
            Mode::Serve => "Serve",
            Mode::Validate => "Validate",
            Mode::InitOnly => "InitOnly",
        },
        "disable_hot_restart": true,
        "restart_epoch": envoy.restart_epoch,
        "cpuset_threads": true,
        "reject_unknown_dynamic_fields": envoy.reject_unknown_dynamic_fields,
        "ignore_unknown_dynamic_fields": envoy.ignore_unknown_dynamic_fields,
        "use_dynamic_base_id": envoy.use_dynamic_base_id,
        "base_id_path": path(&envoy.base_id_path),
        "drain_strategy": match envoy.drain_strategy {
            DrainStrategy::Gradual => "Gradual",
            DrainStrategy::Immediate => "Immediate",
        },
        "skip_deprecated_logs": envoy.skip_deprecated_logs,
        "stats_tag": envoy.stats_tag,
        "io_backend": server.io_backend.to_string(),
        "gather_us": server.gather_us,
        "allow_unsupported": config.allow_unsupported,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Node;
    use clap::Parser;

    #[test]
    fn the_configuration_goes_before_the_command_line() {
        let flags =
            ["tidegate", "--service-node", "n", "--service-cluster", "c", "--service-zone", "z"];
        let line = CommandLine::parse_from(flags);
        let mut node =
            Node { id: "mine".to_owned(), json: json!({ "id": "mine" }), ..Node::default() };
        line.envoy.node_defaults().fill(&mut node);
        assert_eq!((node.id.as_str(), node.cluster.as_str()), ("mine", "c"));
        let expected = json!({ "id": "mine", "cluster": "c", "locality": { "zone": "z" } });
        assert_eq!(node.json, expected);
    }

    #[test]
    fn options_have_envoys_names() {
        let line =
            CommandLine::parse_from(["tidegate", "-c", "envoy.yaml", "--drain-time-s", "10"]);
        let options = shown(&line, 2);
        assert_eq!(options["config_path"], "envoy.yaml");
        assert_eq!(options["concurrency"], 2);
        assert_eq!(options["drain_time"], "10s");
        assert_eq!(options["file_flush_interval"], "10s");
        assert_eq!(options["mode"], "Serve");
    }
}
