//! The targets: what is scraped, and how it is to be reached.
//!
//! In: what stands in `QPEXT_TARGETS`. Out: [`TargetConfig`]s with different names. What is said of a bad value never repeats
//! one that may be a secret. A target in JSON has options, one row each, as `table` has them for variables: to add an option
//! is to add a row, and a field of [`HttpOptions`].

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::ConfigError;
use super::address::{Address, address_of};
use super::json::{Json, JsonValue};
use super::table::TARGETS;
use super::values::{BOOLEAN, FILE, TEXT};

pub(crate) const QUEUE_PROXY: &str = "queue-proxy";
pub(crate) const APP: &str = "app";

/// The longest name of a target, that of a container.
const MAX_NAME: usize = 63;

/// What stands for a value that nobody is to see.
const SECRET: &str = "<secret>";

/// Headers that a target is sent anyhow, or that belong to the connection (`ReservedHeaders` in prometheus/common,
/// `config/headers.go`, has most of them).
const RESERVED_HEADERS: &str = "accept accept-encoding authorization connection content-encoding content-length content-type \
                                host keep-alive proxy-authenticate proxy-authorization te transfer-encoding upgrade \
                                user-agent x-prometheus-scrape-timeout-seconds";

/// A target, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// Its name, which no other target has.
    pub name: String,
    pub(crate) kind: TargetKind,
    /// Where it is.
    pub address: Address,
    pub(crate) http: HttpOptions,
}

/// Which target one is, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    QueueProxy,
    App,
    /// One of `QPEXT_TARGETS`.
    Added,
}

/// How a target is to be reached: as in Prometheus's HTTP client configuration, and as the rows below say. Files are read
/// when the target is scraped, and again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HttpOptions {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_certificate: Option<CertificateFiles>,
    pub(crate) server_name: Option<String>,
    pub(crate) insecure_skip_verify: bool,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The files of a certificate, with those it leads to, and of its key, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl CertificateFiles {
    /// Whether each of them has been named.
    pub(super) fn are_named(&self) -> [bool; 2] {
        [&self.cert_file, &self.key_file].map(|file| !file.as_os_str().is_empty())
    }
}

/// How a scrape is authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Without a file, the password is empty.
    Basic {
        username: String,
        password_file: Option<PathBuf>,
    },
    Bearer {
        token_file: PathBuf,
    },
}

impl TargetConfig {
    /// A target that is asked by plain HTTP.
    pub(super) fn plain(kind: TargetKind, name: &str, address: Address) -> Self {
        Self { name: name.to_owned(), kind, address, http: HttpOptions::default() }
    }

    /// The target as it would stand in `QPEXT_TARGETS`, without the secrets.
    pub(super) fn masked(&self) -> Value {
        let shown = TARGET_OPTIONS.iter().map(|option| (option.name.to_owned(), (option.show)(self)));
        Value::Object(shown.filter(|(_, value)| !value.is_null()).collect())
    }
}

/// Reads `QPEXT_TARGETS`: a short list, or JSON.
pub(super) fn added(text: &str) -> Result<Vec<TargetConfig>, ConfigError> {
    let text = text.trim();
    let targets = match text.chars().next() {
        None => Vec::new(),
        // One that starts with a brace was meant as JSON; read as a list, its pieces may be secrets.
        Some('[' | '{') => from_json(text)?,
        Some(_) => {
            // A password may have commas, so that it is in pieces by then.
            let may_hold_secret = text.contains(['@', '"', '{']);
            let entries = text.split(',').map(|entry| from_short(entry, may_hold_secret));
            entries.collect::<Result<_, _>>()?
        }
    };
    for (index, target) in targets.iter().enumerate() {
        if targets[..index].iter().any(|other| other.name == target.name) {
            let place = format!("{TARGETS}[{index}].name");
            return Err(ConfigError::new(place, &target.name, "a name that no other target has"));
        }
    }
    Ok(targets)
}

const SHORT: &str = "name=address, where the address is a port (9089), a port and a path (8081/prom), a host and a port, a URL \
                     (http://127.0.0.1:9400/metrics) or a Unix socket and a path (unix:/run/side.sock:/metrics)";

fn from_short(entry: &str, may_hold_secret: bool) -> Result<TargetConfig, ConfigError> {
    let entry = entry.trim();
    let refuse = |expected: &str| match (may_hold_secret, entry.split_once('=')) {
        (false, _) => ConfigError::new(TARGETS, entry, expected),
        (true, Some((name, _))) if wrong_name(name.trim_end()).is_none() => {
            ConfigError::without_value(format!("{TARGETS}[{}]", name.trim_end()), expected)
        }
        (true, _) => ConfigError::without_value(TARGETS, expected),
    };
    let (name, address) = entry.split_once('=').ok_or_else(|| refuse(SHORT))?;
    let (name, address) = (name.trim_end(), address.trim_start());
    if let Some(expected) = wrong_name(name) {
        return Err(refuse(expected));
    }
    Ok(TargetConfig::plain(TargetKind::Added, name, address_of(address).map_err(refuse)?))
}

