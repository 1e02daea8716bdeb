//! Who a request comes from: what the connection manager believes of `x-forwarded-for` and the
//! like, and whom it calls internal.
//!
//! What it leaves to others: finding the address (`proxy::client_address`).

use super::convert::{At, is_type};
use super::support::{SupportedMessage, message, refused, used};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::custom_header::v3 as header;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::xff::v3 as xff;
use envoy_types::pb::google::protobuf::Any;
use std::net::IpAddr;

/// The fields of `HttpConnectionManager` about the client's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientAddress {
    /// `use_remote_address` (then there are no extensions), or where the address is looked for.
    pub source: AddressSource,
    /// `internal_address_config.cidr_ranges`
    pub internal: Vec<CidrRange>,
    /// `represent_ipv4_remote_address_as_ipv4_mapped_ipv6`: in `x-forwarded-for`.
    pub mapped_to_ipv6: bool,
    /// `append_x_forwarded_port`
    pub append_x_forwarded_port: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// `scheme_header_transformation.match_upstream`: the scheme is that of the connection to the
    /// upstream, which is `http` as long as there is no TLS.
    pub match_upstream: bool,
}

/// Where the client's address comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressSource {
    /// `use_remote_address`: we are at the edge.
    Peer {
        /// `skip_xff_append`
        skip_xff_append: bool,
        /// `xff_num_trusted_hops`: proxies in front of us.
        trusted_hops: u32,
    },
    /// `original_ip_detection_extensions`, in order; without any, `x-forwarded-for` with
    /// `xff_num_trusted_hops`.
    Detected(Vec<IpDetection>),
}

/// One of the `original_ip_detection_extensions`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IpDetection {
    /// `XffConfig`
    Xff {
        /// What of the field is believed.
        trusted: XffTrust,
        /// `skip_xff_append`, default true.
        skip_append: bool,
    },
    /// `CustomHeaderConfig`
    Header {
        /// `header_name`, in lower case.
        name: String,
        /// `allow_extension_to_set_address_as_trusted`
        trusted: bool,
        /// `reject_with_status`: the status for a request without a valid address there.
        reject_status: Option<u16>,
    },
}

/// Whose entries of `x-forwarded-for` are believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum XffTrust {
    /// `xff_num_trusted_hops`: so many from the right are skipped.
    Hops(u32),
    /// `xff_trusted_cidrs`: those in these ranges are skipped, if the peer is in one.
    Ranges(Vec<CidrRange>),
}

/// `config.core.v3.CidrRange`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CidrRange {
    address: IpAddr,
    length: u8,
}

impl CidrRange {
    /// The range of the addresses that begin with the first `length` bits of `address`; as many
    /// bits as there are if that is fewer.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> CidrRange {
        let length = length.min(if address.is_ipv4() { 32 } else { 128 });
        // The other bits say nothing: ranges that are the same are equal.
        let address = match address {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        };
        CidrRange { address, length }
    }

    /// How many bits count.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.length
    }

    /// Whether an address is in the range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let differing = u32::from(range) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.length)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let differing = u128::from(range) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.length)
            }
            _ => false,
        }
    }

    pub(super) fn from_proto(at: &At<'_>, range: &core::CidrRange) -> Option<CidrRange> {
        let Ok(address) = range.address_prefix.parse::<IpAddr>() else {
            let reason = format!("`{}` is not an IP address", range.address_prefix);
            at.field("address_prefix").error(reason);
            return None;
        };
        // The .proto file allows 128 at most; absent is 0.
        let length = range.prefix_len.map_or(0, |length| length.value);
        Some(CidrRange::new(address, u8::try_from(length).unwrap_or(u8::MAX)))
    }

    pub(super) fn all_from_proto(at: &At<'_>, ranges: &[core::CidrRange]) -> Vec<CidrRange> {
        let convert = |(index, range)| CidrRange::from_proto(&at.index(index), range);
        ranges.iter().enumerate().filter_map(convert).collect()
    }
}

pub(super) const XFF: &str = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig";
pub(super) const CUSTOM_HEADER: &str =
    "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";

/// What is implemented of it.
pub(super) const SUPPORTED: &[SupportedMessage] = &[
    message(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\
         .InternalAddressConfig",
        &[used("cidr_ranges"), refused("unix_sockets")],
    ),
    message("envoy.config.core.v3.CidrRange", &[used("address_prefix"), used("prefix_len")]),
    message(
        "envoy.config.core.v3.SchemeHeaderTransformation",
        &[used("scheme_to_overwrite"), used("match_upstream")],
    ),
    message(
        XFF,
        &[used("xff_num_trusted_hops"), used("xff_trusted_cidrs"), used("skip_xff_append")],
    ),
    message("envoy.extensions.http.original_ip_detection.xff.v3.XffTrustedCidrs", &[used("cidrs")]),
    message(
        CUSTOM_HEADER,
        &[
            used("header_name"),
            used("allow_extension_to_set_address_as_trusted"),
            used("reject_with_status"),
        ],
    ),
    message("envoy.type.v3.HttpStatus", &[used("code")]),
];

/// Envoy's default: `x-forwarded-for` is believed, and nothing is internal.
impl Default for ClientAddress {
    fn default() -> ClientAddress {
        let detection = IpDetection::Xff { trusted: XffTrust::Hops(0), skip_append: true };
        ClientAddress {
            source: AddressSource::Detected(vec![detection]),
            internal: Vec::new(),
            append_x_forwarded_port: false,
            mapped_to_ipv6: false,
            scheme: None,
            match_upstream: false,
        }
    }
}

