//! `x-forwarded-client-cert` (XFCC) of a request, as Envoy makes it.
//!
//! What it leaves to others: what is asked for (`config`), certificates (`transport`).

use crate::config::{ClientCertDetails, ForwardClientCert};
use crate::shard::{DownstreamKey, Shard, StreamKey, UpstreamKey};
use crate::transport::ConnectionFacts;
use std::fmt::Write as _;
use std::sync::Arc;
use tidegate_http::Headers;
use tidegate_io::Io;

const XFCC: &[u8] = b"x-forwarded-client-cert";

impl<I: Io> Shard<I> {
    /// What the handshake of a client's connection came to; `None` on a plain one.
    pub(super) fn downstream_facts(&mut self, key: DownstreamKey) -> Option<Arc<ConnectionFacts>> {
        let downstream = self.downstreams.get_mut(key)?;
        if downstream.facts.is_none() {
            let session = self.io.session(downstream.socket)?;
            let context = downstream.listener.tls.as_ref();
            let shown = context.and_then(|context| context.shown.clone());
            downstream.facts = Some(Arc::new(ConnectionFacts::of(session, shown)));
        }
        downstream.facts.clone()
    }

    /// The same of a connection to a host.
    pub(super) fn upstream_facts(&mut self, key: UpstreamKey) -> Option<Arc<ConnectionFacts>> {
        let upstream = self.upstreams.get_mut(key)?;
        if upstream.facts.is_none() {
            let session = self.io.session(upstream.socket)?;
            let context = upstream.cluster.tls.as_ref();
            let shown = context.and_then(|context| context.shown.clone());
            upstream.facts = Some(Arc::new(ConnectionFacts::of(session, shown)));
        }
        upstream.facts.clone()
    }

    /// Makes XFCC of a request what it is to be.
    pub(super) fn forward_client_certificate(&mut self, key: StreamKey, mode: ForwardClientCert) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let downstream = stream.downstream;
        match mode {
            ForwardClientCert::AlwaysForwardOnly => {}
            ForwardClientCert::Sanitize => stream.request.headers.remove_name(XFCC),
            _ => {
                let facts = self.downstream_facts(downstream);
                let Some(stream) = self.streams.get_mut(key) else { return };
                let headers = &mut stream.request.headers;
                match facts.filter(|facts| !facts.peer.is_empty()) {
                    None => headers.remove_name(XFCC),
                    Some(facts) => forward(headers, mode, &facts),
                }
            }
        }
    }
}

fn forward(headers: &mut Headers, mode: ForwardClientCert, facts: &ConnectionFacts) {
    match mode {
        ForwardClientCert::SanitizeSet(details) => {
            headers.set(XFCC, value(facts, details).as_bytes());
        }
        ForwardClientCert::AppendForward(details) => {
            let lines = headers.iter().filter(|(name, _)| *name == XFCC);
            let mut whole = lines.map(|(_, line)| line).collect::<Vec<_>>().join(&b","[..]);
            if !whole.is_empty() {
                whole.push(b',');
            }
            whole.extend_from_slice(value(facts, details).as_bytes());
            headers.set(XFCC, &whole);
        }
        _ => {}
    }
}

/// Our element of the list.
fn value(facts: &ConnectionFacts, details: ClientCertDetails) -> String {
    let Some(peer) = facts.peer.first() else { return String::new() };
    let mut value = String::new();
    for uri in facts.local.iter().flat_map(|local| local.uris()) {
        let _ = write!(value, "By={uri};");
    }
    let _ = write!(value, "Hash={}", peer.fingerprint_256());
    if details.cert {
        value.push_str(";Cert=\"");
        peer.write_escaped_pem(&mut value);
        value.push('"');
    }
    if details.chain {
        value.push_str(";Chain=\"");
        facts.peer.iter().for_each(|one| one.write_escaped_pem(&mut value));
        value.push('"');
    }
    if details.subject {
        let _ = write!(value, ";Subject=\"{}\"", peer.text().subject);
    }
    if details.uri {
        // The key is there even if the certificate has none.
        if peer.uris().next().is_none() {
            value.push_str(";URI=");
        }
        for uri in peer.uris() {
            let _ = write!(value, ";URI={uri}");
        }
    }
    if details.dns {
        for name in peer.dns_names() {
            let _ = write!(value, ";DNS={name}");
        }
    }
    value
}
