//! The configuration: the process's environment, parsed once into types that cannot be wrong.
//!
//! In: environment variables. Out: a [`Config`], or the first [`ConfigError`], which names the variable, its value and
//! what was expected. Every room reads this one; of the others it knows only the engine's words.

mod in_force;
mod targets;
mod values;
mod variables;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use tracing_subscriber::filter::Targets as LogFilter;

use crate::exposition::{Filter, LabelSet, Rules, Untyped};
use values::{
    DURATION, boolean, compression, duration, extra_labels, log_filter, log_format, serving_label_names, untyped,
};

pub use targets::{APP, Address, Authorization, CertificateFiles, HttpOptions, QUEUE_PROXY, TargetConfig, TargetKind};
pub use variables::{VARIABLES, Variable};

const DEFAULT_PORT: u16 = 9088;
const DEFAULT_QUEUE_PROXY_PORT: NonZeroU16 = NonZeroU16::new(9091).expect("9091 is not 0");
const DEFAULT_PATH: &str = "/metrics";
/// Prometheus's own default for `scrape_timeout`.
const DEFAULT_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// The blackbox exporter's offset.
const DEFAULT_SCRAPE_TIMEOUT_OFFSET: Duration = Duration::from_millis(500);
const DEFAULT_MAX_BODY_BYTES: u64 = 256 << 20;
/// Two Prometheus servers, an autoscaler and an engineer with `curl`, twice over.
const DEFAULT_MAX_CONCURRENT_SCRAPES: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");

/// The labels that carry the service, the configuration and the revision.
const DEFAULT_SERVING_LABEL_NAMES: [&str; 3] = ["service_name", "configuration_name", "revision_name"];

const OWN_PORT: &str = "AGGREGATE_PROMETHEUS_METRICS_PORT";
const APP_PORT: &str = "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT";

/// The label that tells the samples of one container from those of another. The queue-proxy's own OpenTelemetry resource
/// uses it, too.
const CONTAINER_NAME: &str = "container_name";

/// Everything that an operator can set.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address served; port 0 picks a free one.
    pub listen: Listen,
    /// What is scraped, in the order in which it is written: at least one target, no two of one name or address.
    pub targets: Vec<TargetConfig>,
    /// The labels added to whatever is relabelled.
    pub labels: LabelSet,
    /// Their names and values.
    pairs: Vec<(String, String)>,
    /// The names of the labels that carry the service, the configuration and the revision.
    serving_label_names: [String; 3],
    /// The queue-proxy is relabelled, too.
    pub label_queue_proxy: bool,
    /// Which families are written, of all targets but the queue-proxy.
    pub filter: Option<Arc<Filter>>,
    /// The regular expressions of the families that are kept, and of those that are dropped.
    filter_patterns: [Option<String>; 2],
    /// The samples at which a target is cut.
    pub sample_limit: Option<NonZeroU64>,
    /// Metrics of the sidecar itself close each answer.
    pub self_metrics: bool,
    /// Who may scrape, and how the connection is secured.
    pub security: Security,
    /// The scraper's timeout where it sends none.
    pub scrape_timeout: Duration,
    /// What is taken off the scraper's timeout, at most a quarter of it.
    pub scrape_timeout_offset: Duration,
    /// The size at which a target's body is cut, in bytes.
    pub max_body_bytes: u64,
    /// Scrapes that run at once.
    pub max_concurrent_scrapes: NonZeroUsize,
    /// What becomes of the application's untyped families.
    pub untyped: Untyped,
    /// How answers may be compressed.
    pub compression: Compression,
    /// Which events are logged.
    pub log: LogFilter,
    /// How events are logged.
    pub log_format: LogFormat,
    /// Variables that are named like ours and are none: misspelt, or of another version.
    pub unknown_variables: Vec<String>,
}

/// Where the sidecar listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Every address of the pod, IPv6 and IPv4.
    All {
        /// The port; 0 picks a free one.
        port: u16,
    },
    /// One address.
    One(SocketAddr),
}

