//! Directories in which a file is moved into place, by inotify. Envoy takes nothing else for a
//! change: a file that is written where it stands is for a moment half of itself.
//!
//! What it leaves to others: what follows (`tls`).

use crate::log::{self, Component};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tokio::io::unix::AsyncFd;

/// Room for what is read at once.
const BUFFER: usize = 4096;

/// The directories that are watched.
#[derive(Debug, Default)]
pub struct Watch {
    inotify: Option<AsyncFd<OwnedFd>>,
    directories: BTreeMap<PathBuf, i32>,
}

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// Something in these directories.
    In(BTreeSet<PathBuf>),
    /// Nobody knows: there were too many changes, or a directory is gone.
    Unknown,
}

impl Watch {
    /// From now on these are watched, and nothing else. What cannot be watched is reported.
    pub fn set(&mut self, wanted: &BTreeSet<PathBuf>) {
        if wanted.is_empty() && self.inotify.is_none() {
            return;
        }
        if self.inotify.is_none() {
            let opened = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
            #[allow(deprecated, reason = "an OwnedFd stays open; the other way is unsafe code")]
            let registered = opened.map_err(std::io::Error::from).and_then(AsyncFd::new);
            match registered {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(error) => {
                    let text = format_args!("cannot watch for new files: {error}");
                    return log::warning(Component::Config, text);
                }
            }
        }
        let Some(inotify) = &self.inotify else { return };
        self.directories.retain(|directory, number| {
            let stays = wanted.contains(directory);
            if !stays {
                // It may be gone, and its watch with it.
                let _ = inotify::remove_watch(inotify.get_ref(), *number);
            }
            stays
        });
        let flags = WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        for directory in wanted {
            if self.directories.contains_key(directory) {
                continue;
            }
            match inotify::add_watch(inotify.get_ref(), directory, flags) {
                Ok(number) => drop(self.directories.insert(directory.clone(), number)),
                Err(error) => {
                    let directory = directory.display();
                    let text = format_args!("cannot watch `{directory}`: {error}");
                    log::warning(Component::Config, text);
                }
            }
        }
    }

    /// Waits for a change; for ever when nothing is watched.
    pub async fn changed(&mut self) -> Changed {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = inotify.readable().await else {
                return std::future::pending().await;
            };
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
            let (mut numbers, mut unknown) = (BTreeSet::new(), false);
            while let Ok(event) = reader.next() {
                numbers.insert(event.wd());
                unknown |= !event.events().contains(ReadFlags::MOVED_TO);
            }
            ready.clear_ready();
            let named = self.directories.iter().filter(|(_, number)| numbers.contains(number));
            let named: BTreeSet<_> = named.map(|(directory, _)| directory.clone()).collect();
            if unknown {
                self.directories.retain(|_, number| !numbers.contains(number));
                return Changed::Unknown;
            }
            if !named.is_empty() {
                return Changed::In(named);
            }
        }
    }
}
