//! The configuration: the process's environment, parsed once into types that cannot be wrong.
//!
//! In: environment variables. Out: a [`Config`], or the first [`ConfigError`], which names the variable, its value and
//! what was expected. Every room reads this one; of the others it knows only the engine's words.
//!
//! `table` has a row for each variable, `targets` one for each option of a target, `values` reads and shows what they
//! hold. Here is what must hold between variables.

mod address;
mod json;
mod table;
mod targets;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::Targets as LogFilter;

use crate::exposition::{Filter, LabelSet, Rules, Untyped, printable};
use table::{APP_PORT, PATTERN, QUEUE_PROXY_PORT, Refused, TARGETS};
use values::{FILE, did_you_mean};

pub use address::Address;
pub use table::{OWN_PORT, Unset, VARIABLES, Variable};
pub(crate) use targets::{APP, Authorization, CertificateFiles, HttpOptions, QUEUE_PROXY, TargetKind};
pub use targets::{TARGET_OPTIONS, TargetConfig, TargetOption};

/// The label that tells the samples of one container from those of another. The queue-proxy's own OpenTelemetry resource
/// uses it, too.
const CONTAINER_NAME: &str = "container_name";

/// Everything that an operator can set. What a field means, and in which unit, is said in its variable's row in `table`.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address served; port 0 picks a free one.
    pub listen: Listen,
    /// What is scraped, in the order in which it is written: at least one target, no two of one name or address.
    pub targets: Vec<TargetConfig>,
    /// The labels added to whatever is relabelled.
    pub labels: LabelSet,
    pub(crate) label_queue_proxy: bool,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) sample_limit: Option<NonZeroU64>,
    pub(crate) self_metrics: bool,
    /// Who may scrape, and how the connection is secured.
    pub security: Security,
    pub(crate) scrape_timeout: Duration,
    pub(crate) scrape_timeout_offset: Duration,
    pub(crate) max_body_bytes: u64,
    pub(crate) max_concurrent_scrapes: NonZeroUsize,
    /// How long the process stays at most after its end was asked for; not at all, if it is 0.
    pub linger: Duration,
    pub(crate) leave_interval: Duration,
    pub(crate) keep_bytes: usize,
    pub(crate) untyped: Untyped,
    pub(crate) compression: Compression,
    /// Which events are logged.
    pub log: LogFilter,
    /// How events are logged.
    pub log_format: LogFormat,
    parts: Parts,
    /// Variables that are named like ours and are none: misspelt, or of another version.
    unknown_variables: Vec<String>,
}

/// What is said by variables that only several of them together make something of.
#[derive(Debug, Clone, Default)]
struct Parts {
    /// The names of the labels that carry the service, the configuration and the revision, and their values.
    serving_names: [String; 3],
    serving: [Option<String>; 3],
    extra_labels: Vec<(String, String)>,
    /// The regular expressions of the families that are kept, and of those that are dropped.
    keep: Option<String>,
    drop: Option<String>,
}

/// Where the sidecar listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The one address; without, every one of the pod, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// The port; 0 picks a free one.
    pub port: u16,
}

/// Who may scrape, and how the connection is secured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// TLS; without, plain HTTP.
    pub tls: Option<ServingTls>,
    pub(crate) bearer_token_file: Option<PathBuf>,
}

/// How the sidecar serves TLS. Files are read at the start, and again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingTls {
    pub(crate) certificate: CertificateFiles,
    pub(crate) client_ca_file: Option<PathBuf>,
}

/// How answers may be compressed, for a scraper that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Off,
    Gzip,
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
#[error("{}{}: expected {expected}", printable(variable), value.as_ref().map(|value| format!("={value:?}")).unwrap_or_default())]
pub struct ConfigError {
    /// The variable's name, and the place in it where it holds many values.
    pub variable: Cow<'static, str>,
    /// Its value, if that is no secret and there is one.
    pub value: Option<String>,
    /// What was expected instead.
    pub expected: String,
}

impl ConfigError {
    fn new(variable: impl Into<Cow<'static, str>>, value: &str, expected: impl Into<String>) -> Self {
        let (variable, value, expected) = (variable.into(), Some(value.to_owned()), expected.into());
        Self { variable, value, expected }
    }

    fn without_value(variable: impl Into<Cow<'static, str>>, expected: impl Into<String>) -> Self {
        let value = None;
        Self { value, ..Self::new(variable, "", expected) }
    }
}

