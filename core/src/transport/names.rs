//! Matching subject alternative names (`SubjectAltNameMatcher`), and host names with those of a
//! certificate.
//!
//! What it leaves to others: finding them in a certificate (`certificate`).

use super::certificate::SubjectAltName;
use crate::config::StringPattern;
use crate::config::tls::{SanType, SubjectAltNameMatcher};
use crate::snapshot::TextMatch;

/// A compiled matcher.
#[derive(Debug)]
pub(super) struct NameMatcher {
    san_type: SanType,
    /// An exact DNS name, which a certificate with a wildcard has too.
    exact_dns: Option<String>,
    text: TextMatch,
}

impl NameMatcher {
    /// Compiles a matcher.
    pub fn of(matcher: &SubjectAltNameMatcher) -> NameMatcher {
        let exact_dns = match (&matcher.san_type, &matcher.matcher.pattern) {
            (SanType::Dns, StringPattern::Exact(name)) => Some(name.clone()),
            _ => None,
        };
        let text = TextMatch::of(&matcher.matcher);
        NameMatcher { san_type: matcher.san_type.clone(), exact_dns, text }
    }

    /// Whether it matches this name.
    pub fn matches(&self, name: &SubjectAltName) -> bool {
        match (&self.san_type, name) {
            (SanType::Dns, SubjectAltName::Dns(name)) => match &self.exact_dns {
                Some(exact) => is_dns_match(exact, name),
                None => self.text.matches(name.as_bytes()),
            },
            (SanType::Uri, SubjectAltName::Uri(name))
            | (SanType::Email, SubjectAltName::Email(name)) => self.text.matches(name.as_bytes()),
            (SanType::IpAddress, SubjectAltName::Ip(address)) => {
                self.text.matches(address.to_string().as_bytes())
            }
            (SanType::OtherName(wanted), SubjectAltName::OtherName(oid, text)) => {
                wanted == oid && self.text.matches(text.as_bytes())
            }
            _ => false,
        }
    }
}

/// Whether a certificate's DNS name is this name: `*.example.com` is any one label before it.
pub(super) fn is_dns_match(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let Some(parent) = pattern.strip_prefix('*').filter(|parent| parent.len() > 1) else {
        return false;
    };
    let Some(label) = name.find('.').filter(|at| *at > 0) else { return false };
    parent.starts_with('.') && name[label..].eq_ignore_ascii_case(parent)
}

/// Whether a certificate has a server name, by its subject alternative names only.
pub(super) fn has_server_name(names: &[SubjectAltName], wanted: &str) -> bool {
    let address = wanted.parse::<std::net::IpAddr>().ok();
    !wanted.is_empty()
        && names.iter().any(|name| match name {
            SubjectAltName::Dns(pattern) => is_dns_match(wanted, pattern),
            SubjectAltName::Ip(ip) => Some(*ip) == address,
            SubjectAltName::Uri(uri) => uri == wanted,
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StringMatcher;

    #[test]
    fn a_wildcard_is_one_label() {
        for (name, pattern, expected) in [
            ("api.example.com", "api.example.com", true),
            ("API.example.com", "api.Example.com", true),
            ("api.example.com", "*.example.com", true),
            ("a.b.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            (".example.com", "*.example.com", false),
            ("api.example.com", "a*.example.com", false),
            ("api.example.com", "*", false),
            ("api.example.com", "*.", false),
            ("*.example.com", "*.example.com", true),
        ] {
            assert_eq!(is_dns_match(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn the_type_has_to_be_the_same() {
        let matcher = |san_type| {
            let matcher = StringMatcher::new(StringPattern::Exact("10.0.0.1".into()));
            NameMatcher::of(&SubjectAltNameMatcher { san_type, matcher })
        };
        let ip = SubjectAltName::Ip("10.0.0.1".parse().unwrap());
        let dns = SubjectAltName::Dns("10.0.0.1".into());
        let other = SubjectAltName::OtherName("1.2.3".into(), "10.0.0.1".into());
        assert!(matcher(SanType::IpAddress).matches(&ip));
        assert!(!matcher(SanType::IpAddress).matches(&dns));
        assert!(!matcher(SanType::Dns).matches(&ip));
        assert!(matcher(SanType::OtherName("1.2.3".into())).matches(&other));
        assert!(!matcher(SanType::OtherName("1.2.4".into())).matches(&other));
    }
}
