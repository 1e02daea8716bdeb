//! The pool of receive buffers of one backend: one region, a stack of free buffers, no atomics.
//!
//! The buffer that was freed last is used next, for its lines are warm. Starts are an odd number of
//! cache lines apart, so that the first lines of the buffers, the ones that small messages touch,
//! spread over all sets of the first-level cache instead of fighting for one. Memory becomes
//! resident when a buffer is first used: a pool that never held more than ten buffers occupies ten
//! buffers.
//!
//! What it leaves to others: deciding which buffers the kernel gets, and counted access to the
//! bytes ([`crate::Buffer`]).

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;

use crate::Buffer;
use crate::buffer::{HEADER_BYTES, Header};
use crate::region::Region;

const LINE_BYTES: usize = 64;

/// The pool as its buffers see it. It lives until the pool and all handles are gone.
pub(crate) struct Core {
    region: Region,
    free: Cell<Option<NonNull<Header>>>,
    free_count: Cell<u32>,
    /// Buffers to which a handle exists.
    in_use: Cell<u32>,
    /// With more than so many in use the rest is for receiving.
    plenty: u32,
    /// The pool itself is gone: the last buffer to come back takes the core along.
    orphaned: Cell<bool>,
}

impl Core {
    /// Puts a buffer without handles on the free stack.
    ///
    /// # Safety
    ///
    /// `core` is alive, `header` is one of its buffers, has no handles and had one until now.
    pub(crate) unsafe fn take_back(core: NonNull<Core>, header: NonNull<Header>) {
        // SAFETY: alive, says the caller.
        let this = unsafe { core.as_ref() };
        this.push_free(header);
        this.in_use.set(this.in_use.get() - 1);
        if this.orphaned.get() && this.in_use.get() == 0 {
            // SAFETY: the core came from Box::into_raw in `Pool::new`; the pool is gone and this
            // was the last buffer, so nobody points here any more.
            drop(unsafe { Box::from_raw(core.as_ptr()) });
        }
    }

    /// Whether more than half of the buffers are in use.
    pub(crate) fn is_scarce(&self) -> bool {
        self.in_use.get() > self.plenty
    }

    fn push_free(&self, header: NonNull<Header>) {
        // SAFETY: a buffer of this pool: its header is alive as long as the region is.
        unsafe { header.as_ref() }.next.set(self.free.get());
        self.free.set(Some(header));
        self.free_count.set(self.free_count.get() + 1);
    }
}

/// Receive buffers of one size, at most `buffers_max` of them.
pub(crate) struct Pool {
    core: NonNull<Core>,
    stride: usize,
    buffer_bytes: u32,
    buffers_max: u32,
    /// Buffers with a lower number have been used before and have a header.
    fresh: u32,
}

impl Pool {
    /// Reserves address space for `buffers_max` buffers of `buffer_bytes` each.
    ///
    /// When the address space is short (`RLIMIT_AS`) the pool gets smaller, down to 16 buffers.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when there is no room for 16 buffers either.
    pub(crate) fn new(buffer_bytes: u32, mut buffers_max: u32) -> io::Result<Pool> {
        let stride = stride(buffer_bytes);
        let region = loop {
            match Region::reserve(stride * buffers_max as usize) {
                Ok(region) => break region,
                Err(error) if buffers_max <= 16 => return Err(error),
                Err(_) => buffers_max = (buffers_max / 2).max(16),
            }
        };
        let core = Box::new(Core {
            region,
            free: Cell::new(None),
            free_count: Cell::new(0),
            in_use: Cell::new(0),
            plenty: buffers_max / 2,
            orphaned: Cell::new(false),
        });
        let core = NonNull::from(Box::leak(core));
        Ok(Pool { core, stride, buffer_bytes, buffers_max, fresh: 0 })
    }

    fn core(&self) -> &Core {
        // SAFETY: the core lives at least as long as the pool: it is freed by the pool's drop or,
        // when that finds handles, by the last of them.
        unsafe { self.core.as_ref() }
    }

    /// Bytes that fit into each buffer.
    pub(crate) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// Buffers that could be taken now.
    pub(crate) fn available(&self) -> u32 {
        self.core().free_count.get() + (self.buffers_max - self.fresh)
    }

    /// Buffers to which somebody holds a handle.
    pub(crate) fn in_use(&self) -> u32 {
        self.core().in_use.get()
    }

    /// Takes a free buffer, to be filled. It has no handle yet and must come back by
    /// [`Pool::received`] or [`Pool::put_back`].
    pub(crate) fn take(&mut self) -> Option<Vacant> {
        let core = self.core();
        if let Some(header) = core.free.get() {
            // SAFETY: on the free stack, hence one of our buffers, and alive with the region.
            let head = unsafe { header.as_ref() };
            core.free.set(head.next.take());
            core.free_count.set(core.free_count.get() - 1);
            return Some(Vacant(header));
        }
        (self.fresh < self.buffers_max).then(|| self.take_fresh())
    }

    fn take_fresh(&mut self) -> Vacant {
        let id = self.fresh;
        self.fresh += 1;
        let header = self.locate(id);
        // SAFETY: id < buffers_max, so the whole buffer lies inside the region; its stride and the
        // region's base are multiples of 64, so the header is aligned; nobody uses it yet.
        unsafe {
            header.write(Header {
                home: Some(self.core),
                next: Cell::new(None),
                references: Cell::new(0),
                id,
                capacity: self.buffer_bytes,
            });
        }
        Vacant(header)
    }

