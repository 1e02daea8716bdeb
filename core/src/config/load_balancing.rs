//! How a cluster chooses among its hosts (`lb_policy`, `load_balancing_policy`,
//! `common_lb_config`).
//!
//! What it leaves to others: the hosts (`endpoint`), choosing (`upstream::balancer`).

#![allow(deprecated, reason = "Envoy still accepts fields that it calls deprecated")]

use super::convert::{At, is_type};
use super::support::{SupportedMessage, first_of, kept, message, only, refused, used};
use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::extensions::load_balancing_policies as policies;
use envoy_types::pb::google::protobuf::Any;
use pb::cluster::LbPolicy as PbPolicy;
use pb::cluster::common_lb_config::LocalityConfigSpecifier;
use policies::common::v3 as common;
use prost::Message;

/// How a cluster chooses among its hosts.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadBalancing {
    /// Which host of those that are eligible.
    pub policy: LbPolicy,
    /// `common_lb_config.healthy_panic_threshold` in whole percent, default 50: with a smaller
    /// share of hosts available, all are used. 0: never.
    pub healthy_panic_percent: u32,
    /// `zone_aware_lb_config.fail_traffic_on_panic`: no host instead of all.
    pub fails_on_panic: bool,
    /// `locality_weighted_lb_config`: localities get requests by their weights.
    pub is_locality_weighted: bool,
}

/// `lb_policy`, or the first of `load_balancing_policy.policies` that is supported.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum LbPolicy {
    /// `ROUND_ROBIN`
    #[default]
    RoundRobin,
    /// `LEAST_REQUEST`
    LeastRequest(LeastRequest),
    /// `RANDOM`; weights do not count, as in Envoy.
    Random,
}

/// `least_request_lb_config`
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LeastRequest {
    /// `choice_count`, default 2, at least 2.
    pub choice_count: u32,
    /// `active_request_bias`, default 1, not negative.
    pub active_request_bias: f64,
    /// `selection_method` is FULL_SCAN: every host is compared.
    pub is_full_scan: bool,
}

impl Default for LeastRequest {
    fn default() -> LeastRequest {
        LeastRequest { choice_count: 2, active_request_bias: 1.0, is_full_scan: false }
    }
}

impl Default for LoadBalancing {
    fn default() -> LoadBalancing {
        LoadBalancing {
            policy: LbPolicy::RoundRobin,
            healthy_panic_percent: DEFAULT_HEALTHY_PANIC_PERCENT,
            fails_on_panic: false,
            is_locality_weighted: false,
        }
    }
}

pub(super) const ROUND_ROBIN: &str =
    "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
pub(super) const LEAST_REQUEST: &str =
    "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest";
pub(super) const RANDOM: &str = "envoy.extensions.load_balancing_policies.random.v3.Random";

