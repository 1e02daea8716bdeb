//! A cell that answers as arc-swap may, which loom cannot look into: a load gives the newest value
//! that was stored before it, or any later one.
//!
//! What it leaves to others: when values are let go; this one keeps all of them until it goes.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, PoisonError};

/// A stand-in for `arc_swap::ArcSwap`.
#[derive(Debug)]
pub struct ArcSwap<T> {
    /// All that were stored.
    values: Mutex<Vec<Arc<T>>>,
    /// Which of them is current, with the orderings that arc-swap promises. The lock says no more
    /// than that: it is taken after a load has been answered, and before a store.
    current: AtomicUsize,
}

impl<T> ArcSwap<T> {
    /// With this value.
    pub fn from_pointee(value: T) -> ArcSwap<T> {
        let values = Mutex::new(vec![Arc::new(value)]);
        ArcSwap { values, current: AtomicUsize::new(0) }
    }

    /// From now on it has this one; the one before.
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.push(value);
        let newest = values.len() - 1;
        let before = values[newest - 1].clone();
        drop(values);
        self.current.store(newest, Ordering::Release);
        before
    }

    /// What it has.
    pub fn load_full(&self) -> Arc<T> {
        let current = self.current.load(Ordering::Acquire);
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values[current].clone()
    }
}