/// What was expected instead of this name.
fn wrong_name(name: &str) -> Option<&'static str> {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name == QUEUE_PROXY || name == APP {
        Some("a name other than queue-proxy and app, which are targets already")
    } else if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        Some("a name of 1 to 63 of the characters a-z, 0-9 and -")
    } else {
        None
    }
}

fn from_json(text: &str) -> Result<Vec<TargetConfig>, ConfigError> {
    let entries: Vec<Json> = serde_json::from_str(text).map_err(|error| {
        let place = format!("{TARGETS}, line {}, column {}", error.line(), error.column());
        // Of what is no JSON at all the parser says what is wrong with it; of anything else it would quote the value.
        let mut expected = "a JSON array of objects, in [ and ], with no key twice in one object".to_owned();
        if error.is_syntax() || error.is_eof() {
            expected += ": ";
            expected += error.to_string().split(" at line ").next().unwrap_or_default();
        }
        ConfigError::without_value(place, expected)
    })?;
    let entries = entries.into_iter().enumerate();
    entries.map(|(index, Json(entry))| from_object(index, &entry)).collect()
}

fn from_object(index: usize, value: &Value) -> Result<TargetConfig, ConfigError> {
    let mut object = JsonValue { place: format!("{TARGETS}[{index}]"), expected: "an object with name and url", value };
    object.entries()?;
    let mut target = TargetConfig::plain(TargetKind::Added, "", Address::local(1, "/"));
    for option in &TARGET_OPTIONS {
        let field = object.key(option.name, option.expected);
        // Without these two there is no target. Any other that is null is as good as not there.
        if matches!(option.name, "name" | "url") || !field.value.is_null() {
            (option.read)(&mut target, &field)?;
        }
        // It says more than a number.
        object.place = format!("{TARGETS}[{}]", target.name);
    }
    object.refuse_others(TARGET_OPTIONS.iter().map(|option| option.name))?;
    let http = &target.http;
    let missing = |key, expected| Err(object.key(key, FILE).refuse(expected));
    match http.client_certificate.as_ref().map(CertificateFiles::are_named) {
        None | Some([true, true]) => {}
        Some([_, false]) => return missing("key_file", "the file of the key that belongs to cert_file"),
        Some([false, _]) => return missing("cert_file", "the file of the certificate that belongs to key_file"),
    }
    let is_trust_named = http.ca_file.is_some() || http.server_name.is_some() || http.insecure_skip_verify;
    let is_for_tls = is_trust_named || http.client_certificate.is_some();
    if is_for_tls && target.address.url.scheme() != "https" {
        let url = object.key("url", TEXT);
        let expected = "a URL that starts with https://, as ca_file, cert_file, server_name and insecure_skip_verify are \
                        about TLS";
        return Err(url.refuse_shown(&url.url()?, expected));
    }
    Ok(target)
}

