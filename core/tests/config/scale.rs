//! A large configuration loads in a time that nobody minds.
//!
//! What it leaves to others: how fast routes are found.

use super::{manager, try_load, with};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// An optimised build needs a hundredth of it, an unoptimised one on a busy machine a tenth. Work
/// that grows with the square of the routes would need more.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
#[allow(clippy::disallowed_methods, reason = "no shard runs here; the time is what is tested")]
fn ten_thousand_routes() {
    let mut routes = String::new();
    for number in 0..10_000 {
        let _ = write!(
            routes,
            "              - match: {{ prefix: \"/service/{number}/\" }}\n                \
             route: {{ cluster: c, timeout: 3s }}\n"
        );
    }
    let text = with(&[(
        "              - match: { prefix: \"/\" }\n                route: { cluster: c }\n",
        &routes,
    )]);
    let begin = Instant::now();
    let (bootstrap, _) = try_load(&text).unwrap();
    let taken = begin.elapsed();
    let routes = &manager(&bootstrap).route_config.virtual_hosts[0].routes;
    assert_eq!(routes.len(), 10_000);
    println!("10,000 routes in {taken:?}");
    assert!(taken < LONGEST, "{taken:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "no shard runs here; the time is what is tested")]
fn ten_thousand_errors() {
    let bad = "  - nam: x\n    type: NONE\n".repeat(5_000);
    let text = with(&[("  clusters:\n", &format!("  clusters:\n{bad}"))]);
    let begin = Instant::now();
    let errors = try_load(&text).unwrap_err();
    let taken = begin.elapsed();
    assert_eq!(errors.0.len(), 2_001);
    assert!(errors.0[2_000].reason.contains("there are more faults; 2000 are listed"));
    println!("10,000 errors in {taken:?}");
    assert!(taken < LONGEST, "{taken:?}");
}
