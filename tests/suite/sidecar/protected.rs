//! Targets behind TLS, credentials and Unix sockets; files that are rotated while scrapes run; secrets that nobody sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qpext::aggregate::Aggregator;
use qpext::config::Config;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::support::certificates::{Authority, Certificate};
use crate::support::directory::Directory;
use crate::support::port::Port;
use crate::support::reader::read;
use crate::support::sidecar::{Answer, Sidecar, scrape};
use crate::support::stub::{Event, Step, Stub, answer, ok};
use crate::support::tls::Shown;

const QUEUE_PROXY_TEXT: &str = "# TYPE kn_requests_total counter\nkn_requests_total 7\n";
const SIDE_TEXT: &str = "# TYPE side_up gauge\nside_up 1\n";

const LONG: f64 = 60.0;

/// The value of the one sample of this name.
fn value(answer: &Answer, name: &str) -> Option<String> {
    let exposition = read(answer.text.as_bytes()).unwrap_or_else(|error| panic!("{error} in\n{}", answer.text));
    let sample = exposition.samples.into_iter().find(|sample| sample.name == name)?;
    Some(sample.value)
}

fn has_side(answer: &Answer) -> bool {
    value(answer, "side_up").as_deref() == Some("1")
}

/// A sidecar before this target alone.
async fn alone(target: &Value, variables: &[(&str, &str)]) -> Sidecar {
    let targets = json!([target]).to_string();
    let mut all = vec![
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", ""),
        ("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", ""),
        ("QPEXT_TARGETS", targets.as_str()),
    ];
    all.extend_from_slice(variables);
    Sidecar::start(&all).await
}

/// Scrapes a pod where this target fails beside a healthy queue-proxy, and says how the target failed.
async fn refused(target: &Value, variables: &[(&str, &str)]) -> String {
    let queue_proxy = Stub::text(QUEUE_PROXY_TEXT).await;
    let port = queue_proxy.port().to_string();
    let mut all = vec![("QPEXT_QUEUE_PROXY_METRICS_PORT", port.as_str())];
    all.extend_from_slice(variables);
    let mut sidecar = alone(target, &all).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text, QUEUE_PROXY_TEXT, "all of the queue-proxy's, and nothing else");
    let line = sidecar.logged("target failed").await;
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["target"], "side");
    event["error"].as_str().unwrap().to_owned()
}

/// A server of this authority's at 127.0.0.1.
async fn server_of(authority: &Authority) -> Stub {
    Stub::text_tls(&Shown::new(&authority.server()), SIDE_TEXT).await
}

fn https(stub: &Stub) -> String {
    format!("https://127.0.0.1:{}/metrics", stub.port())
}

/// What `/status.json` says of the one target.
async fn status_of_side(sidecar: &Sidecar) -> Value {
    let status = scrape(&sidecar.url("/status.json"), LONG).await.expect("an answer");
    let mut status: Value = serde_json::from_str(&status.text).expect("it is JSON");
    status["targets"][0].take()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let value = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?.1;
    assert!(!lines.any(|(key, _)| key.eq_ignore_ascii_case(name)), "twice in {head}");
    Some(value)
}

/// A whole scrape after another until [`Scrapes::end`], each of which must have the target's sample.
struct Scrapes {
    stop: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Scrapes {
    fn start(sidecar: &Sidecar) -> Self {
        let url = sidecar.url("/metrics");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut scrapes = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = scrape(&url, LONG).await.expect("a whole answer");
                assert!(has_side(&answer), "scrape {scrapes} was lost: {}", answer.text);
                scrapes += 1;
            }
            scrapes
        });
        Self { stop, task }
    }

    /// Panics if one of them was lost.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_ne!(self.task.await.unwrap(), 0);
    }
}

/// Waits for what is to come; so long that only what never comes is missed.
async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs_f64(LONG), coming).await;
    waited.unwrap_or_else(|_| panic!("{what} never came"))
}