const DEFAULT_HEALTHY_PANIC_PERCENT: u32 = 50;
const NOT_LOCAL: &str = "no cluster is the local one, which zone-aware routing compares with";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        &[
            used("healthy_panic_threshold"),
            used("zone_aware_lb_config"),
            used("locality_weighted_lb_config"),
            kept("update_merge_window", "a change of hosts is published when it comes"),
            kept("override_host_status", "no filter overrides the choice of a host"),
            only("ignore_new_hosts_until_first_hc", &["false"]),
            only("close_connections_on_host_set_change", &["false"]),
            refused("consistent_hashing_lb_config"),
        ],
    ),
    message(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
        &[
            kept("routing_enabled", NOT_LOCAL),
            kept("min_cluster_size", NOT_LOCAL),
            used("fail_traffic_on_panic"),
        ],
    ),
    message("envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", &[]),
    message(
        "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
        &[used("choice_count"), used("active_request_bias"), refused("slow_start_config")],
    ),
    message("envoy.config.cluster.v3.Cluster.RoundRobinLbConfig", &[refused("slow_start_config")]),
    message(
        "envoy.config.cluster.v3.LoadBalancingPolicy",
        &[first_of("policies", &[ROUND_ROBIN, LEAST_REQUEST, RANDOM])],
    ),
    message(
        "envoy.config.cluster.v3.LoadBalancingPolicy.Policy",
        &[used("typed_extension_config")],
    ),
    message(ROUND_ROBIN, &[refused("slow_start_config"), used("locality_lb_config")]),
    message(
        LEAST_REQUEST,
        &[
            used("choice_count"),
            used("active_request_bias"),
            refused("slow_start_config"),
            used("locality_lb_config"),
            used("enable_full_scan"),
            used("selection_method"),
        ],
    ),
    message(RANDOM, &[used("locality_lb_config")]),
    message(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig",
        &[used("zone_aware_lb_config"), used("locality_weighted_lb_config")],
    ),
    message(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        &[
            kept("routing_enabled", NOT_LOCAL),
            kept("min_cluster_size", NOT_LOCAL),
            kept("force_locality_direct_routing", NOT_LOCAL),
            kept("force_local_zone", NOT_LOCAL),
            kept("locality_basis", NOT_LOCAL),
            used("fail_traffic_on_panic"),
        ],
    ),
    message(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig",
        &[],
    ),
    message(
        "envoy.config.core.v3.RuntimeDouble",
        &[used("default_value"), kept("runtime_key", "there is no runtime: the default counts")],
    ),
    message("envoy.type.v3.Percent", &[used("value")]),
];

impl LoadBalancing {
    /// Converts what the cluster here says; what is wrong is reported.
    pub(super) fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> LoadBalancing {
        let mut converted = LoadBalancing::default();
        let common_at = at.field("common_lb_config");
        let common = cluster.common_lb_config.as_ref();
        if let Some(threshold) = common.and_then(|common| common.healthy_panic_threshold.as_ref()) {
            // Envoy drops what is behind the point.
            converted.healthy_panic_percent = threshold.value as u32;
        }
        match common.and_then(|common| common.locality_config_specifier.as_ref()) {
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(zone_aware)) => {
                converted.fails_on_panic = zone_aware.fail_traffic_on_panic;
            }
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
                converted.is_locality_weighted = true;
            }
            None => {}
        }
        match &cluster.load_balancing_policy {
            Some(policy) => {
                if common.is_some_and(|common| common.locality_config_specifier.is_some()) {
                    common_at.error_hint(
                        "localities are configured beside `load_balancing_policy`",
                        "write `locality_lb_config` in the policy",
                    );
                }
                converted.typed(&at.field("load_balancing_policy"), policy);
                if ![PbPolicy::RoundRobin, PbPolicy::LoadBalancingPolicyConfig]
                    .contains(&cluster.lb_policy())
                {
                    let reason = "`load_balancing_policy` takes the place of `lb_policy`";
                    at.field("lb_policy").warning(reason);
                }
            }
            None => converted.policy = LbPolicy::from_proto(at, cluster),
        }
        converted
    }

    /// The first supported policy of the list.
    fn typed(&mut self, at: &At<'_>, policy: &pb::LoadBalancingPolicy) {
        let at = at.field("policies");
        let mut skipped = Vec::new();
        for (index, policy) in policy.policies.iter().enumerate() {
            let at = at.index(index);
            let at = at.field("typed_extension_config");
            let any = policy.typed_extension_config.as_ref().and_then(|e| e.typed_config.as_ref());
            let Some(any) = any else {
                let hint = format!("add \"@type\": type.googleapis.com/{ROUND_ROBIN}, for example");
                at.missing("typed_config", Some(&hint));
                return;
            };
            let at = at.field("typed_config");
            if !self.take(&at, any) {
                skipped.push(any.type_url.rsplit('/').next().unwrap_or_default());
                continue;
            }
            if !skipped.is_empty() {
                let used = any.type_url.rsplit('/').next().unwrap_or_default();
                let skipped = skipped.join(", ");
                at.warning(format!("not supported yet: {skipped}; `{used}` is used instead"));
            }
            return;
        }
        let hint = format!("supported: `{ROUND_ROBIN}`, `{LEAST_REQUEST}`, `{RANDOM}`");
        match skipped.is_empty() {
            true => at.error_hint("`load_balancing_policy` needs a policy", hint),
            false => at.error_hint(
                format!("none of these policies is supported yet: {}", skipped.join(", ")),
                hint,
            ),
        }
    }

    /// Takes this policy, if it is one that is supported.
    fn take(&mut self, at: &At<'_>, any: &Any) -> bool {
        let locality = if is_type(any, ROUND_ROBIN) {
            self.policy = LbPolicy::RoundRobin;
            unpacked::<policies::round_robin::v3::RoundRobin>(at, any, ROUND_ROBIN)
                .locality_lb_config
        } else if is_type(any, LEAST_REQUEST) {
            use policies::least_request::v3::LeastRequest as Typed;
            use policies::least_request::v3::least_request::SelectionMethod;
            let typed: Typed = unpacked(at, any, LEAST_REQUEST);
            let is_full_scan = typed.selection_method() == SelectionMethod::FullScan
                || typed.enable_full_scan.is_some_and(|flag| flag.value);
            let bias = typed.active_request_bias.as_ref();
            self.policy = LbPolicy::LeastRequest(LeastRequest {
                choice_count: typed.choice_count.map_or(2, |count| count.value),
                active_request_bias: bias_of(at, bias),
                is_full_scan,
            });
            typed.locality_lb_config
        } else if is_type(any, RANDOM) {
            self.policy = LbPolicy::Random;
            unpacked::<policies::random::v3::Random>(at, any, RANDOM).locality_lb_config
        } else {
            return false;
        };
        use common::locality_lb_config::LocalityConfigSpecifier as Specifier;
        match locality.and_then(|config| config.locality_config_specifier) {
            Some(Specifier::ZoneAwareLbConfig(config)) => {
                self.fails_on_panic = config.fail_traffic_on_panic;
            }
            Some(Specifier::LocalityWeightedLbConfig(_)) => self.is_locality_weighted = true,
            None => {}
        }
        true
    }
}

