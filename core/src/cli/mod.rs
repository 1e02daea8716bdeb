//! The command line: Envoy's flags with Envoy's meaning, and what Tidegate adds.
//!
//! What it leaves to others: reading configuration (`config`), doing what was asked for (main).

pub mod doctor;
pub mod explain;
pub mod explain_support;
pub mod failure;
pub mod limits;
pub mod options;
pub mod reverse_proxy;
pub mod status;
pub mod version;

mod reasons;

pub use failure::Failure;

use crate::config::{NodeDefaults, Options, Source, StatsTag, TagSource};
use crate::control::ConfigSource;
use crate::log::{self, Component, DEFAULT_FORMAT, Format, Level, Settings};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_io::IoOptions;
use tidegate_io::backend::Backend;

const ABOUT: &str = "An Envoy-compatible, thread-per-core data plane for Linux.";

const LONG_ABOUT: &str = "\
An Envoy-compatible, thread-per-core data plane for Linux.

Tidegate reads Envoy's own configuration (v3 bootstrap, YAML or JSON) and takes Envoy's own \
flags, so a unit file or a script works after the name of the program was changed:

    tidegate -c envoy.yaml
    tidegate -c envoy.yaml --mode validate

Without any file, it is a reverse proxy in one line:

    tidegate reverse-proxy --from :8080 --to 10.0.0.1:80 --to 10.0.0.2:80";

const AFTER_HELP: &str = "\
Signals:
  SIGHUP            read the configuration file again; an invalid one is reported and changes
                    nothing
  SIGTERM, SIGINT   drain: stop accepting, finish what runs, exit; a second one exits at once
  SIGUSR1           open access logs and the log file again, after they were rotated

Exit codes:
  0  done, or drained
  1  failed while running
  2  the configuration or the command line is invalid
  3  the machine does not allow it: a port in use or privileged, no descriptors, no I/O backend;
     and from `doctor`: something that matters is lacking";

/// The whole command line.
#[derive(Parser, Debug)]
#[command(
    name = "tidegate",
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    disable_version_flag = true,
    max_term_width = 100,
)]
pub struct CommandLine {
    /// What to do instead of serving a configuration file.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of a server, whatever its configuration comes from.
    #[command(flatten)]
    pub server: ServerArgs,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Accepted for Envoy's sake.
    #[command(flatten)]
    pub envoy: EnvoyArgs,
    /// Print the version and exit
    #[arg(long)]
    pub version: bool,
    /// Print the hot restart compatibility version and exit; hot restart is always "disabled"
    #[arg(long)]
    pub hot_restart_version: bool,
}

impl CommandLine {
    /// Where the configuration comes from.
    ///
    /// # Errors
    ///
    /// When the command line names none.
    pub fn source(&self) -> Result<ConfigSource, Failure> {
        let ConfigArgs { allow_unsupported, allow_unknown_static_fields, .. } = self.config;
        // What we lack is unknown to us: control planes that pass Envoy's flag do not know ours.
        let options =
            Options { allow_unsupported: allow_unsupported || allow_unknown_static_fields };
        let node = self.envoy.node_defaults();
        let ack_after_warming = self.server.ack_after_warming;
        if let Some(Command::ReverseProxy(args)) = &self.command {
            if self.config.config_path.is_some() || self.config.config_yaml.is_some() {
                let text =
                    "`reverse-proxy` makes its own configuration: leave out -c and --config-yaml";
                return Err(Failure::Usage(text.to_owned()));
            }
            let text = reverse_proxy::bootstrap(args);
            let text = Some(Source { name: "reverse-proxy".to_owned(), text });
            return Ok(ConfigSource { path: None, text, options, node, ack_after_warming });
        }
        let path = self.config.config_path.clone();
        let yaml = self.config.config_yaml.clone().filter(|text| !text.trim().is_empty());
        let text = yaml.map(|text| Source { name: "--config-yaml".to_owned(), text });
        if path.is_none() && text.is_none() {
            return Err(Failure::Usage(
                "no configuration is given; write `tidegate -c FILE`, \
                 `tidegate --config-yaml YAML`, or \
                 `tidegate reverse-proxy --from :8080 --to HOST:PORT`"
                    .to_owned(),
            ));
        }
        Ok(ConfigSource { path, text, options, node, ack_after_warming })
    }

