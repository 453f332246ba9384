//! Every variable, with its default, for who asks for help.

/// A variable that configures the sidecar.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds where it is not set, in words.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
}

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

/// Every variable, in the order in which they are told.
pub const VARIABLES: [Variable; 32] = [
    variable(
        "AGGREGATE_PROMETHEUS_METRICS_PORT",
        "9088",
        "The port served. 0 picks a free one, which the log names.",
    ),
    variable(
        "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT",
        "no app is scraped",
        "The app's port, on localhost.",
    ),
    variable(
        "KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH",
        "/metrics",
        "The app's path, and its query if it needs one.",
    ),
    variable(
        "SERVING_SERVICE",
        "K_SERVICE",
        "The value of the label service_name; without a value the label is left out.",
    ),
    variable(
        "SERVING_CONFIGURATION",
        "K_CONFIGURATION",
        "The same for configuration_name.",
    ),
    variable("SERVING_REVISION", "K_REVISION", "The same for revision_name."),
    variable("K_SERVICE", "no label", "Knative's own name for SERVING_SERVICE."),
    variable(
        "K_CONFIGURATION",
        "no label",
        "Knative's own name for SERVING_CONFIGURATION.",
    ),
    variable("K_REVISION", "no label", "Knative's own name for SERVING_REVISION."),
    variable(
        "QPEXT_QUEUE_PROXY_METRICS_PORT",
        "9091",
        "The queue-proxy's port, on localhost. Empty: the queue-proxy is not scraped.",
    ),
    variable("QPEXT_QUEUE_PROXY_METRICS_PATH", "/metrics", "The queue-proxy's path."),
    variable(
        "QPEXT_TARGETS",
        "none",
        "More targets: agent=9089,transformer=8081/prom,dcgm=http://127.0.0.1:9400/metrics,\
         side=unix:/run/side.sock:/metrics, or a JSON array of objects with name, url and options.",
    ),
    variable(
        "QPEXT_SERVING_LABEL_NAMES",
        "service_name,configuration_name,revision_name",
        "Other names for the three serving labels.",
    ),
    variable(
        "QPEXT_EXTRA_LABELS",
        "none",
        "More labels on everything relabelled, such as team=ml,zone=eu.",
    ),
    variable(
        "QPEXT_LABEL_QUEUE_PROXY",
        "false",
        "true: the queue-proxy is relabelled as the others are, instead of passed on byte for byte.",
    ),
    variable(
        "QPEXT_KEEP_METRICS",
        "all",
        "A regular expression, anchored: only metric families whose names match are written. Not for the queue-proxy.",
    ),
    variable(
        "QPEXT_DROP_METRICS",
        "none",
        "A regular expression, anchored: metric families whose names match are left out. Not for the queue-proxy.",
    ),
    variable(
        "QPEXT_SAMPLE_LIMIT",
        "0, no limit",
        "Samples of one target in one scrape; at the limit the target is cut, and has failed.",
    ),
    variable(
        "QPEXT_UNTYPED",
        "convert",
        "What becomes of untyped families: convert, drop or keep.",
    ),
    variable(
        "QPEXT_SCRAPE_TIMEOUT",
        "10s",
        "The scraper's timeout, if it does not say its own.",
    ),
    variable(
        "QPEXT_SCRAPE_TIMEOUT_OFFSET",
        "500ms",
        "What is taken off that timeout; at most a quarter of it.",
    ),
    variable(
        "QPEXT_MAX_BODY_BYTES",
        "268435456",
        "The size at which a target's body is cut, in bytes.",
    ),
    variable(
        "QPEXT_MAX_CONCURRENT_SCRAPES",
        "8",
        "Scrapes at once; one more gets 503.",
    ),
    variable(
        "QPEXT_COMPRESSION",
        "auto",
        "How answers may be compressed: off, gzip, zstd or auto.",
    ),
    variable("QPEXT_SELF_METRICS", "true", "false: no metrics of the sidecar itself."),
    variable("QPEXT_BIND_ADDRESS", "all addresses", "The address served."),
    variable(
        "QPEXT_TLS_CERT_FILE",
        "plain HTTP",
        "The certificate to serve TLS with, in PEM. Read again when it changes.",
    ),
    variable("QPEXT_TLS_KEY_FILE", "plain HTTP", "Its key, in PEM."),
    variable(
        "QPEXT_TLS_CLIENT_CA_FILE",
        "none",
        "The certificates to which a scraper's must lead, in PEM: who has no such certificate gets 401.",
    ),
    variable(
        "QPEXT_BEARER_TOKEN_FILE",
        "none",
        "The file with the token that a scraper must show; who does not gets 401. Read again when it changes.",
    ),
    variable(
        "QPEXT_LOG",
        "info",
        "The level from which on events are logged: error, warn, info, debug, trace, off, or a list of \
         module=level.",
    ),
    variable("QPEXT_LOG_FORMAT", "json", "json or text."),
];