async fn until(stub: &mut Stub, what: &str, is_it: impl Fn(&Event) -> bool) {
    soon(what, async { while !is_it(&stub.event().await) {} }).await;
}

async fn until_shown(stub: &mut Stub, client: &Certificate) {
    let expected = client.der().to_vec();
    until(
        stub,
        "the new certificate",
        |event| matches!(event, Event::Handshake { certificate: Some(shown), .. } if *shown == expected),
    )
    .await;
}

#[tokio::test]
async fn a_certificate_that_leads_to_ca_file_is_taken_and_its_connection_kept() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let mut side = server_of(&authority).await;
    // A bundle holds others as well.
    let bundle = Authority::new().pem() + &authority.pem();
    let target = json!({"name": "side", "url": https(&side), "ca_file": directory.write("ca.pem", bundle)});
    let sidecar = alone(&target, &[]).await;
    for _ in 0..3 {
        assert!(has_side(&sidecar.scrape(LONG).await));
    }
    let events = side.past_events();
    let handshakes = events.iter().filter(|event| matches!(event, Event::Handshake { .. }));
    assert_eq!(handshakes.count(), 1, "{events:?}");
}

#[tokio::test]
async fn a_kept_connection_that_ends_without_a_word_loses_no_scrape() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let shown = Shown::new(&authority.server());
    // Every other request finds its connection dead, and nothing in TLS said that it would be.
    let is_alive = AtomicBool::new(true);
    let mut side = Stub::route_tls(&shown, move |_| match is_alive.fetch_xor(true, Ordering::Relaxed) {
        true => vec![ok(SIDE_TEXT.as_bytes())],
        false => vec![Step::Close],
    })
    .await;
    let ca_file = directory.write("ca.pem", authority.pem());
    let sidecar = alone(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
    for _ in 0..3 {
        assert!(has_side(&sidecar.scrape(LONG).await));
    }
    let requests = side.past_events();
    let requests = requests.iter().filter(|event| matches!(event, Event::Request(_)));
    assert_eq!(requests.count(), 5);
}

#[tokio::test]
async fn a_certificate_of_another_authority_costs_only_its_targets_samples() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let mut side = server_of(&authority).await;
    // The one that was renewed has the same name.
    for (other, why) in [(Authority::called("another"), "UnknownIssuer"), (Authority::new(), "BadSignature")] {
        let ca_file = directory.write("ca.pem", other.pem());
        let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
        let expected = format!("cannot be reached by TLS: invalid peer certificate: {why}; ca_file");
        assert!(error.starts_with(&expected), "{error}");
        side.gone().await;
    }
    let events = side.past_events();
    assert!(!events.iter().any(|event| matches!(event, Event::Request(_))), "{events:?}");
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken_where_ca_file_has_it() {
    let (shown, directory) = (Certificate::self_signed(), Directory::new());
    let side = Stub::text_tls(&Shown::new(&shown), SIDE_TEXT).await;
    let own = directory.write("own.pem", Authority::new().pem() + &shown.pem);
    let target = json!({"name": "side", "url": https(&side), "ca_file": own});
    assert!(has_side(&alone(&target, &[]).await.scrape(LONG).await));

    // Its name counts all the same.
    let named = json!({"name": "side", "url": https(&side), "ca_file": own, "server_name": "side.example"});
    let error = refused(&named, &[]).await;
    assert!(error.contains("not valid for name"), "{error}");

    // And it has to be the one in the file, not one like it.
    let like_it = directory.write("like_it.pem", Certificate::self_signed().pem);
    let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": like_it}), &[]).await;
    let told = "cannot be reached by TLS: invalid peer certificate: CaUsedAsEndEntity; ca_file is to have it itself";
    assert_eq!(error, told);

    let former = Authority::former();
    let side = Stub::text_tls(&Shown::new(&former.server()), SIDE_TEXT).await;
    let ca_file = directory.write("former_authority.pem", former.pem());
    let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
    assert!(error.contains("Expired"), "{error}");

    let former = Certificate::formerly_self_signed();
    let side = Stub::text_tls(&Shown::new(&former), SIDE_TEXT).await;
    let ca_file = directory.write("former.pem", &former.pem);
    let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
    assert!(error.contains("Expired"), "{error}");
}

