//! Every message of Envoy's API by name, with its fields and their rules.
//!
//! What it leaves to others: which of them are implemented (`support`).

use prost_reflect::{DescriptorError, DescriptorPool};
use std::sync::OnceLock;

/// The descriptor set that the build script compiled.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy_descriptors.bin"));

/// All descriptors. The first call decodes them, which takes about 20 ms.
///
/// # Errors
///
/// None, unless the build put something else into the binary.
pub(super) fn pool() -> Result<&'static DescriptorPool, DescriptorError> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let pool = DescriptorPool::decode(BYTES)?;
    Ok(POOL.get_or_init(|| pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_is_read_is_there_with_its_rules() {
        let pool = pool().unwrap();
        for message in super::super::support::supported_messages() {
            assert!(pool.get_message_by_name(message.message).is_some(), "{}", message.message);
        }
        let rules = pool.get_extension_by_name("validate.rules").unwrap();
        let address = pool.get_message_by_name("envoy.config.core.v3.SocketAddress").unwrap();
        let options = address.get_field_by_name("address").unwrap().options();
        assert!(options.has_extension(&rules));
    }
}
