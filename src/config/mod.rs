//! The configuration: the process's environment, parsed once into types that cannot be wrong.
//!
//! In: environment variables. Out: a [`Config`], or the first [`ConfigError`], which names the variable, its value and
//! what was expected. Every room reads this one; of the others it knows only the engine's words.

mod address;
mod environment;
mod in_force;
mod json;
mod targets;
mod values;
mod variables;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::Targets as LogFilter;

use crate::exposition::{Filter, LabelSet, Rules, Untyped, printable};
use environment::{Environment, check_targets, unknown_variables};

pub use address::Address;
pub use environment::{OWN_PORT, default_log_filter};
pub use targets::{APP, Authorization, CertificateFiles, HttpOptions, QUEUE_PROXY, TargetConfig, TargetKind};
pub use variables::{VARIABLES, Variable};

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
        let (mut own, mut in_other_case) = (BTreeMap::new(), Vec::new());
        for (name, value) in variables {
            let name = name.into();
            if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
                in_other_case.push((name, value.into()));
            } else {
                own.entry(name).or_insert(value.into());
            }
        }
        let environment: Environment =
            envy::from_iter(own).expect("every field is an optional text, which any variable is");
        let mut config = environment.parse()?;
        config.unknown_variables.extend(unknown_variables(in_other_case));
        Ok(config)
    }

    /// Whether a target's text is passed on as it comes.
    #[must_use]
    pub fn is_verbatim(&self, target: &TargetConfig) -> bool {
        target.kind == TargetKind::QueueProxy && !self.label_queue_proxy
    }

    /// Whether the samples of a target are told from others by the name of its container.
    fn names_containers(&self) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.kind != TargetKind::App && !self.is_verbatim(target))
    }

    /// What is done with the samples of a target.
    #[must_use]
    pub fn rules_of(&self, target: &TargetConfig) -> Rules {
        let rules = if self.is_verbatim(target) {
            Rules::new(LabelSet::default(), Untyped::Keep)
        } else {
            // The application goes without, as it did before there were others, and must not pass for one of them.
            let container = (target.kind != TargetKind::App).then(|| (CONTAINER_NAME.to_owned(), target.name.clone()));
            let has_none = container.is_none();
            let labels = LabelSet::new(self.pairs.iter().cloned().chain(container)).expect("no label has that name");
            let labels = match has_none && self.names_containers() {
                true => labels.reserving(CONTAINER_NAME),
                false => labels,
            };
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
            let variables = "SERVING_SERVICE, SERVING_CONFIGURATION and SERVING_REVISION, or K_SERVICE and so on";
            warnings.push(format!(
                "no label is added to the app's samples: {variables}, are to be set"
            ));
        }
        for (index, target) in self.targets.iter().enumerate() {
            let mut others = self.targets[..index].iter();
            if let Some(other) = others.find(|other| other.address.is_likely(&target.address)) {
                let [this, other] = [target, other].map(|target| format!("{} ({})", target.name, target.address));
                warnings.push(format!("{this} looks like {other}, which would be scraped twice"));
            }
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
        check_targets(&self.targets, Listen { port, ..self.listen })
    }
}

#[cfg(test)]
mod tests;
