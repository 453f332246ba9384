//! Certificates made for one test, of authorities that exist nowhere else.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
        let names = (0..count).map(|index| format!("scraper-{index:05}"));
        self.sign(&params(names, ExtendedKeyUsagePurpose::ClientAuth))
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = key();
        Certificate {
            pem: params.signed_by(&key, &self.0).expect("the key fits").pem(),
            key: key.serialize_pem(),
        }
    }
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

impl Certificate {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was written as PEM")
    }

    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("it was written as PEM")
    }
}
