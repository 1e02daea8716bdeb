//! What a peer may do without being a nuisance (Envoy's `http2_protocol_options`; CVE-2019-9511 to
//! 9518, CVE-2023-44487, CVE-2025-8671).
//!
//! What it leaves to others: bounds on field blocks (`block`) and on data (flow control).

use super::{Fault, Options};
use core::time::Duration;

/// Envoy allows so many WINDOW_UPDATE before it counts.
const WINDOW_UPDATES_FREE: u64 = 5;

/// SETTINGS that are not answers, before streams are counted; and for each stream. Each may make us
/// walk over all streams.
const SETTINGS_FREE: u64 = 100;

/// Counters of one connection.
#[derive(Default, Debug)]
pub(super) struct Abuse {
    opened: u64,
    closed: u64,
    premature: u64,
    empty_in_a_row: u32,
    priorities: u64,
    window_updates: u64,
    settings: u64,
    data_sent: u64,
    /// Frames that were written and are not with the kernel yet, and those of them that are
    /// control frames.
    waiting: Outbound,
    /// Those that the kernel is sending.
    sending: Outbound,
}

#[derive(Clone, Copy, Default, Debug)]
struct Outbound {
    frames: u32,
    control_frames: u32,
}

impl Abuse {
    pub(super) fn opened(&mut self) {
        self.opened += 1;
    }

    pub(super) fn data_sent(&mut self) {
        self.data_sent += 1;
    }

    /// A frame was written.
    pub(super) fn frame_written(&mut self) {
        self.waiting.frames += 1;
    }

    /// A PING, SETTINGS or RST_STREAM was written, which an inbound frame may have caused.
    pub(super) fn control_frame_written(&mut self) {
        self.waiting.frames += 1;
        self.waiting.control_frames += 1;
    }

    /// Everything that was written is being sent.
    pub(super) fn sending(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        self.sending.frames += waiting.frames;
        self.sending.control_frames += waiting.control_frames;
    }

    /// What was being sent has left.
    pub(super) fn sent(&mut self) {
        self.sending = Outbound::default();
    }

    pub(super) fn check_outbound(&self, options: &Options) -> Result<(), Fault> {
        let frames = self.waiting.frames + self.sending.frames;
        let control_frames = self.waiting.control_frames + self.sending.control_frames;
        if control_frames > options.max_outbound_control_frames {
            return Err(Fault::OutboundControlFrames);
        }
        if frames > options.max_outbound_frames {
            return Err(Fault::OutboundFrames);
        }
        Ok(())
    }

    /// HEADERS, CONTINUATION or DATA; `is_idle` when it carries nothing and ends nothing.
    pub(super) fn inbound(&mut self, is_idle: bool, options: &Options) -> Result<(), Fault> {
        self.empty_in_a_row = if is_idle { self.empty_in_a_row + 1 } else { 0 };
        if self.empty_in_a_row > options.max_consecutive_inbound_frames_with_empty_payload {
            return Err(Fault::EmptyFrames);
        }
        Ok(())
    }

    pub(super) fn priority(&mut self, options: &Options) -> Result<(), Fault> {
        self.priorities += 1;
        let allowed = u64::from(options.max_inbound_priority_frames_per_stream) * (1 + self.opened);
        if self.priorities > allowed { Err(Fault::PriorityFrames) } else { Ok(()) }
    }

    pub(super) fn window_update(&mut self, options: &Options) -> Result<(), Fault> {
        self.window_updates += 1;
        let ratio = u64::from(options.max_inbound_window_update_frames_per_data_frame_sent);
        let allowed = WINDOW_UPDATES_FREE + 2 * (self.opened + ratio * self.data_sent);
        if self.window_updates > allowed { Err(Fault::WindowUpdateFrames) } else { Ok(()) }
    }

    pub(super) fn settings(&mut self) -> Result<(), Fault> {
        self.settings += 1;
        if self.settings > SETTINGS_FREE + self.opened {
            Err(Fault::SettingsFrames)
        } else {
            Ok(())
        }
    }

    /// A stream is over in its usual way, or we have reset it of our own will.
    pub(super) fn closed(&mut self) {
        self.closed += 1;
    }

    /// The peer has reset a stream after this time.
    pub(super) fn reset_after(&mut self, life: Duration, options: &Options) -> Result<(), Fault> {
        if life < options.premature_reset_min_stream_lifetime {
            self.premature += 1;
        }
        self.closed += 1;
        self.check_premature(options)
    }

    /// The peer has made us reset a stream, or refuse one: as premature as its own reset.
    pub(super) fn induced_reset(&mut self, options: &Options) -> Result<(), Fault> {
        self.closed += 1;
        self.premature += 1;
        self.check_premature(options)
    }

    /// Envoy's rule: more than half of the streams, once there are so many that it can be told.
    fn check_premature(&self, options: &Options) -> Result<(), Fault> {
        let total = u64::from(options.premature_reset_total_stream_count);
        let is_too_many = self.premature * 2 > self.closed.max(total);
        if is_too_many { Err(Fault::PrematureResets) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many times it goes well.
    fn allowed(mut step: impl FnMut() -> Result<(), Fault>) -> (u32, Fault) {
        for count in 0..100_000 {
            if let Err(fault) = step() {
                return (count, fault);
            }
        }
        panic!("there is no limit");
    }

    #[test]
    fn envoys_limits() {
        let options = Options::default();
        let mut abuse = Abuse::default();
        assert_eq!(allowed(|| abuse.priority(&options)), (100, Fault::PriorityFrames));
        assert_eq!(allowed(|| abuse.window_update(&options)), (5, Fault::WindowUpdateFrames));
        assert_eq!(allowed(|| abuse.inbound(true, &options)), (1, Fault::EmptyFrames));
        assert_eq!(allowed(|| abuse.settings()), (100, Fault::SettingsFrames));
        assert_eq!(allowed(|| abuse.induced_reset(&options)), (250, Fault::PrematureResets));
        abuse = Abuse::default();
        let short = Duration::from_millis(999);
        assert_eq!(allowed(|| abuse.reset_after(short, &options)), (250, Fault::PrematureResets));
        abuse = Abuse::default();
        abuse.opened();
        abuse.data_sent();
        assert_eq!(allowed(|| abuse.priority(&options)), (200, Fault::PriorityFrames));
        assert_eq!(allowed(|| abuse.window_update(&options)), (27, Fault::WindowUpdateFrames));
    }

    #[test]
    fn half_of_the_streams_may_be_reset_soon() {
        let options = Options::default();
        let mut abuse = Abuse::default();
        for _ in 0..10_000 {
            abuse.reset_after(Duration::ZERO, &options).unwrap();
            abuse.closed();
            abuse.reset_after(Duration::from_secs(1), &options).unwrap();
        }
    }

    #[test]
    fn what_has_left_is_not_counted() {
        let options = Options::default();
        let mut abuse = Abuse::default();
        for _ in 0..5000 {
            abuse.control_frame_written();
            abuse.sending();
            abuse.check_outbound(&options).unwrap();
            abuse.sent();
        }
        let write = |abuse: &mut Abuse| {
            abuse.control_frame_written();
            abuse.sending();
            abuse.check_outbound(&options)
        };
        let (count, fault) = allowed(|| write(&mut abuse));
        assert_eq!((count, fault), (1000, Fault::OutboundControlFrames));
        abuse.sent();
        let (count, fault) = allowed(|| {
            abuse.frame_written();
            abuse.check_outbound(&options)
        });
        assert_eq!((count, fault), (10_000, Fault::OutboundFrames));
    }
}
