//! Flow control (RFC 9113 5.2, 6.9): windows of what may be sent, at both levels and in both
//! directions.
//!
//! What it leaves to others: whose window it is, and writing WINDOW_UPDATE.

use super::Fault;

/// The window that every stream and connection begins with.
pub(super) const DEFAULT_WINDOW: u32 = 65_535;

/// The largest window: 2^31 - 1.
pub(super) const WINDOW_MAX: u32 = i32::MAX as u32;

/// Bytes that may be sent.
///
/// Less than zero when the peer reduced SETTINGS_INITIAL_WINDOW_SIZE after we had used more: with
/// 65,535 at first, 60,000 sent and a new initial size of 10,000 it is 5,535 - 55,535 = -50,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window(i32);

impl Window {
    pub(super) fn new(size: u32) -> Window {
        debug_assert!(size <= WINDOW_MAX);
        Window(size as i32)
    }

    pub(super) fn available(self) -> usize {
        self.0.max(0) as usize
    }

    /// WINDOW_UPDATE: RFC 9113 6.9.1 allows no window above 2^31 - 1.
    pub(super) fn increase(&mut self, increment: u32) -> Result<(), Fault> {
        let increment = i32::try_from(increment).map_err(|_| Fault::FlowControl)?;
        self.0 = self.0.checked_add(increment).ok_or(Fault::FlowControl)?;
        Ok(())
    }

    /// A new SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 6.9.2).
    pub(super) fn shift(&mut self, difference: i64) -> Result<(), Fault> {
        let window = i64::from(self.0) + difference;
        self.0 = i32::try_from(window).map_err(|_| Fault::FlowControl)?;
        Ok(())
    }

    /// Uses some of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.available() {
            return Err(Fault::FlowControl);
        }
        self.0 -= bytes as i32;
        Ok(())
    }
}

/// What the peer may still send us, and what we owe it.
///
/// `window + unconsumed + released <= size` when nothing is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReceiveWindow {
    window: Window,
    /// The window when all is consumed and announced.
    size: u32,
    /// What it grows to as long as everything is consumed.
    max: u32,
    /// Received, and not consumed yet by whom it is for.
    unconsumed: u32,
    /// Consumed, and not yet announced to the peer.
    released: u32,
}

/// By what a window that is used grows.
const GROWTH: u32 = 4;

impl ReceiveWindow {
    pub(super) fn new(size: u32) -> ReceiveWindow {
        ReceiveWindow { window: Window::new(size), size, max: size, unconsumed: 0, released: 0 }
    }

    /// A window that begins small: only who consumes what comes gets more at once.
    pub(super) fn growing(size: u32, max: u32) -> ReceiveWindow {
        ReceiveWindow { max, ..ReceiveWindow::new(size) }
    }

    /// A frame's payload was announced by its header.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<(), Fault> {
        self.window.take(bytes)?;
        self.unconsumed += bytes as u32;
        Ok(())
    }

    pub(super) fn unconsumed(self) -> usize {
        self.unconsumed as usize
    }

    /// So much of what was received has gone on; more than was received counts as all of it.
    pub(super) fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.unconsumed as usize) as u32;
        self.unconsumed -= bytes;
        self.released += bytes;
    }

    /// The increment to announce, once it is worth a frame: half of the window.
    pub(super) fn update(&mut self) -> Option<u32> {
        if self.released == 0 || self.released < self.size / 2 {
            return None;
        }
        let size = self.size.saturating_mul(GROWTH).min(self.max).max(self.size);
        let increment = core::mem::take(&mut self.released) + (size - self.size);
        self.size = size;
        // Cannot overflow: it was taken from this window before, or is within its maximum.
        self.window.increase(increment).ok()?;
        Some(increment)
    }

    /// Makes the window larger; answers the increment to announce.
    pub(super) fn grow(&mut self, size: u32) -> Option<u32> {
        let increment = size.checked_sub(self.size).filter(|&increment| increment > 0)?;
        self.window.increase(increment).ok()?;
        self.size = size;
        Some(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_can_be_negative_and_never_too_large() {
        let mut window = Window::new(DEFAULT_WINDOW);
        window.take(60_000).unwrap();
        window.shift(10_000 - 65_535).unwrap();
        assert_eq!((window, window.available()), (Window(-50_000), 0));
        assert_eq!(window.take(1), Err(Fault::FlowControl));
        window.increase(50_001).unwrap();
        assert_eq!(window.available(), 1);
        assert_eq!(window.increase(WINDOW_MAX), Err(Fault::FlowControl));
        assert_eq!(window.increase(WINDOW_MAX + 1), Err(Fault::FlowControl));
        assert_eq!(window.shift(i64::from(WINDOW_MAX)), Err(Fault::FlowControl));
        window.increase(WINDOW_MAX - 1).unwrap();
        window.take(0).unwrap();
    }

    #[test]
    fn a_growing_window_grows_with_what_is_consumed() {
        let mut window = ReceiveWindow::growing(100, 1000);
        window.receive(100).unwrap();
        window.consume(49);
        assert_eq!(window.update(), None);
        window.consume(1);
        assert_eq!(window.update(), Some(350));
        window.receive(350).unwrap();
        window.consume(400);
        assert_eq!((window.update(), window.update()), (Some(400 + 600), None));
        window.receive(1000).unwrap();
        assert_eq!(window.receive(1), Err(Fault::FlowControl));
        window.consume(1000);
        assert_eq!(window.update(), Some(1000));
    }

    #[test]
    fn what_is_consumed_is_announced_by_halves() {
        let mut window = ReceiveWindow::new(100);
        window.receive(60).unwrap();
        assert_eq!(window.receive(41), Err(Fault::FlowControl));
        window.consume(49);
        assert_eq!((window.update(), window.unconsumed()), (None, 11));
        window.consume(1000);
        assert_eq!((window.update(), window.update()), (Some(60), None));
        window.receive(100).unwrap();
        assert_eq!((window.grow(100), window.grow(150)), (None, Some(50)));
        window.receive(50).unwrap();
    }
}