#[tokio::test]
async fn without_ca_file_the_systems_certificates_count() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let side = server_of(&authority).await;
    let target = json!({"name": "side", "url": https(&side)});
    let ours = directory.write("ca.pem", authority.pem());
    let sidecar = alone(&target, &[("SSL_CERT_FILE", &*ours)]).await;
    assert!(has_side(&sidecar.scrape(LONG).await));

    let others = directory.write("others.pem", Authority::called("another").pem());
    let error = refused(&target, &[("SSL_CERT_FILE", &*others)]).await;
    assert!(error.contains("UnknownIssuer"), "{error}");

    let none = directory.path("none.pem");
    let error = refused(&target, &[("SSL_CERT_FILE", &*none)]).await;
    assert!(error.contains("ca_file is not set, and the system has no certificates"), "{error}");
}

#[tokio::test]
async fn server_name_is_what_the_certificate_must_say_and_nothing_else() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let ca_file = directory.write("ca.pem", authority.pem());
    let shown = Shown::new(&authority.server_called("side.example"));
    // As some servers do, it leads to the authority that it was asked for.
    let mut side = Stub::route_tls(&shown, |head| {
        if head.starts_with("GET /metrics ") {
            let location = format!("location: https://{}/metrics/\r\n", header(head, "host").unwrap());
            return vec![answer("307 Temporary Redirect", &location, b"")];
        }
        vec![ok(SIDE_TEXT.as_bytes())]
    })
    .await;
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{}/metrics", side.port());
        let named = json!({"name": "side", "url": url, "ca_file": ca_file, "server_name": "side.example"});
        let sidecar = alone(&named, &[]).await;
        assert!(has_side(&sidecar.scrape(LONG).await));
        let events = side.past_events();
        let names: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Handshake { server_name, .. } => Some(server_name.as_deref()),
                _ => None,
            })
            .collect();
        assert_eq!(names, [Some("side.example")]);
        let hosts: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Request(head) => header(head, "host"),
                _ => None,
            })
            .collect();
        assert_eq!(hosts, [&format!("{host}:{}", side.port()); 2]);

        let other = json!({"name": "side", "url": url, "ca_file": ca_file, "server_name": "other.example"});
        let unnamed = json!({"name": "side", "url": url, "ca_file": ca_file});
        for target in [other, unnamed] {
            let error = refused(&target, &[]).await;
            assert!(error.contains("not valid for name") && error.contains("server_name"), "{error}");
        }
        side.past_events();
    }
}

#[tokio::test]
async fn of_a_certificate_with_many_names_some_are_told() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let side = Stub::text_tls(&Shown::new(&authority.server_of_names(1000)), SIDE_TEXT).await;
    let ca_file = directory.write("ca.pem", authority.pem());
    let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
    assert!(error.contains("host-00000") && error.contains("server_name is to be"), "{error}");
    assert!(error.chars().count() < 500, "{error}");
}

