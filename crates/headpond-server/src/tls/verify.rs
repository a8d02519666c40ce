//! Whether a server is who it should be, as libpq decides it.
//!
//! Beyond webpki: a certificate that stands in the file of authorities is trusted as it is, though it may be no
//! authority; and where a certificate says nothing else of whom it is for, its common name counts. Self-signed
//! certificates made as PostgreSQL's manual shows need both. One of version 1 can only be trusted in the first way.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::certificate::Certificate;

/// Who is trusted.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) roots: Arc<RootCertStore>,
    /// The certificates that the file holds.
    pub(super) file: Vec<CertificateDer<'static>>,
}

/// Looks at the certificates of servers.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: anybody will do.
    pub(super) authorities: Option<Arc<Authorities>>,
    /// The certificate must be for the host.
    pub(super) names: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let read = Certificate::read(end_entity).ok_or(CertificateError::BadEncoding)?;
        let parsed = ParsedCertificate::try_from(end_entity);
        if authorities.file.contains(end_entity) {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            match () {
                () if now < read.not_before => return Err(CertificateError::NotValidYet.into()),
                () if now > read.not_after => return Err(CertificateError::Expired.into()),
                () => {}
            }
        } else {
            let parsed =
                parsed.as_ref().map_err(|error| if read.is_v3 { error.clone() } else { too_old() })?;
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                parsed,
                &authorities.roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        let named = || parsed.and_then(|parsed| verify_server_name(&parsed, server_name));
        if self.names && !(is_called(&read, server_name) || named().is_ok()) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Whoever it is has the key, even if nobody vouches for that: a login can be bound to it.
        match Certificate::read(cert) {
            Some(read) if !read.is_v3 => {
                let key = SubjectPublicKeyInfoDer::from(read.public_key);
                verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
            }
            _ => verify_tls13_signature(message, cert, dss, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn too_old() -> Error {
    let advice = "it is of version 1: put it into server_tls_ca_file itself, or make it anew with extensions";
    Error::General(advice.to_owned())
}

/// Whether a certificate without other names has a host's as its common name; `*.` stands for one label.
fn is_called(certificate: &Certificate<'_>, name: &ServerName<'_>) -> bool {
    let (Some(pattern), false) = (&certificate.common_name, certificate.has_names) else { return false };
    match name {
        ServerName::DnsName(host) => {
            let host = host.as_ref();
            let wildcard = pattern.strip_prefix("*.").filter(|domain| domain.contains('.'));
            match wildcard {
                Some(domain) => {
                    host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
                }
                None => host.eq_ignore_ascii_case(pattern),
            }
        }
        ServerName::IpAddress(address) => pattern.parse() == Ok(std::net::IpAddr::from(*address)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_counts_for_its_host_or_for_one_label_below_its_domain() {
        for (pattern, host, fits) in [
            ("db.example.org", "db.example.org", true),
            ("DB.example.org", "db.EXAMPLE.org", true),
            ("db.example.org", "a.db.example.org", false),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("*", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("db.example.org", "127.0.0.1", false),
        ] {
            let mut certificate = Certificate::named(pattern);
            let name = ServerName::try_from(host).unwrap();
            assert_eq!(is_called(&certificate, &name), fits, "{pattern} {host}");
            certificate.has_names = true;
            assert!(!is_called(&certificate, &name), "{pattern} {host}");
        }
    }
}
