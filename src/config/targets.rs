//! The targets: what is scraped, where it is, and how it is to be reached.
//!
//! In: the variables that name targets. Out: [`TargetConfig`]s with different names and addresses, none of which is the
//! sidecar's own. What is said of a bad value never repeats one that may be a secret.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::ConfigError;
use super::address::{Address, address_of};
use super::json::Json;

/// The name of the queue-proxy's target.
pub const QUEUE_PROXY: &str = "queue-proxy";
/// The name of the application's target.
pub const APP: &str = "app";

pub(super) const TARGETS: &str = "QPEXT_TARGETS";

/// The longest name of a target, that of a container.
const MAX_NAME: usize = 63;

/// What stands for a value that nobody is to see.
pub(super) const SECRET: &str = "<secret>";

/// Headers that a target is sent anyhow, or that belong to the connection (`ReservedHeaders` in prometheus/common,
/// `config/headers.go`, has most of them).
const RESERVED_HEADERS: [&str; 16] = [
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-prometheus-scrape-timeout-seconds",
];

/// A target, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetConfig {
    /// Its name, which no other target has.
    pub name: String,
    /// Which one it is.
    pub kind: TargetKind,
    /// Where it is.
    pub address: Address,
    /// How it is to be reached.
    pub http: HttpOptions,
}

/// Which target one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Knative's proxy in this pod.
    QueueProxy,
    /// The application.
    App,
    /// Any other.
    Added,
}

/// How a target is to be reached: as in Prometheus's HTTP client configuration. Files are read when the target is
/// scraped, and again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// The certificates that its own must lead to, in PEM; without, the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate shown to it, in PEM, with its key.
    pub client_certificate: Option<CertificateFiles>,
    /// The name that its certificate must have, if not the URL's host.
    pub server_name: Option<String>,
    /// Whatever certificate it has will do.
    pub insecure_skip_verify: bool,
    /// How the scrape is authorized.
    pub authorization: Option<Authorization>,
    /// Headers that each request has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those it leads to, in PEM.
    pub cert_file: PathBuf,
    /// Its key, in PEM.
    pub key_file: PathBuf,
}

/// How a scrape is authorized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// By a name and a password.
    Basic {
        /// The name.
        username: String,
        /// The file that holds the password; without, it is empty.
        password_file: Option<PathBuf>,
    },
    /// By a token.
    Bearer {
        /// The file that holds it.
        token_file: PathBuf,
    },
}

impl TargetConfig {
    /// A target that is asked by plain HTTP.
    pub(super) fn plain(kind: TargetKind, name: &str, address: Address) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            address,
            http: HttpOptions::default(),
        }
    }

    /// The target as it would stand in `QPEXT_TARGETS`, without the secrets.
    #[must_use]
    pub fn masked(&self) -> Value {
        let http = &self.http;
        let mut object = Map::new();
        object.insert("name".to_owned(), json!(self.name));
        object.insert("url".to_owned(), json!(self.address.to_string()));
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(name.to_owned(), value);
            }
        };
        add("ca_file", http.ca_file.as_ref().map(|file| json!(file)));
        if let Some(files) = &http.client_certificate {
            add("cert_file", Some(json!(files.cert_file)));
            add("key_file", Some(json!(files.key_file)));
        }
        add("server_name", http.server_name.as_ref().map(|name| json!(name)));
        add("insecure_skip_verify", http.insecure_skip_verify.then_some(json!(true)));
        match &http.authorization {
            None => {}
            Some(Authorization::Basic {
                username,
                password_file,
            }) => {
                add(
                    "basic_auth",
                    Some(json!({"username": username, "password_file": password_file})),
                );
            }
            Some(Authorization::Bearer { token_file }) => add("bearer_token_file", Some(json!(token_file))),
        }
        let headers = http.headers.iter();
        let headers: Map<String, Value> = headers.map(|(name, _)| (name.to_string(), json!(SECRET))).collect();
        add("headers", (!headers.is_empty()).then_some(Value::Object(headers)));
        Value::Object(object)
    }
}

