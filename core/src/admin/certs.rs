//! `/certs`: every certificate that is in use, by context.
//!
//! What it leaves to others: reading certificates (`transport`).

use super::query::Query;
use super::{Admin, Reply};
use crate::access_log::iso_8601_ms;
use crate::transport::{CertificateInfo, SubjectAltName};
use serde_json::{Value, json};

/// Of a day.
const SECONDS: i64 = 86_400;

/// `/certs`
pub(super) fn page(admin: &Admin, _: &Query) -> Reply {
    let snapshot = admin.publisher.load();
    let now = i64::try_from(tidegate_io::Now::read().unix_us / 1_000_000).unwrap_or(i64::MAX);
    let mut shown = Vec::new();
    for tls in
        snapshot.listeners.iter().flat_map(|entry| &entry.chains).filter_map(|it| it.tls.as_ref())
    {
        let leaves = tls.certificates.iter().filter_map(|chain| chain.first());
        shown.push(context(&tls.authorities, leaves, now));
    }
    for tls in snapshot.clusters.iter().filter_map(|entry| entry.tls.as_ref()) {
        shown.push(context(&tls.authorities, tls.certificate.first(), now));
    }
    Reply::json(&json!({ "certificates": shown }))
}

/// Whole days until the first of all certificates in use expires; Envoy's number where there is
/// none.
pub(super) fn days_until_first_expires(admin: &Admin) -> u64 {
    let snapshot = admin.publisher.load();
    let now = i64::try_from(tidegate_io::Now::read().unix_us / 1_000_000).unwrap_or(i64::MAX);
    let chains = snapshot.listeners.iter().flat_map(|entry| &entry.chains);
    let of_servers = chains.filter_map(|chain| chain.tls.as_ref()).flat_map(|tls| {
        let leaves = tls.certificates.iter().filter_map(|chain| chain.first());
        tls.authorities.first().into_iter().chain(leaves)
    });
    let of_clients = snapshot.clusters.iter().filter_map(|entry| entry.tls.as_ref());
    let of_clients = of_clients
        .flat_map(|tls| tls.authorities.first().into_iter().chain(tls.certificate.first()));
    let first = of_servers.chain(of_clients).map(|one| one.not_after).min();
    first.map_or(u64::from(u32::MAX), |end| ((end - now).max(0) / SECONDS) as u64)
}

fn context<'a>(
    authorities: &[CertificateInfo],
    leaves: impl IntoIterator<Item = &'a CertificateInfo>,
    now: i64,
) -> Value {
    // Of a bundle Envoy shows the first authority.
    let authorities: Vec<_> = authorities.iter().take(1).map(|one| certificate(one, now)).collect();
    let leaves: Vec<_> = leaves.into_iter().map(|one| certificate(one, now)).collect();
    json!({ "ca_cert": authorities, "cert_chain": leaves })
}

fn certificate(one: &CertificateInfo, now: i64) -> Value {
    let names: Vec<_> = one.subject_alt_names.iter().filter_map(name).collect();
    let days = (one.not_after - now).max(0) / SECONDS;
    json!({
        "path": one.path,
        "serial_number": one.serial_number,
        "subject_alt_names": names,
        "days_until_expiration": days.to_string(),
        "valid_from": time(one.not_before),
        "expiration_time": time(one.not_after),
    })
}

fn name(name: &SubjectAltName) -> Option<Value> {
    match name {
        SubjectAltName::Dns(name) => Some(json!({ "dns": name })),
        SubjectAltName::Uri(uri) => Some(json!({ "uri": uri })),
        SubjectAltName::Ip(ip) => Some(json!({ "ip_address": ip.to_string() })),
        SubjectAltName::Email(_) | SubjectAltName::OtherName(..) => None,
    }
}

/// `2026-11-20T14:52:33Z`
fn time(seconds: i64) -> String {
    let us = u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000);
    iso_8601_ms(us).replace(".000Z", "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_envoy_shows_it() {
        let info = CertificateInfo {
            path: "<inline>".into(),
            serial_number: "7c5d".into(),
            subject_alt_names: vec![
                SubjectAltName::Dns("localhost".into()),
                SubjectAltName::Ip("127.0.0.1".parse().unwrap()),
            ],
            common_name: None,
            not_before: 1_795_186_353,
            not_after: 1_795_186_353 + 365 * SECONDS,
        };
        let shown = context(&[], [&info], 1_795_186_400);
        let expected = json!({
            "ca_cert": [],
            "cert_chain": [{
                "path": "<inline>",
                "serial_number": "7c5d",
                "subject_alt_names": [{ "dns": "localhost" }, { "ip_address": "127.0.0.1" }],
                "days_until_expiration": "364",
                "valid_from": "2026-11-20T14:52:33Z",
                "expiration_time": "2027-11-20T14:52:33Z",
            }],
        });
        assert_eq!(shown, expected);
    }
}
