//! Waits for the first of many. Can be dropped and begun again when what is waited for can.
//!
//! What it leaves to others: what is waited for.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// What the first that is ready gives; without any it waits for ever.
pub(super) async fn first_of<F: Future>(waits: impl Iterator<Item = F>) -> F::Output {
    let mut waits: Vec<_> = waits.map(Box::pin).collect();
    poll_fn(|context| {
        let ready = waits.iter_mut().find_map(|wait| match wait.as_mut().poll(context) {
            Poll::Ready(given) => Some(given),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
