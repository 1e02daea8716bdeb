//! The epoll backend: completions made from readiness.