/// What holds where no variable is set.
impl Default for Config {
    fn default() -> Self {
        Self::from_variables([] as [(&str, &str); 0]).expect("every default can be read")
    }
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    ///
    /// The first variable that holds a bad value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(std::env::vars_os())
    }

    /// Reads a set of variables.
    ///
    /// # Errors
    ///
    /// The first variable that holds a bad value.
    pub fn from_variables<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let is_ours = |name: &str| VARIABLES.iter().any(|variable| variable.name == name);
        let (mut ours, mut unknown_variables) = (BTreeMap::new(), Vec::new());
        for (name, value) in variables {
            // What is no text becomes one that shows where it went wrong.
            let [name, value] = [name.into(), value.into()].map(|text| text.to_string_lossy().into_owned());
            if is_ours(&name) {
                // Of a variable that comes twice the first counts, as for getenv.
                ours.entry(name).or_insert(value);
            } else if is_like_ours(&name, &value) {
                unknown_variables.push(name);
            }
        }
        unknown_variables.sort();
        unknown_variables.dedup();
        // envy writes names in small letters, of every script: to it the Kelvin sign is a k. It is given none but ours.
        let given: BTreeMap<String, String> = envy::from_iter(ours).expect("texts are read as texts");
        let mut config = Self::blank(unknown_variables);
        for variable in VARIABLES {
            let given = given.get(&variable.name.to_ascii_lowercase());
            variable.read(given.map(String::as_str), &mut config)?;
        }
        config.settle(given.contains_key(&QUEUE_PROXY_PORT.to_ascii_lowercase()))?;
        Ok(config)
    }

    /// What reading starts from, before even the defaults are read.
    fn blank(unknown_variables: Vec<String>) -> Self {
        Self {
            listen: Listen { address: None, port: 0 },
            targets: Vec::new(),
            labels: LabelSet::default(),
            label_queue_proxy: false,
            filter: None,
            sample_limit: None,
            self_metrics: false,
            security: Security::default(),
            scrape_timeout: Duration::ZERO,
            scrape_timeout_offset: Duration::ZERO,
            max_body_bytes: 0,
            max_concurrent_scrapes: NonZeroUsize::MIN,
            linger: Duration::ZERO,
            leave_interval: Duration::from_secs(1),
            keep_bytes: 0,
            untyped: Untyped::Convert,
            compression: Compression::Auto,
            log: LogFilter::new(),
            log_format: LogFormat::Json,
            parts: Parts::default(),
            unknown_variables,
        }
    }

    /// Makes the filter of the two patterns, of which this one was just read.
    fn set_filter(&mut self, variable: &'static str, text: &str) -> Result<(), Refused> {
        let refuse = |why: &str| Some(ConfigError::new(variable, text, format!("{PATTERN}: {why}")));
        if text.is_empty() {
            return Err(refuse("this one matches none"));
        }
        let [keep, drop] = [&self.parts.keep, &self.parts.drop].map(Option::as_deref);
        // The library draws under the pattern, over several lines.
        let one_line = |error: &str| error.split_whitespace().collect::<Vec<_>>().join(" ");
        let filter = Filter::new(keep, drop).map_err(|error| refuse(&one_line(&error.to_string())))?;
        self.filter = Some(Arc::new(filter));
        Ok(())
    }

    /// Makes what several variables say together, and refuses what contradicts.
    fn settle(&mut self, is_queue_proxy_set: bool) -> Result<(), ConfigError> {
        self.targets.sort_by_key(|target| target.kind);
        let own_port = self.listen.port;
        let is_own = |target: &TargetConfig| target.kind == TargetKind::QueueProxy && target.address.port() == own_port;
        if !is_queue_proxy_set && self.targets.iter().any(is_own) {
            let expected =
                format!("a port other than the queue-proxy's, or {QUEUE_PROXY_PORT} set to another or to nothing");
            return Err(ConfigError::new(OWN_PORT, &own_port.to_string(), expected));
        }
        self.check_served_at(own_port)?;
        self.labels = LabelSet::new(self.pairs()).expect("each was checked");
        self.security.check()
    }

    /// Refuses to scrape nothing, anything twice, or this sidecar itself, which would do so without end; the last once more
    /// when the port is known that it serves.
    ///
    /// # Errors
    ///
    /// There is such a target, or none.
    pub fn check_served_at(&self, port: u16) -> Result<(), ConfigError> {
        const OTHER_THAN_OWN: &str =
            "a port other than AGGREGATE_PROMETHEUS_METRICS_PORT, on which this sidecar itself serves";
        const OTHER_THAN_QUEUE_PROXY: &str = "an endpoint other than the queue-proxy's, which is scraped already";
        if self.targets.is_empty() {
            let expected = format!("a port, or {APP_PORT} or {TARGETS} set: there is no target to scrape");
            return Err(ConfigError::new(QUEUE_PROXY_PORT, "", expected));
        }
        let listen = Listen { port, ..self.listen };
        for (index, target) in self.targets.iter().enumerate() {
            let (is_added, address) = (target.kind == TargetKind::Added, &target.address);
            let mut others = self.targets[..index].iter();
            let expected = if address.is_served_at(listen) || !is_added && address.port() == port {
                OTHER_THAN_OWN.to_owned()
            } else if let Some(TargetConfig { name, .. }) = others.find(|other| other.address == *address) {
                match is_added {
                    true => format!("an address other than that of {name}, which is scraped already"),
                    false => OTHER_THAN_QUEUE_PROXY.to_owned(),
                }
            } else {
                continue;
            };
            let port = address.port().to_string();
            return Err(match target.kind {
                TargetKind::QueueProxy => ConfigError::new(QUEUE_PROXY_PORT, &port, expected),
                TargetKind::App => ConfigError::new(APP_PORT, &port, expected),
                TargetKind::Added => {
                    let place = format!("{TARGETS}[{}].url", target.name);
                    ConfigError::new(place, &address.to_string(), expected)
                }
            });
        }
        Ok(())
    }

    /// The labels added to whatever is relabelled: names and values.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let serving = self.parts.serving_names.iter().zip(&self.parts.serving);
        let serving = serving.filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
        let extra = self.parts.extra_labels.iter();
        serving.chain(extra.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Whether a target's text is passed on as it comes.
    pub(crate) fn is_verbatim(&self, target: &TargetConfig) -> bool {
        target.kind == TargetKind::QueueProxy && !self.label_queue_proxy
    }

    pub(crate) fn rules_of(&self, target: &TargetConfig) -> Rules {
        let (labels, untyped) = match self.is_verbatim(target) {
            true => (LabelSet::default(), Untyped::Keep),
            false => (self.labels_of(target), self.untyped),
        };
        Rules {
            filter: self.filter.clone().filter(|_| target.kind != TargetKind::QueueProxy),
            sample_limit: self.sample_limit,
            ..Rules::new(labels, untyped)
        }
    }

    /// The labels added to the samples of a target, with its container's name. The application goes without, as it did before
    /// there were others, and must not pass for one of them.
    fn labels_of(&self, target: &TargetConfig) -> LabelSet {
        if target.kind != TargetKind::App {
            let container = (CONTAINER_NAME, target.name.as_str());
            return LabelSet::new(self.pairs().chain([container])).expect("no label has that name");
        }
        let has_container = |other: &TargetConfig| other.kind != TargetKind::App && !self.is_verbatim(other);
        match self.targets.iter().any(has_container) {
            true => self.labels.clone().reserving(CONTAINER_NAME),
            false => self.labels.clone(),
        }
    }

    /// What is allowed and hardly meant, for whoever starts or checks.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.labels.is_empty() && self.targets.iter().any(|target| target.kind == TargetKind::App) {
            let variables = "SERVING_SERVICE, SERVING_CONFIGURATION and SERVING_REVISION, or K_SERVICE and so on";
            warnings.push(format!("no label is added to the app's samples: {variables}, are to be set"));
        }
        for (index, target) in self.targets.iter().enumerate() {
            let mut others = self.targets[..index].iter();
            if let Some(other) = others.find(|other| other.address.is_likely(&target.address)) {
                let [this, other] = [target, other].map(|target| format!("{} ({})", target.name, target.address));
                warnings.push(format!("{this} looks like {other}, which would be scraped twice"));
            }
        }
        if !self.unknown_variables.is_empty() {
            let known = VARIABLES.iter().map(|variable| variable.name);
            let told = self.unknown_variables.iter();
            let told = told.map(|name| printable(name) + &did_you_mean(name, known.clone()));
            let told = told.collect::<Vec<_>>().join(", ");
            warnings.push(format!("variables that are none of ours are ignored: {told}"));
        }
        warnings
    }
}