impl Listen {
    /// The same address with another port.
    fn with_port(self, port: u16) -> Self {
        match self {
            Self::All { .. } => Self::All { port },
            Self::One(address) => Self::One(SocketAddr::new(address.ip(), port)),
        }
    }

    /// The address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::All { .. } => None,
            Self::One(address) => Some(address.ip()),
        }
    }

    /// The port; 0 picks a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::All { port } => *port,
            Self::One(address) => address.port(),
        }
    }
}

/// Who may scrape, and how the connection is secured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS; without, plain HTTP.
    pub tls: Option<ServingTls>,
    /// The file that holds the token that a scraper must show.
    pub bearer_token_file: Option<PathBuf>,
}

/// How the sidecar serves TLS. Files are read at the start, and again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServingTls {
    /// Its own certificate.
    pub certificate: CertificateFiles,
    /// The certificates that a scraper's must lead to, in PEM; without, it need not have one.
    pub client_ca_file: Option<PathBuf>,
}

/// How answers may be compressed, for a scraper that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Off,
    /// With gzip only.
    Gzip,
    /// With zstd only.
    Zstd,
    /// With whichever the scraper takes.
    Auto,
}

/// How events are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}{}: expected {expected}", value.as_ref().map(|value| format!("={value:?}")).unwrap_or_default())]
pub struct ConfigError {
    /// The variable's name, and the place in it where it holds many values.
    pub variable: Cow<'static, str>,
    /// Its value, if that is no secret and there is one.
    pub value: Option<String>,
    /// What was expected instead.
    pub expected: String,
}

impl ConfigError {
    fn new(variable: impl Into<Cow<'static, str>>, value: &str, expected: &str) -> Self {
        Self {
            value: Some(value.to_owned()),
            ..Self::without_value(variable, expected)
        }
    }

    fn without_value(variable: impl Into<Cow<'static, str>>, expected: &str) -> Self {
        Self {
            variable: variable.into(),
            value: None,
            expected: expected.to_owned(),
        }
    }
}

/// The environment as it is written.
#[derive(Debug, Default, Deserialize)]
struct Environment {
    aggregate_prometheus_metrics_port: Option<String>,
    kserve_container_prometheus_metrics_port: Option<String>,
    kserve_container_prometheus_metrics_path: Option<String>,
    serving_service: Option<String>,
    serving_configuration: Option<String>,
    serving_revision: Option<String>,
    k_service: Option<String>,
    k_configuration: Option<String>,
    k_revision: Option<String>,
    qpext_queue_proxy_metrics_port: Option<String>,
    qpext_queue_proxy_metrics_path: Option<String>,
    qpext_bind_address: Option<String>,
    qpext_scrape_timeout: Option<String>,
    qpext_scrape_timeout_offset: Option<String>,
    qpext_max_body_bytes: Option<String>,
    qpext_max_concurrent_scrapes: Option<String>,
    qpext_untyped: Option<String>,
    qpext_compression: Option<String>,
    qpext_log: Option<String>,
    qpext_log_format: Option<String>,
    qpext_targets: Option<String>,
    qpext_serving_label_names: Option<String>,
    qpext_extra_labels: Option<String>,
    qpext_label_queue_proxy: Option<String>,
    qpext_keep_metrics: Option<String>,
    qpext_drop_metrics: Option<String>,
    qpext_sample_limit: Option<String>,
    qpext_self_metrics: Option<String>,
    qpext_tls_cert_file: Option<String>,
    qpext_tls_key_file: Option<String>,
    qpext_tls_client_ca_file: Option<String>,
    qpext_bearer_token_file: Option<String>,
    /// Every other variable.
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// The first variable that holds a bad value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(std::env::vars_os().filter_map(|(name, value)| {
            // A name that is no text is none of ours. A value that is no text is one we want to complain about, and
            // what it is turned into shows where it went wrong.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }))
    }

    /// Reads a set of variables.
    ///
    /// # Errors
    ///
    /// The first variable that holds a bad value.
    pub fn from_variables<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: Into<String>,
        V: Into<String>,
    {
        // envy does not tell upper from lower case, and refuses a variable that comes twice.
        let mut own = BTreeMap::new();
        for (name, value) in variables {
            let name = name.into();
            if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
                own.entry(name).or_insert(value.into());
            }
        }
        let environment: Environment =
            envy::from_iter(own).expect("every field is an optional text, which any variable is");
        environment.parse()
    }
}

