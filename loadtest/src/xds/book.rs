//! What was sent and when it was answered.
//!
//! What it leaves to others: sending, reading the clock, and showing it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::world::Kind;
use crate::engine::interval::histogram;

/// NACKs whose text is kept.
const NACKS_KEPT: usize = 10;

/// Why something is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The client has asked for it.
    Asked,
    /// It has changed.
    Changed,
    /// It belongs to what has changed.
    Follows,
}

/// A response that was not answered yet.
#[derive(Debug)]
struct Sent {
    at: Duration,
    kind: Kind,
    names: Vec<String>,
    reason: Reason,
}

/// All streams' responses. Times are since some beginning.
#[derive(Debug)]
pub struct Book {
    waiting: HashMap<String, Sent>,
    /// Names that were acknowledged at least once, by kind.
    known: [BTreeSet<String>; 4],
    pub first_request: Option<Duration>,
    pub last_ack: Option<Duration>,
    /// Responses, resources in them, and answers to them, by kind.
    pub responses: [u64; 4],
    pub resources: [u64; 4],
    pub acks: [u64; 4],
    pub nacks: [u64; 4],
    pub nack_texts: Vec<String>,
    /// Nanoseconds from a response to its ACK: of what was asked for, and of changes by kind.
    pub of_asked: Histogram<u64>,
    pub of_changes: [Histogram<u64>; 4],
    nonce: u64,
}

impl Book {
    pub fn new() -> Book {
        Book {
            waiting: HashMap::new(),
            known: Default::default(),
            first_request: None,
            last_ack: None,
            responses: [0; 4],
            resources: [0; 4],
            acks: [0; 4],
            nacks: [0; 4],
            nack_texts: Vec::new(),
            of_asked: histogram(),
            of_changes: [histogram(), histogram(), histogram(), histogram()],
            nonce: 0,
        }
    }

    /// A response is sent; its nonce.
    pub fn send(&mut self, kind: Kind, names: &[String], reason: Reason, now: Duration) -> String {
        self.nonce += 1;
        self.responses[kind as usize] += 1;
        self.resources[kind as usize] += names.len() as u64;
        let nonce = self.nonce.to_string();
        let sent = Sent { at: now, kind, names: names.to_vec(), reason };
        self.waiting.insert(nonce.clone(), sent);
        nonce
    }

    /// A request has come; it answers the response of this nonce, if there is one.
    pub fn receive(&mut self, nonce: &str, error: Option<&str>, now: Duration) {
        self.first_request.get_or_insert(now);
        let Some(sent) = self.waiting.remove(nonce) else { return };
        let kind = sent.kind as usize;
        if let Some(error) = error {
            self.nacks[kind] += 1;
            if self.nack_texts.len() < NACKS_KEPT {
                self.nack_texts.push(format!("{}: {error}", sent.kind));
            }
            return;
        }
        self.acks[kind] += 1;
        self.last_ack = Some(now);
        let took = u64::try_from(now.saturating_sub(sent.at).as_nanos()).unwrap_or(u64::MAX);
        match sent.reason {
            Reason::Asked => self.of_asked.saturating_record(took),
            Reason::Changed => self.of_changes[kind].saturating_record(took),
            Reason::Follows => {}
        }
        self.known[kind].extend(sent.names);
    }

    /// Resources of a kind that were acknowledged.
    pub fn known(&self, kind: Kind) -> usize {
        self.known[kind as usize].len()
    }

    /// Responses without an answer.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_counted_once_under_its_response() {
        let at = Duration::from_millis;
        let mut book = Book::new();
        book.receive("", None, at(5));
        let names = ["a".to_owned(), "b".to_owned()];
        let first = book.send(Kind::Clusters, &names, Reason::Asked, at(6));
        let second = book.send(Kind::Endpoints, &names[..1], Reason::Changed, at(7));
        assert_eq!(book.waiting(), 2);
        book.receive(&second, None, at(10));
        book.receive(&second, None, at(11));
        book.receive(&first, Some("no"), at(12));
        assert_eq!((book.first_request, book.last_ack), (Some(at(5)), Some(at(10))));
        assert_eq!((book.acks, book.nacks), ([0, 1, 0, 0], [1, 0, 0, 0]));
        assert_eq!((book.responses, book.resources), ([1, 1, 0, 0], [2, 1, 0, 0]));
        assert_eq!((book.known(Kind::Clusters), book.known(Kind::Endpoints)), (0, 1));
        assert_eq!(book.nack_texts, ["clusters: no"]);
        let took = book.of_changes[Kind::Endpoints as usize].max();
        assert!((2_990_000..=3_010_000).contains(&took), "{took}");
        assert!(book.of_asked.is_empty() && book.waiting() == 0);
    }
}
