//! Session tickets: keys that all shards share, and what a ticket is bound to.
//!
//! A ticket opens only in a context that asks the same of its clients: what was verified by laxer
//! rules must not get in by stricter ones (CVE-2022-21654). So the scope, a digest of those rules,
//! is authenticated with each ticket.
//!
//! What it leaves to others: when keys rotate (`control`).

use super::digest::Digest;
use super::error::TlsError;
use crate::config::tls::Sha256;
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use std::fmt;
use std::sync::Arc;

/// What Envoy asks of a key of `session_ticket_keys`.
const KEY_BYTES: usize = 80;
const NAME_BYTES: usize = 16;
/// Old keys that still open tickets.
const OLD_KEYS: usize = 2;

/// A key, with the name that its tickets begin with.
struct TicketKey {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl TicketKey {
    fn new(name: [u8; NAME_BYTES], secret: &[u8]) -> Option<TicketKey> {
        let key = UnboundKey::new(&AES_256_GCM, secret).ok()?;
        Some(TicketKey { name, key: LessSafeKey::new(key) })
    }

    fn random() -> Option<TicketKey> {
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; 32]);
        rand::fill(&mut name).ok()?;
        rand::fill(&mut secret).ok()?;
        TicketKey::new(name, &secret)
    }

    /// Of the 80 bytes of `session_ticket_keys`: a name, and what the key is made of.
    fn given(bytes: &[u8]) -> Option<TicketKey> {
        let (name, secret) = bytes.split_first_chunk()?;
        TicketKey::new(*name, &Digest::new("ticket key").with(secret).finish())
    }
}

/// The keys of this process, newest first, for contexts without keys of their own.
pub struct TicketKeys {
    keys: ArcSwap<Vec<Arc<TicketKey>>>,
}

impl TicketKeys {
    /// With one random key.
    #[must_use]
    pub fn new() -> Arc<TicketKeys> {
        let keys = TicketKey::random().map(Arc::new).into_iter().collect();
        Arc::new(TicketKeys { keys: ArcSwap::from_pointee(keys) })
    }

    /// Seals with a new key from now on; the oldest one is forgotten.
    pub fn rotate(&self) {
        let Some(new) = TicketKey::random() else { return };
        let old = self.keys.load();
        let old = old.iter().take(OLD_KEYS).cloned();
        self.keys.store(Arc::new(std::iter::once(Arc::new(new)).chain(old).collect()));
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

/// Tickets of one context.
pub(super) struct Tickets {
    keys: Arc<TicketKeys>,
    scope: Sha256,
    lifetime_s: u32,
    time: Arc<dyn TimeProvider>,
}

impl Tickets {
    pub fn new(
        keys: Arc<TicketKeys>,
        scope: Sha256,
        lifetime_s: u32,
        time: Arc<dyn TimeProvider>,
    ) -> Tickets {
        Tickets { keys, scope, lifetime_s, time }
    }

    fn aad(&self, key: &TicketKey) -> Aad<Vec<u8>> {
        Aad::from([&self.scope[..], &key.name[..]].concat())
    }
}

/// The keys of `session_ticket_keys`: the first seals.
pub(super) fn given_keys<'a>(
    keys: impl Iterator<Item = &'a [u8]>,
    place: &str,
) -> Result<Arc<TicketKeys>, TlsError> {
    let mut converted = Vec::new();
    for (index, bytes) in keys.enumerate() {
        let key = TicketKey::given(bytes).filter(|_| bytes.len() == KEY_BYTES);
        let key = key.ok_or_else(|| {
            let path = format!("{place}[{index}]");
            let reason = format!(
                "incorrect TLS session ticket key length: it has {} bytes and needs {KEY_BYTES}",
                bytes.len()
            );
            TlsError::new(path, reason).hint(format!("`openssl rand {KEY_BYTES}` writes a key"))
        })?;
        converted.push(Arc::new(key));
    }
    Ok(Arc::new(TicketKeys { keys: ArcSwap::from_pointee(converted) }))
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    /// Name, nonce, and sealed: the time, then the session.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.keys.load();
        let key = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = self.time.current_time()?.as_secs().to_be_bytes().to_vec();
        sealed.extend(plain);
        let once = Nonce::assume_unique_for_key(nonce);
        key.key.seal_in_place_append_tag(once, self.aad(key), &mut sealed).ok()?;
        Some([&key.name[..], &nonce[..], &sealed[..]].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.keys.load();
        let key = keys.iter().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let once = Nonce::assume_unique_for_key(*nonce);
        let plain = key.key.open_in_place(once, self.aad(key), &mut sealed).ok()?;
        let (begun, session) = plain.split_first_chunk()?;
        let age = self.time.current_time()?.as_secs().checked_sub(u64::from_be_bytes(*begun))?;
        (age < u64::from(self.lifetime_s)).then(|| session.to_vec())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lifetime_s", &self.lifetime_s).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Debug, Default)]
    struct Clock(AtomicU64);

    impl TimeProvider for Clock {
        fn current_time(&self) -> Option<UnixTime> {
            let seconds = self.0.load(Ordering::Relaxed);
            Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        }
    }

    fn tickets(keys: &Arc<TicketKeys>, scope: u8, clock: &Arc<Clock>) -> Tickets {
        Tickets::new(keys.clone(), [scope; 32], 100, clock.clone())
    }

    #[test]
    fn a_ticket_opens_in_its_scope_and_in_its_time() {
        let (keys, clock) = (TicketKeys::new(), Arc::new(Clock::default()));
        let ticket = tickets(&keys, 1, &clock).encrypt(b"session").unwrap();
        let open = |scope| tickets(&keys, scope, &clock).decrypt(&ticket);
        assert_eq!(open(1).as_deref(), Some(&b"session"[..]));
        assert_eq!(open(2), None, "another scope");
        clock.0.store(100, Ordering::Relaxed);
        assert_eq!(open(1), None, "too old");
    }

    #[test]
    fn a_ticket_outlives_two_rotations_and_no_change() {
        let (keys, clock) = (TicketKeys::new(), Arc::new(Clock::default()));
        let tickets = tickets(&keys, 1, &clock);
        let ticket = tickets.encrypt(b"session").unwrap();
        for byte in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[byte] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {byte}");
            assert_eq!(tickets.decrypt(&ticket[..byte]), None, "cut at {byte}");
        }
        keys.rotate();
        keys.rotate();
        assert!(tickets.decrypt(&ticket).is_some());
        keys.rotate();
        assert!(tickets.decrypt(&ticket).is_none());
    }

    #[test]
    fn given_keys_are_the_same_in_every_process_and_have_80_bytes() {
        let clock = Arc::new(Clock::default());
        let (a, b) = ([1_u8; 80], [2_u8; 80]);
        let given = |keys: &[&[u8]]| given_keys(keys.iter().copied(), "keys");
        let ticket = tickets(&given(&[&a]).unwrap(), 1, &clock).encrypt(b"s").unwrap();
        let rotated = tickets(&given(&[&b, &a]).unwrap(), 1, &clock);
        assert!(rotated.decrypt(&ticket).is_some());
        let error = given(&[&a, &b[..79]]).unwrap_err().to_string();
        assert!(error.contains("keys[1]") && error.contains("79 bytes"), "{error}");
    }
}
