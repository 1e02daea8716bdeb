//! xDS from files (`path_config_source`): a file is read at the start, and whenever something is
//! moved into its place. Envoy takes nothing else for a change: a file that is written where it
//! stands is for a moment half of itself.
//!
//! What it leaves to others: what is in the file.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Room for what inotify tells at once: at least one event with the longest name.
const BUFFER: usize = 4096;

/// From one look for a directory that is gone to the next.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How a file's bytes are to be read: by its extension, as in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`.
    Yaml,
    /// `.pb_text`.
    ProtobufText,
    /// `.pb`.
    Protobuf,
    /// All others.
    Json,
}

impl Format {
    /// The format of the file with this name.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(OsStr::to_str) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("pb_text") => Self::ProtobufText,
            Some("pb") => Self::Protobuf,
            _ => Self::Json,
        }
    }
}

/// A file as it stood at some moment.
#[derive(Debug)]
pub struct Contents {
    /// Its path, as it was given.
    pub path: PathBuf,
    /// How to read it.
    pub format: Format,
    /// Its bytes, or why there are none: what was valid stays valid.
    pub bytes: io::Result<Vec<u8>>,
}

/// A file that is watched. Needs no task: await `next` where other events are awaited.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    bytes_max: u64,
    directory: PathBuf,
    /// The name that must be moved into place; any when a directory is watched for the file.
    name: Option<OsString>,
    inotify: AsyncFd<OwnedFd>,
    /// Its content is due: at the start, and after a change.
    due: bool,
    /// There is no directory any more; it is looked for.
    lost: bool,
}

impl File {
    /// Watches a file, or the directory that is given for it (`watched_directory`): Kubernetes
    /// moves a link there and leaves the file's own name alone. At most so many bytes are read.
    ///
    /// # Errors
    ///
    /// The directory cannot be watched, or the machine has no more watches
    /// (`fs.inotify.max_user_instances`, `fs.inotify.max_user_watches`).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn watch(path: &Path, watched: Option<&Path>, bytes_max: u64) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let (directory, name) = match watched {
            Some(directory) => (directory, None),
            None => (parent.unwrap_or(Path::new(".")), path.file_name().map(OsStr::to_owned)),
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, directory, flags())?;
        #[allow(deprecated, reason = "an OwnedFd stays open; the other way is unsafe code")]
        let inotify = AsyncFd::new(inotify)?;
        let (path, directory) = (path.to_owned(), directory.to_owned());
        Ok(Self { path, bytes_max, directory, name, inotify, due: true, lost: false })
    }

    /// The content now, at the first call, and then whenever it changes. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Contents {
        while !self.due {
            self.due = self.changed().await;
        }
        self.due = false;
        let (path, format) = (self.path.clone(), Format::of(&self.path));
        Contents { path, format, bytes: self.read() }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&self.path)?;
        file.take(self.bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.bytes_max {
            let text = format!("more than {} bytes", self.bytes_max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(bytes)
    }

    /// Waits for news of the directory, and says whether they are of the file.
    async fn changed(&mut self) -> bool {
        if self.lost {
            tokio::time::sleep(LOOK_AGAIN).await;
            self.lost = self.watch_directory().is_err();
            return !self.lost;
        }
        let Ok(mut ready) = self.inotify.readable().await else {
            return std::future::pending().await;
        };
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let (mut changed, mut anew) = (false, false);
        while let Ok(event) = reader.next() {
            let events = event.events();
            let ours = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            changed |= events.contains(ReadFlags::MOVED_TO)
                && self.name.as_deref().is_none_or(|name| Some(name) == ours);
            // Too much has happened to be told.
            changed |= events.contains(ReadFlags::QUEUE_OVERFLOW);
            if events.intersects(ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF)
            {
                // Another directory may have come in its place; if not, the file cannot be read
                // either.
                changed = true;
                anew = true;
            }
        }
        ready.clear_ready();
        if anew {
            self.lost = self.watch_directory().is_err();
        }
        changed
    }

    fn watch_directory(&self) -> io::Result<()> {
        inotify::add_watch(self.inotify.get_ref(), &self.directory, flags())?;
        Ok(())
    }
}

fn flags() -> WatchFlags {
    WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF
}
