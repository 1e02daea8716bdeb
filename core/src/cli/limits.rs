//! Limits that the system sets on the process: raised as far as it is allowed, and told when they
//! are small.
//!
//! What it leaves to others: what happens when one is met.

use crate::log::{self, Component};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer descriptors than this, the number of connections is worth a warning.
const DESCRIPTORS_FEW: u64 = 4096;

/// Descriptors that are not connections: listeners, rings, logs, admin, name resolution.
const DESCRIPTORS_OWN: u64 = 64;

/// Raises the limit of open descriptors to the highest that is allowed, and warns when that is
/// little.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        let text = format_args!("raising the limit of open descriptors: {error}");
        log::debug(Component::Main, text);
    }
    if let Some(descriptors) = getrlimit(Resource::Nofile).current
        && let Some(text) = few(descriptors)
    {
        log::warning(Component::Main, format_args!("{text}"));
    }
}

/// What so few descriptors limit. A proxied connection needs two.
fn few(descriptors: u64) -> Option<String> {
    if descriptors >= DESCRIPTORS_FEW {
        return None;
    }
    let connections = descriptors.saturating_sub(DESCRIPTORS_OWN) / 2;
    Some(format!(
        "this process may open {descriptors} descriptors, enough for about {connections} \
         proxied connections; \
         raise `ulimit -n` or the unit's LimitNOFILE for more"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_are_told_with_what_they_allow() {
        assert_eq!(few(DESCRIPTORS_FEW), None);
        let text = few(256).unwrap();
        assert!(text.contains("256") && text.contains("96 proxied"), "{text}");
        assert!(few(10).unwrap().contains("about 0 "));
    }
}
