//! Certificates made for one test, of authorities that exist nowhere else.

use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::directory::Directory;

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Authority {
    /// One that has the same name as all others that are made so.
    pub fn new() -> Self {
        Self::called("an authority")
    }

    pub fn called(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, key()).expect("its own key fits"))
    }

    /// One whose own time was over some years ago.
    pub fn former() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a former authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        Self(CertifiedIssuer::self_signed(params, key()).expect("its own key fits"))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// What whoever trusts this authority alone trusts.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("it is an authority's");
        roots
    }

    /// A certificate for who serves at 127.0.0.1.
    pub fn server(&self) -> Certificate {
        self.server_called("127.0.0.1")
    }

    /// A certificate for who serves under this name.
    pub fn server_called(&self, name: &str) -> Certificate {
        self.sign(&params([name], ExtendedKeyUsagePurpose::ServerAuth))
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
        self.sign(&params(names(count), ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// A certificate for who serves under so many names.
    pub fn server_of_names(&self, count: usize) -> Certificate {
        self.sign(&params(names(count), ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A certificate for who asks as `openssl x509 -req` makes it: of X.509's first version, unless it is told otherwise.
    pub fn client_of_version_1(&self) -> Certificate {
        let directory = Directory::new();
        let (ca, ca_key) =
            (directory.write("ca.pem", self.pem()), directory.write("ca.key", self.0.key().serialize_pem()));
        let (pem, key, request) = (directory.path("pem"), directory.path("key"), directory.path("request"));
        let subject = ["-subj", "/CN=scraper", "-keyout", &key, "-out", &request];
        openssl([&["req", "-new"], &NEW_KEY[..], &subject].concat());
        openssl(vec!["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-out", &pem]);
        Certificate::in_files(&pem, &key)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = key();
        Certificate { pem: params.signed_by(&key, &self.0).expect("the key fits").pem(), key: key.serialize_pem() }
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|index| format!("host-{index:05}"))
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}

fn params<N: Into<String>>(names: impl IntoIterator<Item = N>, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let mut params = CertificateParams::new(names).expect("they are names");
    params.extended_key_usages.push(purpose);
    params
}

/// How openssl is told to make a key.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

fn openssl(arguments: Vec<&str>) {
    let output = Command::new("openssl").args(&arguments).output().expect("openssl is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
}

impl Certificate {
    /// One that is its own authority, as `openssl req -x509` makes it, for who serves or asks at 127.0.0.1.
    pub fn self_signed() -> Self {
        let directory = Directory::new();
        let (pem, key) = (directory.path("pem"), directory.path("key"));
        let rest = ["-subj", "/CN=side", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &pem];
        openssl([&["req", "-x509"], &NEW_KEY[..], &rest].concat());
        Self::in_files(&pem, &key)
    }

    /// The same of some years ago.
    pub fn formerly_self_signed() -> Self {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("it is a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        let key = key();
        Self { pem: params.self_signed(&key).expect("its own key fits").pem(), key: key.serialize_pem() }
    }

    fn in_files(pem: &str, key: &str) -> Self {
        let read = |path| std::fs::read_to_string(path).expect("openssl wrote it");
        Self { pem: read(pem), key: read(key) }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was written as PEM")
    }

    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("it was written as PEM")
    }
}