/// Reads `QPEXT_TARGETS`: a short list, or JSON.
pub(super) fn added(value: Option<&str>) -> Result<Vec<TargetConfig>, ConfigError> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(Vec::new());
    };
    // One that starts with a brace was meant as JSON; read as a list, its pieces may be secrets.
    let targets = if value.starts_with(['[', '{']) {
        from_json(value)?
    } else {
        // A password may have commas, so that it is in pieces by then.
        let may_hold_secret = value.contains(['@', '"', '{']);
        let entries = value.split(',').map(|entry| from_short(entry, may_hold_secret));
        entries.collect::<Result<_, _>>()?
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
    Ok(TargetConfig::plain(
        TargetKind::Added,
        name,
        address_of(address).map_err(refuse)?,
    ))
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

const FIELDS: &str = "one of name, url, ca_file, cert_file, key_file, server_name, insecure_skip_verify, basic_auth, \
                      bearer_token_file and headers";

fn from_json(text: &str) -> Result<Vec<TargetConfig>, ConfigError> {
    let entries: Vec<Json> = serde_json::from_str(text).map_err(|error| {
        let place = format!("{TARGETS}, line {}, column {}", error.line(), error.column());
        // Of what is no JSON at all the parser says what is wrong with it; of anything else it would quote the value.
        let why = match error.is_syntax() || error.is_eof() {
            true => error.to_string(),
            false => String::new(),
        };
        let why = why.split(" at line ").next().unwrap_or_default();
        let colon = if why.is_empty() { "" } else { ": " };
        let expected = format!("a JSON array of objects, in [ and ], with no key twice in one object{colon}{why}");
        ConfigError::without_value(place, &expected)
    })?;
    let entries = entries.into_iter().enumerate();
    entries.map(|(index, Json(entry))| from_object(index, entry)).collect()
}

fn from_object(index: usize, entry: Value) -> Result<TargetConfig, ConfigError> {
    let mut fields = Fields::new(format!("{TARGETS}[{index}]"), entry, "an object with name and url")?;
    let name = fields.required("name")?;
    if let Some(expected) = wrong_name(&name) {
        return Err(ConfigError::new(fields.place("name"), &name, expected));
    }
    // From here on it says more than its number.
    fields.place = format!("{TARGETS}[{name}]");
    let url = match fields.map.get("url") {
        // A port as a number means what it says.
        Some(Value::Number(port)) => {
            let port = port.to_string();
            fields.map.remove("url");
            port
        }
        _ => fields.required("url")?,
    };
    let address = address_of(&url).map_err(|expected| match url.contains('@') {
        true => ConfigError::without_value(fields.place("url"), expected),
        false => ConfigError::new(fields.place("url"), &url, expected),
    })?;
    let http = HttpOptions {
        ca_file: fields.file("ca_file")?,
        client_certificate: match (fields.file("cert_file")?, fields.file("key_file")?) {
            (Some(cert_file), Some(key_file)) => Some(CertificateFiles { cert_file, key_file }),
            (None, None) => None,
            (Some(_), None) => return Err(fields.refuse("key_file", "the file of the key that belongs to cert_file")),
            (None, Some(_)) => {
                return Err(fields.refuse("cert_file", "the file of the certificate that belongs to key_file"));
            }
        },
        server_name: fields.string("server_name")?,
        insecure_skip_verify: fields.boolean("insecure_skip_verify")?,
        authorization: authorization(&mut fields)?,
        headers: headers(&mut fields)?,
    };
    fields.done(FIELDS)?;
    if let Some(name) = &http.server_name
        && !is_dns_name(name)
    {
        return Err(ConfigError::new(fields.place("server_name"), name, "a DNS name"));
    }
    let has_tls = http.ca_file.is_some()
        || http.client_certificate.is_some()
        || http.server_name.is_some()
        || http.insecure_skip_verify;
    if has_tls && address.url.scheme() != "https" {
        let expected = "a URL that starts with https://, as ca_file, cert_file, server_name and insecure_skip_verify \
                        are about TLS";
        return Err(ConfigError::new(fields.place("url"), &url, expected));
    }
    Ok(TargetConfig {
        name,
        kind: TargetKind::Added,
        address,
        http,
    })
}

/// Whether a certificate may have this name, and a URL, which is how it comes there.
fn is_dns_name(name: &str) -> bool {
    matches!(url::Host::parse(name), Ok(url::Host::Domain(_))) && rustls::pki_types::DnsName::try_from(name).is_ok()
}

fn authorization(fields: &mut Fields) -> Result<Option<Authorization>, ConfigError> {
    let token_file = fields.file("bearer_token_file")?;
    let basic = fields.object("basic_auth", "an object with username and password_file")?;
    match (token_file, basic) {
        (None, None) => Ok(None),
        (Some(token_file), None) => Ok(Some(Authorization::Bearer { token_file })),
        (None, Some(mut basic)) => {
            let username = basic.required("username")?;
            if username.contains(':') {
                // What is behind the colon may be the password.
                return Err(basic.refuse("username", "a name without a colon"));
            }
            let password_file = basic.file("password_file")?;
            basic.done("one of username and password_file")?;
            Ok(Some(Authorization::Basic {
                username,
                password_file,
            }))
        }
        (Some(_), Some(_)) => Err(fields.refuse("bearer_token_file", "one of basic_auth and bearer_token_file")),
    }
}

fn headers(fields: &mut Fields) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let Some(given) = fields.object("headers", "an object of names and values")? else {
        return Ok(Vec::new());
    };
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in given.map {
        let parsed: Option<HeaderName> = name.parse().ok();
        let Some(parsed) = parsed else {
            // A whole header may stand there, which is then not shown.
            return Err(ConfigError::without_value(given.place, "names of headers"));
        };
        let place = format!("{}[{name}]", given.place);
        if headers.iter().any(|(other, _)| *other == parsed) {
            return Err(ConfigError::without_value(
                place,
                "a header that is not there already, in other letters",
            ));
        }
        if RESERVED_HEADERS.contains(&parsed.as_str()) {
            let expected = "a header that is neither the sidecar's own nor the connection's; for Authorization there are \
                            basic_auth and bearer_token_file";
            return Err(ConfigError::without_value(place, expected));
        }
        let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
        let Some(mut value) = value else {
            return Err(ConfigError::without_value(place, "a text that may stand in a header"));
        };
        value.set_sensitive(true);
        headers.push((parsed, value));
    }
    Ok(headers)
}

