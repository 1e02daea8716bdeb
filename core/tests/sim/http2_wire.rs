//! HTTP/2's frames and field sections for simulated peers, which share only the compression of
//! fields with the proxy: they judge what it wrote, and may write what no codec would.
//!
//! What it leaves to others: streams and windows (`http2_peer.rs`).

use tidegate_http::Headers;
use tidegate_http::h2::hpack::{Decoder, Encoder, Indexing};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest frame that a peer takes, as SETTINGS_MAX_FRAME_SIZE is left as it is.
pub const FRAME_MAX: usize = 16_384;

/// Kinds of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// Settings.
pub mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes.
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The 32 bits at `at`, without the first.
    pub fn word(&self, at: usize) -> Result<u32, String> {
        let four = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let four = four.ok_or_else(|| format!("a short frame: {self:?}"))?;
        Ok(u32::from_be_bytes(four) & 0x7fff_ffff)
    }
}

/// One direction of a connection, cut into frames.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    is_preface_due: bool,
}

impl Frames {
    pub fn new(is_preface_due: bool) -> Frames {
        Frames { bytes: Vec::new(), is_preface_due }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, if it is there as a whole.
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        if self.is_preface_due {
            if self.bytes.len() < PREFACE.len() {
                return Ok(None);
            }
            if !self.bytes.starts_with(PREFACE) {
                return Err("no preface".into());
            }
            self.bytes.drain(..PREFACE.len());
            self.is_preface_due = false;
        }
        let Some(header) = self.bytes.first_chunk::<9>().copied() else { return Ok(None) };
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        if length > FRAME_MAX {
            return Err(format!("a frame of {length} bytes"));
        }
        if self.bytes.len() < 9 + length {
            return Ok(None);
        }
        let payload = self.bytes[9..9 + length].to_vec();
        self.bytes.drain(..9 + length);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        if stream >> 31 != 0 {
            return Err("a reserved bit is set".into());
        }
        Ok(Some(Frame { kind: header[3], flags: header[4], stream, payload }))
    }
}

/// Writes a frame.
pub fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Writes a frame whose payload is one number.
pub fn write_word(out: &mut Vec<u8>, kind: u8, stream: u32, word: u32) {
    write(out, kind, 0, stream, &word.to_be_bytes());
}

pub fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = settings.iter().flat_map(entry).collect();
    write(out, kind::SETTINGS, 0, 0, &payload);
}

pub fn write_goaway(out: &mut Vec<u8>, last_stream: u32, code: u32) {
    let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
    write(out, kind::GOAWAY, 0, 0, &payload);
}

/// The fields of a head or of trailers, in order; names of pseudo-header fields have their colon.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    pub fn of(fields: &[(&str, &str)]) -> Fields {
        Fields(fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    pub fn add(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.into(), value.to_string()));
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub fn status(&self) -> u16 {
        self.get(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn encode(&self, encoder: &mut Encoder) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in &self.0 {
            encoder.line(name.as_bytes(), value.as_bytes(), Indexing::Repeated, &mut block);
        }
        block
    }

    /// Reads a section that the proxy wrote, and is strict about it. `pseudo` are the names with a
    /// colon that it has to have; those of `optional` it may have.
    pub fn decode(
        decoder: &mut Decoder,
        block: &[u8],
        pseudo: &[&str],
        optional: &[&str],
    ) -> Result<Fields, String> {
        let mut headers = Headers::default();
        let mut lines = Vec::new();
        let taken = decoder.decode(block, &mut headers, |_, line| lines.push(line));
        taken.map_err(|error| format!("a field block that is not HPACK: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line_of = |line: &tidegate_http::h2::hpack::Line| {
            (text(headers.bytes(line.name)), text(headers.bytes(line.value)))
        };
        let fields = Fields(lines.iter().map(line_of).collect());
        let (mut found, mut is_behind) = (Vec::new(), false);
        for (name, value) in &fields.0 {
            let is_pseudo = name.starts_with(':');
            let known = pseudo.contains(&name.as_str()) || optional.contains(&name.as_str());
            if is_pseudo && (is_behind || found.contains(name) || !known) {
                return Err(format!("{name} is out of place in {fields:?}"));
            }
            match is_pseudo {
                true => found.push(name.clone()),
                false => is_behind = true,
            }
            let connection = ["connection", "transfer-encoding", "keep-alive", "upgrade", "host"];
            let is_te = name == "te" && value != "trailers";
            if connection.contains(&name.as_str()) || is_te || *name != name.to_ascii_lowercase() {
                return Err(format!("{name} must not be in {fields:?}"));
            }
        }
        match pseudo.iter().find(|name| !found.iter().any(|it| it == *name)) {
            Some(name) => Err(format!("no {name} in {fields:?}")),
            None => Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut bytes = PREFACE.to_vec();
        write_settings(&mut bytes, &[(setting::MAX_CONCURRENT_STREAMS, 7)]);
        write_word(&mut bytes, kind::RST_STREAM, 3, code::CANCEL);
        let (mut frames, mut found) = (Frames::new(true), Vec::new());
        for byte in bytes {
            frames.push(&[byte]);
            found.extend(frames.next().unwrap().map(|it| (it.kind, it.stream, it.payload)));
        }
        assert_eq!(found, [(4, 0, vec![0, 3, 0, 0, 0, 7]), (3, 3, vec![0, 0, 0, 8])]);
    }

    #[test]
    fn wrong_sections_are_refused() {
        let read = |fields: &[(&str, &str)]| {
            let block = Fields::of(fields).encode(&mut Encoder::new(4096, false));
            Fields::decode(&mut Decoder::new(), &block, &[":status"], &[]).map(|it| it.0.len())
        };
        assert_eq!(read(&[(":status", "200"), ("a", "b")]), Ok(2));
        assert!(read(&[("a", "b")]).is_err());
        assert!(read(&[("a", "b"), (":status", "200")]).is_err());
        assert!(read(&[(":status", "200"), ("connection", "close")]).is_err());
        assert!(read(&[(":status", "200"), (":path", "/")]).is_err());
    }
}
