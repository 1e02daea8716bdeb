//! Every stat that shards count, by Envoy's names, grouped by the scope that it belongs to.
//!
//! What it leaves to others: storage. A scope of a kind has one cell per stat of the kind, in this
//! order.

use super::Kind;
use super::shard::Stat;

/// For each stat of a table, how many cells the blocks before its own have.
const fn block_offsets<const N: usize>(table: &[(&str, Kind)]) -> [u32; N] {
    let mut offsets = [0; N];
    let (mut stat, mut before) = (0, 0);
    while stat < N {
        offsets[stat] = before;
        before += table[stat].1.block_cells();
        stat += 1;
    }
    offsets
}

macro_rules! stats {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $kind:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        #[allow(missing_docs)] // each is Envoy's stat of that name
        pub enum $name { $($variant,)* }

        impl $name {
            /// Name and kind of each, in order of their cells.
            pub const ALL: &'static [(&'static str, Kind)] = &[$(($text, Kind::$kind),)*];

            const BLOCK_OFFSETS: [u32; Self::ALL.len()] = block_offsets(Self::ALL);
        }

        impl Stat for $name {
            #[inline]
            fn index(self) -> u32 {
                self as u32
            }

            #[inline]
            fn block_offset(self) -> u32 {
                Self::BLOCK_OFFSETS[self as usize]
            }

            #[inline]
            fn kind(self) -> Kind {
                Self::ALL[self as usize].1
            }
        }
    };
}

stats! {
    /// Under `server.` and `io.`; gauges of a shard add up.
    ServerStat {
        IoTurns = Counter "io.turns",
        IoEnters = Counter "io.enters",
        IoSubmissions = Counter "io.submissions",
        IoCompletions = Counter "io.completions",
        IoNoBuffers = Counter "io.no_buffers",
        IoOverflows = Counter "io.overflows",
        IoRearms = Counter "io.rearms",
        IoSplicedBytes = Counter "io.spliced_bytes",
        IoBuffersInUse = Gauge "io.buffers_in_use",
        IoSockets = Gauge "io.sockets",
        IoUringEnabled = Gauge "io_uring.enabled",
        SnapshotsAdopted = Counter "server.snapshots_adopted",
        DescriptorsExhausted = Counter "server.descriptors_exhausted",
        GrpcMethodsRefused = Counter "server.grpc_methods_refused",
    }
}

stats! {
    /// Under `listener.<address>.`
    ListenerStat {
        DownstreamCxTotal = Counter "downstream_cx_total",
        DownstreamCxActive = Gauge "downstream_cx_active",
        DownstreamCxDestroy = Counter "downstream_cx_destroy",
        DownstreamCxOverflow = Counter "downstream_cx_overflow",
        DownstreamCxTransportSocketConnectTimeout = Counter
            "downstream_cx_transport_socket_connect_timeout",
        DownstreamPreCxActive = Gauge "downstream_pre_cx_active",
        DownstreamPreCxTimeout = Counter "downstream_pre_cx_timeout",
        DownstreamListenerFilterRemoteClose = Counter "downstream_listener_filter_remote_close",
        DownstreamListenerFilterError = Counter "downstream_listener_filter_error",
        NoFilterChainMatch = Counter "no_filter_chain_match",
        DownstreamCxLengthMs = Histogram "downstream_cx_length_ms",
    }
}

