//! Certificates for tests, and clients and servers that have them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use headpond_embedded::{Auth, Options, Postgres};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, SignatureScheme};
use tempfile::TempDir;

use crate::database::postgres;
use crate::raw::Raw;

pub(crate) const SSL: u32 = 80_877_103;

/// An authority, and a folder with what it has issued.
pub(crate) struct Authority {
    pub(crate) folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Its own certificate is in `ca.crt`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The database's account looks in.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Writes `NAME.crt` and `NAME.key`, for `common_name` and for the hosts `names`, good for so many years from 2020.
    pub(crate) fn issue(&self, name: &str, common_name: &str, names: &[&str], years: i32) {
        let key = KeyPair::generate().unwrap();
        let params = params(common_name, names, years);
        self.write(name, &params.signed_by(&key, &self.issuer).unwrap().pem(), &key);
    }

    /// The same, issued by nobody but itself.
    pub(crate) fn self_issue(&self, name: &str, common_name: &str, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let mut params = params(common_name, names, 100);
        // As `openssl req -x509` makes them.
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.write(name, &params.self_signed(&key).unwrap().pem(), &key);
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        fs::write(self.file(&format!("{name}.crt")), certificate).unwrap();
        let file = self.file(&format!("{name}.key"));
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// Settings of the leg to clients, with the certificate `name`.
    pub(crate) fn settings(&self, mode: &str, name: &str) -> String {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        format!(
            "client_tls = \"{mode}\"\nclient_tls_cert_file = \"{certificate}\"\nclient_tls_key_file = \"{key}\"\n"
        )
    }
}

fn params(common_name: &str, names: &[&str], years: i32) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020 + years, 1, 1);
    params
}

/// A PostgreSQL with a certificate `server` of an authority, whose users give a password: `postgres` has "top".
pub(crate) fn secure_postgres(authority: &Authority, settings: &[(&str, &str)]) -> Postgres {
    let auth = Auth::ScramSha256 { password: "top".to_owned() };
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let server = postgres(Options { auth, settings, ..Options::default() });
    let data = server.data_folder();
    let owner = fs::metadata(&data).unwrap();
    for name in ["server.crt", "server.key", "ca.crt"] {
        let file = data.join(name);
        fs::copy(authority.file(name), &file).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    for statement in ["ALTER SYSTEM SET ssl = on", "ALTER SYSTEM SET ssl_ca_file = 'ca.crt'"] {
        as_postgres(&server, statement);
    }
    as_postgres(&server, "SELECT pg_reload_conf()");
    server
}

/// Runs a statement past Headpond.
pub(crate) fn as_postgres(server: &Postgres, statement: &str) -> String {
    let mut psql = server.installation().command("psql");
    psql.args(["-X", "-At", "-w", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres"]);
    let output = psql.env("PGPASSWORD", "top").args(["-c", statement, "postgres"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Lets users in only as these lines say.
pub(crate) fn set_hba(server: &Postgres, lines: &str) {
    fs::write(server.data_folder().join("pg_hba.conf"), format!("local all all scram-sha-256\n{lines}\n"))
        .unwrap();
    let mut psql = server.installation().command("psql");
    psql.args(["-X", "-w", "-h"]).arg(server.socket_folder());
    psql.args([
        "-p",
        &server.port().to_string(),
        "-U",
        "postgres",
        "-c",
        "SELECT pg_reload_conf()",
        "postgres",
    ]);
    let output = psql.env("PGPASSWORD", "top").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `psql` in one SSL mode, with what else libpq's environment says; its outcome and what it wrote.
pub(crate) fn psql(
    program: Command,
    mode: &str,
    environment: &[(&str, &str)],
    statement: &str,
) -> Result<String, String> {
    let mut psql = program;
    psql.args(["-X", "-At", "-w", "-c", statement]);
    psql.env("PGSSLMODE", mode).env("PGDATABASE", "postgres").envs(environment.iter().copied());
    // What the home of whoever runs this has must not matter.
    for file in ["PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"] {
        if !environment.iter().any(|(name, _)| *name == file) {
            psql.env(file, Path::new("/nonexistent").join(file));
        }
    }
    let output = psql.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The client's part of a handshake with anybody, with this ALPN if any.
pub(crate) fn handshake(alpn: Option<&[u8]>) -> Connection {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap().into()
}

/// A client made of bytes, inside TLS that it has asked for.
pub(crate) fn raw_in_tls(address: std::net::SocketAddr) -> Raw {
    let mut raw = Raw::connect(address);
    raw.send_packet(SSL, b"");
    assert_eq!(raw.receive_byte(), b'S');
    raw.shake_hands(handshake(None)).unwrap()
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