impl Config {
    /// Whether a target's text is passed on as it comes.
    #[must_use]
    pub fn is_verbatim(&self, target: &TargetConfig) -> bool {
        target.kind == TargetKind::QueueProxy && !self.label_queue_proxy
    }

    /// What is done with the samples of a target.
    #[must_use]
    pub fn rules_of(&self, target: &TargetConfig) -> Rules {
        let rules = if self.is_verbatim(target) {
            Rules::new(LabelSet::default(), Untyped::Keep)
        } else {
            // The application goes without, as it did before there were others.
            let container = (target.kind != TargetKind::App).then(|| (CONTAINER_NAME.to_owned(), target.name.clone()));
            let labels = LabelSet::new(self.pairs.iter().cloned().chain(container)).expect("no label has that name");
            Rules::new(labels, self.untyped)
        };
        Rules {
            filter: self.filter.clone().filter(|_| target.kind != TargetKind::QueueProxy),
            sample_limit: self.sample_limit,
            ..rules
        }
    }

    /// What is allowed and hardly meant, for whoever starts or checks.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.labels.is_empty() && self.targets.iter().any(|target| target.kind == TargetKind::App) {
            let unset = "SERVING_SERVICE and its sisters, and K_SERVICE and its, are unset";
            warnings.push(format!("no label is added to the app's samples: {unset}"));
        }
        if !self.unknown_variables.is_empty() {
            let variables = self.unknown_variables.join(", ");
            warnings.push(format!("variables that are none of ours are ignored: {variables}"));
        }
        warnings
    }

    /// Refuses a target that is this sidecar itself, once the port is known that it serves.
    ///
    /// # Errors
    ///
    /// There is one.
    pub fn check_served_at(&self, port: u16) -> Result<(), ConfigError> {
        check_targets(&self.targets, self.listen.with_port(port))
    }
}

