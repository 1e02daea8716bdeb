//! Tidegate, the program: from the command line to serving, and to the exit code.
//!
//! What it leaves to others: every step.

use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use tidegate::admin::{self, Admin, StatsSettings};
use tidegate::cli::explain::{self, Explain};
use tidegate::cli::{
    Command, CommandLine, Failure, doctor, explain_support, limits, options, reverse_proxy, status,
    version,
};
use tidegate::config::{Bootstrap, ConfigError, StatsFlush};
use tidegate::control::{
    self, ConfigSource, Control, ControlOptions, Ending, ServerState, Signals,
};
use tidegate::log::{self, Component};
use tidegate::snapshot::{Publisher, Snapshot};
use tidegate::stats::Registry;
use tidegate_io::memory::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(line: &CommandLine) -> Result<(), Failure> {
    if line.version {
        say(&version::line());
        return Ok(());
    }
    if line.hot_restart_version {
        say(version::HOT_RESTART);
        return Ok(());
    }
    if let Some(Command::ReverseProxy(args)) = &line.command
        && args.print_config
    {
        say(reverse_proxy::bootstrap(args).trim_end());
        return Ok(());
    }
    if let Some(Command::Explain(what)) = &line.command {
        let text = match what {
            Explain::Route(args) => explain::route(args)?,
            Explain::Support(args) => explain_support::support(args)?,
        };
        say(text.trim_end());
        return Ok(());
    }
    if let Some(Command::Doctor(args)) = &line.command {
        let (text, verdict) = doctor::doctor(args, &line.server);
        say(text.trim_end());
        return verdict;
    }
    if let Some(Command::Status(args)) = &line.command {
        let (text, verdict) = status::status(args);
        if !text.is_empty() {
            say(text.trim_end());
        }
        return verdict;
    }
    let source = line.source()?;
    let (bootstrap, warnings) = source.load().map_err(Failure::Configuration)?;
    if line.only_validates() {
        warnings.iter().for_each(|warning| eprintln!("{warning}"));
        control::open_access_logs(&bootstrap).map_err(Failure::Open)?;
        say(&format!("configuration '{}' OK", source.name()));
        return Ok(());
    }
    serve(line, source, bootstrap, &warnings)
}

/// Serves until a signal, or the admin server, ends it.
fn serve(
    line: &CommandLine,
    source: ConfigSource,
    bootstrap: Bootstrap,
    warnings: &[ConfigError],
) -> Result<(), Failure> {
    log::start(line.server.log_settings()).map_err(|error| line.no_log(&error))?;
    log::info(Component::Main, format_args!("{}", version::line()));
    warnings.iter().for_each(|w| log::warning(Component::Config, format_args!("{w}")));
    line.note_without_effect();
    line.write_base_id()?;
    limits::raise_descriptors();
    let fault = |error| Failure::Environment(format!("cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(fault)?;
    let _context = runtime.enter();
    let signals = Signals::new().map_err(fault)?;
    let choice = line.server.io_backend.choose();
    let choice = choice.map_err(|refusal| Failure::Environment(refusal.to_string()))?;
    if let Some(warning) = &choice.warning {
        log::warning(Component::Io, format_args!("{warning}"));
    }
    let admin_config = bootstrap.admin.clone();
    let (sinks, flush) = (bootstrap.sinks.clone(), bootstrap.flush);
    let settings = stats_settings(line, &bootstrap)?;

    let cpus = control::shards::allowed_cpus();
    let count = line.server.concurrency.map_or(cpus.len().max(1), |count| count as usize);
    let registry = Arc::new(Registry::new(count));
    let publisher = Arc::new(Publisher::new(Snapshot::default()));
    let state = Arc::new(ServerState::default());
    let options = ControlOptions {
        source,
        shards: count,
        drain_time: line.server.drain_time(),
        dns_resolver: line.server.dns_resolver,
        registry: registry.clone(),
        publisher: publisher.clone(),
        state: state.clone(),
    };
    let control = Control::new(options, bootstrap).map_err(Failure::Open)?;
    let (asked, flushes) = std::sync::mpsc::sync_channel(1);
    let admin = Arc::new(Admin {
        publisher: publisher.clone(),
        registry: registry.clone(),
        state,
        commands: control.commands(),
        concurrency: count,
        command_line_options: options::shown(line, count),
        baseline: Default::default(),
        intervals: Default::default(),
        settings,
        flush: asked,
        flush_on_admin: flush == StatsFlush::OnAdmin,
    });
    if !sinks.is_empty() {
        admin::start_sinks(admin.clone(), sinks, flush, flushes).map_err(fault)?;
    }
    if let Some(config) = admin_config {
        admin::start(config.address, admin, line.server.admin_address_path.as_deref())?;
    }
    let io = line.server.io_options();
    let shards =
        control::shards::start(count, &cpus, choice.backend, &io, &publisher, &registry)
            .map_err(|error| Failure::Environment(format!("cannot start the shards: {error}")))?;
    let backend = control::shards::backend_name(choice.backend);
    log::info(Component::Main, format_args!("{count} shards on {backend}"));
    end(runtime.block_on(control.run(shards, signals)))
}

/// What the configuration and `--stats-tag` say about stats.
fn stats_settings(
    line: &CommandLine,
    bootstrap: &Bootstrap,
) -> Result<Arc<StatsSettings>, Failure> {
    let mut stats = bootstrap.stats.clone();
    stats.tags.extend(line.envoy.stats_tags()?);
    Ok(Arc::new(StatsSettings::new(&stats)))
}

/// Prints a line; whoever closed the other end does not want it.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn end(ending: Ending) -> Result<(), Failure> {
    match ending {
        Ending::Drained | Ending::DrainTimedOut | Ending::Quit => Ok(()),
        Ending::ShardDied(index, error) => {
            Err(Failure::Running(format!("shard {index} has ended: {error}")))
        }
    }
}