stats! {
    /// Handshakes, under `listener.<address>.` and `cluster.<name>.`. Those of one cipher, curve or
    /// version are shown once it was used.
    SslStat {
        ConnectionError = Counter "ssl.connection_error",
        Handshake = Counter "ssl.handshake",
        SessionReused = Counter "ssl.session_reused",
        NoCertificate = Counter "ssl.no_certificate",
        FailVerifyNoCert = Counter "ssl.fail_verify_no_cert",
        FailVerifyError = Counter "ssl.fail_verify_error",
        FailVerifySan = Counter "ssl.fail_verify_san",
        FailVerifyCertHash = Counter "ssl.fail_verify_cert_hash",
        // Nothing is stapled.
        OcspStapleFailed = Counter "ssl.ocsp_staple_failed",
        OcspStapleOmitted = Counter "ssl.ocsp_staple_omitted",
        OcspStapleResponses = Counter "ssl.ocsp_staple_responses",
        OcspStapleRequests = Counter "ssl.ocsp_staple_requests",
        VersionTls12 = Counter "ssl.versions.TLSv1.2",
        VersionTls13 = Counter "ssl.versions.TLSv1.3",
        CurveX25519 = Counter "ssl.curves.X25519",
        CurveP256 = Counter "ssl.curves.P-256",
        CurveP384 = Counter "ssl.curves.P-384",
        CurveP521 = Counter "ssl.curves.P-521",
        CurveX25519MlKem768 = Counter "ssl.curves.X25519MLKEM768",
        CipherTls13Aes128 = Counter "ssl.ciphers.TLS_AES_128_GCM_SHA256",
        CipherTls13Aes256 = Counter "ssl.ciphers.TLS_AES_256_GCM_SHA384",
        CipherTls13ChaCha20 = Counter "ssl.ciphers.TLS_CHACHA20_POLY1305_SHA256",
        CipherEcdsaAes128 = Counter "ssl.ciphers.ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherEcdsaAes256 = Counter "ssl.ciphers.ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherEcdsaChaCha20 = Counter "ssl.ciphers.ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherRsaAes128 = Counter "ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256",
        CipherRsaAes256 = Counter "ssl.ciphers.ECDHE-RSA-AES256-GCM-SHA384",
        CipherRsaChaCha20 = Counter "ssl.ciphers.ECDHE-RSA-CHACHA20-POLY1305",
    }
}

impl SslStat {
    const ON_DEMAND: &'static [SslStat] = &[
        SslStat::VersionTls12,
        SslStat::VersionTls13,
        SslStat::CurveX25519,
        SslStat::CurveP256,
        SslStat::CurveP384,
        SslStat::CurveP521,
        SslStat::CurveX25519MlKem768,
        SslStat::CipherTls13Aes128,
        SslStat::CipherTls13Aes256,
        SslStat::CipherTls13ChaCha20,
        SslStat::CipherEcdsaAes128,
        SslStat::CipherEcdsaAes256,
        SslStat::CipherEcdsaChaCha20,
        SslStat::CipherRsaAes128,
        SslStat::CipherRsaAes256,
        SslStat::CipherRsaChaCha20,
    ];

    /// That of a thing of a kind: `ciphers`, `curves` or `versions`.
    #[must_use]
    pub fn of(kind: &str, thing: &str) -> Option<SslStat> {
        SslStat::ON_DEMAND.iter().copied().find(|stat| {
            let name = SslStat::ALL[*stat as usize].0.strip_prefix("ssl.");
            let name = name.and_then(|name| name.strip_prefix(kind)?.strip_prefix('.'));
            name == Some(thing)
        })
    }

    /// Whether the stat of this name is shown only once it was used.
    pub(super) fn is_on_demand(name: &str) -> bool {
        ["ssl.versions.", "ssl.curves.", "ssl.ciphers."].iter().any(|kind| name.starts_with(kind))
    }
}

stats! {
    /// Under `tls_inspector.`
    TlsInspectorStat {
        ClientHelloTooLarge = Counter "client_hello_too_large",
        TlsFound = Counter "tls_found",
        TlsNotFound = Counter "tls_not_found",
        AlpnFound = Counter "alpn_found",
        AlpnNotFound = Counter "alpn_not_found",
        SniFound = Counter "sni_found",
        SniNotFound = Counter "sni_not_found",
        BytesProcessed = Histogram "bytes_processed",
    }
}

stats! {
    /// Under `listener.<address>.http.<stat_prefix>.`
    ListenerHttpStat {
        DownstreamRqCompleted = Counter "downstream_rq_completed",
        DownstreamRq1xx = Counter "downstream_rq_1xx",
        DownstreamRq2xx = Counter "downstream_rq_2xx",
        DownstreamRq3xx = Counter "downstream_rq_3xx",
        DownstreamRq4xx = Counter "downstream_rq_4xx",
        DownstreamRq5xx = Counter "downstream_rq_5xx",
    }
}