    /// Whether to validate and nothing else.
    #[must_use]
    pub fn only_validates(&self) -> bool {
        self.config.mode != Mode::Serve
    }

    /// Writes the base id where Envoy's tools look for it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_base_id(&self) -> Result<(), Failure> {
        let Some(path) = &self.envoy.base_id_path else { return Ok(()) };
        std::fs::write(path, "0").map_err(|error| {
            Failure::Environment(format!("--base-id-path {}: {error}", path.display()))
        })
    }

    /// The failure of opening the log.
    #[must_use]
    pub fn no_log(&self, error: &io::Error) -> Failure {
        let path = self.server.log_path.as_deref().unwrap_or_else(|| "stderr".as_ref());
        Failure::Environment(format!("cannot open the log {}: {error}", path.display()))
    }

    /// Logs which of the given flags have no effect, if any.
    pub fn note_without_effect(&self) {
        let flags = self.envoy.without_effect();
        if !flags.is_empty() {
            let flags = flags.join(", ");
            log::info(Component::Main, format_args!("accepted without effect: {flags}"));
        }
    }
}

/// Subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Proxy HTTP from an address to some hosts, without a configuration file
    ReverseProxy(reverse_proxy::ReverseProxyArgs),
    /// Say what would become of a request, without serving anything
    #[command(subcommand)]
    Explain(explain::Explain),
    /// Say what this machine lacks, and the commands that mend it
    Doctor(doctor::DoctorArgs),
    /// Say what a running Tidegate has of its management servers, and what it refused
    Status(status::StatusArgs),
}

/// Where the configuration comes from.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// The bootstrap: a YAML or JSON file in Envoy's v3 form
    #[arg(short, long, value_name = "FILE")]
    pub config_path: Option<PathBuf>,
    /// A bootstrap in YAML, merged over the file's
    #[arg(long, value_name = "YAML")]
    pub config_yaml: Option<String>,
    /// Warn about fields that Envoy has and Tidegate lacks, instead of refusing the configuration
    #[arg(long)]
    pub allow_unsupported: bool,
    /// Envoy's flag for the same: here too, a field that Envoy does not have is refused
    #[arg(long)]
    pub allow_unknown_static_fields: bool,
    /// What to do with the configuration
    #[arg(long, value_enum, default_value_t = Mode::Serve, ignore_case = true)]
    pub mode: Mode,
}

/// `--mode`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Mode {
    /// Serve traffic
    #[default]
    Serve,
    /// Check the configuration, report every error in it, and exit with 0 or 2
    Validate,
    /// The same as validate
    InitOnly,
}

/// `--drain-strategy`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum DrainStrategy {
    /// Ask clients to leave little by little over the drain time
    #[default]
    Gradual,
    /// Ask clients to leave with their next response
    Immediate,
}

