//! The server name that a request asks its upstream connection for (`auto_sni`,
//! `auto_san_validation`), and the pool that it therefore gets one from.
//!
//! What it leaves to others: handshakes (`handshake`), pools (`upstream`).

use crate::config::RequestServerName;
use crate::shard::{Shard, StreamKey, limits};
use crate::snapshot::{ClusterEntry, Host, route_table};
use crate::stats::ClusterStat;
use crate::transport::ServerNames;
use crate::upstream::PoolId;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_http::RequestHead;
use tidegate_io::Io;

impl<I: Io> Shard<I> {
    /// Notes the server name that the request asks for, as it is sent, but for what
    /// `auto_host_rewrite` makes of it: that name is the host's.
    pub(super) fn name_server(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let wanted = stream.cluster().and_then(|entry| entry.config.server_name.as_ref());
        let name = wanted.and_then(|wanted| wanted.of(&stream.request));
        stream.server_name = name;
    }

    /// The pool of a host's connections that a stream can use.
    pub(super) fn pool_of(
        &mut self,
        key: StreamKey,
        entry: &ClusterEntry,
        host: &Arc<Host>,
    ) -> Option<PoolId> {
        let stream = self.streams.get(key)?;
        let http2 = stream.wants_http2();
        let Some(name) = &stream.server_name else {
            return Some(PoolId::unnamed(host.id, http2));
        };
        if let Some(found) = self.pools.find_named(host.id, http2, name) {
            return Some(found);
        }
        let surplus = self.pools.surplus_named(host.id, http2, limits::SERVER_NAMES_MAX);
        if !surplus.is_empty() {
            self.stats.inc(entry.stats, ClusterStat::UpstreamCxPoolOverflow);
        }
        for idle in surplus {
            self.close_upstream(idle);
        }
        let name = self.streams.get(key)?.server_name.as_deref()?;
        Some(self.pools.add_named(host, http2, name))
    }
}

impl RequestServerName {
    /// The name that a request asks for: the host of its authority, or of the field that stands
    /// for that; in lower case, without its port, and without the dot that may end it. Nothing,
    /// where it is not sent and no certificate is to have it.
    fn of(&self, request: &RequestHead) -> Option<Box<str>> {
        let field = self.override_header.as_ref();
        let field = field.and_then(|name| request.headers.get_name(name.as_bytes()));
        let field = field.filter(|value| !value.trim_ascii().is_empty());
        let host = route_table::without_port(field.unwrap_or_else(|| request.authority()));
        let host = std::str::from_utf8(host).ok()?.trim_ascii();
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.len() > limits::SERVER_NAME_BYTES_MAX {
            return None;
        }
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = address.unwrap_or(host).parse::<IpAddr>() {
            return self.auto_san_validation.then(|| address.to_string().into());
        }
        let is_wanted = self.auto_san_validation || ServerNames::is_sent(host);
        is_wanted.then(|| host.to_ascii_lowercase().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(wanted: &RequestServerName, authority: &str, field: Option<&str>) -> Option<String> {
        let mut request = RequestHead::default();
        request.set_authority(authority.as_bytes());
        if let Some(value) = field {
            request.headers.append(b"x-name", value.as_bytes());
        }
        wanted.of(&request).map(String::from)
    }

    #[test]
    fn a_name_is_a_host_without_its_port() {
        let sent = RequestServerName { auto_sni: true, ..RequestServerName::default() };
        let checked = RequestServerName { auto_san_validation: true, ..sent.clone() };
        for (authority, is_sent, is_checked) in [
            ("a.test", Some("a.test"), Some("a.test")),
            ("A.Test:8080", Some("a.test"), Some("a.test")),
            ("a.test.", Some("a.test"), Some("a.test")),
            ("a_b.test:443", Some("a_b.test"), Some("a_b.test")),
            ("127.0.0.1:80", None, Some("127.0.0.1")),
            ("[::1]", None, Some("::1")),
            ("[0:0::1]:80", None, Some("::1")),
            ("::1", None, Some("::1")),
            ("a..b", None, Some("a..b")),
            ("a%20b", None, Some("a%20b")),
            ("", None, None),
            (":80", None, None),
        ] {
            assert_eq!(name(&sent, authority, None).as_deref(), is_sent, "{authority}");
            assert_eq!(name(&checked, authority, None).as_deref(), is_checked, "{authority}");
        }
        assert_eq!(name(&checked, &"a".repeat(limits::SERVER_NAME_BYTES_MAX + 1), None), None);
    }

    #[test]
    fn a_field_stands_for_the_authority_unless_it_is_empty() {
        let override_header = Some("x-name".to_owned());
        let wanted = RequestServerName { auto_sni: true, override_header, ..Default::default() };
        for (field, expected) in [
            (Some("B.test:1"), Some("b.test")),
            (Some("10.0.0.1"), None),
            (Some(""), Some("a.test")),
            (Some(" "), Some("a.test")),
            (None, Some("a.test")),
        ] {
            assert_eq!(name(&wanted, "a.test", field).as_deref(), expected, "{field:?}");
        }
    }
}