impl Environment {
    fn parse(self) -> Result<Config, ConfigError> {
        let port = parse(
            OWN_PORT,
            self.aggregate_prometheus_metrics_port,
            "a port from 0 to 65535, where 0 picks a free one",
            DEFAULT_PORT,
            |value| value.parse().ok(),
        )?;
        let listen = match self.qpext_bind_address {
            None => Listen::All { port },
            Some(value) => {
                let expected = "an IP address, such as 127.0.0.1 or ::";
                let address = parse(
                    "QPEXT_BIND_ADDRESS",
                    Some(value),
                    expected,
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                    |value| value.parse().ok(),
                )?;
                Listen::One(SocketAddr::new(address, port))
            }
        };
        let queue_proxy = queue_proxy(
            self.qpext_queue_proxy_metrics_port,
            self.qpext_queue_proxy_metrics_path,
            port,
        )?;
        let app = app(
            self.kserve_container_prometheus_metrics_port,
            self.kserve_container_prometheus_metrics_path,
            port,
        )?;
        if let (Some(queue_proxy), Some(app)) = (&queue_proxy, &app)
            && queue_proxy.address == app.address
        {
            let expected = "an endpoint other than the queue-proxy's, which is scraped already";
            let port = app.address.url.port().unwrap_or_default();
            return Err(ConfigError::new(APP_PORT, &port.to_string(), expected));
        }
        let added = targets::added(self.qpext_targets.as_deref())?;
        let targets: Vec<TargetConfig> = queue_proxy.into_iter().chain(app).chain(added).collect();
        check_targets(&targets, listen)?;
        let names = parse(
            "QPEXT_SERVING_LABEL_NAMES",
            self.qpext_serving_label_names,
            "three different label names with commas between them, of the service, the configuration and the revision, \
             other than container_name, le, quantile, target, reason and version",
            DEFAULT_SERVING_LABEL_NAMES.map(str::to_owned),
            serving_label_names,
        )?;
        let values = [
            (self.serving_service, self.k_service),
            (self.serving_configuration, self.k_configuration),
            (self.serving_revision, self.k_revision),
        ];
        let mut pairs = serving_labels(names.clone(), values);
        pairs.extend(parse(
            "QPEXT_EXTRA_LABELS",
            self.qpext_extra_labels,
            "a list such as team=ml,zone=eu of labels that are not empty, with names that are different from one another, \
             from the serving labels' and from container_name, le, quantile, target, reason and version, and do not \
             start with two underscores",
            Vec::new(),
            |value| extra_labels(value, &names),
        )?);
        let filter_patterns = [
            ("QPEXT_KEEP_METRICS", self.qpext_keep_metrics),
            ("QPEXT_DROP_METRICS", self.qpext_drop_metrics),
        ];
        Ok(Config {
            listen,
            targets,
            labels: LabelSet::new(pairs.iter().cloned()).expect("each was checked"),
            pairs,
            serving_label_names: names,
            label_queue_proxy: parse_boolean("QPEXT_LABEL_QUEUE_PROXY", self.qpext_label_queue_proxy, false)?,
            filter: filter(&filter_patterns)?,
            filter_patterns: filter_patterns.map(|(_, pattern)| pattern),
            sample_limit: parse(
                "QPEXT_SAMPLE_LIMIT",
                self.qpext_sample_limit,
                "a number of samples, or 0 for no limit",
                None,
                |value| value.parse().ok().map(NonZeroU64::new),
            )?,
            self_metrics: parse_boolean("QPEXT_SELF_METRICS", self.qpext_self_metrics, true)?,
            security: security(
                [
                    self.qpext_tls_cert_file,
                    self.qpext_tls_key_file,
                    self.qpext_tls_client_ca_file,
                ],
                self.qpext_bearer_token_file,
            )?,
            scrape_timeout: parse(
                "QPEXT_SCRAPE_TIMEOUT",
                self.qpext_scrape_timeout,
                DURATION,
                DEFAULT_SCRAPE_TIMEOUT,
                duration,
            )?,
            scrape_timeout_offset: parse(
                "QPEXT_SCRAPE_TIMEOUT_OFFSET",
                self.qpext_scrape_timeout_offset,
                DURATION,
                DEFAULT_SCRAPE_TIMEOUT_OFFSET,
                duration,
            )?,
            max_body_bytes: parse(
                "QPEXT_MAX_BODY_BYTES",
                self.qpext_max_body_bytes,
                "a number of bytes of at least 1, such as 268435456",
                DEFAULT_MAX_BODY_BYTES,
                |value| value.parse().ok().map(NonZeroU64::get),
            )?,
            max_concurrent_scrapes: parse(
                "QPEXT_MAX_CONCURRENT_SCRAPES",
                self.qpext_max_concurrent_scrapes,
                "a number of at least 1",
                DEFAULT_MAX_CONCURRENT_SCRAPES,
                |value| value.parse().ok(),
            )?,
            untyped: parse(
                "QPEXT_UNTYPED",
                self.qpext_untyped,
                "convert, drop or keep",
                Untyped::Convert,
                untyped,
            )?,
            compression: parse(
                "QPEXT_COMPRESSION",
                self.qpext_compression,
                "off, gzip, zstd or auto",
                Compression::Auto,
                compression,
            )?,
            log: parse(
                "QPEXT_LOG",
                self.qpext_log,
                "a tracing filter of levels (error, warn, info, debug, trace, off), such as info or warn,qpext=debug",
                LogFilter::new().with_default(tracing::Level::INFO),
                log_filter,
            )?,
            log_format: parse(
                "QPEXT_LOG_FORMAT",
                self.qpext_log_format,
                "json or text",
                LogFormat::Json,
                log_format,
            )?,
            unknown_variables: unknown_variables(self.others),
        })
    }
}

