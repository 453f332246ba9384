//! The environment as it is written, and how a [`Config`] is read from it.
//!
//! In: one text for each variable. Out: the [`Config`], or the first [`ConfigError`]. What a single text means, `values`
//! knows; here is what must hold between variables, and what holds where one is not set.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::filter::Targets as LogFilter;

use super::values::{
    DURATION, boolean, compression, duration, extra_labels, log_filter, log_format, path, serving_label_names, untyped,
};
use super::{
    APP, Address, CertificateFiles, Compression, Config, ConfigError, Listen, LogFormat, QUEUE_PROXY, Security,
    ServingTls, TargetConfig, TargetKind, targets,
};
use crate::exposition::{Filter, LabelSet, Untyped};

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

/// The variable that names the port served. KServe sets it where aggregation is on.
pub const OWN_PORT: &str = "AGGREGATE_PROMETHEUS_METRICS_PORT";
const APP_PORT: &str = "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT";

/// The environment as it is written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Environment {
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
    /// Every other variable, in small letters.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, String>,
}

impl Environment {
    pub(super) fn parse(self) -> Result<Config, ConfigError> {
        let port = parse(
            OWN_PORT,
            self.aggregate_prometheus_metrics_port,
            "a port from 0 to 65535, where 0 picks a free one",
            DEFAULT_PORT,
            |value| value.parse().ok(),
        )?;
        let address = parse(
            "QPEXT_BIND_ADDRESS",
            self.qpext_bind_address,
            "an IP address, such as 127.0.0.1 or ::",
            None,
            |value| value.parse().ok().map(Some),
        )?;
        let listen = Listen { address, port };
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
        let others = self.others.into_iter();
        let others = others.map(|(name, value)| (name.to_ascii_uppercase(), value));
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
                default_log_filter(),
                log_filter,
            )?,
            log_format: parse(
                "QPEXT_LOG_FORMAT",
                self.qpext_log_format,
                "json or text",
                LogFormat::Json,
                log_format,
            )?,
            unknown_variables: unknown_variables(others),
        })
    }
}

/// Which events are logged where nothing is said of it.
#[must_use]
pub fn default_log_filter() -> LogFilter {
    LogFilter::new().with_default(tracing::Level::INFO)
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
    let address = Address::local(port.get(), &path);
    Ok(Some(TargetConfig::plain(TargetKind::QueueProxy, QUEUE_PROXY, address)))
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
    let address = Address::local(port.get(), &path);
    Ok(Some(TargetConfig::plain(TargetKind::App, APP, address)))
}

pub(super) fn check_targets(targets: &[TargetConfig], listen: Listen) -> Result<(), ConfigError> {
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
        if target.address.is_served_at(listen) {
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
    parse(variable, value, expected, DEFAULT_PATH.to_owned(), path)
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

/// How our variables begin, and those of KServe that are ours to read; in a cluster there are many that begin with `KSERVE_`.
const OWN_PREFIXES: [&str; 3] = ["QPEXT_", "AGGREGATE_PROMETHEUS_", "KSERVE_CONTAINER_PROMETHEUS_"];

/// The names of those variables that look as if they were meant to be ours.
pub(super) fn unknown_variables(others: impl IntoIterator<Item = (String, String)>) -> Vec<String> {
    let is_like_ours = |(name, value): &(String, String)| {
        let name = name.to_ascii_uppercase();
        OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_of_service(&name, value)
    };
    others.into_iter().filter(is_like_ours).map(|(name, _)| name).collect()
}

/// Whether Kubernetes tells containers of a Service by this variable, of one that is called `qpext` for example
/// (`pkg/kubelet/envvars/envvars.go`).
fn is_of_service(name: &str, value: &str) -> bool {
    let parts = ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP_", "_UDP_", "_SCTP_"];
    let schemes = ["tcp://", "udp://", "sctp://"];
    parts.iter().any(|part| name.contains(part)) || schemes.iter().any(|scheme| value.starts_with(scheme))
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