/// The fields of a JSON object, each taken out as it is read.
struct Fields {
    /// Where the object stands.
    place: String,
    map: Map<String, Value>,
}

impl Fields {
    fn new(place: String, value: Value, expected: &str) -> Result<Self, ConfigError> {
        match value {
            Value::Object(map) => Ok(Self { place, map }),
            _ => Err(ConfigError::without_value(place, expected)),
        }
    }

    fn place(&self, field: &str) -> String {
        format!("{}.{field}", self.place)
    }

    fn refuse(&self, field: &str, expected: &str) -> ConfigError {
        ConfigError::without_value(self.place(field), expected)
    }

    fn string(&mut self, field: &str) -> Result<Option<String>, ConfigError> {
        match self.map.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(self.refuse(field, "a text, not empty")),
        }
    }

    fn required(&mut self, field: &str) -> Result<String, ConfigError> {
        self.string(field)?
            .ok_or_else(|| self.refuse(field, "a text, not empty"))
    }

    fn file(&mut self, field: &str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.string(field)?.map(PathBuf::from))
    }

    fn boolean(&mut self, field: &str) -> Result<bool, ConfigError> {
        match self.map.remove(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(_) => Err(self.refuse(field, "true or false")),
        }
    }

    fn object(&mut self, field: &str, expected: &str) -> Result<Option<Self>, ConfigError> {
        match self.map.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Self::new(self.place(field), value, expected).map(Some),
        }
    }

    /// Refuses what nobody asked for.
    fn done(&self, expected: &str) -> Result<(), ConfigError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(unknown) => Err(self.refuse(unknown, expected)),
        }
    }
}
