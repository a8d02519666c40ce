//! What is read of a certificate here: whose it is, until when it holds, and the hash that SCRAM binds to. Whether it
//! can be trusted is not decided here.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_cert::der::asn1::{ContextSpecific, ObjectIdentifier};
use x509_cert::der::oid::db::{rfc4519, rfc5280, rfc5912};
use x509_cert::der::{Decode, Encode, SliceReader, TagNumber};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{TbsCertificate, Version};

/// RFC 5912 does not name it.
const ECDSA_WITH_SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");

/// The parts of a certificate that are of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Whether it is of version 3, the only one with extensions.
    pub(crate) is_v3: bool,
    /// The last common name of its subject.
    pub(crate) common_name: Option<String>,
    /// From when it holds, in seconds since 1970.
    pub(crate) not_before: i64,
    /// Until when it holds, in seconds since 1970.
    pub(crate) not_after: i64,
    /// The public key with its algorithm, in DER.
    pub(crate) public_key: Vec<u8>,
    /// It says in an extension whom it is for: then the common name does not count.
    pub(crate) has_names: bool,
    hash: Option<Hash>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Certificate {
    /// Reads a certificate in DER; `None` if it makes no sense.
    #[must_use]
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        let named =
            |extension: &x509_cert::ext::Extension| extension.extn_id == rfc5280::ID_CE_SUBJECT_ALT_NAME;
        Some(Self {
            is_v3: body.version() == Version::V3,
            common_name: common_name(body),
            not_before: seconds(body.validity().not_before)?,
            not_after: seconds(body.validity().not_after)?,
            public_key: body.subject_public_key_info().to_der().ok()?,
            has_names: body.extensions().is_some_and(|extensions| extensions.iter().any(named)),
            hash: signed_with(certificate.signature_algorithm()),
        })
    }

    /// One of this name, for tests.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        Self {
            is_v3: true,
            common_name: Some(name.to_owned()),
            not_before: 0,
            not_after: i64::MAX,
            public_key: Vec::new(),
            has_names: false,
            hash: None,
        }
    }

    /// The hash that SCRAM binds to (`tls-server-end-point`, RFC 5929 section 4.1); `None`: its algorithm signs without
    /// one (Ed25519). `der` is what it was read from.
    #[must_use]
    pub(crate) fn end_point(&self, der: &[u8]) -> Option<Box<[u8]>> {
        Some(match self.hash? {
            Hash::Sha224 => Sha224::digest(der).as_slice().into(),
            Hash::Sha256 => Sha256::digest(der).as_slice().into(),
            Hash::Sha384 => Sha384::digest(der).as_slice().into(),
            Hash::Sha512 => Sha512::digest(der).as_slice().into(),
        })
    }
}

/// The last common name of a certificate's subject.
fn common_name(body: &TbsCertificate) -> Option<String> {
    let names = body.subject().iter().filter(|pair| pair.oid == rfc4519::COMMON_NAME);
    let name = std::str::from_utf8(names.last()?.value.value()).ok()?;
    // A name that ends early for some readers names somebody else.
    (!name.contains('\0')).then(|| name.to_owned())
}

/// The hash function of a signature algorithm; in place of MD5 and SHA-1, SHA-256 counts.
fn signed_with(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    match algorithm.oid {
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | ECDSA_WITH_SHA_1
        | rfc5912::ECDSA_WITH_SHA_256 => Some(Hash::Sha256),
        rfc5912::SHA_224_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_224 => Some(Hash::Sha224),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => Some(Hash::Sha384),
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => Some(Hash::Sha512),
        rfc5912::ID_RSASSA_PSS => of_pss(algorithm).map(named),
        _ => None,
    }
}

/// That of RSASSA-PSS is in its parameters (RFC 4055 section 3.1); SHA-1, if nothing is said.
fn of_pss(algorithm: &AlgorithmIdentifierOwned) -> Option<ObjectIdentifier> {
    // The hash function comes first; the other parameters are of no use here.
    let mut parameters = SliceReader::new(algorithm.parameters.as_ref()?.value()).ok()?;
    let hash = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut parameters, TagNumber(0));
    Some(hash.ok()?.map_or(rfc5912::ID_SHA_1, |hash| hash.value.oid))
}

fn named(hash: ObjectIdentifier) -> Hash {
    match hash {
        rfc5912::ID_SHA_224 => Hash::Sha224,
        rfc5912::ID_SHA_384 => Hash::Sha384,
        rfc5912::ID_SHA_512 => Hash::Sha512,
        _ => Hash::Sha256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use x509_cert::der::Any;

    fn made(name: &str, names: &[&str], key: &KeyPair) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(2052, 2, 29);
        params.self_signed(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_says_whose_it_is_and_until_when_it_holds() {
        let key = KeyPair::generate().unwrap();
        let der = made("alice", &[], &key);
        let read = Certificate::read(&der).unwrap();
        assert_eq!((read.common_name.as_deref(), read.is_v3, read.has_names), (Some("alice"), true, false));
        assert_eq!((read.not_before, read.not_after), (946_598_400, 2_592_777_600));
        assert!(read.public_key.ends_with(key.public_key_raw()));
        assert!(Certificate::read(&made("alice", &["a.example"], &key)).unwrap().has_names);
    }

    #[test]
    fn what_scram_binds_to_is_hashed_as_the_signature_is() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let der = made("a", &[], &KeyPair::generate_for(algorithm).unwrap());
            let hash = Certificate::read(&der).unwrap().end_point(&der);
            assert_eq!(hash.map(|hash| hash.len()), length);
        }
    }

    #[test]
    fn each_signature_algorithm_has_its_hash() {
        let hash = |oid: &str, parameters| {
            signed_with(&AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters })
        };
        use Hash::{Sha224, Sha256, Sha384, Sha512};
        for (last, expected) in [
            (4, Some(Sha256)),
            (5, Some(Sha256)),
            (11, Some(Sha256)),
            (12, Some(Sha384)),
            (13, Some(Sha512)),
            (14, Some(Sha224)),
            (99, None),
        ] {
            assert_eq!(hash(&format!("1.2.840.113549.1.1.{last}"), None), expected);
        }
        for (last, expected) in ["1", "3.1", "3.2", "3.3", "3.4", "3.5"].into_iter().zip([
            Some(Sha256),
            Some(Sha224),
            Some(Sha256),
            Some(Sha384),
            Some(Sha512),
            None,
        ]) {
            assert_eq!(hash(&format!("1.2.840.10045.4.{last}"), None), expected);
        }
        // RSASSA-PSS with SHA-384, as in RFC 4055; and with nothing said, which means SHA-1.
        let pss = |parameters: &[u8]| {
            hash("1.2.840.113549.1.1.10", Some(Any::from_der(parameters).expect("parameters")))
        };
        let sha_384 = [0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
        assert_eq!((pss(&sha_384), pss(&[0x30, 0])), (Some(Sha384), Some(Sha256)));
    }

    #[test]
    fn a_certificate_that_was_spoiled_is_read_or_not_and_harms_nobody() {
        let der = made("alice", &["a.example"], &KeyPair::generate().unwrap());
        for at in 0..der.len() {
            assert_eq!(Certificate::read(&der[..at]), None);
            for value in [0, 0x7f, 0x80, 0x83, 0xff] {
                let mut spoiled = der.clone();
                spoiled[at] = value;
                if let Some(read) = Certificate::read(&spoiled) {
                    let _ = read.end_point(&spoiled);
                }
            }
        }
    }
}