stats! {
    /// Under `http.<stat_prefix>.`
    HttpStat {
        DownstreamCxTotal = Counter "downstream_cx_total",
        DownstreamCxHttp1Total = Counter "downstream_cx_http1_total",
        DownstreamCxHttp2Total = Counter "downstream_cx_http2_total",
        DownstreamCxActive = Gauge "downstream_cx_active",
        DownstreamCxHttp1Active = Gauge "downstream_cx_http1_active",
        DownstreamCxHttp2Active = Gauge "downstream_cx_http2_active",
        DownstreamCxDestroy = Counter "downstream_cx_destroy",
        DownstreamCxDestroyRemote = Counter "downstream_cx_destroy_remote",
        DownstreamCxDestroyLocal = Counter "downstream_cx_destroy_local",
        DownstreamCxDestroyActiveRq = Counter "downstream_cx_destroy_active_rq",
        DownstreamCxDestroyLocalActiveRq = Counter "downstream_cx_destroy_local_active_rq",
        DownstreamCxDestroyRemoteActiveRq = Counter "downstream_cx_destroy_remote_active_rq",
        DownstreamCxIdleTimeout = Counter "downstream_cx_idle_timeout",
        DownstreamCxMaxDurationReached = Counter "downstream_cx_max_duration_reached",
        DownstreamCxMaxRequestsReached = Counter "downstream_cx_max_requests_reached",
        DownstreamCxDelayedCloseTimeout = Counter "downstream_cx_delayed_close_timeout",
        DownstreamCxDrainClose = Counter "downstream_cx_drain_close",
        DownstreamCxProtocolError = Counter "downstream_cx_protocol_error",
        DownstreamCxUpgradesTotal = Counter "downstream_cx_upgrades_total",
        DownstreamCxUpgradesActive = Gauge "downstream_cx_upgrades_active",
        DownstreamCxRxBytesTotal = Counter "downstream_cx_rx_bytes_total",
        DownstreamCxTxBytesTotal = Counter "downstream_cx_tx_bytes_total",
        DownstreamFlowControlPausedReadingTotal = Counter
            "downstream_flow_control_paused_reading_total",
        DownstreamFlowControlResumedReadingTotal = Counter
            "downstream_flow_control_resumed_reading_total",
        DownstreamRqTotal = Counter "downstream_rq_total",
        DownstreamRqHttp1Total = Counter "downstream_rq_http1_total",
        DownstreamRqHttp2Total = Counter "downstream_rq_http2_total",
        DownstreamRqActive = Gauge "downstream_rq_active",
        DownstreamRqCompleted = Counter "downstream_rq_completed",
        DownstreamRq1xx = Counter "downstream_rq_1xx",
        DownstreamRq2xx = Counter "downstream_rq_2xx",
        DownstreamRq3xx = Counter "downstream_rq_3xx",
        DownstreamRq4xx = Counter "downstream_rq_4xx",
        DownstreamRq5xx = Counter "downstream_rq_5xx",
        DownstreamRqIdleTimeout = Counter "downstream_rq_idle_timeout",
        DownstreamRqTimeout = Counter "downstream_rq_timeout",
        DownstreamRqHeaderTimeout = Counter "downstream_rq_header_timeout",
        DownstreamRqRxReset = Counter "downstream_rq_rx_reset",
        DownstreamRqTxReset = Counter "downstream_rq_tx_reset",
        DownstreamRqTooManyPrematureResets = Counter "downstream_rq_too_many_premature_resets",
        DownstreamRqNonRelativePath = Counter "downstream_rq_non_relative_path",
        DownstreamRqFailedPathNormalization = Counter "downstream_rq_failed_path_normalization",
        DownstreamRqRedirectedWithNormalizedPath = Counter
            "downstream_rq_redirected_with_normalized_path",
        DownstreamRqRejectedViaIpDetection = Counter "downstream_rq_rejected_via_ip_detection",
        DownstreamRqMaxDurationReached = Counter "downstream_rq_max_duration_reached",
        DownstreamCxHttp1SoftDrain = Counter "downstream_cx_http1_soft_drain",
        DownstreamRqWsOnNonWsRoute = Counter "downstream_rq_ws_on_non_ws_route",
        NoRoute = Counter "no_route",
        NoCluster = Counter "no_cluster",
        RqDirectResponse = Counter "rq_direct_response",
        RqRedirect = Counter "rq_redirect",
        PassthroughInternalRedirectBadLocation = Counter
            "passthrough_internal_redirect_bad_location",
        PassthroughInternalRedirectNoRoute = Counter "passthrough_internal_redirect_no_route",
        PassthroughInternalRedirectTooManyRedirects = Counter
            "passthrough_internal_redirect_too_many_redirects",
        PassthroughInternalRedirectUnsafeScheme = Counter
            "passthrough_internal_redirect_unsafe_scheme",
        RqTotal = Counter "rq_total",
        DownstreamRqTime = Histogram "downstream_rq_time",
        DownstreamCxLengthMs = Histogram "downstream_cx_length_ms",
    }
}