fn queue_proxy(port: Option<String>, path: Option<String>, own_port: u16) -> Result<Option<TargetConfig>, ConfigError> {
    const PORT: &str = "QPEXT_QUEUE_PROXY_METRICS_PORT";
    if port.as_deref() == Some("") {
        return Ok(None);
    }
    let is_default = port.is_none();
    let expected = "a port from 1 to 65535, or nothing, which turns the target off";
    let port = parse(PORT, port, expected, DEFAULT_QUEUE_PROXY_PORT, |value| {
        value.parse().ok()
    })?;
    if is_default && port.get() == own_port {
        let expected =
            "a port other than the queue-proxy's, or QPEXT_QUEUE_PROXY_METRICS_PORT set to another or to nothing";
        return Err(ConfigError::new(OWN_PORT, &own_port.to_string(), expected));
    }
    refuse_own_port(PORT, port, own_port)?;
    let path = target_path("QPEXT_QUEUE_PROXY_METRICS_PATH", path)?;
    Ok(Some(TargetConfig::plain(
        TargetKind::QueueProxy,
        QUEUE_PROXY,
        local_url(port, &path),
    )))
}

fn app(port: Option<String>, path: Option<String>, own_port: u16) -> Result<Option<TargetConfig>, ConfigError> {
    let path = target_path("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", none_if_empty(path))?;
    let port = none_if_empty(port);
    let port = parse(APP_PORT, port, "a port from 1 to 65535", None, |value| {
        value.parse().ok().map(Some)
    })?;
    let Some(port) = port else {
        return Ok(None);
    };
    refuse_own_port(APP_PORT, port, own_port)?;
    Ok(Some(TargetConfig::plain(TargetKind::App, APP, local_url(port, &path))))
}

fn local_url(port: NonZeroU16, path: &str) -> Url {
    format!("http://localhost:{port}{path}")
        .parse()
        .expect("a host, a port and a checked path make a URL")
}

fn check_targets(targets: &[TargetConfig], listen: Listen) -> Result<(), ConfigError> {
    if targets.is_empty() {
        return Err(ConfigError::new(
            "QPEXT_QUEUE_PROXY_METRICS_PORT",
            "",
            "a port, or KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT or QPEXT_TARGETS set: there is no target to scrape",
        ));
    }
    for (index, target) in targets.iter().enumerate() {
        let place = || format!("{}[{}].url", targets::TARGETS, target.name);
        let address = target.address.to_string();
        if let Some(other) = targets[..index].iter().find(|other| other.address == target.address) {
            let expected = format!("an address other than that of {}, which is scraped already", other.name);
            return Err(ConfigError::new(place(), &address, &expected));
        }
        if target.is_served_at(listen) {
            return Err(ConfigError::new(place(), &address, OTHER_THAN_OWN));
        }
    }
    Ok(())
}

/// A sidecar that scrapes itself would do so without end.
const OTHER_THAN_OWN: &str = "a port other than AGGREGATE_PROMETHEUS_METRICS_PORT, on which this sidecar itself serves";

fn refuse_own_port(variable: &'static str, port: NonZeroU16, own_port: u16) -> Result<(), ConfigError> {
    if port.get() == own_port {
        return Err(ConfigError::new(variable, &port.to_string(), OTHER_THAN_OWN));
    }
    Ok(())
}