/// An option of a target in JSON.
pub struct TargetOption {
    /// Its name.
    pub name: &'static str,
    expected: &'static str,
    /// What it may be, for example, in JSON.
    pub example: &'static str,
    /// What it does. What stands between backticks is code.
    pub about: &'static str,
    read: fn(&mut TargetConfig, &JsonValue<'_>) -> Result<(), ConfigError>,
    /// What it is, without secrets; null where it is nothing.
    show: fn(&TargetConfig) -> Value,
}

/// Every option, in the order in which they are read and told.
#[rustfmt::skip] // What is short of a row stands in one line.
pub static TARGET_OPTIONS: [TargetOption; 10] = [
    TargetOption {
        name: "name", expected: TEXT, example: r#""dcgm""#,
        about: "Of the characters `a-z`, `0-9` and `-`, at most 63, and no other target's; `queue-proxy` and `app` are taken.",
        read: |target, field| {
            target.name = field.text()?;
            match wrong_name(&target.name) {
                None => Ok(()),
                Some(expected) => Err(field.refuse_shown(&target.name, expected)),
            }
        },
        show: |target| json!(target.name),
    },
    TargetOption {
        name: "url", expected: TEXT, example: r#""https://10.0.0.7:9400/metrics""#,
        about: "A port, a host and a port, either with or without a path, a URL, or `unix:`, a socket, and perhaps `:` and a \
                path. Without a path it is `/metrics`.",
        read: |target, field| {
            let url = field.url()?;
            let refuse = |expected| match url.contains('@') {
                true => field.refuse(expected),
                false => field.refuse_shown(&url, expected),
            };
            address_of(&url).map(|address| target.address = address).map_err(refuse)
        },
        show: |target| json!(target.address.to_string()),
    },
    TargetOption {
        name: "ca_file", expected: FILE, example: r#""/tls/ca.crt""#,
        about: "The certificates that the target's must lead to, or be: what `openssl req -x509` makes may stand there itself. \
                Without it the system's are used; the image has those of Debian.",
        read: |target, field| field.file().map(|file| target.http.ca_file = Some(file)),
        show: |target| json!(target.http.ca_file),
    },
    TargetOption {
        name: "cert_file", expected: FILE, example: r#""/tls/tls.crt""#,
        about: "The certificate shown to the target.",
        read: |target, field| field.file().map(|file| certificate(target).cert_file = file),
        show: |target| json!(target.http.client_certificate.as_ref().map(|files| &files.cert_file)),
    },
    TargetOption {
        name: "key_file", expected: FILE, example: r#""/tls/tls.key""#,
        about: "Its key.",
        read: |target, field| field.file().map(|file| certificate(target).key_file = file),
        show: |target| json!(target.http.client_certificate.as_ref().map(|files| &files.key_file)),
    },
    TargetOption {
        name: "server_name", expected: TEXT, example: r#""dcgm.example""#,
        about: "The name that the target's certificate must have, if not the URL's host.",
        read: |target, field| {
            let name = field.text()?;
            // What a URL may have as its host, and a certificate as its name.
            let is_host = matches!(url::Host::parse(&name), Ok(url::Host::Domain(_)));
            if !is_host || rustls::pki_types::DnsName::try_from(name.as_str()).is_err() {
                return Err(field.refuse_shown(&name, "a DNS name"));
            }
            target.http.server_name = Some(name);
            Ok(())
        },
        show: |target| json!(target.http.server_name),
    },
    TargetOption {
        name: "insecure_skip_verify", expected: BOOLEAN, example: "true",
        about: "`true`: whatever certificate it has will do.",
        read: |target, field| field.boolean().map(|value| target.http.insecure_skip_verify = value),
        show: |target| json!(target.http.insecure_skip_verify.then_some(true)),
    },
    TargetOption {
        name: "basic_auth", expected: "an object with username and password_file",
        example: r#"{"username": "qpext", "password_file": "/secrets/password"}"#,
        about: "An object of `username` and `password_file`, the file of the password.",
        read: |target, field| basic_auth(field).map(|basic| target.http.authorization = Some(basic)),
        show: |target| match &target.http.authorization {
            Some(Authorization::Basic { username: name, password_file: file }) => {
                json!({"username": name, "password_file": file})
            }
            _ => Value::Null,
        },
    },
    TargetOption {
        name: "bearer_token_file", expected: FILE, example: r#""/secrets/token""#,
        about: "The file of the token shown to the target.",
        read: |target, field| match target.http.authorization {
            Some(_) => Err(field.refuse("one of basic_auth and bearer_token_file")),
            None => {
                let bearer = |token_file| target.http.authorization = Some(Authorization::Bearer { token_file });
                field.file().map(bearer)
            }
        },
        show: |target| match &target.http.authorization {
            Some(Authorization::Bearer { token_file }) => json!(token_file),
            _ => Value::Null,
        },
    },
    TargetOption {
        name: "headers", expected: "an object of names and values", example: r#"{"X-Tenant": "ml"}"#,
        about: "More headers; their values are shown nowhere.",
        read: |target, field| headers(field).map(|headers| target.http.headers = headers),
        show: |target| {
            let headers = target.http.headers.iter();
            let masked: Map<String, Value> = headers.map(|(name, _)| (name.to_string(), json!(SECRET))).collect();
            json!((!masked.is_empty()).then_some(masked))
        },
    },
];

fn certificate(target: &mut TargetConfig) -> &mut CertificateFiles {
    target.http.client_certificate.get_or_insert_default()
}

fn basic_auth(object: &JsonValue<'_>) -> Result<Authorization, ConfigError> {
    object.entries()?;
    let (username, password_file) = (object.key("username", TEXT), object.key("password_file", FILE));
    if username.text()?.contains(':') {
        // What is behind the colon may be the password.
        return Err(username.refuse("a name without a colon"));
    }
    object.refuse_others(["username", "password_file"].into_iter())?;
    let (username, has_file) = (username.text()?, !password_file.value.is_null());
    Ok(Authorization::Basic { username, password_file: has_file.then(|| password_file.file()).transpose()? })
}

fn headers(object: &JsonValue<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in object.entries()? {
        let Ok(parsed) = name.parse::<HeaderName>() else {
            // A whole header may stand there, which is then not shown.
            return Err(object.refuse("names of headers"));
        };
        let refuse = |expected| ConfigError::without_value(format!("{}[{name}]", object.place), expected);
        if headers.iter().any(|(other, _)| *other == parsed) {
            return Err(refuse("a header that is not there already, in other letters"));
        }
        if RESERVED_HEADERS.split(' ').any(|reserved| parsed == reserved) {
            return Err(refuse(
                "a header that is neither the sidecar's own nor the connection's; for Authorization there are basic_auth and \
                 bearer_token_file",
            ));
        }
        let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
        let mut value = value.ok_or_else(|| refuse("a text that may stand in a header"))?;
        value.set_sensitive(true);
        headers.push((parsed, value));
    }
    Ok(headers)
}