/// Options of a server, whatever its configuration comes from.
#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Shards: threads that serve traffic, one per CPU [default: the CPUs that we may use]
    #[arg(long, global = true, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub concurrency: Option<u32>,
    /// How sockets are driven: io_uring, epoll, or auto (io_uring where the machine allows it, else
    /// epoll)
    #[arg(long, global = true, value_name = "NAME", default_value_t = Backend::Auto)]
    pub io_backend: Backend,
    /// How long a shard with much in flight may wait for more to do at once, in microseconds: up to
    /// 1000; 0 serves everything as it comes
    #[arg(long, global = true, value_name = "US", default_value_t = 50, hide_short_help = true,
        value_parser = clap::value_parser!(u32).range(..=1000))]
    pub gather_us: u32,
    /// How long a drain may take, in seconds
    #[arg(long, global = true, value_name = "S", default_value_t = 600)]
    pub drain_time_s: u64,
    /// Accept clusters of a management server only when they are warm, as Envoy does, instead of
    /// at once
    #[arg(long, global = true, hide_short_help = true)]
    pub ack_after_warming: bool,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short, long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
    /// Levels of single components, as upstream:debug,config:trace
    #[arg(long, global = true, value_name = "LIST", default_value = "",
        value_parser = component_levels)]
    pub component_log_level: ComponentLevels,
    /// Write the log to this file instead of stderr
    #[arg(long, global = true, value_name = "FILE")]
    pub log_path: Option<PathBuf>,
    /// The format of a log line, in spdlog's pattern language
    #[arg(long, global = true, value_name = "PATTERN", default_value = DEFAULT_FORMAT)]
    pub log_format: String,
    /// Write the address of the admin server to this file once it is known
    #[arg(long, global = true, value_name = "FILE")]
    pub admin_address_path: Option<PathBuf>,
    /// Ask this DNS server (IP:PORT) instead of those of /etc/resolv.conf
    #[arg(long, global = true, value_name = "IP:PORT", hide_short_help = true)]
    pub dns_resolver: Option<SocketAddr>,
}

impl ServerArgs {
    /// How long a drain may take.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_time_s)
    }

    /// Sizes and times of the shards' I/O.
    #[must_use]
    pub fn io_options(&self) -> IoOptions {
        let gather = Duration::from_micros(self.gather_us.into());
        IoOptions { gather, ..IoOptions::default() }
    }

    /// How to log.
    #[must_use]
    pub fn log_settings(&self) -> Settings {
        Settings {
            level: self.log_level,
            components: self.component_log_level.0.clone(),
            path: self.log_path.clone(),
            format: Format::new(&self.log_format),
        }
    }
}

/// Levels of single components.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ComponentLevels(pub Vec<(Component, Level)>);

/// Reads `name:level,name:level`. A logger that Envoy has and we lack is passed over: unit files
/// name them.
fn component_levels(text: &str) -> Result<ComponentLevels, String> {
    let mut levels = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, level) = part
            .split_once(':')
            .ok_or_else(|| format!("`{part}` is not of the form name:level"))?;
        let level = level.parse()?;
        if let Some(component) = Component::named(name) {
            levels.push((component, level));
        }
    }
    Ok(ComponentLevels(levels))
}