fn target_path(variable: &'static str, value: Option<String>) -> Result<String, ConfigError> {
    let expected = "a path that starts with / and has neither blanks nor #, such as /metrics";
    parse(variable, value, expected, DEFAULT_PATH.to_owned(), |value| {
        targets::is_path(value).then(|| value.to_owned())
    })
}

/// The serving labels that have a value.
fn serving_labels(names: [String; 3], values: [(Option<String>, Option<String>); 3]) -> Vec<(String, String)> {
    let values = values
        .into_iter()
        .map(|(serving, knative)| none_if_empty(serving).or_else(|| none_if_empty(knative)));
    let labels = names.into_iter().zip(values);
    labels.filter_map(|(name, value)| Some((name, value?))).collect()
}

fn filter(patterns: &[(&'static str, Option<String>); 2]) -> Result<Option<Arc<Filter>>, ConfigError> {
    for (variable, pattern) in patterns {
        let Some(pattern) = pattern else { continue };
        let refuse = |why: &str| {
            let expected = format!("a regular expression of names of metric families: {why}");
            ConfigError::new(*variable, pattern, &expected)
        };
        if pattern.is_empty() {
            return Err(refuse("this one matches none"));
        }
        Filter::new(Some(pattern), None).map_err(|error| refuse(&one_line(&error.to_string())))?;
    }
    let [(_, keep), (_, drop)] = patterns;
    if keep.is_none() && drop.is_none() {
        return Ok(None);
    }
    let filter = Filter::new(keep.as_deref(), drop.as_deref()).expect("each was read alone");
    Ok(Some(Arc::new(filter)))
}

/// What the library draws under the pattern over several lines.
fn one_line(error: &str) -> String {
    error.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn security(tls: [Option<String>; 3], token: Option<String>) -> Result<Security, ConfigError> {
    let file = |variable: &'static str, value: Option<String>| {
        parse(variable, value, "the path of a file", None, |value| {
            (!value.is_empty()).then(|| Some(PathBuf::from(value)))
        })
    };
    let [cert, key, client_ca] = tls;
    let cert_file = file("QPEXT_TLS_CERT_FILE", cert)?;
    let key_file = file("QPEXT_TLS_KEY_FILE", key)?;
    let client_ca_file = file("QPEXT_TLS_CLIENT_CA_FILE", client_ca)?;
    let missing = |variable: &'static str, other: &str| {
        ConfigError::without_value(variable, &format!("the path of a file, because {other} is set"))
    };
    let tls = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(ServingTls {
            certificate: CertificateFiles { cert_file, key_file },
            client_ca_file,
        }),
        (Some(_), None) => return Err(missing("QPEXT_TLS_KEY_FILE", "QPEXT_TLS_CERT_FILE")),
        (None, Some(_)) => return Err(missing("QPEXT_TLS_CERT_FILE", "QPEXT_TLS_KEY_FILE")),
        (None, None) if client_ca_file.is_some() => {
            return Err(missing("QPEXT_TLS_CERT_FILE", "QPEXT_TLS_CLIENT_CA_FILE"));
        }
        (None, None) => None,
    };
    Ok(Security {
        tls,
        bearer_token_file: file("QPEXT_BEARER_TOKEN_FILE", token)?,
    })
}

fn unknown_variables(others: BTreeMap<String, String>) -> Vec<String> {
    let names = others.into_keys().map(|name| name.to_ascii_uppercase());
    names.filter(|name| name.starts_with("QPEXT_")).collect()
}

/// Reads one variable, or takes the default if it is not set.
fn parse<T>(
    variable: &'static str,
    value: Option<String>,
    expected: &str,
    default: T,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, ConfigError> {
    match value {
        None => Ok(default),
        Some(value) => read(&value).ok_or_else(|| ConfigError::new(variable, &value, expected)),
    }
}

fn parse_boolean(variable: &'static str, value: Option<String>, default: bool) -> Result<bool, ConfigError> {
    parse(variable, value, "true or false", default, boolean)
}

fn none_if_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