#[tokio::test]
async fn insecure_skip_verify_takes_any_certificate() {
    let side = Stub::text_tls(&Shown::new(&Authority::new().server_called("other.example")), SIDE_TEXT).await;
    let target = json!({"name": "side", "url": https(&side), "insecure_skip_verify": true});
    assert!(has_side(&alone(&target, &[]).await.scrape(LONG).await));
    let target = json!({"name": "side", "url": https(&side), "insecure_skip_verify": false});
    refused(&target, &[]).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let (authority, clients, directory) = (Authority::new(), Authority::new(), Directory::new());
    let ca_file = directory.write("ca.pem", authority.pem());
    let shown = Shown::to_clients_of(&authority.server(), &clients);
    let mut side = Stub::text_tls(&shown, SIDE_TEXT).await;
    let client = clients.client();
    let with = |issued: &Certificate| {
        json!({
            "name": "side", "url": https(&side), "ca_file": ca_file,
            "cert_file": directory.write("tls.crt", &issued.pem), "key_file": directory.write("tls.key", &issued.key),
        })
    };
    let target = with(&client);
    let sidecar = alone(&target, &[]).await;
    assert!(has_side(&sidecar.scrape(LONG).await));
    let target = with(&Authority::new().client());
    let error = refused(&target, &[]).await;
    assert!(error.contains("by TLS: received fatal alert"), "{error}");
    until_shown(&mut side, &client).await;

    let error = refused(&json!({"name": "side", "url": https(&side), "ca_file": ca_file}), &[]).await;
    assert!(error.contains("CertificateRequired") && error.contains("cert_file"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_told_of() {
    // Whatever it is sent holds no end of a head, so it says at once what servers say.
    let port = Port::new();
    let (listener, url) = (port.listen(), format!("https://{}/metrics", port.address()));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    let target = json!({"name": "side", "url": url, "insecure_skip_verify": true});
    let error = refused(&target, &[]).await;
    assert!(error.contains("perhaps it does not speak TLS"), "{error}");
}

#[tokio::test]
async fn certificates_rotated_while_scrapes_run_lose_none() {
    let (authority, clients, directory) = (Authority::new(), Authority::new(), Directory::new());
    let shown = Shown::to_clients_of(&authority.server(), &clients);
    let mut side = Stub::text_tls(&shown, SIDE_TEXT).await;
    let first = clients.client();
    let mount = |ca: &str, client: &Certificate| {
        directory.mount(&[("ca.crt", ca), ("tls.crt", &client.pem), ("tls.key", &client.key)]);
    };
    mount(&authority.pem(), &first);
    let target = json!({
        "name": "side", "url": https(&side), "ca_file": directory.path("ca.crt"),
        "cert_file": directory.path("tls.crt"), "key_file": directory.path("tls.key"),
    });
    let sidecar = alone(&target, &[]).await;
    let scrapes = [Scrapes::start(&sidecar), Scrapes::start(&sidecar)];
    until_shown(&mut side, &first).await;

    // The client's pair, as kubelet replaces it.
    for _ in 0..3 {
        let next = clients.client();
        mount(&authority.pem(), &next);
        until_shown(&mut side, &next).await;
    }
    // One file after the other, in place: in between, the key is not the certificate's.
    for _ in 0..3 {
        let next = clients.client();
        directory.write("tls.crt", &next.pem);
        assert!(has_side(&sidecar.scrape(LONG).await));
        directory.write("tls.key", &next.key);
        until_shown(&mut side, &next).await;
    }
    // The authority, by way of a time at which both count; then only the new one does, for which the server is ready.
    let (renewed, last) = (Authority::new(), clients.client());
    directory.write("ca.crt", authority.pem() + &renewed.pem());
    assert!(has_side(&sidecar.scrape(LONG).await));
    shown.show(&Shown::to_clients_of(&renewed.server(), &clients));
    mount(&renewed.pem(), &last);
    until_shown(&mut side, &last).await;
    for scrapes in scrapes {
        scrapes.end().await;
    }

    // And the one before counts no more.
    shown.show(&Shown::to_clients_of(&authority.server(), &clients));
    mount(&renewed.pem(), &first);
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("BadSignature"), "{}", answer.text);
}

#[tokio::test]
async fn a_token_rotated_while_scrapes_run_loses_none_and_keeps_the_connection() {
    let directory = Directory::new();
    let mut side = Stub::route(|head| {
        let is_known = header(head, "authorization").is_some_and(|value| value.starts_with("Bearer token-"));
        match is_known {
            true => vec![ok(SIDE_TEXT.as_bytes())],
            false => vec![answer("401 Unauthorized", "", b"")],
        }
    })
    .await;
    directory.mount(&[("token", "token-0\n")]);
    let url = format!("http://127.0.0.1:{}/metrics", side.port());
    let target = json!({"name": "side", "url": url, "bearer_token_file": directory.path("token")});
    let sidecar = alone(&target, &[]).await;
    let scrapes = Scrapes::start(&sidecar);
    let mut connections = 0;
    for round in 0..6 {
        let token = format!("token-{round}");
        match round % 2 {
            0 => directory.mount(&[("token", &format!("{token}\n"))]),
            _ => drop(directory.write("token", &token)),
        }
        let expected = format!("Bearer {token}");
        loop {
            match soon(&expected, side.event()).await {
                Event::Connected => connections += 1,
                Event::Request(head) if header(&head, "authorization") == Some(&expected) => break,
                _ => {}
            }
        }
    }
    scrapes.end().await;
    assert_eq!(connections, 1);
}

#[tokio::test]
async fn a_file_gone_bad_is_told_of_once_and_what_it_held_is_still_used() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let mut side = server_of(&authority).await;
    let ca_file = directory.write("ca.pem", authority.pem());
    let token = directory.write("token", "of-old");
    let target = json!({"name": "side", "url": https(&side), "ca_file": ca_file, "bearer_token_file": token});
    let mut sidecar = alone(&target, &[]).await;
    assert!(has_side(&sidecar.scrape(LONG).await));

    let whole = authority.pem();
    for (name, path, bad, told) in [
        ("ca.pem", &ca_file, &whole[..whole.len() / 2], "is not whole, or not PEM"),
        ("ca.pem", &ca_file, "", "holds no certificate in PEM"),
        ("token", &token, "\n", "is empty"),
        ("token", &token, "of\nnew", "holds bytes that no header may have"),
    ] {
        directory.write(name, bad);
        for _ in 0..3 {
            assert!(has_side(&sidecar.scrape(LONG).await));
        }
        // Its next line in the log: it does not come three times.
        let line = sidecar.logged("still used").await;
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&event["level"], &event["target"]), (&json!("WARN"), &json!("side")));
        let option = if name == "token" { "bearer_token_file" } else { "ca_file" };
        let told = format!("{option} {path:?}: {told}");
        assert_eq!(event["error"], told);
        // And it is on the page as long as it is so.
        let shown = status_of_side(&sidecar).await;
        let of_tls = format!("ca_file {ca_file:?}: holds no certificate in PEM");
        let first = if name == "token" { of_tls } else { told };
        assert_eq!(shown["last_scrape"]["stale_file"], first);
        assert_eq!(shown["state"], "up");
    }
    directory.write("ca.pem", &whole);
    std::fs::remove_file(&token).unwrap();
    assert!(has_side(&sidecar.scrape(LONG).await));
    assert!(sidecar.logged("still used").await.contains("No such file"));
    directory.write("token", "of-new");
    assert!(has_side(&sidecar.scrape(LONG).await));
    assert!(sidecar.logged("again").await.contains("\"target\":\"side\""));
    until(&mut side, "the new token", |event| match event {
        Event::Request(head) => header(head, "authorization") == Some("Bearer of-new"),
        _ => false,
    })
    .await;
    assert_eq!(status_of_side(&sidecar).await["last_scrape"]["stale_file"], Value::Null);
}

