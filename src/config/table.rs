//! The variables, one row each: the one place that knows them.
//!
//! A row says what a variable is called, what holds without it, what it may be and what it does, how it is read into a
//! [`Config`] and how it is shown from there. What is said of a bad value, `--help`, the status page and the README's table
//! come from here. To add a variable is to add a row, and a field of [`Config`].

use std::fmt;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;

use Unset::{Is, Means, OrEmpty};
use serde_json::{Value, json};

use super::values::{self, BOOLEAN, FILE, TEXT};
use super::{APP, Address, Config, ConfigError, QUEUE_PROXY, Security, ServingTls, TargetConfig, TargetKind, targets};

/// The variable that names the port served. KServe sets it where aggregation is on.
pub const OWN_PORT: &str = "AGGREGATE_PROMETHEUS_METRICS_PORT";
pub(super) const APP_PORT: &str = "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT";
pub(super) const QUEUE_PROXY_PORT: &str = "QPEXT_QUEUE_PROXY_METRICS_PORT";
pub(super) const TARGETS: &str = "QPEXT_TARGETS";

/// A variable that configures the sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds where it is not set.
    pub default: Unset,
    /// What it may be, for who sets it to something else.
    expected: &'static str,
    /// What it may be, for example.
    pub example: &'static str,
    /// What it does. What stands between backticks is code.
    pub about: &'static str,
    read: fn(&mut Config, &str) -> Result<(), Refused>,
    /// Nothing for the serving variables, which the labels show.
    pub(super) show: Option<fn(&Config) -> String>,
}

/// What is wrong with a text: that it is not what its row expects, or something that the row does not say.
pub(super) type Refused = Option<ConfigError>;

/// What holds where a variable is not set.
#[derive(Debug, Clone, Copy)]
pub enum Unset {
    /// What would hold if this were its value.
    Is(&'static str),
    /// What no value says, in words.
    Means(&'static str),
    /// The same where it is set to nothing; elsewhere that is refused, if it is not a value of its own.
    OrEmpty(&'static Self),
}

impl Unset {
    pub(super) fn value(&self) -> Option<&'static str> {
        match self {
            Is(text) => Some(text),
            Means(_) => None,
            OrEmpty(unset) => unset.value(),
        }
    }
}

impl fmt::Display for Unset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Is(text) | Means(text) => f.write_str(text),
            OrEmpty(unset) => unset.fmt(f),
        }
    }
}

impl Variable {
    /// What holds where there is nothing to show.
    pub fn nothing(&self) -> String {
        let word = self.default.value().map(|_| "none".to_owned());
        word.unwrap_or_else(|| self.default.to_string())
    }

    /// Reads what it is set to, or what holds where it is not.
    pub(super) fn read(&self, given: Option<&str>, config: &mut Config) -> Result<(), ConfigError> {
        let is_as_unset = |text: &&str| text.is_empty() && matches!(self.default, OrEmpty(_));
        let text = given.filter(|text| !is_as_unset(text)).or(self.default.value());
        let Some(text) = text else { return Ok(()) };
        let refuse = |why: Refused| why.unwrap_or_else(|| ConfigError::new(self.name, text, self.expected));
        (self.read)(config, text).map_err(refuse)
    }
}

impl Config {
    /// The configuration as an operator would write it down: every variable but the serving ones, which [`Config::labels`]
    /// shows, with what holds for it; empty where that is nothing. What may be a secret is masked; the secrets that are in
    /// files never come here.
    pub(crate) fn in_force(&self) -> Vec<(&'static Variable, String)> {
        let shown = |variable: &'static Variable| Some((variable, (variable.show?)(self)));
        VARIABLES.iter().filter_map(shown).collect()
    }
}

fn set<T>(place: &mut T, value: Option<T>) -> Result<(), Refused> {
    *place = value.ok_or(None)?;
    Ok(())
}

