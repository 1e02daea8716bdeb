//! Reading long lists of endpoints on the thread that receives them: comparing megabytes with the
//! version before holds up nothing that control does. Events of streams wait meanwhile, so that
//! their order stays.
//!
//! What it leaves to others: what resources mean (`config::Resource`), the thread (`carrier`).

use super::carrier::Carrier;
use super::xds::{self, Read, StreamId, Xds};
use crate::config::{ClusterLoadAssignment, ResourceContext, ResourceKind, resource_name};
use foldhash::HashMap;
use std::future::pending;
use std::sync::Arc;
use tidegate_io::Instant;
use tidegate_xds::{Body, Event, Response};
use tokio::sync::oneshot;

/// Fewer bytes are read at once: handing them over takes longer.
const BYTES_MIN: usize = 64 << 10;

/// A response that was read.
#[derive(Debug)]
pub(super) struct ReadResponse {
    /// Its stream.
    pub stream: StreamId,
    /// When it came.
    pub began: Instant,
    pub kind: ResourceKind,
    /// All but its resources.
    pub response: Response,
    /// These.
    pub read: Read,
}

/// A response that is being read.
#[derive(Debug)]
pub(super) struct Reading(oneshot::Receiver<ReadResponse>);

/// Whether it is worth reading elsewhere.
pub(super) fn is_long(kind: ResourceKind, response: &Response) -> bool {
    let length = |body: &Body| match body {
        Body::Any { value, .. } => value.len(),
        Body::Json(_) | Body::Absent | Body::Unchanged => 0,
    };
    kind == ResourceKind::ClusterLoadAssignment
        && response.resources.iter().map(|one| length(&one.body)).sum::<usize>() >= BYTES_MIN
}

impl Reading {
    /// Begins to read on the carrier's thread. `before`: versions by name.
    pub fn begin(
        carrier: &Carrier,
        mut it: ReadResponse,
        before: impl Fn(&str) -> Option<Arc<ClusterLoadAssignment>>,
        context: ResourceContext,
    ) -> Reading {
        let names = it.response.resources.iter().filter_map(|one| match &one.body {
            Body::Any { value, .. } => one.name.clone().or_else(|| resource_name(value)),
            Body::Json(_) | Body::Absent | Body::Unchanged => None,
        });
        let before: HashMap<String, _> =
            names.filter_map(|name| Some((name.clone(), before(&name)?))).collect();
        let (done, receiver) = oneshot::channel();
        carrier.spawn(async move {
            let before = |name: &str| before.get(name).cloned();
            it.read = xds::read(it.kind, &mut it.response, before, &context);
            // An error says that control has ended.
            let _ = done.send(it);
        });
        Reading(receiver)
    }
}

/// What streams lead to.
#[derive(Debug)]
pub(super) enum News {
    /// Something happened on one.
    Event(StreamId, Event),
    /// What came on one was read.
    Read(ReadResponse),
}

/// The next of these: while something is being read, nothing else.
pub(super) async fn next(reading: &mut Option<Reading>, xds: &mut Xds) -> News {
    let Some(Reading(receiver)) = reading else {
        let (stream, event) = xds.event().await;
        return News::Event(stream, event);
    };
    match receiver.await {
        Ok(read) => {
            *reading = None;
            News::Read(read)
        }
        // The thread has gone, and all streams with it.
        Err(_) => pending().await,
    }
}
