//! SHA-256 of several parts, so that no two lists of parts have the same.
//!
//! What it leaves to others: what the parts are.

use crate::config::tls::Sha256;
use aws_lc_rs::digest::{Context, SHA256, digest};

/// Of one text.
pub(super) fn sha256(bytes: &[u8]) -> Sha256 {
    to_array(digest(&SHA256, bytes).as_ref())
}

/// Of parts that are added one by one.
pub(super) struct Digest(Context);

impl Digest {
    /// `purpose` keeps digests of different things apart.
    pub fn new(purpose: &str) -> Digest {
        Digest(Context::new(&SHA256)).with(purpose.as_bytes())
    }

    /// With one part more; its length goes before it.
    pub fn with(mut self, part: &[u8]) -> Digest {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// The digest.
    pub fn finish(self) -> Sha256 {
        to_array(self.0.finish().as_ref())
    }
}

fn to_array(bytes: &[u8]) -> Sha256 {
    let mut array = [0; 32];
    array.copy_from_slice(bytes);
    array
}