/// Adds the queue-proxy or the application, at a port of this machine's.
fn add(config: &mut Config, kind: TargetKind, name: &str, port: &str) -> Result<(), Refused> {
    let port: NonZeroU16 = port.parse().map_err(|_| None)?;
    let address = Address::local(port.get(), "/metrics");
    config.targets.push(TargetConfig::plain(kind, name, address));
    Ok(())
}

/// Gives it another path, if it is there.
fn set_path(config: &mut Config, kind: TargetKind, text: &str) -> Result<(), Refused> {
    let path = values::path(text).ok_or(None)?;
    if let Some(target) = config.targets.iter_mut().find(|target| target.kind == kind) {
        target.address = Address::local(target.address.port(), &path);
    }
    Ok(())
}

fn tls(config: &mut Config) -> &mut ServingTls {
    config.security.tls.get_or_insert_default()
}

fn show<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn show_file(config: &Config, file: fn(&Security) -> Option<&PathBuf>) -> String {
    show(file(&config.security).map(|file| file.display()))
}

/// A port or a path of the queue-proxy's or the application's.
fn show_place(config: &Config, kind: TargetKind, of: fn(&Address) -> String) -> String {
    let target = config.targets.iter().find(|target| target.kind == kind);
    target.map_or_else(String::new, |target| of(&target.address))
}

fn show_targets(config: &Config) -> String {
    let added = config.targets.iter().filter(|target| target.kind == TargetKind::Added);
    let added: Vec<Value> = added.map(TargetConfig::masked).collect();
    show((!added.is_empty()).then(|| json!(added)))
}

/// A variable with the value of one of the three serving labels. Of those of one label the first counts that has one.
const fn serving<const LABEL: usize>(name: &'static str, unset: &'static Unset, about: &'static str) -> Variable {
    Variable {
        name,
        default: OrEmpty(unset),
        expected: TEXT,
        example: "iris",
        about,
        read: |config, text| {
            config.parts.serving[LABEL].get_or_insert_with(|| text.to_owned());
            Ok(())
        },
        show: None,
    }
}

const PORT: &str = "a port from 1 to 65535";
const PATH: &str = "a path that starts with / and has neither blanks nor #, such as /metrics";
const DURATION: &str = "a duration above 0 as Prometheus writes it, such as 500ms, 10s or 1m";
pub(super) const PATTERN: &str = "a regular expression of names of metric families";

