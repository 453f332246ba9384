//! The configuration: the process's environment, parsed once into types that cannot be wrong.
//!
//! In: environment variables. Out: a [`Config`], or the first [`ConfigError`], which names the variable, its value and
//! what was expected. Every room reads this one; of the others it knows only the engine's words.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets as LogFilter};

use crate::exposition::{LabelSet, Untyped};

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

const OWN_PORT: &str = "AGGREGATE_PROMETHEUS_METRICS_PORT";
const APP_PORT: &str = "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT";

/// The labels that carry the serving variables, in the order in which they are written.
const SERVICE_NAME: &str = "service_name";
const CONFIGURATION_NAME: &str = "configuration_name";
const REVISION_NAME: &str = "revision_name";

/// Everything that an operator can set.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address served; port 0 picks a free one.
    pub listen: Listen,
    /// The queue-proxy's endpoint, if it is scraped.
    pub queue_proxy: Option<Endpoint>,
    /// The application's endpoint, if it is scraped.
    pub app: Option<Endpoint>,
    /// The labels added to the application's samples.
    pub serving_labels: LabelSet,
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
    /// The port; 0 picks a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::All { port } => *port,
            Self::One(address) => address.port(),
        }
    }
}

/// An endpoint in this pod: always plain HTTP on `localhost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its port.
    pub port: NonZeroU16,
    /// Its path and query; starts with `/`.
    pub path: String,
}

