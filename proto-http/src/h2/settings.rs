//! SETTINGS (RFC 9113 6.5): what each side tells the other about itself.
//!
//! What it leaves to others: applying them to streams, and waiting for the acknowledgement.

use super::Fault;
use super::flow::{DEFAULT_WINDOW, WINDOW_MAX};
use super::frame::{FrameHeader, kind, word};
use super::hpack::DEFAULT_TABLE_SIZE;
use alloc::vec::Vec;

/// The least and the most that SETTINGS_MAX_FRAME_SIZE may be.
pub(super) const FRAME_SIZE_MIN: u32 = 16_384;
pub(super) const FRAME_SIZE_MAX: u32 = (1 << 24) - 1;

const HEADER_TABLE_SIZE: u16 = 0x1;
const ENABLE_PUSH: u16 = 0x2;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;
const MAX_HEADER_LIST_SIZE: u16 = 0x6;
/// RFC 8441 3
const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;

/// What one side has said about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) header_table_size: u32,
    pub(super) enable_push: bool,
    pub(super) max_concurrent_streams: u32,
    pub(super) initial_window_size: u32,
    pub(super) max_frame_size: u32,
    pub(super) max_header_list_size: u32,
    pub(super) enable_connect_protocol: bool,
}

impl Default for Settings {
    /// What holds before anything is said.
    fn default() -> Settings {
        Settings {
            header_table_size: DEFAULT_TABLE_SIZE as u32,
            enable_push: true,
            max_concurrent_streams: u32::MAX,
            initial_window_size: DEFAULT_WINDOW,
            max_frame_size: FRAME_SIZE_MIN,
            max_header_list_size: u32::MAX,
            enable_connect_protocol: false,
        }
    }
}

impl Settings {
    /// Takes in a frame's payload. Of a setting that is repeated the last value counts; each value
    /// has to be a good one.
    pub(super) fn read(&mut self, payload: &[u8], is_from_server: bool) -> Result<(), Fault> {
        for entry in payload.chunks_exact(6) {
            let value = word(&entry[2..]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                HEADER_TABLE_SIZE => self.header_table_size = value,
                // RFC 9113 6.5.2: a server says nothing but 0.
                ENABLE_PUSH if value > u32::from(!is_from_server) => {
                    return Err(Fault::SettingValue);
                }
                ENABLE_PUSH => self.enable_push = value == 1,
                MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = value,
                INITIAL_WINDOW_SIZE if value > WINDOW_MAX => return Err(Fault::SettingWindow),
                INITIAL_WINDOW_SIZE => self.initial_window_size = value,
                MAX_FRAME_SIZE if !(FRAME_SIZE_MIN..=FRAME_SIZE_MAX).contains(&value) => {
                    return Err(Fault::SettingValue);
                }
                MAX_FRAME_SIZE => self.max_frame_size = value,
                MAX_HEADER_LIST_SIZE => self.max_header_list_size = value,
                // RFC 8441 3: never back to 0.
                ENABLE_CONNECT_PROTOCOL
                    if value > 1 || (value == 0 && self.enable_connect_protocol) =>
                {
                    return Err(Fault::SettingValue);
                }
                ENABLE_CONNECT_PROTOCOL => self.enable_connect_protocol = value == 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// The table sizes in a frame's payload, in order: a table that was small for a moment is empty
    /// (RFC 7541 4.2).
    pub(super) fn table_sizes(payload: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let is_size = |entry: &&[u8]| entry[..2] == HEADER_TABLE_SIZE.to_be_bytes();
        payload.chunks_exact(6).filter(is_size).map(|entry| word(&entry[2..]))
    }

    /// Writes a frame with everything that is not as it was at first.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let first = Settings::default();
        let all = [
            (HEADER_TABLE_SIZE, self.header_table_size, first.header_table_size),
            (ENABLE_PUSH, self.enable_push.into(), first.enable_push.into()),
            (MAX_CONCURRENT_STREAMS, self.max_concurrent_streams, first.max_concurrent_streams),
            (INITIAL_WINDOW_SIZE, self.initial_window_size, first.initial_window_size),
            (MAX_FRAME_SIZE, self.max_frame_size, first.max_frame_size),
            (MAX_HEADER_LIST_SIZE, self.max_header_list_size, first.max_header_list_size),
            (ENABLE_CONNECT_PROTOCOL, self.enable_connect_protocol.into(), 0),
        ];
        let changed = all.iter().filter(|(_, value, first)| value != first);
        let length = changed.clone().count() * 6;
        FrameHeader { length, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
        for (id, value, _) in changed {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::HEADER_BYTES;
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ours = Settings {
            header_table_size: 0,
            enable_push: false,
            max_concurrent_streams: 7,
            initial_window_size: 1 << 24,
            max_frame_size: FRAME_SIZE_MAX,
            max_header_list_size: 61_440,
            enable_connect_protocol: true,
        };
        let mut out = Vec::new();
        ours.write(&mut out);
        let mut theirs = Settings::default();
        theirs.read(&out[HEADER_BYTES..], true).unwrap();
        assert_eq!(theirs, ours);
        out.clear();
        Settings::default().write(&mut out);
        assert_eq!(out, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn values_that_cannot_be() {
        let read = |id: u8, value: u32, is_from_server| {
            let [a, b, c, d] = value.to_be_bytes();
            let good = [0, 0x99, 1, 2, 3, 4, 0, id, a, b, c, d];
            Settings::default().read(&good, is_from_server)
        };
        assert_eq!(read(2, 1, false), Ok(()));
        assert_eq!(read(2, 1, true), Err(Fault::SettingValue));
        assert_eq!(read(2, 2, false), Err(Fault::SettingValue));
        assert_eq!(read(4, 1 << 31, false), Err(Fault::SettingWindow));
        assert_eq!(read(5, 16_383, false), Err(Fault::SettingValue));
        assert_eq!(read(5, 1 << 24, false), Err(Fault::SettingValue));
        assert_eq!(read(8, 2, true), Err(Fault::SettingValue));
        assert_eq!(read(8, 0, true), Ok(()));
        let on_and_off = [0, 8, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0];
        assert_eq!(Settings::default().read(&on_and_off, true), Err(Fault::SettingValue));
    }
}
