//! What each variable does, and what is said of a bad one.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;

use proptest::prelude::*;

use super::values::{COMPRESSION, LOG_FORMAT, UNTYPED, duration, show_duration, show_word, word};
use super::*;

fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_variables(variables.iter().copied())
}

/// The targets, each as the short list has it.
fn shown(config: &Config) -> Vec<String> {
    let targets = config.targets.iter();
    targets.map(|target| format!("{}={}", target.name, target.address)).collect()
}

#[test]
fn an_empty_environment_gives_the_documented_defaults() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen, Listen { address: None, port: 9088 });
    assert_eq!(shown(&config), ["queue-proxy=http://localhost:9091/metrics"]);
    assert!(config.labels.is_empty());
    assert!(!config.label_queue_proxy);
    assert!(config.filter.is_none());
    assert_eq!(config.sample_limit, None);
    assert!(config.self_metrics);
    assert_eq!(config.security, Security::default());
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
        ("QPEXT_TARGETS", "agent=9089"),
        ("QPEXT_SERVING_LABEL_NAMES", "kn_service, kn_configuration, kn_revision"),
        ("QPEXT_EXTRA_LABELS", "team=ml, zone=eu"),
        ("QPEXT_LABEL_QUEUE_PROXY", "true"),
        ("QPEXT_KEEP_METRICS", "vllm:.*"),
        ("QPEXT_DROP_METRICS", ".*_created"),
        ("QPEXT_SAMPLE_LIMIT", "5000"),
        ("QPEXT_SELF_METRICS", "false"),
        ("QPEXT_TLS_CERT_FILE", "/tls/tls.crt"),
        ("QPEXT_TLS_KEY_FILE", "/tls/tls.key"),
        ("QPEXT_TLS_CLIENT_CA_FILE", "/tls/ca.crt"),
        ("QPEXT_BEARER_TOKEN_FILE", "/token"),
    ])
    .unwrap();
    let address = Some("::1".parse().unwrap());
    assert_eq!(config.listen, Listen { address, port: 0 });
    assert_eq!(
        shown(&config),
        [
            "queue-proxy=http://localhost:9095/qp",
            "app=http://localhost:8080/stats?format=prometheus",
            "agent=http://localhost:9089/metrics",
        ]
    );
    assert_eq!(
        config.labels.to_string(),
        r#"kn_service="iris",kn_configuration="iris-predictor",kn_revision="iris-00001",team="ml",zone="eu""#
    );
    assert!(config.label_queue_proxy);
    assert!(config.filter.is_some());
    assert_eq!(config.sample_limit.map(NonZeroU64::get), Some(5000));
    assert!(!config.self_metrics);
    let certificate = CertificateFiles { cert_file: "/tls/tls.crt".into(), key_file: "/tls/tls.key".into() };
    let client_ca_file = Some("/tls/ca.crt".into());
    assert_eq!(config.security.tls, Some(ServingTls { certificate, client_ca_file }));
    assert_eq!(config.security.bearer_token_file, Some("/token".into()));
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
    assert_eq!(config.labels.to_string(), r#"service_name="from \"knative\"",configuration_name="from serving""#);
    assert_eq!(shown(&config), ["queue-proxy=http://localhost:9091/metrics"]);
}

