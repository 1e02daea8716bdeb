//! The pool of receive buffers of one backend: one region, a stack of free buffers, no atomics.
//!
//! The buffer that was freed last is used next, for its lines are warm. Starts are an odd number of
//! cache lines apart, so that the first lines of the buffers, the ones that small messages touch,
//! spread over all sets of the first-level cache instead of fighting for one. Memory becomes
//! resident when a buffer is first used: a pool that never held more than ten buffers occupies ten
//! buffers. It is given back by [`Pool::trim`] when a buffer was not needed for a while.
//!
//! What it leaves to others: deciding which buffers the kernel gets, and counted access to the
//! bytes ([`crate::Buffer`]).

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;

use crate::Buffer;
use crate::buffer::{HEADER_BYTES, Header};
use crate::region::Region;

const LINE_BYTES: usize = 64;

/// Free buffers that keep their memory, whether they are needed or not.
const KEPT: usize = 8;

/// Buffers whose memory is given back at once at most, each by a system call.
const TRIMMED_MAX: usize = 64;

/// A buffer was not needed for a while when it was free during so many calls of [`Pool::trim`].
/// What peers need now and then is not given back and taken again.
const TRIM_PERIOD: u32 = 5;

/// What a buffer is taken for. A buffer stays what it was first, as long as there are enough: so a
/// peer that sends in bulk finds the same few buffers each time, and does not fill every one in
/// turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// A page of it, more or less.
    Page = 0,
    /// [`PART_BYTES`] of it.
    Part = 1,
    /// All of it.
    Whole = 2,
}

/// The room of [`Room::Part`].
pub(crate) const PART_BYTES: u32 = 16 * 1024;

/// A stack of free buffers, by their numbers. Those at the bottom have given their memory back,
/// header and all.
struct Free {
    stack: Vec<u32>,
    /// So many at the bottom have no memory.
    discarded: usize,
    /// The fewest that there were in this period.
    fewest: usize,
    /// So many at the bottom were not needed in the last period, nor since.
    unneeded: usize,
}

impl Default for Free {
    fn default() -> Free {
        // Room for as many as few connections use: it does not grow while they are served.
        Free { stack: Vec::with_capacity(64), discarded: 0, fewest: 0, unneeded: 0 }
    }
}

impl Free {
    fn push(&mut self, id: u32) {
        self.stack.push(id);
    }

    fn pop(&mut self) -> Option<u32> {
        let id = self.stack.pop()?;
        self.discarded = self.discarded.min(self.stack.len());
        self.fewest = self.fewest.min(self.stack.len());
        self.unneeded = self.unneeded.min(self.stack.len());
        Some(id)
    }
}

/// The pool as its buffers see it. It lives until the pool and all handles are gone.
pub(crate) struct Core {
    region: Region,
    /// Those for small messages, of which little has memory, and those for bulk, by `Room`.
    free: RefCell<[Free; 3]>,
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
        // SAFETY: a buffer of this pool that was in use has its header.
        this.push_free(unsafe { header.as_ref() });
        this.in_use.set(this.in_use.get() - 1);
        if this.orphaned.get() && this.in_use.get() == 0 {
            // SAFETY: the core came from Box::into_raw in `Pool::new`; the pool is gone and this
            // was the last buffer, so nobody points here any more.
            drop(unsafe { Box::from_raw(core.as_ptr()) });
        }
    }

    fn push_free(&self, header: &Header) {
        self.free.borrow_mut()[header.room as usize].push(header.id);
    }

    /// Whether more than half of the buffers are in use.
    pub(crate) fn is_scarce(&self) -> bool {
        self.in_use.get() > self.plenty
    }
}