/// It is PEM, and nothing more.
const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n";

#[tokio::test]
async fn a_file_that_is_not_there_is_named_until_it_is() {
    let (authority, clients, directory) = (Authority::new(), Authority::new(), Directory::new());
    let shown = Shown::to_clients_of(&authority.server(), &clients);
    let mut side = Stub::text_tls(&shown, SIDE_TEXT).await;
    let client = clients.client();
    let target = json!({
        "name": "side", "url": https(&side), "ca_file": directory.path("ca.pem"),
        "cert_file": directory.path("tls.crt"), "key_file": directory.path("tls.key"),
        "basic_auth": {"username": "u", "password_file": directory.path("password")},
    });
    let sidecar = alone(&target, &[]).await;
    for (option, name, content) in [
        ("ca_file", "ca.pem", authority.pem()),
        ("cert_file", "tls.crt", client.pem.clone()),
        ("key_file", "tls.key", client.key.clone()),
        ("password_file", "password", "p".to_owned()),
    ] {
        let answer = sidecar.scrape(LONG).await;
        assert_eq!(answer.status, 503);
        let expected = format!(
            "side ({}) cannot be asked: {option} {:?}: No such file or directory",
            https(&side),
            directory.path(name)
        );
        assert!(answer.text.contains(&expected), "{expected}\n{}", answer.text);
        directory.write(name, content);
    }
    assert_eq!(side.past_events(), []);
    assert!(has_side(&sidecar.scrape(LONG).await));
    // What is there, and of no use, is named as well.
    for (option, name, content, why) in [
        ("ca_file", "ca.pem", "", "holds no certificate in PEM"),
        ("ca_file", "ca.pem", NO_CERTIFICATE, "holds no certificate that can be read"),
        ("cert_file", "tls.crt", "", "holds no certificate in PEM"),
        ("cert_file", "tls.crt", NO_CERTIFICATE, "holds no certificate that can be read"),
        ("key_file", "tls.key", "", "holds no private key in PEM"),
        ("key_file", "tls.key", clients.client().key.as_str(), "is not the key of the certificate in cert_file"),
        ("password_file", "password", "", "is empty"),
    ] {
        let before = std::fs::read(directory.path(name)).unwrap();
        directory.write(name, content);
        let answer = alone(&target, &[]).await.scrape(LONG).await;
        let expected = format!("{option} {:?}: {why}", directory.path(name));
        assert!(answer.text.contains(&expected), "{expected}\n{}", answer.text);
        directory.write(name, before);
    }
}

