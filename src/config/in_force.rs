//! The configuration as an operator would write it down, for the status page: every variable and what holds for it.
//! What may be a secret is masked; the secrets that are in files never come here.

use super::{Compression, Config, LogFormat, TargetConfig, TargetKind, targets};
use crate::exposition::Untyped;

const NONE: &str = "";

impl Config {
    /// Every variable but the serving ones, which [`Config::labels`] shows, with what holds for it; empty where that is
    /// nothing.
    #[must_use]
    pub fn in_force(&self) -> Vec<(&'static str, String)> {
        let of = |kind: TargetKind| self.targets.iter().find(|target| target.kind == kind);
        let port =
            |target: Option<&TargetConfig>| target.map_or(NONE.to_owned(), |target| target.address.port().to_string());
        let path = |target: Option<&TargetConfig>| target.map_or(NONE, |target| target.address.path()).to_owned();
        let (queue_proxy, app) = (of(TargetKind::QueueProxy), of(TargetKind::App));
        let added = self.targets.iter().filter(|target| target.kind == TargetKind::Added);
        let added: Vec<_> = added.map(TargetConfig::masked).collect();
        let added = if added.is_empty() {
            NONE.to_owned()
        } else {
            serde_json::json!(added).to_string()
        };
        let tls = self.security.tls.as_ref();
        let file = |file: Option<&std::path::PathBuf>| file.map_or(NONE.to_owned(), |file| file.display().to_string());
        let [keep, drop] = self.filter_patterns.clone().map(Option::unwrap_or_default);
        vec![
            ("AGGREGATE_PROMETHEUS_METRICS_PORT", self.listen.port.to_string()),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port(app)),
            ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", path(app)),
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", port(queue_proxy)),
            ("QPEXT_QUEUE_PROXY_METRICS_PATH", path(queue_proxy)),
            (targets::TARGETS, added),
            ("QPEXT_SERVING_LABEL_NAMES", self.serving_label_names.join(",")),
            ("QPEXT_EXTRA_LABELS", self.extra_labels()),
            ("QPEXT_LABEL_QUEUE_PROXY", self.label_queue_proxy.to_string()),
            ("QPEXT_KEEP_METRICS", keep),
            ("QPEXT_DROP_METRICS", drop),
            ("QPEXT_SAMPLE_LIMIT", self.sample_limit.map_or(0, u64::from).to_string()),
            ("QPEXT_UNTYPED", untyped(self.untyped).to_owned()),
            ("QPEXT_SCRAPE_TIMEOUT", duration(self.scrape_timeout)),
            ("QPEXT_SCRAPE_TIMEOUT_OFFSET", duration(self.scrape_timeout_offset)),
            ("QPEXT_MAX_BODY_BYTES", self.max_body_bytes.to_string()),
            ("QPEXT_MAX_CONCURRENT_SCRAPES", self.max_concurrent_scrapes.to_string()),
            ("QPEXT_COMPRESSION", compression(self.compression).to_owned()),
            ("QPEXT_SELF_METRICS", self.self_metrics.to_string()),
            (
                "QPEXT_BIND_ADDRESS",
                self.listen
                    .address
                    .map_or(NONE.to_owned(), |address| address.to_string()),
            ),
            ("QPEXT_TLS_CERT_FILE", file(tls.map(|tls| &tls.certificate.cert_file))),
            ("QPEXT_TLS_KEY_FILE", file(tls.map(|tls| &tls.certificate.key_file))),
            (
                "QPEXT_TLS_CLIENT_CA_FILE",
                file(tls.and_then(|tls| tls.client_ca_file.as_ref())),
            ),
            (
                "QPEXT_BEARER_TOKEN_FILE",
                file(self.security.bearer_token_file.as_ref()),
            ),
            ("QPEXT_LOG", self.log.to_string()),
            (
                "QPEXT_LOG_FORMAT",
                match self.log_format {
                    LogFormat::Json => "json",
                    LogFormat::Text => "text",
                }
                .to_owned(),
            ),
        ]
    }

    fn extra_labels(&self) -> String {
        let extra = self
            .pairs
            .iter()
            .filter(|(name, _)| !self.serving_label_names.contains(name));
        extra
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }
}

/// A duration in the largest unit of Prometheus's that it is a whole number of, up to minutes.
fn duration(duration: std::time::Duration) -> String {
    match duration.as_millis() {
        milliseconds if milliseconds % 60_000 == 0 => format!("{}m", milliseconds / 60_000),
        milliseconds if milliseconds % 1000 == 0 => format!("{}s", milliseconds / 1000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

fn untyped(untyped: Untyped) -> &'static str {
    match untyped {
        Untyped::Convert => "convert",
        Untyped::Drop => "drop",
        Untyped::Keep => "keep",
    }
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::Off => "off",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Auto => "auto",
    }
}