/// Envoy's flags that name the node, and those that Tidegate accepts without having anything to do
/// for them.
#[derive(Args, Debug)]
#[command(next_help_heading = "Envoy compatibility")]
pub struct EnvoyArgs {
    /// The node's cluster, when the configuration does not say
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service_cluster: String,
    /// The node's id, when the configuration does not say
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service_node: String,
    /// The node's zone, when the configuration does not say
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service_zone: String,
    /// Accepted: clients are always asked to leave with their next response
    #[arg(long, value_enum, default_value_t = DrainStrategy::Gradual)]
    pub drain_strategy: DrainStrategy,
    /// Size the number of shards by the CPU set (always so)
    #[arg(long)]
    pub cpuset_threads: bool,
    /// No effect: access logs are flushed every 100 ms
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub file_flush_interval_msec: u64,
    /// No effect
    #[arg(long, value_name = "KIB", default_value_t = 64)]
    pub file_flush_min_size_kb: u64,
    /// No effect: v4 or v6
    #[arg(long, value_name = "V", default_value = "v4", value_parser = ["v4", "v6"])]
    pub local_address_ip_version: String,
    /// Refuse unknown fields of dynamic configuration
    #[arg(long)]
    pub reject_unknown_dynamic_fields: bool,
    /// Say nothing about unknown fields of dynamic configuration
    #[arg(long)]
    pub ignore_unknown_dynamic_fields: bool,
    /// Say nothing about deprecated fields
    #[arg(long)]
    pub skip_deprecated_logs: bool,
    /// Hot restart is not implemented, so it is always disabled
    #[arg(long)]
    pub disable_hot_restart: bool,
    /// Of hot restart: no effect
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub base_id: u64,
    /// Of hot restart: no effect
    #[arg(long)]
    pub use_dynamic_base_id: bool,
    /// Of hot restart: the base id (always 0) is written to this file
    #[arg(long, value_name = "FILE")]
    pub base_id_path: Option<PathBuf>,
    /// Of hot restart: must be 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub restart_epoch: u64,
    /// Of hot restart: no effect
    #[arg(long, value_name = "S", default_value_t = 900)]
    pub parent_shutdown_time_s: u64,
    /// Of hot restart: no effect
    #[arg(long, value_name = "NAME", default_value = "@envoy_domain_socket")]
    pub socket_path: String,
    /// Of hot restart: no effect
    #[arg(long, value_name = "MODE", default_value = "600")]
    pub socket_mode: String,
    /// Of hot restart: no effect
    #[arg(long)]
    pub skip_hot_restart_on_no_parent: bool,
    /// Of hot restart: no effect
    #[arg(long)]
    pub skip_hot_restart_parent_stats: bool,
    /// No effect: core dumps are the system's business
    #[arg(long)]
    pub enable_core_dump: bool,
    /// No effect
    #[arg(long)]
    pub enable_fine_grain_logging: bool,
    /// No effect
    #[arg(long)]
    pub enable_mutex_tracing: bool,
    /// No effect
    #[arg(long)]
    pub log_format_escaped: bool,
    /// No effect
    #[arg(long)]
    pub log_stacktrace_single_entry: bool,
    /// No effect: extensions that are not configured are not there
    #[arg(long, value_name = "LIST", default_value = "")]
    pub disable_extensions: String,
    /// Tags for stats, as tag:value
    #[arg(long, value_name = "TAG:VALUE")]
    pub stats_tag: Vec<String>,
}

impl EnvoyArgs {
    /// What the command line says of the node.
    #[must_use]
    pub fn node_defaults(&self) -> NodeDefaults {
        NodeDefaults {
            id: self.service_node.clone(),
            cluster: self.service_cluster.clone(),
            zone: self.service_zone.clone(),
        }
    }

    /// `--stats-tag` as tags of the configuration.
    ///
    /// # Errors
    ///
    /// What is not of the form tag:value.
    pub fn stats_tags(&self) -> Result<Vec<StatsTag>, Failure> {
        let tag = |text: &String| match text.split_once(':') {
            Some((name, value)) if !name.is_empty() => {
                Ok(StatsTag { name: name.into(), source: TagSource::Fixed(value.into()) })
            }
            _ => Err(Failure::Usage(format!("--stats-tag {text}: write TAG:VALUE"))),
        };
        self.stats_tag.iter().map(tag).collect()
    }

    /// The given flags that have no effect here, for one note at the start. Those whose lack of
    /// effect nobody can notice (`--disable-hot-restart` and the like) are not in it.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let given = [
            (self.restart_epoch != 0, "--restart-epoch"),
            (self.base_id != 0, "--base-id"),
            (self.file_flush_interval_msec != 10_000, "--file-flush-interval-msec"),
            (self.file_flush_min_size_kb != 64, "--file-flush-min-size-kb"),
            (self.enable_core_dump, "--enable-core-dump"),
            (self.enable_fine_grain_logging, "--enable-fine-grain-logging"),
            (self.enable_mutex_tracing, "--enable-mutex-tracing"),
            (self.log_format_escaped, "--log-format-escaped"),
            (!self.disable_extensions.is_empty(), "--disable-extensions"),
            (self.local_address_ip_version == "v6", "--local-address-ip-version"),
        ];
        given.into_iter().filter(|(given, _)| *given).map(|(_, name)| name).collect()
    }
}
