//! Certificates of authorities that exist nowhere else, files that are exchanged as a kubelet does it, and a scraper that
//! speaks TLS.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};

use super::sidecar::Answer;

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for who serves at 127.0.0.1 and localhost.
    pub fn server(&self) -> Certificate {
        self.sign(&params(["127.0.0.1", "localhost"], ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A certificate for who asks.
    pub fn client(&self) -> Certificate {
        self.sign(&params(["scraper"], ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// A certificate for who asked some years ago.
    pub fn former_client(&self) -> Certificate {
        let mut params = params(["scraper"], ExtendedKeyUsagePurpose::ClientAuth);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    /// A certificate for who asks, with so many names.
    pub fn client_of_names(&self, count: usize) -> Certificate {
        let names = (0..count).map(|index| format!("scraper-{index:05}"));
        self.sign(&params(names, ExtendedKeyUsagePurpose::ClientAuth))
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        Certificate {
            pem: params.signed_by(&key, &self.0).expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }
}

fn params<N: Into<String>>(names: impl IntoIterator<Item = N>, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let mut params = CertificateParams::new(names).expect("they are names");
    params.extended_key_usages.push(purpose);
    params
}

impl Certificate {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was written as PEM")
    }
}

/// A folder of files for a sidecar. Dropped, it is removed.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("qpext-files-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self(folder)
    }

    /// Writes a file in place; its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, contents).expect("a writable folder");
        text(&path)
    }

    /// Puts a file in the place of another, which is never seen half written.
    pub fn replace(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::rename(self.write("next", contents), self.0.join(name)).expect("the same folder");
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> String {
        text(&self.0.join(name))
    }

    /// Exchanges all files at once, as a kubelet does it with a mounted secret: the files are links through `..data`,
    /// which is a link to the folder of their version.
    pub fn exchange(&self, version: &str, files: &[(&str, &str)]) {
        let folder = self.0.join(version);
        fs::create_dir(&folder).expect("a new version");
        for (name, contents) in files {
            fs::write(folder.join(name), contents).expect("a writable folder");
            let link = self.0.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).expect("a new link");
            }
        }
        let next = self.0.join("..data_tmp");
        symlink(version, &next).expect("a new link");
        fs::rename(next, self.0.join("..data")).expect("the same folder");
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary folder's name is text").to_owned()
}

/// A scraper that speaks TLS.
#[derive(Clone)]
pub struct Scraper {
    connector: TlsConnector,
}

impl Scraper {
    /// One that trusts an authority, and has no certificate itself.
    pub fn new(authority: &Authority) -> Self {
        Self::with(&[&TLS13, &TLS12], authority, None)
    }

    /// One that has a certificate, too.
    pub fn with_certificate(authority: &Authority, certificate: &Certificate) -> Self {
        Self::with(&[&TLS13, &TLS12], authority, Some(certificate))
    }

    /// One that speaks these versions of TLS only.
    pub fn with(
        versions: &[&'static SupportedProtocolVersion],
        authority: &Authority,
        certificate: Option<&Certificate>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("it is an authority's");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for them")
            .with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("it was written as PEM");
                let key = ring::sign::any_supported_type(&key).expect("it is of a usual kind");
                // Whether or not they belong together: that is the server's to find out.
                let shown = CertifiedKey::new(vec![certificate.der()], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        // As Go offers them.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }

    /// Does the handshake on a connection.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        self.connector.connect(name, stream).await
    }

    /// A new connection, over which nothing was asked yet.
    pub async fn stream(&self, port: u16) -> io::Result<TlsStream<TcpStream>> {
        self.secure(TcpStream::connect(("127.0.0.1", port)).await?).await
    }

    /// A new connection to ask on.
    pub async fn connect(&self, port: u16) -> Connection {
        Connection::new(self.stream(port).await.expect("a handshake")).await
    }

    /// Asks on a connection that is there already.
    pub async fn connect_over(&self, stream: TcpStream) -> Connection {
        Connection::new(self.secure(stream).await.expect("a handshake")).await
    }

    /// Asks once, on a connection of its own.
    pub async fn get(&self, port: u16, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect(port).await.get(path, headers).await.expect("an answer")
    }
}

/// A connection that is kept between requests.
pub struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// The certificate that was served.
    pub served: CertificateDer<'static>,
}

impl Connection {
    async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Else what was found of a client once would have to be remembered with its session.
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        let served = session.peer_certificates().expect("a server has one")[0]
            .clone()
            .into_owned();
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("no bytes are sent yet");
        tokio::spawn(connection);
        Self { sender, served }
    }

    /// Asks for a path.
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        let mut request = hyper::Request::get(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("its parts are good");
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().to_vec()).expect("it is text");
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            text,
        })
    }
}
