//! Which backend to use: what the operator asked for, and what this machine allows.
//!
//! What it leaves to others: building the backend, and telling the operator.

use std::fmt;
use std::str::FromStr;

use crate::uring::{Capabilities, Unavailable, probe};

/// What `--io-backend` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Backend {
    /// io_uring where it works, otherwise epoll with a warning.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll, without looking for io_uring.
    Epoll,
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Backend, String> {
        match text {
            "auto" => Ok(Backend::Auto),
            "io_uring" => Ok(Backend::IoUring),
            "epoll" => Ok(Backend::Epoll),
            other => Err(format!("unknown I/O backend `{other}`: use auto, io_uring or epoll")),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Auto => "auto",
            Backend::IoUring => "io_uring",
            Backend::Epoll => "epoll",
        })
    }
}

/// The backend that will run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// [`crate::uring::Uring`].
    IoUring,
    /// [`crate::epoll::Epoll`].
    Epoll,
}

/// A decision, and what the operator should know about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The backend that will run.
    pub backend: Chosen,
    /// One sentence when it is not the best that could be: why, and what to do.
    pub warning: Option<String>,
}

impl Backend {
    /// Decides, probing for io_uring when it is asked for or may be used.
    ///
    /// # Errors
    ///
    /// When io_uring was asked for by name and does not work here.
    pub fn choose(self) -> Result<Choice, Unavailable> {
        self.choose_by(probe)
    }

    fn choose_by(
        self,
        probe: impl FnOnce() -> Result<Capabilities, Unavailable>,
    ) -> Result<Choice, Unavailable> {
        if self == Backend::Epoll {
            return Ok(Choice { backend: Chosen::Epoll, warning: None });
        }
        match probe() {
            Ok(capabilities) => {
                Ok(Choice { backend: Chosen::IoUring, warning: capabilities.limited })
            }
            Err(unavailable) if self == Backend::Auto => Ok(Choice {
                backend: Chosen::Epoll,
                warning: Some(format!("using epoll: {unavailable}")),
            }),
            Err(unavailable) => Err(unavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    fn works() -> Result<Capabilities, Unavailable> {
        Ok(Capabilities {
            submission_entries: 32,
            completion_entries: 128,
            no_sqarray: true,
            registered_ring: true,
            limited: Some("small queues".to_owned()),
        })
    }

    fn denied() -> Result<Capabilities, Unavailable> {
        Err(Unavailable {
            errno: Some(Errno(libc::EPERM)),
            reason: "io_uring is denied".to_owned(),
        })
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for backend in [Backend::Auto, Backend::IoUring, Backend::Epoll] {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        for text in ["", "AUTO", "uring", "io-uring", "epoll "] {
            assert!(text.parse::<Backend>().unwrap_err().contains("io_uring or epoll"), "{text}");
        }
    }

    #[test]
    fn auto_falls_back_with_a_warning_that_names_the_reason() {
        let choice = Backend::Auto.choose_by(denied).unwrap();
        assert_eq!(choice.backend, Chosen::Epoll);
        assert_eq!(choice.warning.unwrap(), "using epoll: io_uring is denied");
    }

    #[test]
    fn io_uring_by_name_does_not_fall_back() {
        assert_eq!(Backend::IoUring.choose_by(denied).unwrap_err().reason, "io_uring is denied");
        let choice = Backend::IoUring.choose_by(works).unwrap();
        assert_eq!(
            (choice.backend, choice.warning.as_deref()),
            (Chosen::IoUring, Some("small queues"))
        );
    }

    #[test]
    fn epoll_by_name_does_not_probe() {
        let choice = Backend::Epoll.choose_by(|| unreachable!("not asked for")).unwrap();
        assert_eq!((choice.backend, choice.warning), (Chosen::Epoll, None));
    }
}
