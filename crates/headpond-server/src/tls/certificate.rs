//! What is read of a certificate here: whose it is, until when it holds, and the hash that SCRAM binds to. Whether it
//! can be trusted is not decided here.
//!
//! X.509 is RFC 5280 section 4.1; the hash is `tls-server-end-point` of RFC 5929 section 4.1.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// Tags of DER.
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_3: u8 = 0xa3;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Signature algorithms of PKCS #1 and of ECDSA, without their last number.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// Hash functions of SHA-2, without their last number.
const SHA_2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// The parts of a certificate that are of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate<'a> {
    /// Whether it is of version 3, the only one with extensions.
    pub(crate) is_v3: bool,
    /// The last common name of its subject.
    pub(crate) common_name: Option<String>,
    /// From when it holds, in seconds since 1970.
    pub(crate) not_before: i64,
    /// Until when it holds, in seconds since 1970.
    pub(crate) not_after: i64,
    /// The public key with its algorithm.
    pub(crate) public_key: &'a [u8],
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

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER; `None` if it makes no sense.
    #[must_use]
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut body = Der(certificate.expect(SEQUENCE)?);
        let hash = signed_with(certificate.expect(SEQUENCE)?);
        let is_v3 = match body.optional(EXPLICIT_0)? {
            Some(version) => Der(version).expect(INTEGER)? == [2],
            None => false,
        };
        body.expect(INTEGER)?;
        body.expect(SEQUENCE)?;
        body.expect(SEQUENCE)?;
        let mut validity = Der(body.expect(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let common_name = common_name(body.expect(SEQUENCE)?);
        let before = body.0;
        body.expect(SEQUENCE)?;
        let public_key = before.get(..before.len() - body.0.len())?;
        let mut has_names = false;
        while let Some((tag, content)) = body.next() {
            has_names |= tag == EXPLICIT_3 && has_alternative_names(content);
        }
        Some(Self { is_v3, common_name, not_before, not_after, public_key, has_names, hash })
    }

    /// One of this name, for tests.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Self {
        let common_name = Some(name.to_owned());
        let (not_before, not_after) = (0, i64::MAX);
        Self {
            is_v3: true,
            common_name,
            not_before,
            not_after,
            public_key: &[],
            has_names: false,
            hash: None,
        }
    }

    /// The hash that SCRAM binds to; `None`: its algorithm signs without one (Ed25519). `der` is what it was read from.
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

/// The last common name of a name.
fn common_name(name: &[u8]) -> Option<String> {
    let (mut sets, mut found) = (Der(name), None);
    while let Some(set) = sets.expect(SET) {
        let mut pairs = Der(set);
        while let Some(pair) = pairs.expect(SEQUENCE) {
            let mut pair = Der(pair);
            if pair.expect(OBJECT) == Some(COMMON_NAME) {
                found = pair.next().and_then(|(_, text)| std::str::from_utf8(text).ok());
            }
        }
    }
    // A name that ends early for some readers names somebody else.
    found.filter(|name| !name.contains('\0')).map(str::to_owned)
}

fn has_alternative_names(extensions: &[u8]) -> bool {
    let Some(list) = Der(extensions).expect(SEQUENCE) else { return false };
    let mut list = Der(list);
    std::iter::from_fn(|| list.expect(SEQUENCE)).any(|one| Der(one).expect(OBJECT) == Some(SUBJECT_ALT_NAME))
}