#[tokio::test]
async fn credentials_and_headers_are_sent_as_prometheus_sends_them() {
    let directory = Directory::new();
    let mut side = Stub::text(SIDE_TEXT).await;
    let url = format!("http://127.0.0.1:{}/metrics", side.port());
    let password_file = directory.write("password", " pass word\u{e9}:\n");
    let token_file = directory.write("token", "\tto.ken \r\n");
    let basic = |credentials: &str| Some(format!("Basic {}", STANDARD.encode(credentials)));
    for (options, expected) in [
        (json!({}), None),
        (json!({"basic_auth": {"username": "us er", "password_file": password_file}}), basic("us er:pass word\u{e9}:")),
        (json!({"basic_auth": {"username": "user"}}), basic("user:")),
        (json!({"bearer_token_file": token_file}), Some("Bearer to.ken".to_owned())),
    ] {
        let mut target = json!({"name": "side", "url": url, "headers": {"X-Scope": "one", "x-other": "two"}});
        target.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let sidecar = alone(&target, &[]).await;
        assert!(has_side(&sidecar.scrape(LONG).await));
        let head = side.request().await;
        assert_eq!(header(&head, "authorization"), expected.as_deref());
        assert_eq!((header(&head, "x-scope"), header(&head, "x-other")), (Some("one"), Some("two")));
        assert_eq!(header(&head, "user-agent"), Some("Prometheus/2.42.0"));
        assert_eq!(header(&head, "host"), Some(side.address().to_string().as_str()));
    }
}

#[tokio::test]
async fn credentials_go_to_the_target_alone() {
    let directory = Directory::new();
    let mut elsewhere = Stub::text("stolen 1\n").await;
    let there = format!("http://127.0.0.1:{}/metrics", elsewhere.port());
    let mut side = Stub::route(move |head| match head.split(' ').nth(1) {
        Some("/metrics") => vec![answer("302 Found", "location: /within\r\n", b"")],
        _ => vec![answer("302 Found", &format!("location: {there}\r\n"), b"")],
    })
    .await;
    let url = format!("http://127.0.0.1:{}/metrics", side.port());
    let token = directory.write("token", "token");
    let error = refused(&json!({"name": "side", "url": url, "bearer_token_file": token}), &[]).await;
    assert!(error.contains("another server"), "{error}");
    for path in ["/metrics", "/within"] {
        let head = side.request().await;
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
        assert_eq!(header(&head, "authorization"), Some("Bearer token"));
    }
    assert_eq!(elsewhere.past_events(), []);
}