    fn locate(&self, id: u32) -> NonNull<Header> {
        assert!(id < self.buffers_max);
        // SAFETY: inside the region, which has buffers_max strides.
        unsafe { self.core().region.base().add(self.stride * id as usize) }.cast()
    }

    /// Finds the buffer again that was taken with this number and is not back yet.
    pub(crate) fn taken(&self, id: u32) -> Vacant {
        assert!(id < self.fresh);
        Vacant(self.locate(id))
    }

    /// The first handle to a buffer that was filled with `length` bytes.
    pub(crate) fn received(&self, vacant: Vacant, length: u32) -> Buffer {
        let core = self.core();
        core.in_use.set(core.in_use.get() + 1);
        // SAFETY: a `Vacant` is a live buffer without handles that is not free. Its bytes are
        // initialised: the region was born zeroed.
        unsafe { Buffer::first(vacant.0, length) }
    }

    /// Gives a buffer back that was not filled.
    pub(crate) fn put_back(&self, vacant: Vacant) {
        self.core().push_free(vacant.0);
    }

    /// Gives the memory up for good instead of unmapping it.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.in_use() == 0 {
            // SAFETY: from Box::leak in `new`; no handle exists and the pool goes away.
            drop(unsafe { Box::from_raw(self.core.as_ptr()) });
        } else {
            self.core().orphaned.set(true);
        }
    }
}

/// A buffer of a pool that is neither free nor has a handle: it waits to be filled.
#[must_use]
pub(crate) struct Vacant(NonNull<Header>);

impl Vacant {
    /// Its number in the pool.
    pub(crate) fn id(&self) -> u32 {
        // SAFETY: alive as long as the pool, which outlives its use as a vacant buffer.
        unsafe { self.0.as_ref() }.id
    }

    /// Where its data goes.
    pub(crate) fn data(&self) -> *mut u8 {
        // SAFETY: the data stands HEADER_BYTES after the header, in the same buffer.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER_BYTES) }
    }
}

/// Bytes from one buffer to the next: header and data in whole cache lines, and an odd number of
/// them.
fn stride(buffer_bytes: u32) -> usize {
    let lines = (HEADER_BYTES + buffer_bytes as usize).div_ceil(LINE_BYTES);
    (lines | 1) * LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pool: &mut Pool, bytes: &[u8]) -> Option<Buffer> {
        let vacant = pool.take()?;
        // SAFETY: the tests' buffers are long enough, and a vacant buffer has no reader.
        unsafe { vacant.data().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Some(pool.received(vacant, bytes.len() as u32))
    }

    #[test]
    fn strides_are_odd_numbers_of_lines() {
        for bytes in [1024, 1025, 4096, 16384, 16384 - 64, 65536] {
            let stride = stride(bytes);
            assert_eq!(stride % LINE_BYTES, 0);
            assert_eq!((stride / LINE_BYTES) % 2, 1, "{bytes}");
            assert!(stride >= bytes as usize + HEADER_BYTES);
        }
    }

    #[test]
    fn the_buffer_freed_last_is_used_next() {
        let mut pool = Pool::new(1024, 16).unwrap();
        let one = fill(&mut pool, b"one").unwrap();
        let two = fill(&mut pool, b"two").unwrap();
        let address = one.as_ptr();
        drop(two);
        drop(one);
        assert_eq!(fill(&mut pool, b"three").unwrap().as_ptr(), address);
        assert_eq!(pool.fresh, 2);
    }

    #[test]
    fn a_pool_ends_and_recovers() {
        let mut pool = Pool::new(1024, 16).unwrap();
        let held: Vec<_> = (0..16).map(|i| fill(&mut pool, &[i; 7]).unwrap()).collect();
        assert!(fill(&mut pool, b"x").is_none());
        assert_eq!((pool.available(), pool.in_use()), (0, 16));
        for (i, buffer) in held.iter().enumerate() {
            assert_eq!(**buffer, [i as u8; 7]);
        }
        let part = held[3].slice(1..2);
        drop(held);
        assert_eq!((pool.available(), pool.in_use()), (15, 1));
        drop(part);
        assert_eq!((pool.available(), pool.in_use()), (16, 0));
    }

    #[test]
    fn an_unfilled_buffer_goes_back() {
        let mut pool = Pool::new(1024, 16).unwrap();
        let vacant = pool.take().unwrap();
        assert_eq!(pool.available(), 15);
        let again = pool.taken(vacant.id());
        assert_eq!(again.data(), vacant.data());
        pool.put_back(vacant);
        assert_eq!((pool.available(), pool.in_use()), (16, 0));
    }

    #[test]
    fn handles_outlive_the_pool() {
        let mut pool = Pool::new(1024, 16).unwrap();
        let one = fill(&mut pool, b"one").unwrap();
        let two = fill(&mut pool, b"two").unwrap();
        drop(pool);
        drop(one);
        assert_eq!(&*two, b"two");
    }

    #[test]
    fn the_last_byte_of_a_buffer_is_its_own() {
        let mut pool = Pool::new(1024, 16).unwrap();
        let all = vec![0xa5; 1024];
        let held: Vec<_> = (0..16).map(|_| fill(&mut pool, &all).unwrap()).collect();
        assert!(held.iter().all(|buffer| **buffer == all[..]));
    }
}
