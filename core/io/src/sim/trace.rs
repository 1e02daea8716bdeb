//! The trace of a simulated world: everything that happened, folded into one number, so that "the
//! same seed gives the same trace" can be tested; and printed on request.
//!
//! What it leaves to others: deciding what is worth recording.

/// A running hash (FNV-1a over 64-bit words) of what happened.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    entries: u64,
    print: bool,
    lengths_only: bool,
}

/// One thing that happened: where, and two numbers whose meaning `what` decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub what: &'static str,
    pub node: usize,
    pub subject: u64,
    pub value: u64,
}

impl Trace {
    pub fn new() -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, entries: 0, print: false, lengths_only: false }
    }

    pub fn set_print(&mut self, print: bool) {
        self.print = print;
    }

    pub fn set_lengths_only(&mut self) {
        self.lengths_only = true;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn record(&mut self, now: u64, entry: Entry) {
        self.entries += 1;
        self.word(now);
        self.bytes(entry.what.as_bytes());
        self.word(entry.node as u64);
        self.word(entry.subject);
        self.word(entry.value);
        if self.print {
            self.print_entry(now, entry);
        }
    }

    /// Folds received bytes in; part of the entry that follows.
    pub fn received(&mut self, bytes: &[u8]) {
        if !self.lengths_only {
            self.bytes(bytes);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.word(u64::from(*byte));
        }
    }

    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    }

    fn print_entry(&self, now: u64, Entry { what, node, subject, value }: Entry) {
        let (s, us) = (now / 1_000_000_000, now / 1_000 % 1_000_000);
        eprintln!("{:>7} {s:>4}.{us:06} io{node} {what:<14} {subject:>5} {value}", self.entries);
    }
}