impl Endpoint {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> Url {
        format!("http://localhost:{}{}", self.port, self.path)
            .parse()
            .expect("a host, a port and a checked path make a URL")
    }
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
#[error("{variable}={value:?}: expected {expected}")]
pub struct ConfigError {
    /// The variable's name.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What was expected instead.
    pub expected: String,
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
        if let Some(app) = &app
            && queue_proxy.as_ref() == Some(app)
        {
            let expected = "an endpoint other than the queue-proxy's, which is scraped already";
            return Err(error(APP_PORT, &app.port.to_string(), expected));
        }
        if queue_proxy.is_none() && app.is_none() {
            return Err(error(
                "QPEXT_QUEUE_PROXY_METRICS_PORT",
                "",
                "a port, or KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT set: there is no target to scrape",
            ));
        }
        let serving_labels = serving_labels([
            (SERVICE_NAME, self.serving_service, self.k_service),
            (CONFIGURATION_NAME, self.serving_configuration, self.k_configuration),
            (REVISION_NAME, self.serving_revision, self.k_revision),
        ]);
        Ok(Config {
            listen,
            queue_proxy,
            app,
            serving_labels,
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

fn queue_proxy(port: Option<String>, path: Option<String>, own_port: u16) -> Result<Option<Endpoint>, ConfigError> {
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
        return Err(error(OWN_PORT, &own_port.to_string(), expected));
    }
    refuse_own_port(PORT, port, own_port)?;
    let path = target_path("QPEXT_QUEUE_PROXY_METRICS_PATH", path)?;
    Ok(Some(Endpoint { port, path }))
}

fn app(port: Option<String>, path: Option<String>, own_port: u16) -> Result<Option<Endpoint>, ConfigError> {
    let path = target_path("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", none_if_empty(path))?;
    let port = none_if_empty(port);
    let port = parse(APP_PORT, port, "a port from 1 to 65535", None, |value| {
        value.parse().ok().map(Some)
    })?;
    let Some(port) = port else {
        return Ok(None);
    };
    refuse_own_port(APP_PORT, port, own_port)?;
    Ok(Some(Endpoint { port, path }))
}

/// A sidecar that scrapes itself would do so without end.
fn refuse_own_port(variable: &'static str, port: NonZeroU16, own_port: u16) -> Result<(), ConfigError> {
    if port.get() == own_port {
        let expected = "a port other than AGGREGATE_PROMETHEUS_METRICS_PORT, on which this sidecar itself serves";
        return Err(error(variable, &port.to_string(), expected));
    }
    Ok(())
}

fn target_path(variable: &'static str, value: Option<String>) -> Result<String, ConfigError> {
    let expected = "a path that starts with / and has neither blanks nor #, such as /metrics";
    parse(variable, value, expected, DEFAULT_PATH.to_owned(), |value| {
        let is_path =
            value.starts_with('/') && !value.contains('#') && value.parse::<http::uri::PathAndQuery>().is_ok();
        is_path.then(|| value.to_owned())
    })
}

fn serving_labels(labels: [(&'static str, Option<String>, Option<String>); 3]) -> LabelSet {
    let given = labels.into_iter().filter_map(|(name, serving, knative)| {
        let value = none_if_empty(serving).or_else(|| none_if_empty(knative))?;
        Some((name, value))
    });
    LabelSet::new(given).expect("the three names are label names and differ")
}

fn unknown_variables(others: BTreeMap<String, String>) -> Vec<String> {
    let names = others.into_keys().map(|name| name.to_ascii_uppercase());
    names.filter(|name| name.starts_with("QPEXT_")).collect()
}

fn untyped(value: &str) -> Option<Untyped> {
    Some(match value {
        "convert" => Untyped::Convert,
        "drop" => Untyped::Drop,
        "keep" => Untyped::Keep,
        _ => return None,
    })
}

fn compression(value: &str) -> Option<Compression> {
    Some(match value {
        "off" => Compression::Off,
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        "auto" => Compression::Auto,
        _ => return None,
    })
}

/// A filter as tracing has it, except that each part must name a level: tracing takes a word that is none, a misspelt
/// level for example, for a module, and logs nothing else.
fn log_filter(value: &str) -> Option<LogFilter> {
    let names_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    if value.split(',').all(names_level) {
        value.parse().ok()
    } else {
        None
    }
}

fn log_format(value: &str) -> Option<LogFormat> {
    Some(match value {
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        _ => return None,
    })
}

const DURATION: &str = "a duration above 0 as Prometheus writes it, such as 500ms, 10s or 1m";

/// A duration as Prometheus writes it (`ParseDuration` in prometheus/common, `model/time.go`): whole numbers with the
/// units y, w, d, h, m, s and ms, from the largest to the smallest, each at most once.
fn duration(value: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 24 * 3_600_000),
        ("w", 7 * 24 * 3_600_000),
        ("d", 24 * 3_600_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let mut milliseconds = 0u64;
    let mut units = UNITS.iter();
    let mut rest = value;
    while !rest.is_empty() {
        let number_end = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        let part = number.parse::<u64>().ok()?.checked_mul(*factor)?;
        milliseconds = milliseconds.checked_add(part)?;
        rest = after;
    }
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
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
        Some(value) => read(&value).ok_or_else(|| error(variable, &value, expected)),
    }
}

fn error(variable: &'static str, value: &str, expected: &str) -> ConfigError {
    ConfigError {
        variable,
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

fn none_if_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(variables.iter().copied())
    }

    #[test]
    fn an_empty_environment_gives_the_documented_defaults() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen, Listen::All { port: 9088 });
        let queue_proxy = config.queue_proxy.unwrap();
        assert_eq!((queue_proxy.port.get(), queue_proxy.path.as_str()), (9091, "/metrics"));
        assert_eq!(config.app, None);
        assert!(config.serving_labels.is_empty());
        assert_eq!(config.scrape_timeout, Duration::from_secs(10));
        assert_eq!(config.scrape_timeout_offset, Duration::from_millis(500));
        assert_eq!(config.max_body_bytes, 256 * 1024 * 1024);
        assert_eq!(config.max_concurrent_scrapes.get(), 8);
        assert_eq!(config.untyped, Untyped::Convert);
        assert_eq!(config.compression, Compression::Auto);
        assert_eq!(config.log.to_string(), "info");
        assert_eq!(config.log_format, LogFormat::Json);
    }

    #[test]
    fn every_variable_is_read() {
        let config = config(&[
            ("AGGREGATE_PROMETHEUS_METRICS_PORT", "0"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", "/stats?format=prometheus"),
            ("SERVING_SERVICE", "iris"),
            ("SERVING_CONFIGURATION", "iris-predictor"),
            ("SERVING_REVISION", "iris-00001"),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", "9095"),
            ("QPEXT_QUEUE_PROXY_METRICS_PATH", "/qp"),
            ("QPEXT_BIND_ADDRESS", "::1"),
            ("QPEXT_SCRAPE_TIMEOUT", "1m30s"),
            ("QPEXT_SCRAPE_TIMEOUT_OFFSET", "250ms"),
            ("QPEXT_MAX_BODY_BYTES", "1000"),
            ("QPEXT_MAX_CONCURRENT_SCRAPES", "2"),
            ("QPEXT_UNTYPED", "keep"),
            ("QPEXT_COMPRESSION", "zstd"),
            ("QPEXT_LOG", "warn,qpext=debug"),
            ("QPEXT_LOG_FORMAT", "text"),
        ])
        .unwrap();
        assert_eq!(config.listen, Listen::One("[::1]:0".parse().unwrap()));
        let app = config.app.unwrap();
        assert_eq!((app.port.get(), app.path.as_str()), (8080, "/stats?format=prometheus"));
        assert_eq!(
            config.serving_labels.to_string(),
            r#"service_name="iris",configuration_name="iris-predictor",revision_name="iris-00001""#
        );
        let queue_proxy = config.queue_proxy.unwrap();
        assert_eq!((queue_proxy.port.get(), queue_proxy.path.as_str()), (9095, "/qp"));
        assert_eq!(config.scrape_timeout, Duration::from_secs(90));
        assert_eq!(config.scrape_timeout_offset, Duration::from_millis(250));
        assert_eq!(config.max_body_bytes, 1000);
        assert_eq!(config.max_concurrent_scrapes.get(), 2);
        assert_eq!(config.untyped, Untyped::Keep);
        assert_eq!(config.compression, Compression::Zstd);
        assert_eq!(config.log.to_string(), "qpext=debug,warn");
        assert_eq!(config.log_format, LogFormat::Text);
    }

    #[test]
    fn serving_variables_fall_back_to_knatives_and_are_left_out_when_empty() {
        let config = config(&[
            ("SERVING_SERVICE", ""),
            ("K_SERVICE", "from \"knative\""),
            ("SERVING_CONFIGURATION", "from serving"),
            ("K_CONFIGURATION", "from knative"),
            ("SERVING_REVISION", ""),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", ""),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", ""),
        ])
        .unwrap();
        assert_eq!(
            config.serving_labels.to_string(),
            r#"service_name="from \"knative\"",configuration_name="from serving""#
        );
        assert_eq!(config.app, None);
    }

    #[test]
    fn an_empty_queue_proxy_port_turns_that_target_off() {
        let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
        assert_eq!(
            config(&[("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), app])
                .unwrap()
                .queue_proxy,
            None
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_the_variable_the_value_and_what_was_expected() {
        for (variable, value, expected) in [
            ("AGGREGATE_PROMETHEUS_METRICS_PORT", "65536", "a port"),
            ("AGGREGATE_PROMETHEUS_METRICS_PORT", "", "a port"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "http", "a port"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "0", "a port"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "9088", "other than"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", "metrics", "a path"),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", "/a b", "a path"),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", "9088", "other than"),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", "", "no target"),
            ("QPEXT_QUEUE_PROXY_METRICS_PATH", "", "a path"),
            ("QPEXT_BIND_ADDRESS", "localhost", "an IP address"),
            ("QPEXT_SCRAPE_TIMEOUT", "10", "a duration"),
            ("QPEXT_SCRAPE_TIMEOUT", "0s", "a duration"),
            ("QPEXT_SCRAPE_TIMEOUT", "1s1m", "a duration"),
            ("QPEXT_SCRAPE_TIMEOUT", "99999999999y", "a duration"),
            ("QPEXT_SCRAPE_TIMEOUT_OFFSET", "-1s", "a duration"),
            ("QPEXT_SCRAPE_TIMEOUT_OFFSET", "0.5s", "a duration"),
            ("QPEXT_MAX_BODY_BYTES", "0", "a number of bytes"),
            ("QPEXT_MAX_BODY_BYTES", "10MB", "a number of bytes"),
            ("QPEXT_MAX_CONCURRENT_SCRAPES", "0", "a number"),
            ("QPEXT_UNTYPED", "Convert", "convert, drop or keep"),
            ("QPEXT_COMPRESSION", "br", "off, gzip, zstd or auto"),
            ("QPEXT_COMPRESSION", "", "off, gzip, zstd or auto"),
            (
                "AGGREGATE_PROMETHEUS_METRICS_PORT",
                "9091",
                "other than the queue-proxy's",
            ),
            (
                "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT",
                "9091",
                "other than the queue-proxy's",
            ),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", "/a#b", "a path"),
            ("QPEXT_LOG", "qpext=loud", "a tracing filter"),
            ("QPEXT_LOG", "inof", "a tracing filter"),
            ("QPEXT_LOG", "", "a tracing filter"),
            ("QPEXT_LOG", "qpext=", "a tracing filter"),
            ("QPEXT_LOG_FORMAT", "xml", "json or text"),
        ] {
            let error = config(&[(variable, value)]).expect_err(variable);
            assert_eq!((error.variable, error.value.as_str()), (variable, value));
            assert!(error.expected.contains(expected), "{error}");
            assert_eq!(
                error.to_string(),
                format!("{variable}={value:?}: expected {}", error.expected)
            );
        }
    }

    #[test]
    fn every_way_of_compressing_has_a_word() {
        for (word, expected) in [
            ("off", Compression::Off),
            ("gzip", Compression::Gzip),
            ("zstd", Compression::Zstd),
            ("auto", Compression::Auto),
        ] {
            assert_eq!(config(&[("QPEXT_COMPRESSION", word)]).unwrap().compression, expected);
        }
    }

    #[test]
    fn variables_that_are_named_like_ours_are_told() {
        let config = config(&[("QPEXT_SCRAPE_TIMOUT", "1s"), ("PATH", "/bin"), ("QPEXT_LOG", "warn")]).unwrap();
        assert_eq!(config.unknown_variables, ["QPEXT_SCRAPE_TIMOUT"]);
    }

    #[test]
    fn a_variable_in_lower_case_is_not_ours() {
        let port = config(&[("K_SERVICE", "a"), ("k_service", "b")]).unwrap();
        assert_eq!(port.serving_labels.to_string(), r#"service_name="a""#);
    }

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
            ("1m5s10ms", 65_010),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
    }
}