impl Security {
    /// Refuses a part of what belongs together.
    fn check(&self) -> Result<(), ConfigError> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let [cert, key, ca] = ["QPEXT_TLS_CERT_FILE", "QPEXT_TLS_KEY_FILE", "QPEXT_TLS_CLIENT_CA_FILE"];
        let (missing, other) = match tls.certificate.are_named() {
            [true, true] => return Ok(()),
            [true, false] => (key, cert),
            [false, true] => (cert, key),
            [false, false] => (cert, ca),
        };
        let expected = format!("{FILE}, because {other} is set");
        Err(ConfigError::without_value(missing, expected))
    }
}

/// How our variables begin, and those of KServe that are ours to read; in a cluster there are many that begin with `KSERVE_`.
const OWN_PREFIXES: [&str; 3] = ["QPEXT_", "AGGREGATE_PROMETHEUS_", "KSERVE_CONTAINER_PROMETHEUS_"];

/// Whether a variable looks as if it were meant to be ours.
fn is_like_ours(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_of_service(&name, value)
}

/// Whether Kubernetes tells containers of a Service by this variable, of one that is called `qpext` for example
/// (`pkg/kubelet/envvars/envvars.go`).
fn is_of_service(name: &str, value: &str) -> bool {
    let parts = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_"];
    let schemes = ["tcp://", "udp://", "sctp://"];
    parts.iter().any(|part| name.contains(part)) || schemes.iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests;
