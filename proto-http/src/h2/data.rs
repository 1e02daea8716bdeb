//! DATA frames: passed on as they come, without waiting for their end and without a copy.
//!
//! Windows are charged when the header of a frame has come, with its whole length (RFC 9113 6.9.1).
//!
//! What it leaves to others: consuming (`send`).

use super::Fault;
use super::closed::End;
use super::connection::{Connection, Reading};
use super::event::Event;
use super::frame::{FrameHeader, flag};
use super::state::Frame;
use super::streams::{Receiving, StreamKey};

/// A DATA frame of which the header was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataFrame {
    stream: StreamKey,
    /// Payload bytes that were not read yet, padding included.
    left: usize,
    /// Bytes of padding at the end; known once the first byte is read.
    padding: usize,
    is_padding_due: bool,
    end_stream: bool,
}

impl DataFrame {
    /// Whether nothing can be done without input.
    pub(super) fn needs_input(self) -> bool {
        self.left > 0
    }
}

impl Connection {
    pub(super) fn begin_data(&mut self, header: FrameHeader) -> Result<Option<Event>, Fault> {
        let length = header.length;
        let end_stream = header.has(flag::END_STREAM);
        self.receive.receive(length)?;
        self.reading = Reading::Skip(length);
        let Some(key) = self.find_live(header.stream) else {
            self.give_back(length);
            self.abuse.inbound(length == 0 && !end_stream, &self.options)?;
            return self.late_data(header.stream).map(|()| None);
        };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(None) };
        let fault = if stream.state.after(Frame::ReceiveData { end: end_stream }).is_err() {
            Some(Fault::StreamClosed)
        } else if stream.receiving == Receiving::Head {
            Some(Fault::Message)
        } else {
            stream.receive.receive(length).err()
        };
        if let Some(fault) = fault {
            self.give_back(length);
            return self.stream_error(key, fault);
        }
        let is_padding_due = header.has(flag::PADDED);
        if is_padding_due && length == 0 {
            return Err(Fault::FrameSize);
        }
        if !is_padding_due {
            self.abuse.inbound(length == 0 && !end_stream, &self.options)?;
        }
        self.reading = Reading::Data(DataFrame {
            stream: key,
            left: length,
            padding: 0,
            is_padding_due,
            end_stream,
        });
        Ok(None)
    }

    /// DATA for a stream that is not open for the peer.
    fn late_data(&mut self, id: u32) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::IdleStream);
        }
        match self.closed.find(id) {
            Some(End::ResetByUs) => Ok(()),
            Some(End::ResetByPeer) => {
                self.refuse(id, Fault::StreamClosed)?;
                self.abuse.check_outbound(&self.options)
            }
            Some(End::Complete) | None => Err(Fault::StreamClosed),
        }
    }

    /// Reads on in a DATA frame, from `at` of the input.
    pub(super) fn read_data(
        &mut self,
        input: &[u8],
        at: usize,
        mut data: DataFrame,
    ) -> Result<(usize, Option<Event>), Fault> {
        let Some(stream) = self.streams.get(data.stream) else {
            // It was reset since the frame began, and its window given back.
            self.reading = Reading::Skip(data.left);
            return Ok((0, None));
        };
        let tag = stream.tag;
        let mut consumed = 0;
        if data.is_padding_due {
            let Some(&padding) = input.get(at) else { return Ok((0, None)) };
            consumed = 1;
            self.begin_padded(&mut data, usize::from(padding))?;
        }
        let start = at + consumed;
        let due = data.left - data.padding;
        let length = due.min(input.len() - start);
        data.left -= length;
        let is_last = length == due;
        self.reading = match is_last {
            true => Reading::Skip(data.padding),
            false => Reading::Data(data),
        };
        let end_stream = is_last && data.end_stream;
        if !self.count_content(data.stream, length, end_stream) {
            if let Reading::Data(data) = self.reading {
                self.reading = Reading::Skip(data.left);
            }
            let event = self.malformed(data.stream, Fault::ContentLength)?;
            return Ok((consumed + length, event));
        }
        if end_stream {
            self.received(data.stream, Frame::ReceiveData { end: true });
        }
        let range = start..start + length;
        let event = Event::Data { stream: data.stream, tag, range, end_stream };
        let is_something = length > 0 || end_stream;
        Ok((consumed + length, is_something.then_some(event)))
    }

    fn begin_padded(&mut self, data: &mut DataFrame, padding: usize) -> Result<(), Fault> {
        data.is_padding_due = false;
        data.left -= 1;
        data.padding = padding;
        let is_empty = data.left.checked_sub(padding).ok_or(Fault::Padding)? == 0;
        self.abuse.inbound(is_empty && !data.end_stream, &self.options)?;
        // Nobody else consumes it.
        self.consumed(data.stream, 1 + padding);
        Ok(())
    }

    /// Whether the body has so many bytes more, and no more when it ends (RFC 9113 8.1.1).
    fn count_content(&mut self, key: StreamKey, length: usize, is_end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return true };
        let Some(left) = stream.content_left else { return true };
        let Some(left) = left.checked_sub(length as u64) else { return false };
        stream.content_left = Some(left);
        !is_end || left == 0
    }
}