stats! {
    /// Under `tcp.<stat_prefix>.`
    TcpStat {
        DownstreamCxTotal = Counter "downstream_cx_total",
        DownstreamCxNoRoute = Counter "downstream_cx_no_route",
        DownstreamCxRxBytesTotal = Counter "downstream_cx_rx_bytes_total",
        DownstreamCxTxBytesTotal = Counter "downstream_cx_tx_bytes_total",
        DownstreamFlowControlPausedReadingTotal = Counter
            "downstream_flow_control_paused_reading_total",
        DownstreamFlowControlResumedReadingTotal = Counter
            "downstream_flow_control_resumed_reading_total",
        IdleTimeout = Counter "idle_timeout",
        MaxDownstreamConnectionDuration = Counter "max_downstream_connection_duration",
        UpstreamFlushTotal = Counter "upstream_flush_total",
        UpstreamFlushActive = Gauge "upstream_flush_active",
    }
}

stats! {
    /// Of the HTTP/1 codecs of all listeners, under `http1.`
    Http1Stat {
        DroppedHeadersWithUnderscores = Counter "dropped_headers_with_underscores",
        RequestsRejectedWithUnderscoresInHeaders = Counter
            "requests_rejected_with_underscores_in_headers",
    }
}

stats! {
    /// Of the HTTP/2 codecs: of all listeners, under no prefix, and of one cluster, under
    /// `cluster.<name>.` So `http2.` is a part of the names, and no part of a cluster's name.
    Http2Stat {
        DroppedHeadersWithUnderscores = Counter "http2.dropped_headers_with_underscores",
        GoawaySent = Counter "http2.goaway_sent",
        HeaderOverflow = Counter "http2.header_overflow",
        HeadersCbNoStream = Counter "http2.headers_cb_no_stream",
        InboundEmptyFramesFlood = Counter "http2.inbound_empty_frames_flood",
        InboundPriorityFramesFlood = Counter "http2.inbound_priority_frames_flood",
        InboundWindowUpdateFramesFlood = Counter "http2.inbound_window_update_frames_flood",
        KeepaliveTimeout = Counter "http2.keepalive_timeout",
        MetadataEmptyFrames = Counter "http2.metadata_empty_frames",
        OutboundControlFlood = Counter "http2.outbound_control_flood",
        OutboundFlood = Counter "http2.outbound_flood",
        RequestsRejectedWithUnderscoresInHeaders = Counter
            "http2.requests_rejected_with_underscores_in_headers",
        RxMessagingError = Counter "http2.rx_messaging_error",
        RxReset = Counter "http2.rx_reset",
        StreamRefusedErrors = Counter "http2.stream_refused_errors",
        Trailers = Counter "http2.trailers",
        TxFlushTimeout = Counter "http2.tx_flush_timeout",
        TxReset = Counter "http2.tx_reset",
        DeferredStreamClose = Gauge "http2.deferred_stream_close",
        PendingSendBytes = Gauge "http2.pending_send_bytes",
        StreamsActive = Gauge "http2.streams_active",
    }
}

