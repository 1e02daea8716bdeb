//! What can be wrong with a peer's frames and messages, and which code says so.
//!
//! What it leaves to others: whether the stream or the connection ends (the caller of the rule
//! knows), and sending the frame that says it.

use core::fmt;

/// An error code (RFC 9113 7); codes that nobody defined are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ErrorCode(pub u32);

#[allow(missing_docs)] // each is the name in the RFC
impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0x0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(0x1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(0x2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(0x3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(0x4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(0x5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(0x6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(0x7);
    pub const CANCEL: ErrorCode = ErrorCode(0x8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(0x9);
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(0xa);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(0xb);
    pub const INADEQUATE_SECURITY: ErrorCode = ErrorCode(0xc);
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(0xd);
}

/// The connection is over: a GOAWAY with this code is waiting to be written; write it, then close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionError {
    /// What was wrong.
    pub fault: Fault,
}

impl ConnectionError {
    /// The code that the GOAWAY has.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        self.fault.code()
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.fault.details(), self.fault)
    }
}

impl core::error::Error for ConnectionError {}

impl From<Fault> for ConnectionError {
    #[cold]
    fn from(fault: Fault) -> ConnectionError {
        ConnectionError { fault }
    }
}

/// The kinds of fault, of a connection or of one stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The connection does not begin with the preface (RFC 9113 3.4).
    Preface,
    /// The first frame is not SETTINGS.
    FirstFrame,
    /// A frame longer than we allow, or of a length that its type does not have.
    FrameSize,
    /// A frame on stream 0 that needs a stream, or the reverse.
    FrameStream,
    /// Padding as long as the frame or longer.
    Padding,
    /// Another frame within a field block, or CONTINUATION without one.
    FieldBlock,
    /// A field block is not HPACK.
    Compression(super::hpack::HpackError),
    /// A stream id that is even, or not above those before it.
    StreamId,
    /// A frame on a stream that nobody opened.
    IdleStream,
    /// A frame on a stream that its sender has closed.
    StreamClosed,
    /// A value that a setting cannot have.
    SettingValue,
    /// Initial window of 2^31 or more.
    SettingWindow,
    /// PUSH_PROMISE, which nobody here enables.
    PushPromise,
    /// More data than the window allows, or a window beyond 2^31 - 1.
    FlowControl,
    /// A WINDOW_UPDATE of 0.
    WindowIncrement,
    /// A last stream id above the one that GOAWAY named before.
    GoAwayId,
    /// SETTINGS were not acknowledged in time.
    SettingsTimeout,
    /// A stream depends on itself (RFC 7540 5.3.1).
    SelfDependency,
    /// A head or trailer section that HTTP does not allow (RFC 9113 8.1.1).
    Message,
    /// A trailer section that HTTP does not allow, or that does not end its message.
    Trailers,
    /// The body does not have its `content-length`.
    ContentLength,
    /// A head or trailer section larger than `max_request_headers_kb`, or of more than
    /// `max_headers_count` fields.
    HeadTooLarge,
    /// More interim responses than the limit.
    InterimResponses,
    /// More streams than we allow at once.
    TooManyStreams,
    /// `max_outbound_frames`
    OutboundFrames,
    /// `max_outbound_control_frames`
    OutboundControlFrames,
    /// `max_consecutive_inbound_frames_with_empty_payload`
    EmptyFrames,
    /// `max_inbound_priority_frames_per_stream`
    PriorityFrames,
    /// `max_inbound_window_update_frames_per_data_frame_sent`
    WindowUpdateFrames,
    /// Too many SETTINGS for the streams that were opened.
    SettingsFrames,
    /// Most streams are reset soon after they were opened, or make us reset them.
    PrematureResets,
    /// A field block in too many or too large pieces.
    Continuations,
}

impl Fault {
    /// The code that says so on the wire.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        use Fault::*;
        match self {
            FrameSize => ErrorCode::FRAME_SIZE_ERROR,
            Compression(_) => ErrorCode::COMPRESSION_ERROR,
            StreamClosed => ErrorCode::STREAM_CLOSED,
            FlowControl | SettingWindow => ErrorCode::FLOW_CONTROL_ERROR,
            SettingsTimeout => ErrorCode::SETTINGS_TIMEOUT,
            TooManyStreams => ErrorCode::REFUSED_STREAM,
            HeadTooLarge
            | OutboundFrames
            | OutboundControlFrames
            | EmptyFrames
            | PriorityFrames
            | WindowUpdateFrames
            | SettingsFrames
            | PrematureResets
            | Continuations => ErrorCode::ENHANCE_YOUR_CALM,
            Preface | FirstFrame | FrameStream | Padding | FieldBlock | StreamId | IdleStream
            | SettingValue | PushPromise | WindowIncrement | GoAwayId | SelfDependency
            | Message | Trailers | ContentLength | InterimResponses => ErrorCode::PROTOCOL_ERROR,
        }
    }

    /// Envoy's words for it in response code details, where it has some.
    #[must_use]
    pub fn details(self) -> &'static str {
        use Fault::*;
        match self {
            HeadTooLarge => "http2.header_overflow",
            Message | Trailers | ContentLength => "http2.invalid.header.field",
            TooManyStreams => "http2.stream_refused",
            OutboundFrames => "http2.outbound_frames_flood",
            OutboundControlFrames => "http2.outbound_control_frames_flood",
            EmptyFrames => "http2.inbound_empty_frames_flood",
            PriorityFrames => "http2.inbound_priority_frames_flood",
            WindowUpdateFrames => "http2.inbound_window_update_frames_flood",
            PrematureResets => "http2.too_many_premature_resets",
            FlowControl | SettingWindow => "http2.violation.of.flow.control",
            _ => "http2.protocol_error",
        }
    }
}
