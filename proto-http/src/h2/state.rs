//! The states of a stream (RFC 9113 5.1).
//!
//! ```text
//!                           +--------+
//!              send/recv H  |        |
//!             .------------ |  idle  |
//!             v             |        |
//!         +--------+        +--------+
//!  recv ES|        | send ES
//!   .---- |  open  | ----.            H:  HEADERS
//!   v     |        |     v            ES: END_STREAM, on HEADERS or DATA
//! +-------+--------+-------+          R:  RST_STREAM
//! | half-  |       | half-  |
//! | closed |  R    | closed |
//! |(remote)|  |    |(local) |
//! +--------+  v    +--------+
//!   |     +--------+     |
//!   `---> | closed | <---'
//! send ES |        | recv ES
//!  or R   +--------+  or R
//! ```
//!
//! The reserved states are absent: nobody here enables server push.
//!
//! What it leaves to others: what a violation costs, and that a head comes before data.

/// Where a stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Idle,
    Open,
    /// We have ended our side.
    HalfClosedLocal,
    /// The peer has ended its side.
    HalfClosedRemote,
    Closed,
}

/// Something that happens to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    SendHeaders { end: bool },
    SendData { end: bool },
    SendReset,
    ReceiveHeaders { end: bool },
    ReceiveData { end: bool },
    ReceiveReset,
    ReceiveWindowUpdate,
}

/// The frame may not come, or be sent, in this state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Violation;

impl State {
    /// The state after a frame.
    pub(super) fn after(self, frame: Frame) -> Result<State, Violation> {
        use Frame::*;
        use State::*;
        Ok(match (self, frame) {
            (Idle, SendHeaders { end: false } | ReceiveHeaders { end: false }) => Open,
            (Idle, SendHeaders { end: true }) => HalfClosedLocal,
            (Idle, ReceiveHeaders { end: true }) => HalfClosedRemote,

            (Open, SendHeaders { end: true } | SendData { end: true }) => HalfClosedLocal,
            (Open, ReceiveHeaders { end: true } | ReceiveData { end: true }) => HalfClosedRemote,
            (Open, SendHeaders { .. } | SendData { .. }) => Open,
            (Open, ReceiveHeaders { .. } | ReceiveData { .. }) => Open,

            (HalfClosedLocal, ReceiveHeaders { end: true } | ReceiveData { end: true }) => Closed,
            (HalfClosedLocal, ReceiveHeaders { .. } | ReceiveData { .. }) => HalfClosedLocal,

            (HalfClosedRemote, SendHeaders { end: true } | SendData { end: true }) => Closed,
            (HalfClosedRemote, SendHeaders { .. } | SendData { .. }) => HalfClosedRemote,

            (Open | HalfClosedLocal | HalfClosedRemote, SendReset | ReceiveReset) => Closed,
            (Open | HalfClosedLocal | HalfClosedRemote | Closed, ReceiveWindowUpdate) => self,
            (Closed, ReceiveReset) => Closed,

            _ => return Err(Violation),
        })
    }

    /// Whether we may send more on it.
    pub(super) fn can_send(self) -> bool {
        matches!(self, State::Open | State::HalfClosedRemote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Frame::*;
    use State::*;

    const STATES: [State; 5] = [Idle, Open, HalfClosedLocal, HalfClosedRemote, Closed];

    /// Every state and every frame, as RFC 9113 5.1 has them; `-` is a violation.
    #[test]
    fn every_state_and_every_frame() {
        let none: [Option<State>; 1] = [None];
        let [no] = none;
        let table: [(Frame, [Option<State>; 5]); 11] = [
            (SendHeaders { end: false }, [Some(Open), Some(Open), no, Some(HalfClosedRemote), no]),
            (
                SendHeaders { end: true },
                [Some(HalfClosedLocal), Some(HalfClosedLocal), no, Some(Closed), no],
            ),
            (SendData { end: false }, [no, Some(Open), no, Some(HalfClosedRemote), no]),
            (SendData { end: true }, [no, Some(HalfClosedLocal), no, Some(Closed), no]),
            (SendReset, [no, Some(Closed), Some(Closed), Some(Closed), no]),
            (
                ReceiveHeaders { end: false },
                [Some(Open), Some(Open), Some(HalfClosedLocal), no, no],
            ),
            (
                ReceiveHeaders { end: true },
                [Some(HalfClosedRemote), Some(HalfClosedRemote), Some(Closed), no, no],
            ),
            (ReceiveData { end: false }, [no, Some(Open), Some(HalfClosedLocal), no, no]),
            (ReceiveData { end: true }, [no, Some(HalfClosedRemote), Some(Closed), no, no]),
            (ReceiveReset, [no, Some(Closed), Some(Closed), Some(Closed), Some(Closed)]),
            (
                ReceiveWindowUpdate,
                [no, Some(Open), Some(HalfClosedLocal), Some(HalfClosedRemote), Some(Closed)],
            ),
        ];
        for (frame, after) in table {
            for (state, expected) in STATES.into_iter().zip(after) {
                assert_eq!(state.after(frame).ok(), expected, "{frame:?} in {state:?}");
            }
        }
    }

    #[test]
    fn who_ended_does_not_send() {
        for state in STATES {
            assert_eq!(
                state.can_send(),
                state != Idle && state.after(SendData { end: true }).is_ok()
            );
        }
    }
}
