//! Socket set-up: SO_REUSEPORT listeners and their options.
