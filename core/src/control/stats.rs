//! What the control thread counts itself, by Envoy's names.
//!
//! What it leaves to others: what shards count (`stats::names`), and what is computed when somebody
//! looks (`admin`).

use crate::stats::{Kind, Stat};

macro_rules! control_stats {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $kind:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        #[allow(missing_docs)] // each is Envoy's stat of that name
        pub enum $name { $($variant,)* }

        impl $name {
            /// Name and kind of each, in order of their cells.
            pub const ALL: &'static [(&'static str, Kind)] = &[$(($text, Kind::$kind),)*];
        }

        impl Stat for $name {
            fn index(self) -> u32 {
                self as u32
            }

            /// There are no histograms here.
            fn block_offset(self) -> u32 {
                0
            }

            fn kind(self) -> Kind {
                Self::ALL[self as usize].1
            }
        }
    };
}

control_stats! {
    /// Under `cluster_manager.`
    ClusterManagerStat {
        ActiveClusters = Gauge "active_clusters",
        WarmingClusters = Gauge "warming_clusters",
        ClusterAdded = Counter "cluster_added",
        ClusterModified = Counter "cluster_modified",
        ClusterRemoved = Counter "cluster_removed",
    }
}

control_stats! {
    /// Under `listener_manager.`
    ListenerManagerStat {
        ListenerAdded = Counter "listener_added",
        ListenerModified = Counter "listener_modified",
        ListenerRemoved = Counter "listener_removed",
        ListenerStopped = Counter "listener_stopped",
        ListenerCreateFailure = Counter "listener_create_failure",
        TotalListenersActive = Gauge "total_listeners_active",
        TotalListenersWarming = Gauge "total_listeners_warming",
        WorkersStarted = Gauge "workers_started",
    }
}

control_stats! {
    /// Under `cluster.<name>.`, beside what shards count there.
    MembershipStat {
        MembershipChange = Counter "membership_change",
        MembershipTotal = Gauge "membership_total",
        MembershipHealthy = Gauge "membership_healthy",
        MembershipDegraded = Gauge "membership_degraded",
        MembershipExcluded = Gauge "membership_excluded",
        WarmingState = Gauge "warming_state",
        UpdateAttempt = Counter "update_attempt",
        UpdateSuccess = Counter "update_success",
        UpdateFailure = Counter "update_failure",
        UpdateEmpty = Counter "update_empty",
        UpdateNoRebuild = Counter "update_no_rebuild",
        UpdateRejected = Counter "update_rejected",
        InitFetchTimeout = Counter "init_fetch_timeout",
        AssignmentStale = Counter "assignment_stale",
        AssignmentTimeoutReceived = Counter "assignment_timeout_received",
        AssignmentUseCached = Counter "assignment_use_cached",
    }
}

control_stats! {
    /// Under `cluster_manager.cds.`, `listener_manager.lds.`, `http.<prefix>.rds.<name>.`,
    /// `sds.<name>.` and `runtime.`: what a subscription did.
    SubscriptionStat {
        InitFetchTimeout = Counter "init_fetch_timeout",
        UpdateAttempt = Counter "update_attempt",
        UpdateSuccess = Counter "update_success",
        UpdateFailure = Counter "update_failure",
        UpdateRejected = Counter "update_rejected",
    }
}

control_stats! {
    /// Under `cluster_manager.cds.`
    ConfigReloadStat {
        ConfigReload = Counter "config_reload",
    }
}

control_stats! {
    /// Under `http.<prefix>.rds.<name>.`, `http.<prefix>.rds.vhds.<name>.` and
    /// `http.<prefix>.scoped_rds.<name>.`
    RouteReloadStat {
        ConfigReload = Counter "config_reload",
        UpdateEmpty = Counter "update_empty",
    }
}

control_stats! {
    /// Under `sds.<name>.`
    KeyRotationStat {
        KeyRotationFailed = Counter "key_rotation_failed",
    }
}

control_stats! {
    /// Under `runtime.`
    RuntimeStat {
        DeprecatedFeatureSeen = Gauge "deprecated_feature_seen_since_process_start",
        DeprecatedFeatureUse = Counter "deprecated_feature_use",
        LoadError = Counter "load_error",
        LoadSuccess = Counter "load_success",
        OverrideDirExists = Counter "override_dir_exists",
        OverrideDirNotExists = Counter "override_dir_not_exists",
    }
}

control_stats! {
    /// Under `access_log.`
    AccessLogStat {
        LinesDropped = Counter "lines_dropped",
        LinesFailed = Counter "lines_failed",
    }
}

control_stats! {
    /// Under `access_logs.grpc_access_log.`
    GrpcAccessLogStat {
        LogsWritten = Counter "logs_written",
        LogsDropped = Counter "logs_dropped",
    }
}

control_stats! {
    /// Under `server.`: configuration files that were read again.
    ReloadStat {
        ReloadSuccess = Counter "reload_success",
        ReloadFailure = Counter "reload_failure",
    }
}
