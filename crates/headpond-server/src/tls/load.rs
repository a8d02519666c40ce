//! Certificates and keys, from their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headpond_wire::postgres::startup::ALPN;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use super::verify::{Authorities, Verifier};
use super::{ClientLeg, Held, Loaded, ServerLeg};

/// The versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// 1.2 and 1.3.
    #[default]
    Secure,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

impl Protocols {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Secure => &ALL,
            Self::Tls12 => &ALL[1..],
            Self::Tls13 => &ALL[..1],
        }
    }
}

/// The files of one leg.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Our certificate, and those between it and its authority, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// The authorities that are trusted, in PEM.
    pub authorities: Option<PathBuf>,
    /// The versions of TLS.
    pub protocols: Protocols,
}

/// What is wrong with a file, and the setting that names it.
pub(crate) struct Wrong {
    pub(crate) setting: &'static str,
    pub(crate) why: String,
}

/// The names of the settings of a leg, in the order of [`Files`].
type Names = [&'static str; 3];
const CLIENT: Names = ["client_tls_cert_file", "client_tls_key_file", "client_tls_ca_file"];
const SERVER: Names = ["server_tls_cert_file", "server_tls_key_file", "server_tls_ca_file"];

/// Loads what is needed: for clients, if they may come by TLS (`verified`: only with a certificate); for servers, if any
/// is reached by TLS.
pub(crate) fn load(clients: Option<(&Files, bool)>, servers: Option<&Files>) -> Result<Loaded, Vec<Wrong>> {
    let mut loader = Loader { held: Vec::new(), hash: Sha256::new(), wrong: Vec::new() };
    let clients = clients.map(|(files, verified)| loader.clients(files, verified));
    let servers = servers.map(|files| loader.servers(files));
    let Loader { held, hash, wrong } = loader;
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (clients, servers) = (clients.flatten(), servers.flatten());
    Ok(Loaded { clients, servers, certificates: held, digest: hash.finalize().into() })
}

struct Loader {
    held: Vec<Held>,
    hash: Sha256,
    wrong: Vec<Wrong>,
}

impl Loader {
    fn clients(&mut self, files: &Files, verified: bool) -> Option<ClientLeg> {
        let identity = self.identity(files, CLIENT);
        let authorities = self.authorities(files, CLIENT);
        let [cert, key, ca] = CLIENT;
        for (file, setting) in [(&files.certificate, cert), (&files.key, key)] {
            if file.is_none() {
                self.wrong.push(Wrong { setting, why: "is missing, and client_tls needs it".to_owned() });
            }
        }
        if verified && files.authorities.is_none() {
            let why = "is missing, and without it no client's certificate can be verified".to_owned();
            self.wrong.push(Wrong { setting: ca, why });
        }
        let identity = identity?;
        let end_point = identity.cert.first().and_then(|der| Certificate::read(der)?.end_point(der));
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = self.sound(builder.with_protocol_versions(files.protocols.versions()), cert)?;
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                // Who shows a certificate shows one that is good; who need not, may show none.
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities.roots), provider);
                let verifier = if verified { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(self.sound(verifier.build(), ca)?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // As PostgreSQL: no sessions are resumed, so that a reload holds for whoever comes next.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Some(ClientLeg { config: Arc::new(config), end_point })
    }

    fn servers(&mut self, files: &Files) -> Option<ServerLeg> {
        let identity = self.identity(files, SERVER);
        let authorities = self.authorities(files, SERVER).map(Arc::new);
        let mut config = |authorities: Option<&Arc<Authorities>>, names| {
            let provider = Arc::new(ring::default_provider());
            let algorithms = provider.signature_verification_algorithms;
            let builder = ClientConfig::builder_with_provider(provider);
            let builder =
                self.sound(builder.with_protocol_versions(files.protocols.versions()), SERVER[0])?;
            let verifier = Verifier { authorities: authorities.cloned(), names, algorithms };
            let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            let mut config = match &identity {
                None => builder.with_no_client_auth(),
                Some(identity) => {
                    builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())))
                }
            };
            config.alpn_protocols = vec![ALPN.to_vec()];
            config.resumption = Resumption::disabled();
            Some(Arc::new(config))
        };
        let anybody = config(None, false)?;
        let chain = authorities.as_ref().and_then(|authorities| config(Some(authorities), false));
        let full = authorities.as_ref().and_then(|authorities| config(Some(authorities), true));
        Some(ServerLeg { anybody, chain, full })
    }

    /// Our own certificate and its key, if both are named.
    fn identity(&mut self, files: &Files, [cert, key, _]: Names) -> Option<CertifiedKey> {
        let (file, key_file) = match (&files.certificate, &files.key) {
            (Some(file), Some(key_file)) => (file, key_file),
            (Some(_), None) => {
                self.wrong.push(Wrong { setting: cert, why: format!("needs {key} beside it") });
                return None;
            }
            _ => return None,
        };
        let chain = self.certificates(file, cert);
        let text = self.read(key_file, key)?;
        let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                "holds no private key that is not encrypted".to_owned()
            }
            error => error.to_string(),
        });
        let private = self.sound(private, key)?;
        let provider: CryptoProvider = ring::default_provider();
        let private = self.sound(provider.key_provider.load_private_key(private), key)?;
        let identity = CertifiedKey::new(chain?, private);
        if identity.keys_match() == Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) {
            self.wrong.push(Wrong { setting: key, why: format!("is not the key of {cert}") });
            return None;
        }
        Some(identity)
    }

    fn authorities(&mut self, files: &Files, [_, _, ca]: Names) -> Option<Authorities> {
        let file = self.certificates(files.authorities.as_ref()?, ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in &file {
            self.sound(roots.add(certificate.clone()), ca)?;
        }
        Some(Authorities { roots: Arc::new(roots), file })
    }

    /// The certificates in a file: at least one.
    fn certificates(&mut self, file: &Path, setting: &'static str) -> Option<Vec<CertificateDer<'static>>> {
        let text = self.read(file, setting)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = self.sound(chain, setting)?;
        if chain.is_empty() {
            self.wrong
                .push(Wrong { setting, why: format!("{} holds no certificate in PEM", file.display()) });
            return None;
        }
        for certificate in &chain {
            let Some(read) = Certificate::read(certificate) else {
                let why = format!("{} holds a certificate that makes no sense", file.display());
                self.wrong.push(Wrong { setting, why });
                return None;
            };
            let (file, subject) = (file.display().to_string(), read.common_name.unwrap_or_default());
            self.held.push(Held { setting, file, subject, not_after: read.not_after });
        }
        Some(chain)
    }

    fn read(&mut self, file: &Path, setting: &'static str) -> Option<Vec<u8>> {
        let read = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
        let bytes = self.sound(read, setting)?;
        // What it is, and where it ends.
        self.hash.update(setting);
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(&bytes);
        Some(bytes)
    }

    fn sound<T, E: std::fmt::Display>(&mut self, outcome: Result<T, E>, setting: &'static str) -> Option<T> {
        outcome.map_err(|error| self.wrong.push(Wrong { setting, why: error.to_string() })).ok()
    }
}
