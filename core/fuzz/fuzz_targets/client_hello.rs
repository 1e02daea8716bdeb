//! Any bytes are a hello, the begin of one, or none: without a panic; and once that is known, more
//! bytes do not change it.
//!
//! What it leaves to others: configurations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::transport::client_hello::ClientHello;

fuzz_target!(|bytes: &[u8]| {
    let whole = ClientHello::read(bytes);
    let half = ClientHello::read(&bytes[..bytes.len() / 2]);
    assert!(half == ClientHello::NeedMore || half == whole);
});
