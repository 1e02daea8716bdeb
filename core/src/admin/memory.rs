//! `/memory`, and the memory that `server.` gauges tell of: what the kernel knows of the process.
//!
//! Envoy tells what its allocator knows. Ours is asked by nobody, so what is allocated, and all of
//! the heap, is what is present: addresses that are only reserved cost nothing, and are not told.
//!
//! What it leaves to others: the memory itself.

use super::query::Query;
use super::{Admin, Reply};
use serde_json::json;

/// Memory of the process, in bytes. All 0 when `/proc` is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Memory {
    /// Present and not of a file: heap, stacks, rings.
    pub allocated: u64,
    /// Everything that is present.
    pub physical: u64,
}

/// Reads it now.
pub(super) fn read() -> Memory {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    parse(&statm, rustix::param::page_size() as u64)
}

/// size, resident, shared: in pages.
fn parse(statm: &str, page: u64) -> Memory {
    let pages: Vec<u64> = statm.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let Some(&[_, resident, shared]) = pages.first_chunk() else {
        return Memory::default();
    };
    Memory { allocated: resident.saturating_sub(shared) * page, physical: resident * page }
}

/// `/memory`
pub(super) fn page(_: &Admin, _: &Query) -> Reply {
    let memory = read();
    let text = |bytes: u64| bytes.to_string();
    Reply::json(&json!({
        "allocated": text(memory.allocated),
        "heap_size": text(memory.allocated),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": text(memory.physical),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_is_read_in_pages() {
        let memory = parse("900 300 100 50 0 700 0\n", 4096);
        assert_eq!(memory, Memory { allocated: 200 * 4096, physical: 300 * 4096 });
        assert_eq!(parse("", 4096), Memory::default());
    }
}
