//! Keys and certificates: a CA, the server's certificate, the key that signs service account tokens, and the two shared secrets.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The address of the `default/kubernetes` Service.
pub const KUBERNETES_SERVICE_IP: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);

/// Why keys or certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS configuration was refused.
    #[error("cannot configure TLS")]
    Tls(#[from] rustls::Error),
    /// What a file holds is not what it should.
    #[error("{0} does not hold what it should")]
    Unreadable(String),
}

/// The server's identity and secrets.
#[derive(Clone)]
pub struct Pki {
    /// The CA's certificate, which clients trust.
    pub ca_pem: String,
    /// The bearer token of the administrator.
    pub admin_token: String,
    /// The bearer token by which the API server proves itself to the node.
    pub node_token: String,
    server_pem: String,
    server_key_pem: String,
    /// PKCS#8 of the P-256 key that signs tokens.
    signing_key: Vec<u8>,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pki").finish_non_exhaustive()
    }
}

impl Pki {
    /// Reads the files in `directory`, or makes them there once.
    ///
    /// # Errors
    /// When files cannot be read or written, or hold something else.
    pub fn load_or_create(directory: &Path) -> Result<Self, PkiError> {
        // The last file that is written tells that all are there.
        if directory.join("complete").exists() {
            return Self::load(directory);
        }
        fs::create_dir_all(directory).map_err(|source| refuse(directory, source))?;
        let pki = Self::ephemeral()?;
        pki.save(directory)?;
        Ok(pki)
    }

    /// Fresh keys that are stored nowhere.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn ephemeral() -> Result<Self, PkiError> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "quarterdeck-ca");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        let server_key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec![
            "localhost".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            "kubernetes.default.svc.cluster.local".to_owned(),
        ])?;
        for address in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V4(KUBERNETES_SERVICE_IP),
        ] {
            server.subject_alt_names.push(SanType::IpAddress(address));
        }
        server
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&server_key, &issuer)?;
        Ok(Self {
            ca_pem: ca_certificate.pem(),
            admin_token: random_token(),
            node_token: random_token(),
            server_pem: certificate.pem(),
            server_key_pem: server_key.serialize_pem(),
            signing_key: KeyPair::generate()?.serialize_der(),
        })
    }

    fn load(directory: &Path) -> Result<Self, PkiError> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| refuse(&path, source))
        };
        let signing_key = STANDARD.decode(read("token-signing.key")?.trim());
        Ok(Self {
            ca_pem: read("ca.crt")?,
            admin_token: read("admin.token")?.trim().to_owned(),
            node_token: read("node.token")?.trim().to_owned(),
            server_pem: read("server.crt")?,
            server_key_pem: read("server.key")?,
            signing_key: signing_key
                .map_err(|_| PkiError::Unreadable("token-signing.key".to_owned()))?,
        })
    }

    fn save(&self, directory: &Path) -> Result<(), PkiError> {
        let signing_key = STANDARD.encode(&self.signing_key);
        let files = [
            ("ca.crt", self.ca_pem.as_str()),
            ("server.crt", &self.server_pem),
            ("server.key", &self.server_key_pem),
            ("token-signing.key", &signing_key),
            ("admin.token", &self.admin_token),
            ("node.token", &self.node_token),
            ("complete", ""),
        ];
        for (name, content) in files {
            write_secret(&directory.join(name), content)?;
        }
        Ok(())
    }

    /// The PKCS#8 document of the token signing key.
    pub(crate) fn signing_key(&self) -> &[u8] {
        &self.signing_key
    }

    /// The TLS configuration of the server.
    ///
    /// # Errors
    /// When the certificate and its key do not fit together.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, PkiError> {
        let unreadable = |name: &str| PkiError::Unreadable(name.to_owned());
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            rustls_pemfile::certs(&mut self.server_pem.as_bytes()).collect();
        let key: Option<PrivateKeyDer<'static>> =
            rustls_pemfile::private_key(&mut self.server_key_pem.as_bytes())
                .map_err(|_| unreadable("server.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                certificates.map_err(|_| unreadable("server.crt"))?,
                key.ok_or_else(|| unreadable("server.key"))?,
            )?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self, server_url: &str) -> String {
        kubeconfig(server_url, &self.ca_pem, &self.admin_token)
    }

    /// Writes the kubeconfig of the administrator, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path, server_url: &str) -> Result<(), PkiError> {
        write_secret(path, &self.kubeconfig(server_url))
    }
}

/// A kubeconfig with one cluster, one user with a bearer token, and one context.
pub fn kubeconfig(server_url: &str, ca_pem: &str, token: &str) -> String {
    let authority = STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: quarterdeck\n  cluster:\n    server: {server_url}\n    certificate-authority-data: {authority}\nusers:\n- name: quarterdeck\n  user:\n    token: {token}\ncontexts:\n- name: quarterdeck\n  context:\n    cluster: quarterdeck\n    user: quarterdeck\ncurrent-context: quarterdeck\n"
    )
}

/// 32 random bytes as text.
pub(crate) fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Replaces a file that only its owner may read, whole or not at all.
fn write_secret(path: &Path, content: &str) -> Result<(), PkiError> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(|source| refuse(path, source))
}

fn refuse(path: &Path, source: io::Error) -> PkiError {
    PkiError::File {
        path: path.display().to_string(),
        source,
    }
}