impl ClientAddress {
    pub(super) fn from_proto(at: &At<'_>, manager: &pb::HttpConnectionManager) -> ClientAddress {
        use core::scheme_header_transformation::Transformation;
        let hops = manager.xff_num_trusted_hops;
        let at_detections = at.field("original_ip_detection_extensions");
        let mut detections = Vec::new();
        for (index, extension) in manager.original_ip_detection_extensions.iter().enumerate() {
            let at = at_detections.index(index);
            let at = at.field("typed_config");
            if let Some(any) = &extension.typed_config
                && !at.is_unreadable()
            {
                detections.extend(at.converted(IpDetection::from_proto(&at, any)));
            }
        }
        let uses_peer = manager.use_remote_address.is_some_and(|flag| flag.value);
        let has_extensions = !manager.original_ip_detection_extensions.is_empty();
        if has_extensions && (uses_peer || hops > 0) {
            let other = if uses_peer { "use_remote_address" } else { "xff_num_trusted_hops" };
            at_detections.error(format!("extensions cannot be combined with `{other}`"));
        }
        if !has_extensions {
            detections.push(IpDetection::Xff { trusted: XffTrust::Hops(hops), skip_append: true });
        }
        let at_internal = at.field("internal_address_config");
        let internal = manager.internal_address_config.as_ref().map(|config| {
            CidrRange::all_from_proto(&at_internal.field("cidr_ranges"), &config.cidr_ranges)
        });
        let scheme = manager.scheme_header_transformation.as_ref();
        ClientAddress {
            source: if uses_peer {
                let skip_xff_append = manager.skip_xff_append;
                AddressSource::Peer { skip_xff_append, trusted_hops: hops }
            } else {
                AddressSource::Detected(detections)
            },
            internal: internal.unwrap_or_default(),
            mapped_to_ipv6: manager.represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            append_x_forwarded_port: manager.append_x_forwarded_port,
            match_upstream: scheme.is_some_and(|scheme| scheme.match_upstream),
            scheme: scheme.and_then(|scheme| scheme.transformation.as_ref()).map(|scheme| {
                // The .proto file allows these two.
                let Transformation::SchemeToOverwrite(scheme) = scheme;
                if scheme == "https" { "https" } else { "http" }
            }),
        }
    }

    /// Whether `use_remote_address` is set.
    #[must_use]
    pub fn uses_peer(&self) -> bool {
        matches!(self.source, AddressSource::Peer { .. })
    }

    /// Whether anything about the connection's two ends has to be known.
    #[must_use]
    pub fn needs_ends(&self) -> bool {
        let needs_peer = |detection: &IpDetection| {
            matches!(
                detection,
                IpDetection::Xff { trusted: XffTrust::Ranges(_), .. }
                    | IpDetection::Xff { skip_append: false, .. }
            )
        };
        self.append_x_forwarded_port
            || match &self.source {
                AddressSource::Peer { .. } => true,
                AddressSource::Detected(detections) => detections.iter().any(needs_peer),
            }
    }

    /// Whether an address is internal.
    #[must_use]
    pub fn is_internal(&self, address: IpAddr) -> bool {
        self.internal.iter().any(|range| range.contains(address))
    }
}

impl IpDetection {
    fn from_proto(at: &At<'_>, any: &Any) -> Option<IpDetection> {
        if is_type(any, XFF) {
            let config: xff::XffConfig = at.unpack(any, XFF)?;
            return IpDetection::from_xff(at, &config);
        }
        if !is_type(any, CUSTOM_HEADER) {
            at.error(format!("a client's address is found by a `{XFF}` or a `{CUSTOM_HEADER}`"));
            return None;
        }
        let config: header::CustomHeaderConfig = at.unpack(any, CUSTOM_HEADER)?;
        let code = config.reject_with_status.map(|status| status.code);
        // As Envoy: below 400 it is 403.
        let status = code.map(|code| u16::try_from(code).ok().filter(|code| *code >= 400));
        Some(IpDetection::Header {
            name: config.header_name.to_ascii_lowercase(),
            trusted: config.allow_extension_to_set_address_as_trusted,
            reject_status: status.map(|status| status.unwrap_or(403)),
        })
    }

    fn from_xff(at: &At<'_>, config: &xff::XffConfig) -> Option<IpDetection> {
        let trusted = match &config.xff_trusted_cidrs {
            Some(_) if config.xff_num_trusted_hops > 0 => {
                let reason = "it cannot be combined with `xff_num_trusted_hops`";
                at.field("xff_trusted_cidrs").error(reason);
                return None;
            }
            Some(ranges) => {
                let at = at.field("xff_trusted_cidrs");
                XffTrust::Ranges(CidrRange::all_from_proto(&at.field("cidrs"), &ranges.cidrs))
            }
            None => XffTrust::Hops(config.xff_num_trusted_hops),
        };
        let skip_append = config.skip_xff_append.is_none_or(|flag| flag.value);
        Some(IpDetection::Xff { trusted, skip_append })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range = |text: &str, length| CidrRange::new(text.parse().unwrap(), length);
        let has = |range: CidrRange, text: &str| range.contains(text.parse().unwrap());
        assert!(has(range("10.1.2.3", 8), "10.255.0.1") && !has(range("10.0.0.0", 8), "11.0.0.0"));
        assert!(has(range("10.0.0.1", 32), "10.0.0.1") && !has(range("10.0.0.1", 99), "10.0.0.2"));
        assert!(has(range("0.0.0.0", 0), "255.1.1.1") && !has(range("0.0.0.0", 0), "::1"));
        assert!(has(range("2001:db8::", 32), "2001:db8:ffff::1"));
        assert!(!has(range("2001:db8::", 32), "2001:db9::") && has(range("::1", 128), "::1"));
    }
}