/// Every variable, in the order in which they are read and told.
#[rustfmt::skip] // What is short of a row stands in one line.
pub static VARIABLES: &[Variable] = &[
    Variable {
        name: OWN_PORT, default: Is("9088"), expected: "a port from 0 to 65535, where 0 picks a free one",
        example: "9090",
        about: "The port served. 0 picks a free one, which the log names. Under `qpext run`, nothing is served unless it is \
                set.",
        read: |config, text| set(&mut config.listen.port, text.parse().ok()),
        show: Some(|config| config.listen.port.to_string()),
    },
    Variable {
        name: APP_PORT, default: OrEmpty(&Means("no app is scraped")), expected: PORT, example: "8080",
        about: "The application's metrics port, on localhost.",
        read: |config, text| add(config, TargetKind::App, APP, text),
        show: Some(|config| show_place(config, TargetKind::App, |address| address.port().to_string())),
    },
    Variable {
        name: "KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", default: OrEmpty(&Is("/metrics")), expected: PATH,
        example: "/stats?format=prometheus",
        about: "The application's metrics path, and its query if it needs one.",
        read: |config, text| set_path(config, TargetKind::App, text),
        show: Some(|config| show_place(config, TargetKind::App, |address| address.path().to_owned())),
    },
    serving::<0>("SERVING_SERVICE", &Means("K_SERVICE"),
        "The value of the label `service_name`. Where `K_SERVICE` is not set either, the label is left out."),
    serving::<1>("SERVING_CONFIGURATION", &Means("K_CONFIGURATION"), "The same for `configuration_name`."),
    serving::<2>("SERVING_REVISION", &Means("K_REVISION"), "The same for `revision_name`."),
    serving::<0>("K_SERVICE", &Means("no label"), "Knative's own name for `SERVING_SERVICE`."),
    serving::<1>("K_CONFIGURATION", &Means("no label"), "Knative's own name for `SERVING_CONFIGURATION`."),
    serving::<2>("K_REVISION", &Means("no label"), "Knative's own name for `SERVING_REVISION`."),
    Variable {
        name: QUEUE_PROXY_PORT, default: Is("9091"),
        expected: "a port from 1 to 65535, or nothing, which turns the target off", example: "9095",
        about: "The queue-proxy's metrics port, on localhost. Empty: the queue-proxy is not scraped.",
        read: |config, text| match text {
            "" => Ok(()),
            port => add(config, TargetKind::QueueProxy, QUEUE_PROXY, port),
        },
        show: Some(|config| show_place(config, TargetKind::QueueProxy, |address| address.port().to_string())),
    },
    Variable {
        name: "QPEXT_QUEUE_PROXY_METRICS_PATH", default: Is("/metrics"), expected: PATH, example: "/stats",
        about: "The queue-proxy's metrics path.",
        read: |config, text| set_path(config, TargetKind::QueueProxy, text),
        show: Some(|config| show_place(config, TargetKind::QueueProxy, |address| address.path().to_owned())),
    },
    Variable {
        name: TARGETS, default: OrEmpty(&Means("none")),
        expected: "a list of names and addresses, or a JSON array of objects",
        example: "agent=9089,transformer=8081/prom,dcgm=http://127.0.0.1:9400/metrics,side=unix:/run/side.sock:/metrics",
        about: "More targets: a list of names and addresses with commas between them, or a JSON array of objects with \
                `name`, `url` and options.",
        read: |config, text| {
            config.targets.extend(targets::added(text)?);
            Ok(())
        },
        show: Some(show_targets),
    },
    Variable {
        name: "QPEXT_SERVING_LABEL_NAMES", default: Is("service_name,configuration_name,revision_name"),
        expected: "three different label names with commas between them, of the service, the configuration and the revision, \
                   other than container_name, le, quantile, target, reason and version",
        example: "kn_service_name,kn_configuration_name,kn_revision_name",
        about: "Other names for the three serving labels; the example is what Knative itself says, from 1.19 on.",
        read: |config, text| set(&mut config.parts.serving_names, values::serving_names(text)),
        show: Some(|config| config.parts.serving_names.join(",")),
    },
    Variable {
        name: "QPEXT_EXTRA_LABELS", default: OrEmpty(&Means("none")),
        expected: "a list such as team=ml,zone=eu of labels that are not empty, with names that are different from one \
                   another, from the serving labels' and from container_name, le, quantile, target, reason and version, \
                   and do not start with two underscores",
        example: "team=ml,zone=eu",
        about: "More labels on everything relabelled.",
        read: |config, text| {
            let labels = values::extra_labels(text, &config.parts.serving_names);
            set(&mut config.parts.extra_labels, labels)
        },
        show: Some(|config| {
            let labels = config.parts.extra_labels.iter();
            labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        }),
    },
    Variable {
        name: "QPEXT_LABEL_QUEUE_PROXY", default: Is("false"), expected: BOOLEAN, example: "true",
        about: "`true`: the queue-proxy is relabelled as the others are, with `container_name=\"queue-proxy\"`, instead of \
                passed on without labels.",
        read: |config, text| set(&mut config.label_queue_proxy, text.parse().ok()),
        show: Some(|config| config.label_queue_proxy.to_string()),
    },
    Variable {
        name: "QPEXT_KEEP_METRICS", default: Means("all"), expected: PATTERN, example: "vllm:.*|process_.*",
        about: "A regular expression, anchored: only metric families whose names match are written. Not for the queue-proxy.",
        read: |config, text| {
            config.parts.keep = Some(text.to_owned());
            config.set_filter("QPEXT_KEEP_METRICS", text)
        },
        show: Some(|config| show(config.parts.keep.as_ref())),
    },
    Variable {
        name: "QPEXT_DROP_METRICS", default: Means("none"), expected: PATTERN, example: ".*_created",
        about: "A regular expression, anchored: metric families whose names match are left out. Not for the queue-proxy.",
        read: |config, text| {
            config.parts.drop = Some(text.to_owned());
            config.set_filter("QPEXT_DROP_METRICS", text)
        },
        show: Some(|config| show(config.parts.drop.as_ref())),
    },
    Variable {
        name: "QPEXT_SAMPLE_LIMIT", default: Is("0"), expected: "a number of samples, or 0 for no limit",
        example: "50000",
        about: "Samples of one target in one scrape. A target that sends more is cut there, and has failed. 0: no limit.",
        read: |config, text| set(&mut config.sample_limit, text.parse().ok().map(NonZeroU64::new)),
        show: Some(|config| config.sample_limit.map_or(0, u64::from).to_string()),
    },
    Variable {
        name: "QPEXT_UNTYPED", default: Is("convert"), expected: "convert, drop or keep", example: "keep",
        about: "What becomes of untyped families of whatever is relabelled: `convert`, `drop` or `keep`.",
        read: |config, text| set(&mut config.untyped, values::word(&values::UNTYPED, text)),
        show: Some(|config| values::show_word(&values::UNTYPED, config.untyped)),
    },
    Variable {
        name: "QPEXT_SCRAPE_TIMEOUT", default: Is("10s"), expected: DURATION, example: "1m30s",
        about: "The scraper's timeout, where it sends none in `X-Prometheus-Scrape-Timeout-Seconds`. Either is taken for \
                five minutes at most.",
        read: |config, text| set(&mut config.scrape_timeout, values::duration(text)),
        show: Some(|config| values::show_duration(config.scrape_timeout)),
    },
    Variable {
        name: "QPEXT_SCRAPE_TIMEOUT_OFFSET", default: Is("500ms"), expected: DURATION, example: "250ms",
        about: "What is taken off the scraper's timeout, so that the answer is back in time; at most a quarter of it counts.",
        read: |config, text| set(&mut config.scrape_timeout_offset, values::duration(text)),
        show: Some(|config| values::show_duration(config.scrape_timeout_offset)),
    },
    Variable {
        name: "QPEXT_MAX_BODY_BYTES", default: Is("268435456"),
        expected: "a number of bytes of at least 1, such as 268435456", example: "16777216",
        about: "The size in bytes at which a target's body is cut; of a compressed one, decoded.",
        read: |config, text| set(&mut config.max_body_bytes, text.parse().ok().map(NonZeroU64::get)),
        show: Some(|config| config.max_body_bytes.to_string()),
    },
    Variable {
        name: "QPEXT_MAX_CONCURRENT_SCRAPES",
        // Two Prometheus servers, an autoscaler and an engineer with `curl`, twice over.
        default: Is("8"), expected: "a number of at least 1", example: "4",
        about: "Scrapes that run at once; one more gets 503.",
        read: |config, text| set(&mut config.max_concurrent_scrapes, text.parse().ok()),
        show: Some(|config| config.max_concurrent_scrapes.to_string()),
    },
    Variable {
        name: "QPEXT_LINGER", default: Is("0s"),
        expected: "a duration as Prometheus writes it, such as 45s, or 0s, which turns it off", example: "45s",
        about: "How long the process stays after `SIGTERM`, or after the program's end under `qpext run`, until each of its regular \
                scrapers has what the targets counted last. 0s: it ends at once, as ever.",
        read: |config, text| set(&mut config.linger, values::duration_or_none(text)),
        show: Some(|config| values::show_duration(config.linger)),
    },
    Variable {
        name: "QPEXT_LEAVE_INTERVAL", default: Is("1s"), expected: DURATION, example: "500ms",
        about: "How often targets are scraped while the process is leaving, so that what they counted last is kept.",
        read: |config, text| set(&mut config.leave_interval, values::duration(text)),
        show: Some(|config| values::show_duration(config.leave_interval)),
    },
    Variable {
        name: "QPEXT_KEEP_BYTES", default: Is("16777216"), expected: "a number of bytes, such as 16777216", example: "4194304",
        about: "The size in bytes of what is kept so of all targets, compressed. What does not fit is not kept, which the log tells.",
        read: |config, text| set(&mut config.keep_bytes, text.parse().ok()),
        show: Some(|config| config.keep_bytes.to_string()),
    },
    Variable {
        name: "QPEXT_COMPRESSION", default: Is("auto"), expected: "off, gzip, zstd or auto", example: "gzip",
        about: "How answers may be compressed, for a scraper that takes it: `off`, `gzip`, `zstd`, or `auto` for either.",
        read: |config, text| set(&mut config.compression, values::word(&values::COMPRESSION, text)),
        show: Some(|config| values::show_word(&values::COMPRESSION, config.compression)),
    },
    Variable {
        name: "QPEXT_SELF_METRICS", default: Is("true"), expected: BOOLEAN, example: "false",
        about: "`false`: no metrics of the sidecar itself.",
        read: |config, text| set(&mut config.self_metrics, text.parse().ok()),
        show: Some(|config| config.self_metrics.to_string()),
    },
    Variable {
        name: "QPEXT_BIND_ADDRESS", default: Means("all addresses"), expected: "an IP address, such as 127.0.0.1 or ::",
        example: "127.0.0.1",
        about: "The one IP address to serve on, instead of all, IPv6 and IPv4.",
        read: |config, text| set(&mut config.listen.address, text.parse().ok().map(Some)),
        show: Some(|config| show(config.listen.address)),
    },
    Variable {
        name: "QPEXT_TLS_CERT_FILE", default: Means("plain HTTP"), expected: FILE, example: "/tls/tls.crt",
        about: "The certificate to serve TLS with, in PEM. Read again when it changes.",
        read: |config, text| set(&mut tls(config).certificate.cert_file, values::file(text)),
        show: Some(|config| show_file(config, |security| Some(&security.tls.as_ref()?.certificate.cert_file))),
    },
    Variable {
        name: "QPEXT_TLS_KEY_FILE", default: Means("plain HTTP"), expected: FILE, example: "/tls/tls.key",
        about: "Its key, in PEM.",
        read: |config, text| set(&mut tls(config).certificate.key_file, values::file(text)),
        show: Some(|config| show_file(config, |security| Some(&security.tls.as_ref()?.certificate.key_file))),
    },
    Variable {
        name: "QPEXT_TLS_CLIENT_CA_FILE", default: Means("none"), expected: FILE, example: "/tls/ca.crt",
        about: "The certificates to which a scraper's must lead, in PEM: who has no such certificate gets 401.",
        read: |config, text| set(&mut tls(config).client_ca_file, values::file(text).map(Some)),
        show: Some(|config| show_file(config, |security| security.tls.as_ref()?.client_ca_file.as_ref())),
    },
    Variable {
        name: "QPEXT_BEARER_TOKEN_FILE", default: Means("none"), expected: FILE, example: "/secrets/token",
        about: "The file with the token that a scraper must show; who does not gets 401. Read again when it changes.",
        read: |config, text| set(&mut config.security.bearer_token_file, values::file(text).map(Some)),
        show: Some(|config| show_file(config, |security| security.bearer_token_file.as_ref())),
    },
    Variable {
        name: "QPEXT_LOG", default: Is("info"),
        expected: "a tracing filter of levels (error, warn, info, debug, trace, off), such as info or warn,qpext=debug",
        example: "info,qpext=debug",
        about: "Which events are logged: the level from which on they are (`error`, `warn`, `info`, `debug`, `trace`, `off`), \
                or a list of such and of `module=level`.",
        read: |config, text| set(&mut config.log, values::log_filter(text)),
        show: Some(|config| config.log.to_string()),
    },
    Variable {
        name: "QPEXT_LOG_FORMAT", default: Is("json"), expected: "json or text", example: "text",
        about: "How they are logged, on standard error: `json` or `text`.",
        read: |config, text| set(&mut config.log_format, values::word(&values::LOG_FORMAT, text)),
        show: Some(|config| values::show_word(&values::LOG_FORMAT, config.log_format)),
    },
];