/// Receive buffers of one size, at most `buffers_max` of them.
pub(crate) struct Pool {
    core: NonNull<Core>,
    stride: usize,
    buffer_bytes: u32,
    buffers_max: u32,
    /// Buffers with a lower number have been used before.
    fresh: u32,
    /// Calls of [`Pool::trim`].
    trims: u32,
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
            free: RefCell::default(),
            in_use: Cell::new(0),
            plenty: buffers_max / 2,
            orphaned: Cell::new(false),
        });
        let core = NonNull::from(Box::leak(core));
        Ok(Pool { core, stride, buffer_bytes, buffers_max, fresh: 0, trims: 0 })
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
        let free = self.core().free.borrow();
        let free: usize = free.iter().map(|free| free.stack.len()).sum();
        free as u32 + (self.buffers_max - self.fresh)
    }

    /// Buffers to which somebody holds a handle.
    pub(crate) fn in_use(&self) -> u32 {
        self.core().in_use.get()
    }

    /// Takes a free buffer, to be filled. It has no handle yet and must come back by
    /// [`Pool::received`] or [`Pool::put_back`].
    pub(crate) fn take(&mut self, room: Room) -> Option<Vacant> {
        let id = self.take_free(room)?;
        let header = self.locate(id);
        // SAFETY: id < buffers_max, so the whole buffer lies inside the region; its stride and the
        // region's base are multiples of 64, so the header is aligned; nobody uses it yet.
        unsafe {
            header.write(Header {
                home: Some(self.core),
                references: Cell::new(0),
                id,
                capacity: self.buffer_bytes,
                room,
            });
        }
        Some(Vacant(header))
    }

    fn take_free(&mut self, room: Room) -> Option<u32> {
        // SAFETY: as in `core`; this borrows the core alone, and not the pool.
        let mut free = unsafe { self.core.as_ref() }.free.borrow_mut();
        if let Some(id) = free[room as usize].pop() {
            return Some(id);
        }
        if self.fresh < self.buffers_max {
            self.fresh += 1;
            return Some(self.fresh - 1);
        }
        free.iter_mut().find_map(Free::pop)
    }

    /// Gives back the memory of some of the buffers that were not needed for a while. Whether there
    /// may be more for the next time.
    pub(crate) fn trim(&mut self) -> bool {
        self.trims += 1;
        let ends = self.trims.is_multiple_of(TRIM_PERIOD);
        let core = self.core();
        let mut more = false;
        for free in core.free.borrow_mut().iter_mut() {
            if ends {
                free.unneeded = free.fewest;
                free.fewest = free.stack.len();
            }
            let end = free.unneeded.min(free.stack.len().saturating_sub(KEPT));
            let begin = free.discarded.min(end);
            let end = end.min(begin + TRIMMED_MAX);
            for &id in &free.stack[begin..end] {
                core.region.discard(self.stride * id as usize..self.stride * (id as usize + 1));
            }
            free.discarded = end.max(free.discarded);
            more |= free.discarded + KEPT < free.stack.len();
        }
        more
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
        // SAFETY: a vacant buffer has its header.
        self.core().push_free(unsafe { vacant.0.as_ref() });
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

    /// What it was taken for.
    pub(crate) fn room(&self) -> Room {
        // SAFETY: as above.
        unsafe { self.0.as_ref() }.room
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
        let vacant = pool.take(Room::Whole)?;
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
        let vacant = pool.take(Room::Whole).unwrap();
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

    #[test]
    fn what_was_not_needed_is_given_back_and_can_be_used_again() {
        let mut pool = Pool::new(4096, 64).unwrap();
        let all = vec![0xa5; 4096];
        let held: Vec<_> = (0..40).map(|_| fill(&mut pool, &all).unwrap()).collect();
        assert!(!pool.trim(), "none is free");
        drop(held);
        for _ in 0..2 * TRIM_PERIOD - 2 {
            assert!(pool.trim());
            assert_eq!(pool.core().free.borrow()[Room::Whole as usize].discarded, 0);
            drop(fill(&mut pool, b"x"));
        }
        assert!(!pool.trim());
        assert_eq!(pool.core().free.borrow()[Room::Whole as usize].discarded, 40 - KEPT);
        let held: Vec<_> = (0..64).map(|i| fill(&mut pool, &[i; 4096]).unwrap()).collect();
        assert!(held.iter().enumerate().all(|(i, buffer)| **buffer == [i as u8; 4096]));
        drop(held);
        assert_eq!(
            (pool.available(), pool.core().free.borrow()[Room::Whole as usize].discarded),
            (64, 0)
        );
    }

    #[test]
    fn bulk_finds_the_same_buffers_again() {
        let mut pool = Pool::new(4096, 16).unwrap();
        let id = |vacant: &Option<Vacant>| vacant.as_ref().map(Vacant::id);
        let bulk = pool.take(Room::Whole);
        let small = pool.take(Room::Page);
        let (bulk_id, small_id) = (id(&bulk), id(&small));
        pool.put_back(bulk.unwrap());
        pool.put_back(small.unwrap());
        assert_eq!(id(&pool.take(Room::Whole)), bulk_id);
        assert_eq!(id(&pool.take(Room::Page)), small_id);
        let all: Vec<_> = std::iter::from_fn(|| pool.take(Room::Whole)).collect();
        assert_eq!(all.len(), 14);
        for vacant in all {
            pool.put_back(vacant);
        }
        assert!(pool.take(Room::Page).is_some(), "one for bulk is better than none");
    }
}
