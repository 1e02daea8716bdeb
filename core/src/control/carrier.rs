//! The thread that carries streams to management servers: what they send, megabytes of it, is
//! received and taken apart beside control, which goes on meanwhile.
//!
//! What it leaves to others: the streams (`xds`).

use std::io;
use std::thread;
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime. It ends when this goes.
#[derive(Debug)]
pub(super) struct Carrier {
    runtime: Handle,
    _end: oneshot::Sender<()>,
}

impl Carrier {
    /// Starts the thread.
    pub fn start() -> io::Result<Carrier> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, (end, ended)) = (runtime.handle().clone(), oneshot::channel());
        thread::Builder::new().name("xds".to_owned()).spawn(move || {
            // An error says that the sender went, which is what is waited for.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Carrier { runtime: handle, _end: end })
    }

    /// Runs this there. What it is, besides, is not carried on meanwhile.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Tasks that are spawned while this is held run there.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }
}
