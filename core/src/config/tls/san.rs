//! Matchers of subject alternative names (`SubjectAltNameMatcher`).
//!
//! What it leaves to others: finding the names in a certificate (`transport`).

use crate::config::StringMatcher;
use crate::config::convert::At;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;

/// `SubjectAltNameMatcher`
#[derive(Clone, PartialEq, Debug)]
pub struct SubjectAltNameMatcher {
    /// `san_type`, and `oid` with OTHER_NAME
    pub san_type: SanType,
    /// `matcher`
    pub matcher: StringMatcher,
}

/// `SubjectAltNameMatcher.SanType`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SanType {
    /// `EMAIL`
    Email,
    /// `DNS`
    Dns,
    /// `URI`
    Uri,
    /// `IP_ADDRESS`
    IpAddress,
    /// `OTHER_NAME` with `oid`
    OtherName(String),
}

impl SubjectAltNameMatcher {
    /// Converts a matcher; what is wrong is reported.
    pub(super) fn from_proto(
        at: &At<'_>,
        matcher: &pb::SubjectAltNameMatcher,
    ) -> Option<SubjectAltNameMatcher> {
        use pb::subject_alt_name_matcher::SanType as Pb;
        let at_oid = at.field("oid");
        let san_type = match matcher.san_type() {
            // A rule of the .proto file, which the reader has reported.
            Pb::Unspecified => return None,
            Pb::Email => SanType::Email,
            Pb::Dns => SanType::Dns,
            Pb::Uri => SanType::Uri,
            Pb::IpAddress => SanType::IpAddress,
            Pb::OtherName if !is_oid(&matcher.oid) => {
                at_oid.error_hint("OTHER_NAME needs an object identifier", "as in 1.2.3.4");
                return None;
            }
            Pb::OtherName => SanType::OtherName(matcher.oid.clone()),
        };
        let matcher = StringMatcher::from_proto(&at.field("matcher"), matcher.matcher.as_ref()?)?;
        Some(SubjectAltNameMatcher { san_type, matcher })
    }
}

fn is_oid(text: &str) -> bool {
    let numbers: Vec<_> = text.split('.').collect();
    numbers.len() >= 2
        && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}