/// The hash function of a signature algorithm; in place of MD5 and SHA-1, SHA-256 counts.
fn signed_with(algorithm: &[u8]) -> Option<Hash> {
    let mut algorithm = Der(algorithm);
    let (last, family) = algorithm.expect(OBJECT)?.split_last()?;
    match (family, last) {
        (RSA, 4 | 5) | (ECDSA, 1) => Some(Hash::Sha256),
        (RSA, 10) => of_pss(algorithm),
        (RSA, 11) => Some(Hash::Sha256),
        (RSA, 12) => Some(Hash::Sha384),
        (RSA, 13) => Some(Hash::Sha512),
        (RSA, 14) => Some(Hash::Sha224),
        _ => {
            // ecdsa-with-SHA2 has one more number.
            let (3, family) = family.split_last().map(|(last, family)| (*last, family))? else { return None };
            (family == ECDSA).then_some(())?;
            [Hash::Sha224, Hash::Sha256, Hash::Sha384, Hash::Sha512]
                .get(usize::from(last.checked_sub(1)?))
                .copied()
        }
    }
}

/// That of RSASSA-PSS is in its parameters (RFC 4055 section 3.1); SHA-1, if nothing is said.
fn of_pss(mut parameters: Der<'_>) -> Option<Hash> {
    let mut parameters = Der(parameters.expect(SEQUENCE)?);
    let Some(hash) = parameters.optional(EXPLICIT_0)? else { return Some(Hash::Sha256) };
    let algorithm = Der(hash).expect(SEQUENCE)?;
    match Der(algorithm).expect(OBJECT)?.split_last()? {
        (1, SHA_2) => Some(Hash::Sha256),
        (2, SHA_2) => Some(Hash::Sha384),
        (3, SHA_2) => Some(Hash::Sha512),
        (4, SHA_2) => Some(Hash::Sha224),
        _ => Some(Hash::Sha256),
    }
}

/// Elements one after the other, each with a tag and a length.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 3))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The content of the next element, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it has this tag; otherwise it is the next again.
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.expect(tag).map(Some) } else { Some(None) }
    }

    /// A time, in seconds since 1970.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            // RFC 5280 section 4.1.2.5.1: 1950 to 2049.
            UTC_TIME => {
                let year = number(digits.get(..2)?)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, digits.get(2..)?)
            }
            GENERALIZED_TIME => (number(digits.get(..4)?)?, digits.get(4..)?),
            _ => return None,
        };
        let part = |at: usize| number(rest.get(at..at + 2)?);
        let [month, day, hour, minute, second] = [part(0)?, part(2)?, part(4)?, part(6)?, part(8)?];
        ((1..=12).contains(&month) && rest.len() == 10).then_some(())?;
        Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days since 1970 of a day of the Gregorian calendar; years begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (century_4, of_century_4) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    century_4 * 146_097 + of_century_4 * 365 + of_century_4 / 4 - of_century_4 / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

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
        let object = |numbers: &[u8]| [&[OBJECT, u8::try_from(numbers.len()).unwrap()], numbers].concat();
        let rsa = |last| signed_with(&object(&[RSA, &[last]].concat()));
        let found = [4, 5, 11, 12, 13, 14, 99].map(rsa);
        use Hash::{Sha224, Sha256, Sha384, Sha512};
        let expected = [Sha256, Sha256, Sha256, Sha384, Sha512, Sha224].map(Some);
        assert_eq!((&found[..6], found[6]), (&expected[..], None));
        let ecdsa = |last| signed_with(&object(&[ECDSA, &[3, last]].concat()));
        assert_eq!(
            [1, 2, 3, 4, 5, 0].map(ecdsa),
            [Some(Sha224), Some(Sha256), Some(Sha384), Some(Sha512), None, None]
        );
        // RSASSA-PSS with SHA-384, as in RFC 4055; and with nothing said, which means SHA-1.
        let wrap = |tag, inner: &[u8]| [&[tag, u8::try_from(inner.len()).unwrap()], inner].concat();
        let pss = object(&[RSA, &[10]].concat());
        let hash = wrap(EXPLICIT_0, &wrap(SEQUENCE, &object(&[SHA_2, &[2]].concat())));
        assert_eq!(signed_with(&[&pss[..], &wrap(SEQUENCE, &hash)].concat()), Some(Sha384));
        assert_eq!(signed_with(&[&pss[..], &wrap(SEQUENCE, &[])].concat()), Some(Sha256));
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