#[tokio::test]
async fn a_target_behind_a_unix_socket_is_asked_for_its_path_and_query() {
    let directory = Directory::new();
    let socket = directory.path("side.sock");
    let token = directory.write("token", "token");
    let address = format!("unix:{}:/prom/metrics?all=1", socket);
    let target = json!({"name": "side", "url": address, "bearer_token_file": token});
    let sidecar = alone(&target, &[]).await;
    let answer = sidecar.scrape(LONG).await;
    assert_eq!(answer.status, 503);
    let expected = format!("side ({address}) cannot be reached: No such file or directory");
    assert!(answer.text.contains(&expected), "{expected}\n{}", answer.text);

    let route = |head: &str| match head.split(' ').nth(1) {
        Some("/prom/metrics?all=1") => vec![answer_to_within()],
        Some("/prom/within") => vec![ok(SIDE_TEXT.as_bytes())],
        _ => vec![answer_not_found()],
    };
    let mut side = Stub::route_unix(&socket, route);
    for _ in 0..2 {
        assert!(has_side(&sidecar.scrape(LONG).await));
    }
    let events = side.past_events();
    let connections = events.iter().filter(|event| **event == Event::Connected).count();
    assert_eq!(connections, 1, "{events:?}");
    for event in &events {
        if let Event::Request(head) = event {
            assert_eq!(
                (header(head, "host"), header(head, "authorization")),
                (Some("localhost"), Some("Bearer token"))
            );
        }
    }
}

fn answer_to_within() -> Step {
    answer("307 Temporary Redirect", "location: within\r\n", b"")
}

fn answer_not_found() -> Step {
    answer("404 Not Found", "", b"")
}

/// Everything that is to be seen by nobody, in each of the forms in which it might be.
fn assert_hidden(text: &str, whence: &str) {
    for secret in ["s3cret", &STANDARD.encode("s3cret")[..8], &STANDARD.encode("name:s3cret-password")[..20]] {
        assert!(!text.contains(secret), "{secret} in {whence}:\n{text}");
    }
    for bytes in ["s3cret", "name:s3cret"] {
        let listed = format!("{:?}", bytes.as_bytes());
        assert!(!text.contains(listed.trim_matches(['[', ']'])), "{bytes} in {whence}:\n{text}");
    }
}

