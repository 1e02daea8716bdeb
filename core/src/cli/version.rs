//! The version, in the forms that Envoy's tools read.
//!
//! What it leaves to others: printing it.

/// The revision that this was built from; forty zeros when the build did not say.
pub const REVISION: &str = match option_env!("TIDEGATE_REVISION") {
    Some(revision) => revision,
    None => "0000000000000000000000000000000000000000",
};

/// `x.y.z` of Tidegate.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");

/// What `--hot-restart-version` prints, as Envoy does with `--disable-hot-restart`.
pub const HOT_RESTART: &str = "disabled";

/// The TLS library's place in the version; there is none yet.
const TLS: &str = "none";

/// Five parts with `/` between them, as Envoy's: revision, number, state of the tree, kind of
/// build, TLS library. Kuma's data plane splits it and wants exactly five.
#[must_use]
pub fn full() -> String {
    let build = if cfg!(debug_assertions) { "DEBUG" } else { "RELEASE" };
    format!("{REVISION}/{NUMBER}/Clean/{build}/{TLS}")
}

/// What `--version` prints: Envoy's line with our name in front.
#[must_use]
pub fn line() -> String {
    format!("tidegate  version: {}", full())
}

/// `server.version`: the first six hexadecimal digits of the revision as a number, as Envoy's
/// gauge.
#[must_use]
pub fn gauge() -> u64 {
    REVISION.get(..6).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_five_parts() {
        assert_eq!(full().split('/').count(), 5);
        assert_eq!(full().split('/').nth(1), Some(NUMBER));
    }
}