stats! {
    /// Under `cluster.<name>.` Codes and times are counted by where the request came from; what
    /// both have together is reckoned when somebody looks.
    ClusterStat {
        UpstreamCxTotal = Counter "upstream_cx_total",
        UpstreamCxHttp1Total = Counter "upstream_cx_http1_total",
        UpstreamCxHttp2Total = Counter "upstream_cx_http2_total",
        UpstreamCxActive = Gauge "upstream_cx_active",
        UpstreamCxConnectFail = Counter "upstream_cx_connect_fail",
        UpstreamCxConnectTimeout = Counter "upstream_cx_connect_timeout",
        UpstreamCxConnectAttemptsExceeded = Counter "upstream_cx_connect_attempts_exceeded",
        UpstreamCxOverflow = Counter "upstream_cx_overflow",
        // Connections for a server name gave way to those for another.
        UpstreamCxPoolOverflow = Counter "upstream_cx_pool_overflow",
        UpstreamCxDestroy = Counter "upstream_cx_destroy",
        UpstreamCxDestroyLocal = Counter "upstream_cx_destroy_local",
        UpstreamCxDestroyRemote = Counter "upstream_cx_destroy_remote",
        UpstreamCxDestroyWithActiveRq = Counter "upstream_cx_destroy_with_active_rq",
        UpstreamCxDestroyLocalWithActiveRq = Counter "upstream_cx_destroy_local_with_active_rq",
        UpstreamCxDestroyRemoteWithActiveRq = Counter "upstream_cx_destroy_remote_with_active_rq",
        UpstreamCxCloseNotify = Counter "upstream_cx_close_notify",
        UpstreamCxIdleTimeout = Counter "upstream_cx_idle_timeout",
        UpstreamCxMaxRequests = Counter "upstream_cx_max_requests",
        UpstreamCxMaxDurationReached = Counter "upstream_cx_max_duration_reached",
        UpstreamCxNoneHealthy = Counter "upstream_cx_none_healthy",
        UpstreamCxProtocolError = Counter "upstream_cx_protocol_error",
        UpstreamCxRxBytesTotal = Counter "upstream_cx_rx_bytes_total",
        UpstreamCxTxBytesTotal = Counter "upstream_cx_tx_bytes_total",
        UpstreamFlowControlPausedReadingTotal = Counter
            "upstream_flow_control_paused_reading_total",
        UpstreamFlowControlResumedReadingTotal = Counter
            "upstream_flow_control_resumed_reading_total",
        UpstreamRqTotal = Counter "upstream_rq_total",
        UpstreamRqActive = Gauge "upstream_rq_active",
        UpstreamRqPendingTotal = Counter "upstream_rq_pending_total",
        UpstreamRqPendingActive = Gauge "upstream_rq_pending_active",
        UpstreamRqPendingOverflow = Counter "upstream_rq_pending_overflow",
        UpstreamRqPendingFailureEject = Counter "upstream_rq_pending_failure_eject",
        UpstreamRqCancelled = Counter "upstream_rq_cancelled",
        UpstreamRqTimeout = Counter "upstream_rq_timeout",
        UpstreamRqPerTryTimeout = Counter "upstream_rq_per_try_timeout",
        UpstreamRqPerTryIdleTimeout = Counter "upstream_rq_per_try_idle_timeout",
        UpstreamRqMaxDurationReached = Counter "upstream_rq_max_duration_reached",
        UpstreamRqRxReset = Counter "upstream_rq_rx_reset",
        UpstreamRqTxReset = Counter "upstream_rq_tx_reset",
        UpstreamRqRetry = Counter "upstream_rq_retry",
        UpstreamRqRetrySuccess = Counter "upstream_rq_retry_success",
        UpstreamRqRetryOverflow = Counter "upstream_rq_retry_overflow",
        UpstreamRqRetryLimitExceeded = Counter "upstream_rq_retry_limit_exceeded",
        UpstreamRqRetryBackoffExponential = Counter "upstream_rq_retry_backoff_exponential",
        UpstreamRqRetryBackoffRatelimited = Counter "upstream_rq_retry_backoff_ratelimited",
        UpstreamInternalRedirectFailedTotal = Counter "upstream_internal_redirect_failed_total",
        UpstreamInternalRedirectSucceededTotal = Counter
            "upstream_internal_redirect_succeeded_total",
        RetryOrShadowAbandoned = Counter "retry_or_shadow_abandoned",
        UpstreamRqReplayed = Counter "upstream_rq_replayed",
        UpstreamRqGrpcOverHttp1 = Counter "upstream_rq_grpc_over_http1",
        LbHealthyPanic = Counter "lb_healthy_panic",
        ExternalCodes = Codes "external.",
        InternalCodes = Codes "internal.",
        RetryCodes = Codes "retry.",
        ExternalRqTime = Histogram "external.upstream_rq_time",
        InternalRqTime = Histogram "internal.upstream_rq_time",
        UpstreamCxConnectMs = Histogram "upstream_cx_connect_ms",
        UpstreamCxLengthMs = Histogram "upstream_cx_length_ms",
    }
}