#[tokio::test]
async fn secrets_are_nowhere_to_be_seen() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let issued = authority.server();
    let ca_file = directory.write("ca.pem", authority.pem());
    let others = directory.write("others.pem", Authority::new().pem());
    let cert_file = directory.write("tls.crt", &issued.pem);
    let key_file = directory.write("tls.key", &issued.key);
    let token = directory.write("token", "s3cret-token\n");
    let bad_token = directory.write("bad-token", "s3cret\ntoken");
    let password = directory.write("password", "s3cret-password\n");
    let bad_keys = [
        "s3cret",
        "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nczNjcmV0LXRva2Vu\n-----END PRIVATE KEY-----\n",
        "-----BEGIN s3cret PRIVATE KEY\nczNjcmV0LXRva2Vu\n",
        "-----BEGIN PRIVATE KEY-----\nczNjcmV0LXRva2Vu\n",
    ];
    let bad_keys = bad_keys.iter().enumerate();
    let bad_keys: Vec<_> = bad_keys.map(|(number, key)| directory.write(&format!("bad-{number}.key"), key)).collect();

    let shown = Shown::new(&issued);
    let side = Stub::route_tls(&shown, |head| match head.split([' ', '?']).nth(1) {
        Some("/ok") => vec![ok(SIDE_TEXT.as_bytes())],
        Some("/status") => vec![answer("401 Unauthorized", "", b"")],
        Some("/redirect") => vec![answer("302 Found", "location: http://elsewhere.example/\r\n", b"")],
        Some("/loop") => vec![answer("302 Found", "location: /loop\r\n", b"")],
        Some("/reset") => vec![Step::Reset],
        Some("/close") => vec![Step::Close],
        _ => vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1\n".to_vec()), Step::Close],
    })
    .await;
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", side.port());
    let headers = json!({"x-api-key": "s3cret-header"});
    let basic = json!({"username": "name", "password_file": password});
    let mut targets = Vec::new();
    for (number, path) in ["/status", "/redirect", "/loop", "/reset", "/close", "/broken"].iter().enumerate() {
        targets.push(json!({
            "name": format!("token-{number}"), "url": url(path), "ca_file": ca_file, "headers": headers,
            "bearer_token_file": token, "cert_file": cert_file, "key_file": key_file,
        }));
        targets.push(json!({
            "name": format!("basic-{number}"), "url": url(&format!("{path}?")), "ca_file": ca_file, "headers": headers,
            "basic_auth": basic,
        }));
    }
    for (number, key_file) in bad_keys.iter().enumerate() {
        let name = format!("key-{number}");
        let url = url(&format!("/ok?{name}"));
        targets
            .push(json!({"name": name, "url": url, "ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}));
    }
    targets.extend([
        json!({"name": "ca-other", "url": url("/ok?1"), "ca_file": others, "bearer_token_file": token}),
        json!({"name": "ca-bad", "url": url("/ok?2"), "ca_file": bad_keys[3], "basic_auth": basic}),
        json!({"name": "bad-token", "url": url("/ok?3"), "ca_file": ca_file, "bearer_token_file": bad_token}),
        json!({"name": "socket", "url": "unix:/nowhere:/metrics", "headers": headers, "bearer_token_file": token}),
    ]);
    let count = targets.len();
    let targets = Value::from(targets).to_string();
    let variables =
        [("QPEXT_QUEUE_PROXY_METRICS_PORT", ""), ("QPEXT_TARGETS", targets.as_str()), ("QPEXT_LOG", "trace")];
    let mut sidecar = Sidecar::start(&variables).await;
    let mut log = sidecar.log_before_serving.join("\n");
    let answer = sidecar.scrape(LONG).await;
    // A body that breaks off behind a whole line is an answer.
    assert_eq!(answer.status, 200);
    assert_hidden(&answer.text, "the answer");
    sidecar.signal("TERM").await;
    log.push_str(&sidecar.rest_of_log().await);
    assert_eq!(log.matches("target failed").count(), count, "{log}");
    assert_hidden(&log, "the log");

    let config = Config::from_variables(variables).unwrap();
    assert_hidden(&format!("{config:?}\n{config:#?}"), "Config");
    let aggregator = Aggregator::new(&config);
    drop(aggregator.scrape(&HeaderMap::new()).await);
    assert_hidden(&format!("{aggregator:?}\n{aggregator:#?}"), "Aggregator");

    // The same without the target that has an answer: what each did is the answer.
    let failing: Vec<Value> = serde_json::from_str(&targets).unwrap();
    let failing = failing.into_iter().filter(|target| !target["url"].as_str().unwrap().contains("/broken"));
    let failing = Value::from_iter(failing).to_string();
    let variables = [variables[0], ("QPEXT_TARGETS", failing.as_str())];
    let answer = Sidecar::start(&variables).await.scrape(LONG).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text.contains("401 Unauthorized"), "{}", answer.text);
    assert_hidden(&answer.text, "the answer that says what each did");
    let config = Config::from_variables(variables).unwrap();
    let aggregator = Aggregator::new(&config);
    let failures = aggregator.scrape(&HeaderMap::new()).await.err().unwrap();
    assert_hidden(&format!("{failures:?}"), "Failure");
}
