//! TLS where clients connect. The certificate is read again when its files change; open connections keep the one that they
//! began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::socket::Socket;
use crate::config;
use crate::metrics::Metrics;

/// How often the files are checked. Renewing a certificate writes two files; they are used as soon as they match.
const POLL: Duration = Duration::from_secs(2);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path} cannot be read ([tls] names it): {cause}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no {what} in PEM form ([tls] names it): {cause}", path = path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
        /// Why.
        cause: pem::Error,
    },
    /// The two do not match, or are of an unsupported kind.
    #[error(
        "the certificate {certificate} cannot be used with the key {key}: {cause}",
        certificate = certificate.display(),
        key = key.display()
    )]
    Unusable {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
}

/// TLS, with the current certificate.
pub struct Tls {
    files: config::Tls,
    loaded: Contents,
    acceptor: TlsAcceptor,
    certificate: Arc<Certificate>,
}

/// For new connections.
#[derive(Debug)]
struct Certificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The contents of the two files, which decide whether they have changed, not time stamps.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &config::Tls) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let loaded = read(files)?;
        let certified = certified(files, &loaded, &provider)?;
        let certificate = Arc::new(Certificate(ArcSwap::from_pointee(certified)));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| unusable(files, cause))?
            .with_no_client_auth()
            .with_cert_resolver(certificate.clone());
        // WebSockets are opened by HTTP/1.1 (RFC 6455 section 4.1).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            files: files.clone(),
            loaded,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
        })
    }

    /// The handshake.
    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<Socket> {
        let encrypted = self.acceptor.accept(socket).await?;
        Ok(Socket::Tls(Box::new(encrypted)))
    }

    /// Picks up changes of the files, forever.
    pub async fn watch(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut seen = Some(self.loaded.clone());
        loop {
            tokio::time::sleep(POLL).await;
            let files = self.files.clone();
            let Ok(found) = tokio::task::spawn_blocking(move || read(&files)).await else {
                continue;
            };
            // A bad certificate is reported once.
            if found.as_ref().ok() != seen.as_ref() {
                self.renew(found.as_ref(), &metrics);
                seen = found.ok();
            }
        }
    }

    fn renew(&self, found: Result<&Contents, &TlsError>, metrics: &Metrics) {
        let refused = |error: &TlsError| {
            metrics.certificate("refused");
            tracing::error!(%error, "the new certificate cannot be used; the previous one stays in use");
        };
        let provider = self.acceptor.config().crypto_provider();
        match found.map(|contents| certified(&self.files, contents, provider)) {
            Ok(Ok(certified)) => {
                self.certificate.0.store(Arc::new(certified));
                metrics.certificate("loaded");
                tracing::info!(file = %self.files.certificate.display(), "the new certificate is in use");
            }
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(error),
        }
    }
}

fn read(files: &config::Tls) -> Result<Contents, TlsError> {
    let read = |path: &Path| {
        let mut bytes = std::fs::read(path).map_err(|cause| TlsError::Unreadable {
            path: path.to_owned(),
            cause,
        })?;
        // The mark that some editors put in front of everything (U+FEFF) would hide the first item.
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Ok(bytes)
    };
    Ok(Contents {
        certificate: read(&files.certificate)?,
        key: read(&files.key)?,
    })
}

fn certified(
    files: &config::Tls,
    contents: &Contents,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let malformed = |path: &Path, what, cause| TlsError::Malformed {
        path: path.to_owned(),
        what,
        cause,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&contents.certificate)
        .collect::<Result<_, _>>()
        .and_then(|chain: Vec<_>| {
            if chain.is_empty() {
                Err(pem::Error::NoItemsFound)
            } else {
                Ok(chain)
            }
        })
        .map_err(|cause| malformed(&files.certificate, "certificate", cause))?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|cause| malformed(&files.key, "private key", cause))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|cause| unusable(files, cause))
}

fn unusable(files: &config::Tls, cause: rustls::Error) -> TlsError {
    TlsError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        cause,
    }
}
