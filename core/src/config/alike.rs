//! Values of a configuration that are the same many times over, kept once.
//!
//! What it leaves to others: what is worth it (`route_action`).

use std::borrow::Borrow;
use std::cell::RefCell;
use std::sync::Arc;

/// So many different values are looked through: what is alike is mostly near.
const RECENT_MAX: usize = 8;

/// The last few different values, the newest last.
#[derive(Debug)]
pub(super) struct Alike<T: ?Sized>(RefCell<Vec<Arc<T>>>);

impl<T: ?Sized> Default for Alike<T> {
    fn default() -> Alike<T> {
        Alike(RefCell::default())
    }
}

impl<T: PartialEq + ?Sized> Alike<T> {
    /// The newest of which this holds, if that was one of the last.
    pub fn find(&self, holds: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.0.borrow().iter().rev().find(|it| holds(it)).cloned()
    }

    /// The value, shared with an equal one if that was one of the last.
    pub fn shared<V: Borrow<T> + Into<Arc<T>>>(&self, value: V) -> Arc<T> {
        if let Some(same) = self.find(|it| *it == *value.borrow()) {
            return same;
        }
        let mut recent = self.0.borrow_mut();
        if recent.len() == RECENT_MAX {
            recent.remove(0);
        }
        let value: Arc<T> = value.into();
        recent.push(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_while_they_are_near() {
        let alike = Alike::<[u32]>::default();
        let shared = |value: u32| alike.shared(vec![value]);
        let first = shared(0);
        assert!(Arc::ptr_eq(&first, &shared(0)));
        assert!(!Arc::ptr_eq(&first, &shared(1)));
        assert!(Arc::ptr_eq(&first, &shared(0)));
        (1..=RECENT_MAX as u32).for_each(|value| drop(shared(value)));
        let again = shared(0);
        assert!(!Arc::ptr_eq(&first, &again) && first == again);
    }
}