#[test]
fn an_empty_queue_proxy_port_turns_that_target_off() {
    let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
    let config = config(&[("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), app]).unwrap();
    assert_eq!(shown(&config), ["app=http://localhost:8080/metrics"]);
}

#[test]
fn the_path_of_a_target_that_is_not_there_is_checked_all_the_same() {
    let off = ("QPEXT_QUEUE_PROXY_METRICS_PORT", "");
    let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
    let refused = config(&[off, app, ("QPEXT_QUEUE_PROXY_METRICS_PATH", "x")]).unwrap_err();
    assert_eq!(refused.variable, "QPEXT_QUEUE_PROXY_METRICS_PATH");
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
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", "9091", "other than the queue-proxy's"),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "9091", "other than the queue-proxy's"),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH", "/a#b", "a path"),
        ("QPEXT_LOG", "qpext=loud", "a tracing filter"),
        ("QPEXT_LOG", "inof", "a tracing filter"),
        ("QPEXT_LOG", "", "a tracing filter"),
        ("QPEXT_LOG", "qpext=", "a tracing filter"),
        ("QPEXT_LOG_FORMAT", "xml", "json or text"),
        ("QPEXT_SERVING_LABEL_NAMES", "a,b", "three different label names"),
        ("QPEXT_SERVING_LABEL_NAMES", "a,b,a", "three different label names"),
        ("QPEXT_SERVING_LABEL_NAMES", "a,b,c-d", "three different label names"),
        ("QPEXT_SERVING_LABEL_NAMES", "a,b,container_name", "three different label names"),
        ("QPEXT_EXTRA_LABELS", "team", "a list such as"),
        ("QPEXT_EXTRA_LABELS", "team=ml,", "a list such as"),
        ("QPEXT_EXTRA_LABELS", "team=ml,team=x", "a list such as"),
        ("QPEXT_EXTRA_LABELS", "service_name=x", "from the serving labels'"),
        ("QPEXT_EXTRA_LABELS", "le=1", "le, quantile"),
        ("QPEXT_EXTRA_LABELS", "target=x", "target, reason and version"),
        ("QPEXT_EXTRA_LABELS", "team=", "labels that are not empty"),
        ("QPEXT_EXTRA_LABELS", "__address__=1", "two underscores"),
        ("QPEXT_LABEL_QUEUE_PROXY", "yes", "true or false"),
        ("QPEXT_SELF_METRICS", "", "true or false"),
        ("QPEXT_KEEP_METRICS", "vllm:(", "unclosed group"),
        ("QPEXT_DROP_METRICS", "", "matches none"),
        ("QPEXT_SAMPLE_LIMIT", "-1", "a number of samples"),
        ("QPEXT_TLS_CERT_FILE", "", "the path of a file"),
        ("QPEXT_BEARER_TOKEN_FILE", "", "the path of a file"),
        ("QPEXT_TARGETS", "agent", "name=address"),
        ("QPEXT_TARGETS", "agent=", "a port"),
        ("QPEXT_TARGETS", "agent=0", "a port"),
        ("QPEXT_TARGETS", "agent=:9089", "a port"),
        ("QPEXT_TARGETS", "agent=localhost", "a host and a port"),
        ("QPEXT_TARGETS", "agent=localhost:http", "a host and a port"),
        ("QPEXT_TARGETS", "agent=9089metrics", "a port"),
        ("QPEXT_TARGETS", "Agent=9089", "a name of 1 to 63"),
        ("QPEXT_TARGETS", "=9089", "a name of 1 to 63"),
        ("QPEXT_TARGETS", "app=9089", "other than queue-proxy and app"),
        ("QPEXT_TARGETS", "queue-proxy=9089", "other than queue-proxy and app"),
        ("QPEXT_TARGETS", "a=ftp://localhost/", "http:// or https://"),
        ("QPEXT_TARGETS", "a=http://x:0/", "a port from 1 to 65535"),
        ("QPEXT_TARGETS", "a=http://x/#y", "a URL without #"),
        ("QPEXT_TARGETS", "a=unix:side.sock", "a socket and a path"),
        ("QPEXT_TARGETS", "a=unix:/side.sock:metrics", "a socket and a path"),
    ] {
        let error = config(&[(variable, value)]).expect_err(variable);
        assert_eq!((&*error.variable, error.value.as_deref()), (variable, Some(value)));
        assert!(error.expected.contains(expected), "{error}");
        assert_eq!(error.to_string(), format!("{variable}={value:?}: expected {}", error.expected));
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
    let config = config(&[
        ("QPEXT_SCRAPE_TIMOUT", "1s"),
        ("PATH", "/bin"),
        ("QPEXT_LOG", "warn"),
        ("KSERVE_CONTAINER_PROMETHEUS_METRIC_PORT", "8080"),
        ("QPEXT_Targets", "agent=9089"),
        // As a cluster gives them to every container, of Services that are called so.
        ("KSERVE_CONTROLLER_MANAGER_SERVICE_PORT", "8443"),
        ("QPEXT_SERVICE_HOST", "10.0.0.1"),
        ("QPEXT_SERVICE_PORT", "9088"),
        ("QPEXT_SERVICE_PORT_METRICS", "9088"),
        ("QPEXT_PORT", "tcp://10.0.0.1:9088"),
        ("QPEXT_PORT_9088_TCP", "tcp://10.0.0.1:9088"),
        ("QPEXT_PORT_9088_TCP_PROTO", "tcp"),
        ("QPEXT_PORT_9088_TCP_ADDR", "10.0.0.1"),
    ])
    .unwrap();
    let told = ["KSERVE_CONTAINER_PROMETHEUS_METRIC_PORT", "QPEXT_SCRAPE_TIMOUT", "QPEXT_Targets"];
    assert_eq!(config.unknown_variables, told);
}

#[test]
fn a_misspelt_name_is_told_with_the_nearest_that_there_is() {
    for (name, nearest) in [
        ("QPEXT_SCRAP_TIMEOUT", Some("QPEXT_SCRAPE_TIMEOUT")),
        ("QPEXT_SCRAPE_TIMEOUT_OFSET", Some("QPEXT_SCRAPE_TIMEOUT_OFFSET")),
        ("QPEXT_TAGRETS", Some("QPEXT_TARGETS")),
        ("QPEXT_LOGS", Some("QPEXT_LOG")),
        ("QPEXT_Targets", Some("QPEXT_TARGETS")),
        ("qpext_targets", Some("QPEXT_TARGETS")),
        ("QPEXT_\u{212a}EEP_METRICS", Some("QPEXT_KEEP_METRICS")),
        ("KSERVE_CONTAINER_PROMETHEUS_METRIC_PORT", Some("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT")),
        ("AGGREGATE_PROMETHEUS_METRICS_PROT", Some("AGGREGATE_PROMETHEUS_METRICS_PORT")),
        ("QPEXT_X", None),
        ("QPEXT_", None),
        ("QPEXT_PORT", None),
        ("QPEXT_METRICS_KEEP", None),
        ("QPEXT_RETRIES", None),
    ] {
        let config = config(&[(name, "x"), ("K_SERVICE", "iris")]).unwrap();
        let nearest = nearest.map_or_else(String::new, |nearest| format!(" (did you mean {nearest}?)"));
        let told = format!("variables that are none of ours are ignored: {name}{nearest}");
        assert_eq!(config.warnings(), [told]);
    }
    let two = config(&[("QPEXT_LOGS", "x"), ("QPEXT_\n", "x")]).unwrap().warnings();
    let told = "variables that are none of ours are ignored: QPEXT_\\n, QPEXT_LOGS (did you mean QPEXT_LOG?)";
    assert_eq!(two, [told]);
}

/// What begins as text goes on as no text, and as letters that others fold into ours.
#[test]
fn no_name_and_no_value_is_too_odd_to_be_read() {
    let no_text = || OsString::from_vec(b"\xff\xfe".to_vec());
    let joined = |start: &str| OsString::from_vec([start.as_bytes(), b"\xff"].concat());
    for (name, value, warnings) in [
        // The Kelvin sign is a k in small letters, and the long s an S in large ones; a Turkish i is neither.
        ("\u{212a}_SERVICE".into(), "x".into(), 0),
        ("\u{17f}ERVING_SERVICE".into(), "x".into(), 0),
        ("QPEXT_\u{212a}EEP_METRICS".into(), "(".into(), 1),
        ("QPEXT_SELF_METRIC\u{17f}".into(), "x".into(), 1),
        ("QPEXT_UNTYPED\u{131}".into(), "x".into(), 1),
        ("QPEXT_L\u{130}MIT".into(), "x".into(), 1),
        ("qpext_untyped".into(), "x".into(), 1),
        ("Qpext_Untyped".into(), "x".into(), 1),
        ("k_service".into(), "x".into(), 0),
        ("".into(), "x".into(), 0),
        ("=".into(), "x".into(), 0),
        (no_text(), no_text(), 0),
        (joined("QPEXT_UNTYPED"), no_text(), 1),
        (joined("K_SERVICE"), no_text(), 0),
    ] {
        let usual = [("K_SERVICE".into(), "iris".into()), ("QPEXT_UNTYPED".into(), "keep".into())];
        let both = [(name.clone(), value.clone()), (name.clone(), value)].into_iter().chain(usual);
        let read = Config::from_variables(both).unwrap();
        assert_eq!(read.warnings().len(), warnings, "{name:?}");
        assert_eq!(read.labels.to_string(), r#"service_name="iris""#, "{name:?}");
        assert_eq!(read.untyped, Untyped::Keep, "{name:?}");
    }
    let error = Config::from_variables([("QPEXT_UNTYPED", joined("keep"))]).unwrap_err();
    assert_eq!(error.value.as_deref(), Some("keep\u{fffd}"));
    let twice = config(&[("QPEXT_UNTYPED", "keep"), ("QPEXT_UNTYPED", "x")]).unwrap();
    assert_eq!(twice.untyped, Untyped::Keep, "the first counts, as for getenv");
}

/// Names that are ours, nearly ours, and anything else, and what may stand in variables.
fn name_and_value() -> impl Strategy<Value = (OsString, OsString)> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..24).prop_map(OsString::from_vec);
    let own = || proptest::sample::select(VARIABLES.iter().map(|variable| variable.name).collect::<Vec<_>>());
    let near = own().prop_flat_map(|name| {
        let odd = prop_oneof![Just('\u{212a}'), Just('\u{17f}'), Just('\u{131}'), any::<char>()];
        (0..name.len(), odd).prop_map(move |(at, odd)| format!("{}{odd}{}", &name[..at], &name[at + 1..]).into())
    });
    let name = prop_oneof![
        4 => own().prop_map(OsString::from),
        2 => near,
        1 => "(QPEXT|K|KSERVE_CONTAINER_PROMETHEUS)_.{0,12}".prop_map(OsString::from),
        1 => bytes(),
    ];
    let examples = VARIABLES.iter().map(|variable| variable.example).collect::<Vec<_>>();
    let value = prop_oneof![
        2 => proptest::sample::select(examples).prop_map(OsString::from),
        1 => "[a-z0-9/:.,=@|()*+ -]{0,24}".prop_map(OsString::from),
        1 => r#"[\[{]{1,2}["a-z0-9:,{}\[\] ]{0,32}"#.prop_map(OsString::from),
        1 => ".{0,16}".prop_map(OsString::from),
        1 => bytes(),
    ];
    (name, value)
}

proptest! {
    #[test]
    fn whatever_the_environment_holds_it_is_read_or_refused(
        variables in proptest::collection::vec(name_and_value(), 0..12),
    ) {
        match Config::from_variables(variables) {
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
            Ok(config) => {
                let shown = VARIABLES.iter().filter(|variable| variable.show.is_some());
                prop_assert_eq!(config.in_force().len(), shown.count());
                prop_assert!(config.warnings().iter().all(|warning| !warning.contains('\n')));
                prop_assert!(config.targets.iter().all(|target| config.rules_of(target).sample_limit == config.sample_limit));
            }
        }
    }

    #[test]
    fn a_duration_is_read_as_it_is_shown(milliseconds in 1..u64::MAX) {
        let duration_ = Duration::from_millis(milliseconds);
        prop_assert_eq!(duration(&show_duration(duration_)), Some(duration_));
    }
}

/// Each variable with the text that its row gives as an example.
fn examples() -> Vec<(&'static str, &'static str)> {
    VARIABLES.iter().map(|variable| (variable.name, variable.example)).collect()
}

#[test]
fn every_default_and_every_example_is_read_and_shown_as_it_stands_in_the_table() {
    let as_shown = |config: &Config| {
        let shown = config.in_force().into_iter();
        shown.map(|(variable, value)| (variable.name, value)).collect::<BTreeMap<_, _>>()
    };
    let (usual, given) = (as_shown(&config(&[]).unwrap()), as_shown(&config(&examples()).unwrap()));
    for variable in VARIABLES {
        let name = variable.name;
        let (Some(default), Some(example)) = (usual.get(name), given.get(name)) else {
            assert!(name.starts_with("SERVING_") || name.starts_with("K_"), "{name} is in force and not shown");
            continue;
        };
        match variable.default.value() {
            // Without an application its path is nowhere.
            Some(value) if name != "KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH" => assert_eq!(default, value, "{name}"),
            _ => assert_eq!(default, "", "{name}"),
        }
        assert_ne!(example, default, "{name}");
        match name {
            "QPEXT_TARGETS" => {
                assert!(example.starts_with(r#"[{"name":"agent","url":"http://localhost:9089/metrics"},"#))
            }
            "QPEXT_SCRAPE_TIMEOUT" => assert_eq!(example, "90s"),
            "QPEXT_LOG" => assert_eq!(example, "qpext=debug,info"),
            _ => assert_eq!(example, variable.example, "{name}"),
        }
        // What is shown may be set.
        let mut again = examples();
        again.extend([(name, example.as_str())]);
        again.reverse();
        assert_eq!(as_shown(&config(&again).unwrap()), given, "{name}");
    }
}

#[test]
fn what_is_set_to_nothing_is_as_unset_or_refused_as_the_table_has_it() {
    let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
    for variable in VARIABLES {
        let others = examples().into_iter().filter(|(name, _)| *name != variable.name);
        let others: Vec<_> = others.chain([app]).collect();
        let empty = config(&[&others[..], &[(variable.name, "")]].concat());
        match (variable.name, variable.default) {
            (_, Unset::OrEmpty(_)) => {
                let unset = config(&others).unwrap();
                assert_eq!(format!("{:?}", empty.unwrap()), format!("{unset:?}"), "{}", variable.name);
            }
            // Off.
            ("QPEXT_QUEUE_PROXY_METRICS_PORT", _) => assert_eq!(empty.unwrap().targets[0].name, "app"),
            (name, _) => assert_eq!(empty.expect_err(name).variable, name),
        }
    }
}

#[test]
fn every_word_of_a_list_is_read_shown_and_expected() {
    fn check<T: Copy + PartialEq + std::fmt::Debug>(variable: &str, words: &[(&str, T)], every: &[T]) {
        let refused = config(&[(variable, "none of them")]).unwrap_err();
        let told: Vec<_> = refused.expected.split(", ").flat_map(|words| words.split(" or ")).collect();
        assert_eq!(told, words.iter().map(|(word, _)| *word).collect::<Vec<_>>());
        assert_eq!(every.len(), words.len());
        for value in every {
            assert_eq!(word(words, &show_word(words, *value)), Some(*value));
        }
    }
    check("QPEXT_UNTYPED", &UNTYPED, &[Untyped::Convert, Untyped::Drop, Untyped::Keep]);
    let every = [Compression::Off, Compression::Gzip, Compression::Zstd, Compression::Auto];
    check("QPEXT_COMPRESSION", &COMPRESSION, &every);
    check("QPEXT_LOG_FORMAT", &LOG_FORMAT, &[LogFormat::Json, LogFormat::Text]);
}

#[test]
fn every_option_of_a_target_is_read_and_shown_as_it_stands_in_the_table() {
    for left_out in ["basic_auth", "bearer_token_file"] {
        let options = TARGET_OPTIONS.iter().filter(|option| option.name != left_out);
        let options: Vec<_> = options.map(|option| format!("{:?}:{}", option.name, option.example)).collect();
        let list = format!("[{{{}}}]", options.join(","));
        let read = config(&[("QPEXT_TARGETS", &list)]).unwrap();
        let shown = read.targets[1].masked();
        let written: serde_json::Value = serde_json::from_str(&list).unwrap();
        for (name, value) in written[0].as_object().unwrap() {
            match name.as_str() {
                "headers" => assert_eq!(shown[name], serde_json::json!({"x-tenant": "<secret>"})),
                _ => assert_eq!(shown[name], *value, "{name}"),
            }
        }
    }
}

/// A table of the README's, from its rows here.
fn markdown(head: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let columns = head.matches('|').count() - 1;
    let mut text = format!("{head}\n{}|\n", "|---".repeat(columns));
    for row in rows {
        let row = row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>();
        writeln!(text, "| {} |", row.join(" | ")).unwrap();
    }
    text
}

#[test]
fn the_tables_of_the_readme_are_those_of_the_code() {
    let code = |text: &str| format!("`{text}`");
    let variables = markdown(
        "| variable | default | example | meaning |",
        VARIABLES.iter().map(|variable| {
            let words = || variable.default.to_string();
            let default = variable.default.value().map_or_else(words, code);
            vec![code(variable.name), default, code(variable.example), variable.about.to_owned()]
        }),
    );
    let options = markdown(
        "| option | example | meaning |",
        TARGET_OPTIONS.iter().map(|option| vec![code(option.name), code(option.example), option.about.to_owned()]),
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let written = std::fs::read_to_string(path).unwrap();
    let mut readme = written.clone();
    for (name, table) in [("variables", variables), ("options", options)] {
        let (start, end) = (format!("<!-- {name}: "), format!("<!-- end of {name} -->"));
        let start = readme.find(&start).expect("it is marked where the table is");
        let start = start + readme[start..].find('\n').unwrap() + 1;
        let end = readme.find(&end).expect("it is marked where the table ends");
        readme.replace_range(start..end, &format!("\n{table}\n"));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &readme).unwrap();
    } else {
        assert!(readme == written, "README.md has other tables: UPDATE=1 cargo test --lib readme writes them");
    }
}

#[test]
fn a_url_without_a_path_has_the_usual_one() {
    for (url, expected) in [
        ("http://h", "http://h/metrics"),
        ("http://h?x=1", "http://h/metrics?x=1"),
        ("http://h?x=/1", "http://h/metrics?x=/1"),
        ("http://h/", "http://h/"),
        ("http://h/?x=/1", "http://h/?x=/1"),
        ("localhost:9089", "http://localhost:9089/metrics"),
        ("10.0.0.7:9400/prom?x=1", "http://10.0.0.7:9400/prom?x=1"),
        ("[::1]:9089", "http://[::1]:9089/metrics"),
    ] {
        let config = config(&[("QPEXT_TARGETS", &format!("a={url}"))]).unwrap();
        assert_eq!(config.targets[1].address.to_string(), expected);
    }
}

#[test]
fn targets_that_look_like_one_another_are_told_of() {
    let warnings = |targets: &str| {
        let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
        let config = config(&[("K_SERVICE", "iris"), app, ("QPEXT_TARGETS", targets)]).unwrap();
        config.warnings()
    };
    let told = "a (http://127.0.0.1:8080/metrics) looks like app (http://localhost:8080/metrics), which would be scraped twice";
    assert_eq!(warnings("a=http://127.0.0.1:8080"), [told]);
    for same in ["http://[::1]:8080/metrics", "http://127.8.0.1:8080", "http://[::ffff:127.0.0.1]:8080"] {
        assert_eq!(warnings(&format!("a={same}")).len(), 1, "{same}");
    }
    for other in
        ["8081", "8080/prom", "8080/metrics?x", "http://10.0.0.1:8080", "http://app:8080", "unix:/run/app.sock"]
    {
        assert_eq!(warnings(&format!("a={other}")), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn a_variable_in_lower_case_is_not_ours() {
    let port = config(&[("K_SERVICE", "a"), ("k_service", "b")]).unwrap();
    assert_eq!(port.labels.to_string(), r#"service_name="a""#);
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

#[test]
fn targets_are_added_in_their_order_each_where_it_says() {
    let list = "agent=9089, transformer=8081/prom?a=b, dcgm=http://127.0.0.1:9400, x=https://h/, s=unix:/run/s.sock, \
                t=unix:/run/s.sock:/prom";
    let read = config(&[("QPEXT_TARGETS", list), ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080")]).unwrap();
    assert_eq!(
        shown(&read),
        [
            "queue-proxy=http://localhost:9091/metrics",
            "app=http://localhost:8080/metrics",
            "agent=http://localhost:9089/metrics",
            "transformer=http://localhost:8081/prom?a=b",
            "dcgm=http://127.0.0.1:9400/metrics",
            "x=https://h/",
            "s=unix:/run/s.sock:/metrics",
            "t=unix:/run/s.sock:/prom",
        ]
    );
    assert_eq!(read.targets[6].address.socket, Some("/run/s.sock".into()));
    assert!(config(&[("QPEXT_TARGETS", " ")]).is_ok_and(|config| config.targets.len() == 1), "an empty list is none");
}

/// Every option of a target, in JSON.
const EVERY_OPTION: &str = r#"[{"name": "a", "url": "https://10.0.0.1:9400/m", "ca_file": "/ca", "cert_file": "/cert",
    "key_file": "/key", "server_name": "a.example", "insecure_skip_verify": true,
    "basic_auth": {"username": "me", "password_file": "/password"}, "headers": {"X-Api-Key": "s3cret"}},
    {"name": "b", "url": "unix:/run/b.sock", "bearer_token_file": "/token"}]"#;

#[test]
fn json_targets_have_the_options_of_prometheuss_http_client() {
    let config = config(&[("QPEXT_TARGETS", EVERY_OPTION)]).unwrap();
    let [_, a, b] = &config.targets[..] else { panic!("{:?}", config.targets) };
    assert_eq!(a.http.ca_file, Some("/ca".into()));
    let files = a.http.client_certificate.as_ref().unwrap();
    assert_eq!((&files.cert_file, &files.key_file), (&"/cert".into(), &"/key".into()));
    assert_eq!(a.http.server_name.as_deref(), Some("a.example"));
    assert!(a.http.insecure_skip_verify);
    let basic = Authorization::Basic { username: "me".to_owned(), password_file: Some("/password".into()) };
    assert_eq!(a.http.authorization, Some(basic));
    assert_eq!(a.http.headers[0].0, "x-api-key");
    assert_eq!(a.http.headers[0].1, "s3cret");
    let token_file = "/token".into();
    assert_eq!(b.http.authorization, Some(Authorization::Bearer { token_file }));
    assert_eq!(b.address.to_string(), "unix:/run/b.sock:/metrics");
}

#[test]
fn what_is_wrong_in_a_json_target_is_told_by_its_place() {
    let tls = r#""url":"https://h","#;
    for (json, said) in [
        (
            r#"[{"name":"a"}"#,
            "QPEXT_TARGETS, line 1, column 13: expected a JSON array of objects, in [ and ], with no key twice in one object: \
             EOF while parsing a list",
        ),
        (
            r#"[{"name":"a","url":"1","url":"2"}]"#,
            "QPEXT_TARGETS, line 1, column 33: expected a JSON array of objects, in [ and ], with no key twice",
        ),
        (
            r#"[{"name":"a","url":"1","headers":{"X-A":"1","x-a":"2"}}]"#,
            "QPEXT_TARGETS[a].headers[x-a]: expected a header that is not there already",
        ),
        (
            r#"[{"name":"a","url":"https://h","server_name":"*.x"}]"#,
            "QPEXT_TARGETS[a].server_name=\"*.x\": expected a DNS name",
        ),
        (r#"[{"name":"a","url":"1","x\ny\u001b[31m":1}]"#, "QPEXT_TARGETS[a].x\\ny\\u{1b}[31m: expected one of name"),
        (r#"["a=9089"]"#, "QPEXT_TARGETS[0]: expected an object"),
        (r#"[{"url":"9089"}]"#, "QPEXT_TARGETS[0].name: expected a text, not empty"),
        (r#"[{"name":"A","url":"9089"}]"#, "QPEXT_TARGETS[0].name=\"A\": expected a name of 1 to 63"),
        (r#"[{"name":"a","url":0}]"#, "QPEXT_TARGETS[a].url=\"0\": expected a port"),
        (r#"[{"name":"a","url":[]}]"#, "QPEXT_TARGETS[a].url: expected a text"),
        (r#"[{"name":"a","url":"x"}]"#, "QPEXT_TARGETS[a].url=\"x\": expected a port"),
        (r#"[{"name":"a","url":"1","tls":{}}]"#, "QPEXT_TARGETS[a].tls: expected one of name, url, ca_file"),
        (
            r#"[{"name":"a","url":"1","ca_file":"/ca"}]"#,
            "QPEXT_TARGETS[a].url=\"1\": expected a URL that starts with https",
        ),
        (r#"[{"name":"a","url":"1","tls":{}}]"#, "bearer_token_file and headers"),
        (
            r#"[{"name":"a","url":"1","ca_fil":"/ca"}]"#,
            "QPEXT_TARGETS[a].ca_fil: expected one of name, url, ca_file, cert_file, key_file, server_name, \
             insecure_skip_verify, basic_auth, bearer_token_file and headers (did you mean ca_file?)",
        ),
        (
            r#"[{"name":"a","url":"1","basic_auth":{"username":"u","pasword_file":"/p"}}]"#,
            "QPEXT_TARGETS[a].basic_auth.pasword_file: expected one of username and password_file (did you mean \
             password_file?)",
        ),
        (r#"[{"name":"a","url":"https://h","ca_file":1}]"#, "QPEXT_TARGETS[a].ca_file: expected the path of a file"),
        (
            &format!(r#"[{{"name":"a",{tls}"cert_file":"/c"}}]"#),
            "QPEXT_TARGETS[a].key_file: expected the file of the key",
        ),
        (
            &format!(r#"[{{"name":"a",{tls}"key_file":"/c"}}]"#),
            "QPEXT_TARGETS[a].cert_file: expected the file of the cert",
        ),
        (&format!(r#"[{{"name":"a",{tls}"server_name":"1.2.3.4"}}]"#), "server_name=\"1.2.3.4\": expected a DNS name"),
        (r#"[{"name":"a","url":"1","insecure_skip_verify":"no"}]"#, "insecure_skip_verify: expected true or false"),
        (r#"[{"name":"a","url":"1","basic_auth":{}}]"#, "QPEXT_TARGETS[a].basic_auth.username: expected"),
        (r#"[{"name":"a","url":"1","basic_auth":{"username":"u:v"}}]"#, "expected a name without a colon"),
        (
            r#"[{"name":"a","url":"1","basic_auth":{"username":"u"},"bearer_token_file":"/t"}]"#,
            "expected one of basic_auth and bearer_token_file",
        ),
        (
            r#"[{"name":"a","url":"1","headers":{"Host":"x"}}]"#,
            "QPEXT_TARGETS[a].headers[Host]: expected a header that",
        ),
        (
            r#"[{"name":"a","url":"1"},{"name":"a","url":"2"}]"#,
            "QPEXT_TARGETS[1].name=\"a\": expected a name that no other",
        ),
        (
            r#"[{"name":"a","url":"1"},{"name":"b","url":"http://localhost:1/metrics"}]"#,
            "QPEXT_TARGETS[b].url=\"http://localhost:1/metrics\": expected an address other than that of a",
        ),
    ] {
        let error = config(&[("QPEXT_TARGETS", json)]).expect_err(json).to_string();
        assert!(error.contains(said), "{json}\n{error}\n{said}");
    }
}

#[test]
fn no_secret_is_in_what_is_said_of_a_bad_target_or_of_a_good_one() {
    let no_scheme = r#"[{"name":"a","url":"1","basic_auth":{"username":"u","password":"s3cret"}}]"#;
    for list in [
        "a=http://u:s3cret@localhost:1/metrics",
        "a=ftp://u:s3cret@localhost:1/metrics",
        "A=http://u:s3cret@localhost:1/metrics",
        // The password has a comma.
        "a=http://u:s3cret,x@localhost:1/metrics",
        "a=http://u:x,s3cret@localhost:1/metrics",
        r#"[{"name":"a","url":"1","headers":{"Authorization: s3cret":""}}]"#,
        r#"[{"name":"a","url":"http://u:s3cret@h/"}]"#,
        r#"[{"name":"a","url":"1","headers":"s3cret"}]"#,
        r#"[{"name":"a","url":"1","headers":["s3cret"]}]"#,
        r#"[{"name":"a","url":"1","headers":{"authorization":"s3cret"}}]"#,
        r#"[{"name":"a","url":"1","headers":{"x":"s3cret\n"}}]"#,
        r#"[{"name":"a","url":"1","basic_auth":"s3cret"}]"#,
        r#"[{"name":"a","url":"1","bearer_token":"s3cret"}]"#,
        r#"[{"name":"a","url":"1","basic_auth":{"username":"u:s3cret"}}]"#,
        r#"{"headers":{"x":"s3cret"},"name":"a","url":"1"}"#,
        r#"{"name":"a","headers":{"x":"s3cret"}}"#,
        r#"[{"name":"a","url":"1"} "s3cret"]"#,
        no_scheme,
    ] {
        let error = config(&[("QPEXT_TARGETS", list)]).expect_err(list);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error} {error:?}");
    }
    let config = config(&[("QPEXT_TARGETS", EVERY_OPTION)]).unwrap();
    let masked = format!("{config:?} {:?}", config.in_force());
    assert!(!masked.contains("s3cret"), "{masked}");
    assert!(masked.contains("<secret>"), "{masked}");
}

#[test]
fn a_target_that_is_the_sidecar_itself_is_refused() {
    for (bind, url, is_itself) in [
        (None, "http://localhost:9088/x", true),
        (None, "http://pod.localhost:9088/x", true),
        (None, "https://127.0.0.1:9088/", true),
        (None, "http://127.7.7.7:9088/", true),
        (None, "http://[::1]:9088/", true),
        (None, "http://0.0.0.0:9088/", true),
        (None, "http://localhost.:9088/", true),
        (None, "http://[::ffff:127.0.0.1]:9088/", true),
        (Some("127.0.0.1"), "http://0.0.0.0:9088/", true),
        (Some("127.0.0.1"), "http://[::]:9088/", true),
        (Some("127.0.0.1"), "http://[::ffff:127.0.0.1]:9088/", true),
        (Some("::1"), "http://[::]:9088/", true),
        (None, "http://203.0.113.1:9088/", false),
        (None, "http://other.invalid:9088/", false),
        (None, "http://localhost:9089/", false),
        (Some("127.0.0.1"), "http://localhost:9088/", true),
        (Some("127.0.0.1"), "http://127.0.0.2:9088/", false),
        (Some("203.0.113.1"), "http://localhost:9088/", false),
        (Some("::"), "http://127.0.0.1:9088/", true),
    ] {
        let list = format!("a={url}");
        let mut variables = vec![("QPEXT_TARGETS", list.as_str())];
        variables.extend(bind.map(|bind| ("QPEXT_BIND_ADDRESS", bind)));
        let read = config(&variables);
        assert_eq!(read.is_err(), is_itself, "{bind:?} {url} {read:?}");
        if let Err(error) = read {
            assert!(error.to_string().contains("on which this sidecar itself serves"), "{error}");
        }
    }
    let free_port = config(&[("AGGREGATE_PROMETHEUS_METRICS_PORT", "0"), ("QPEXT_TARGETS", "a=4321")]).unwrap();
    assert!(free_port.check_served_at(4320).is_ok());
    assert!(free_port.check_served_at(4321).is_err(), "it was not known before");
    let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "4321");
    let free_port = config(&[("AGGREGATE_PROMETHEUS_METRICS_PORT", "0"), app]).unwrap();
    let refused = free_port.check_served_at(4321).unwrap_err();
    assert_eq!((&*refused.variable, refused.value.as_deref()), (app.0, Some(app.1)));
}

#[test]
fn every_target_but_the_queue_proxy_and_the_app_is_labelled_with_its_name() {
    let labels_of = |variables: &[(&str, &str)]| {
        let app = ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "8080");
        let usual = [app, ("QPEXT_TARGETS", "agent=9089"), ("SERVING_SERVICE", "iris")];
        let config = config(&[variables, &usual].concat()).unwrap();
        let targets = config.targets.iter();
        targets.map(|target| config.rules_of(target).labels.to_string()).collect::<Vec<_>>()
    };
    let app = r#"service_name="iris""#;
    let agent = r#"service_name="iris",container_name="agent""#;
    assert_eq!(labels_of(&[]), ["", app, agent]);
    let queue_proxy = r#"service_name="iris",container_name="queue-proxy""#;
    assert_eq!(labels_of(&[("QPEXT_LABEL_QUEUE_PROXY", "true")]), [queue_proxy, app, agent]);
}

#[test]
fn tls_files_come_together() {
    for (set, missing) in [
        (&["QPEXT_TLS_CERT_FILE"][..], "QPEXT_TLS_KEY_FILE"),
        (&["QPEXT_TLS_KEY_FILE"], "QPEXT_TLS_CERT_FILE"),
        (&["QPEXT_TLS_CLIENT_CA_FILE"], "QPEXT_TLS_CERT_FILE"),
    ] {
        let variables: Vec<_> = set.iter().map(|name| (*name, "/file")).collect();
        let error = config(&variables).expect_err(missing).to_string();
        assert!(error.starts_with(&format!("{missing}: expected the path of a file, because {}", set[0])), "{error}");
    }
}
