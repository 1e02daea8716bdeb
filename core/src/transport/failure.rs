//! Why a handshake failed, as stats and details of responses have it.
//!
//! What it leaves to others: counting (`proxy::handshake`).

use super::verifier::WrongName;
use rustls::{CertificateError, Error};

/// Why a handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeFailure {
    /// The peer has shown no certificate.
    NoCertificate,
    /// Its certificate leads to nobody who is trusted, or is not valid.
    Chain,
    /// None of its names is what was asked for.
    Name,
    /// It is not the one that was asked for, nor its key.
    Pin,
    /// Anything else: what came is no TLS, nothing was agreed on, the peer has sent an alert.
    Protocol,
}

impl HandshakeFailure {
    /// What an error of a session is.
    #[must_use]
    pub fn of(error: &Error) -> HandshakeFailure {
        match error {
            Error::NoCertificatesPresented => HandshakeFailure::NoCertificate,
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                HandshakeFailure::Pin
            }
            Error::InvalidCertificate(CertificateError::Other(error))
                if error.0.downcast_ref::<WrongName>().is_some() =>
            {
                HandshakeFailure::Name
            }
            Error::InvalidCertificate(_) => HandshakeFailure::Chain,
            _ => HandshakeFailure::Protocol,
        }
    }

    /// The details of a response that there is none for, as Envoy begins and ends them; what is
    /// between are our words.
    #[must_use]
    pub fn details(error: &Error) -> &'static str {
        macro_rules! because {
            ($reason:literal) => {
                concat!(
                    "upstream_reset_before_response_started{remote_connection_failure|TLS_error:|",
                    $reason,
                    ":TLS_error_end}"
                )
            };
        }
        use CertificateError as Certificate;
        match (HandshakeFailure::of(error), error) {
            (HandshakeFailure::NoCertificate, _) => because!("NO_CERTIFICATE"),
            (HandshakeFailure::Name, _) => {
                because!("CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list")
            }
            (HandshakeFailure::Pin, _) => {
                because!("CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_cert_hash_and_spki")
            }
            (_, Error::InvalidCertificate(certificate)) => match certificate {
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    because!("CERTIFICATE_VERIFY_FAILED:verify_cert:_certificate_has_expired")
                }
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                    because!("CERTIFICATE_VERIFY_FAILED:verify_cert:_certificate_is_not_yet_valid")
                }
                Certificate::Revoked => {
                    because!("CERTIFICATE_VERIFY_FAILED:verify_cert:_certificate_revoked")
                }
                Certificate::UnknownIssuer => because!(
                    "CERTIFICATE_VERIFY_FAILED:verify_cert:_unable_to_get_local_issuer_certificate"
                ),
                Certificate::InvalidPurpose => {
                    because!(
                        "CERTIFICATE_VERIFY_FAILED:verify_cert:_unsupported_certificate_purpose"
                    )
                }
                Certificate::UnknownRevocationStatus => {
                    because!("CERTIFICATE_VERIFY_FAILED:verify_cert:_unable_to_get_certificate_CRL")
                }
                Certificate::ExpiredRevocationList => {
                    because!("CERTIFICATE_VERIFY_FAILED:verify_cert:_CRL_has_expired")
                }
                _ => because!("CERTIFICATE_VERIFY_FAILED"),
            },
            (_, Error::AlertReceived(_)) => because!("ALERT_RECEIVED"),
            (_, Error::InvalidMessage(_)) => because!("WRONG_VERSION_NUMBER"),
            (_, Error::PeerIncompatible(_)) => because!("HANDSHAKE_FAILURE"),
            (_, Error::NoApplicationProtocol) => because!("NO_APPLICATION_PROTOCOL"),
            _ => because!("PROTOCOL_ERROR"),
        }
    }
}
