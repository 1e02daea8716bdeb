//! Sessions that can be resumed by their id (TLS 1.2), for a limited time.
//!
//! What it leaves to others: tickets (`tickets`).

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use rustls::time_provider::TimeProvider;
use std::fmt;
use std::sync::Arc;

/// Sessions that are kept at most, by context.
const SESSIONS_MAX: usize = 4096;

/// Sessions with the time when they began.
pub(super) struct TimedSessions {
    sessions: Arc<ServerSessionMemoryCache>,
    lifetime_s: u64,
    time: Arc<dyn TimeProvider>,
}

impl TimedSessions {
    pub fn new(lifetime_s: u64, time: Arc<dyn TimeProvider>) -> TimedSessions {
        TimedSessions { sessions: ServerSessionMemoryCache::new(SESSIONS_MAX), lifetime_s, time }
    }

    fn fresh(&self, value: &[u8]) -> Option<Vec<u8>> {
        let (begun, value) = value.split_first_chunk()?;
        let age = self.time.current_time()?.as_secs().checked_sub(u64::from_be_bytes(*begun))?;
        (age < self.lifetime_s).then(|| value.to_vec())
    }
}

impl StoresServerSessions for TimedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let Some(now) = self.time.current_time() else { return false };
        let mut timed = now.as_secs().to_be_bytes().to_vec();
        timed.extend(value);
        self.sessions.put(key, timed)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(&self.sessions.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.fresh(&self.sessions.take(key)?)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for TimedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedSessions").field("lifetime_s", &self.lifetime_s).finish()
    }
}