fn unpacked<T: Message + Default>(at: &At<'_>, any: &Any, name: &str) -> T {
    at.unpack(any, name).unwrap_or_default()
}

impl LbPolicy {
    fn from_proto(at: &At<'_>, cluster: &pb::Cluster) -> LbPolicy {
        use pb::cluster::LbConfig;
        let config = match &cluster.lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => Some(config),
            _ => None,
        };
        let at_config = at.field("least_request_lb_config");
        if config.is_some() && cluster.lb_policy() != PbPolicy::LeastRequest {
            at_config.warning("it has no effect: `lb_policy` is not LEAST_REQUEST");
        }
        match cluster.lb_policy() {
            PbPolicy::LeastRequest => LbPolicy::LeastRequest(match config {
                None => LeastRequest::default(),
                Some(config) => LeastRequest {
                    choice_count: config.choice_count.map_or(2, |count| count.value),
                    active_request_bias: bias_of(&at_config, config.active_request_bias.as_ref()),
                    is_full_scan: false,
                },
            }),
            PbPolicy::Random => LbPolicy::Random,
            PbPolicy::LoadBalancingPolicyConfig => {
                let hint = "`lb_policy: LOAD_BALANCING_POLICY_CONFIG` asks for it";
                at.missing("load_balancing_policy", Some(hint));
                LbPolicy::RoundRobin
            }
            // The others were refused by name.
            _ => LbPolicy::RoundRobin,
        }
    }
}

/// Envoy takes a bias that is negative for 1.
fn bias_of(at: &At<'_>, bias: Option<&RuntimeDouble>) -> f64 {
    let Some(bias) = bias else { return 1.0 };
    if bias.default_value.is_finite() && bias.default_value >= 0.0 {
        return bias.default_value;
    }
    at.field("active_request_bias").warning("it must not be negative: 1 is taken instead");
    1.0
}
