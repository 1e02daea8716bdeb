//! CPU affinity: which CPUs we may use, and pinning a thread to one.
