//! `/xds_status`: for each kind of dynamic resource whether it is what the server has said last,
//! and which configuration every shard has. `tidegate status` reads it.
//!
//! What it leaves to others: what came (`control::book`), words for people (`cli::status`).

use super::query::Query;
use super::{Admin, Reply};
use crate::access_log::iso_8601_ms;
use crate::control::book::{Answered, Asked, Shelf};
use serde_json::{Value, json};

/// `/xds_status`
pub(super) fn page(admin: &Admin, _: &Query) -> Reply {
    let book = &admin.state.book;
    let asked = book.asked();
    let kinds: Vec<_> = asked.iter().map(|one| of_kind(one, &book.shelf(one.kind))).collect();
    let waiting = book.waiting();
    let waiting: Vec<_> =
        waiting.iter().map(|(name, targets)| json!({ "name": name, "for": targets })).collect();
    Reply::json(&json!({
        "node": admin.state.shown().node["id"],
        "state": admin.state.state().name(),
        "kinds": kinds,
        "waiting": waiting,
        "snapshot": {
            "published": admin.publisher.load().version,
            "shards": admin.state.shard_versions(),
        },
    }))
}

fn of_kind(asked: &Asked, shelf: &Shelf) -> Value {
    let (status, reason) = judge(asked, shelf.answered.as_ref());
    let refused: Vec<_> = shelf
        .entries
        .iter()
        .filter_map(|(name, entry)| {
            let failure = entry.failure.as_ref()?;
            let at = iso_8601_ms(failure.received.at_unix_us);
            let version = &failure.received.version;
            Some(json!({
                "name": name, "details": failure.details, "version": version, "at": at,
            }))
        })
        .collect();
    let identifier = asked.state.as_ref().map(|state| state.identifier()).unwrap_or_default();
    let here = shelf.entries.values().filter(|entry| entry.received.is_some()).count();
    json!({
        "kind": asked.kind.short_name(),
        "type_url": format!("type.googleapis.com/{}", asked.kind.message()),
        "source": asked.place,
        "control_plane": *identifier,
        "status": status,
        "reason": reason,
        "version": shelf.version,
        "last_answer": shelf.answered.as_ref().map(|it| iso_8601_ms(it.at_unix_us)),
        "asked": asked.names,
        "here": here,
        "refused": refused,
    })
}

/// SYNCED, STALE or NACKED, and why it is not SYNCED.
fn judge(asked: &Asked, answered: Option<&Answered>) -> (&'static str, String) {
    if let Some(reason) = answered.and_then(|it| it.refused.clone()) {
        return ("NACKED", reason);
    }
    match (asked.state.as_ref().map(|state| state.is_connected()), answered) {
        (Some(false), _) => ("STALE", "the management server is not connected".to_owned()),
        (_, None) => ("STALE", "nothing has come yet".to_owned()),
        _ => ("SYNCED", String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ResourceKind;
    use crate::stats::StreamState;
    use std::sync::Arc;

    #[test]
    fn a_refusal_counts_before_a_lost_connection_and_that_before_silence() {
        let state = Arc::new(StreamState::default());
        let asked = Asked {
            kind: ResourceKind::Cluster,
            place: "ads".to_owned(),
            names: None,
            state: Some(state.clone()),
        };
        let answered =
            |refused: Option<&str>| Answered { at_unix_us: 0, refused: refused.map(str::to_owned) };
        let bad = answered(Some("no"));
        assert_eq!(judge(&asked, Some(&bad)), ("NACKED", "no".to_owned()));
        assert_eq!(judge(&asked, Some(&answered(None))).0, "STALE");
        state.set(true, 0, 0, "");
        assert_eq!(judge(&asked, Some(&answered(None))).0, "SYNCED");
        assert_eq!(judge(&asked, None).0, "STALE");
        assert_eq!(judge(&Asked { state: None, ..asked }, Some(&answered(None))).0, "SYNCED");
    }
}
