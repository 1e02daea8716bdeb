//! The program's allocator.
//!
//! What it leaves to others: memory that the kernel writes to (`pool`), and cells of stats, most of
//! which are never touched (`cells`).

pub use mimalloc::MiMalloc as Allocator;

/// Gives back to the kernel what this thread freed, after that was much: a configuration was read,
/// or a burst of requests is over.
/// Nothing happens in a program that does not use [`Allocator`].
pub fn give_back() {
    #[cfg(not(miri))]
    {
        // SAFETY: changes no memory that is in use; what other threads own is left to them.
        unsafe { libmimalloc_sys::mi_collect(true) };
    }
}
