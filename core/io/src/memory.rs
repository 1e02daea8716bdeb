//! What the allocator does with large pieces of memory.
//!
//! What it leaves to others: allocating.

/// Pieces from this size on are mapped one by one.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 256 << 10;

/// Makes the allocator map every large piece by itself, for the life of the process.
///
/// glibc raises the size from which it does so to 32 MiB while a large configuration is read; then
/// pieces that are reserved and not used (the cells of stats) come from memory that was used
/// before, is zeroed, and so is present: 10 KiB of it for each cluster.
pub fn map_large_pieces() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: sets a number in the allocator, which takes its own lock.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM) };
    }
}

/// Gives back what is free, after much was freed: a configuration was read.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: changes no memory that is in use; the allocator takes its own locks.
        unsafe { libc::malloc_trim(0) };
    }
}