stats! {
    /// Of the calls of one gRPC method to a cluster, or of all that have no name of their own:
    /// under `cluster.<name>.grpc.` and the method's name. Each is shown once it was counted.
    GrpcStat {
        Success = Counter "success",
        Failure = Counter "failure",
        Total = Counter "total",
        RequestMessageCount = Counter "request_message_count",
        ResponseMessageCount = Counter "response_message_count",
        Status0 = Counter "0",
        Status1 = Counter "1",
        Status2 = Counter "2",
        Status3 = Counter "3",
        Status4 = Counter "4",
        Status5 = Counter "5",
        Status6 = Counter "6",
        Status7 = Counter "7",
        Status8 = Counter "8",
        Status9 = Counter "9",
        Status10 = Counter "10",
        Status11 = Counter "11",
        Status12 = Counter "12",
        Status13 = Counter "13",
        Status14 = Counter "14",
        Status15 = Counter "15",
        Status16 = Counter "16",
        UpstreamRqTime = Histogram "upstream_rq_time",
    }
}

impl GrpcStat {
    /// What counts a status, if gRPC has it.
    #[must_use]
    pub fn of_status(status: &[u8]) -> Option<GrpcStat> {
        const STATUSES: [GrpcStat; 17] = [
            GrpcStat::Status0,
            GrpcStat::Status1,
            GrpcStat::Status2,
            GrpcStat::Status3,
            GrpcStat::Status4,
            GrpcStat::Status5,
            GrpcStat::Status6,
            GrpcStat::Status7,
            GrpcStat::Status8,
            GrpcStat::Status9,
            GrpcStat::Status10,
            GrpcStat::Status11,
            GrpcStat::Status12,
            GrpcStat::Status13,
            GrpcStat::Status14,
            GrpcStat::Status15,
            GrpcStat::Status16,
        ];
        let of = |stat: &GrpcStat| GrpcStat::ALL[*stat as usize].0.as_bytes();
        STATUSES.into_iter().find(|stat| of(stat) == status)
    }
}

stats! {
    /// Of one host of a cluster; shown by `/clusters`, not by `/stats`.
    HostStat {
        CxTotal = Counter "cx_total",
        CxActive = Gauge "cx_active",
        CxConnectFail = Counter "cx_connect_fail",
        RqTotal = Counter "rq_total",
        RqActive = Gauge "rq_active",
        RqPendingActive = Gauge "rq_pending_active",
        RqSuccess = Counter "rq_success",
        RqError = Counter "rq_error",
        RqTimeout = Counter "rq_timeout",
    }
}
