//! Who is let in: TLS, certificates, tokens; and what those cost who are not.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::sidecar::clients::are_answered_in_turn;
use crate::support::certificates::{Authority, Certificate};
use crate::support::directory::Directory;
use crate::support::prometheus::Prometheus;
use crate::support::scraper::Scraper;
use crate::support::sidecar::{Answer, Sidecar, client, resident_kilobytes, run};
use crate::support::stub::{Event, Step, Stub, in_two_parts, ok};
use crate::support::{POLL, bodies};

const APP_TEXT: &str = "# TYPE app_requests_total counter\napp_requests_total 3\n";
const TOKEN: &str = "correct-horse-battery-staple";
const NEXT_TOKEN: &str = "tr0ub4dor-and-3";

/// An authority, a sidecar whose certificate it signed, and the files of both.
struct Pod {
    authority: Authority,
    directory: Directory,
    sidecar: Sidecar,
}

/// What a pod's sidecar asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Asks {
    certificate: bool,
    token: bool,
}

impl Pod {
    /// Serves TLS, and asks for what it is told to ask for.
    async fn start(app: &Stub, asks: Asks, variables: &[(&str, &str)]) -> Self {
        let (authority, directory) = (Authority::new(), Directory::new());
        let own = authority.server();
        let certificate = directory.write("tls.crt", &own.pem);
        let key = directory.write("tls.key", &own.key);
        let mut all = vec![("QPEXT_TLS_CERT_FILE", certificate.as_str()), ("QPEXT_TLS_KEY_FILE", &key)];
        let (client_authority, token) = (directory.write("ca.crt", authority.pem()), directory.write("token", TOKEN));
        if asks.certificate {
            all.push(("QPEXT_TLS_CLIENT_CA_FILE", &client_authority));
        }
        if asks.token {
            all.push(("QPEXT_BEARER_TOKEN_FILE", &token));
        }
        all.extend_from_slice(variables);
        let sidecar = sidecar_for(app, &all).await;
        Self { authority, directory, sidecar }
    }

    /// A scraper without a certificate.
    fn scraper(&self) -> Scraper {
        Scraper::new(&self.authority)
    }

    fn port(&self) -> u16 {
        self.sidecar.port
    }
}

/// A sidecar with one target, the application.
async fn sidecar_for(app: &Stub, variables: &[(&str, &str)]) -> Sidecar {
    let port = app.port().to_string();
    let mut all =
        vec![("KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", port.as_str()), ("QPEXT_QUEUE_PROXY_METRICS_PORT", "")];
    all.extend_from_slice(variables);
    Sidecar::start(&all).await
}

/// A sidecar on plain HTTP that asks for a token.
async fn sidecar_with_token(app: &Stub, variables: &[(&str, &str)]) -> (Sidecar, Directory) {
    let directory = Directory::new();
    let token = directory.write("token", format!("{TOKEN}\n"));
    let mut all = vec![("QPEXT_BEARER_TOKEN_FILE", token.as_str())];
    all.extend_from_slice(variables);
    (sidecar_for(app, &all).await, directory)
}

/// Asks over plain HTTP, with this `Authorization`.
async fn ask(sidecar: &Sidecar, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = client().get(sidecar.url(path));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a whole answer");
    Answer { status, headers, text }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Does `attempt` again until what it gives is `expected`: files are read again a second later, on the next connection or
/// request.
async fn until<T: PartialEq, F: Future<Output = T>>(expected: T, mut attempt: impl FnMut() -> F) {
    while attempt().await != expected {
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test]
async fn scrapers_of_both_versions_of_tls_get_their_answers() {
    let app = Stub::text(APP_TEXT).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    assert!(pod.sidecar.log_before_serving.last().unwrap().contains("\"tls\":true"));
    for version in [&TLS12, &TLS13] {
        let scraper = Scraper::with(&[version], &pod.authority, None);
        for _ in 0..2 {
            let mut connection = scraper.connect(pod.port()).await;
            for _ in 0..3 {
                assert_eq!(connection.get("/metrics", &[]).await.unwrap().text, APP_TEXT);
            }
            assert_eq!(connection.get("/healthz", &[]).await.unwrap().text, "ok\n");
        }
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole_over_tls() {
    let body = bodies::vllm(8 << 20);
    let app = Stub::text(body.clone()).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    let answer = pod.scraper().get(pod.port(), "/metrics", &[]).await;
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&answer.text), samples(std::str::from_utf8(&body).unwrap()));
}

#[tokio::test]
async fn who_speaks_no_tls_is_cut_off_and_costs_nobody_anything() {
    let app = Stub::text(APP_TEXT).await;
    let mut pod = Pod::start(&app, Asks::default(), &[]).await;
    for bytes in
        [&b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"\x00\x01\x02\x03\x04\x05\x06\x07", b"\x16\x03\x01\xff\xff"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", pod.port())).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "at most an alert");
    }
    // Told once for a while, with what is most likely to be mended.
    let log = pod.sidecar.logged("handshake came to nothing").await;
    assert!(log.contains("127.0.0.1") && log.contains("scheme is to be https"), "{log}");
    assert_eq!(pod.scraper().get(pod.port(), "/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn requests_of_one_record_are_answered_in_turn() {
    let app = Stub::text(APP_TEXT).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    // It ends with a close_notify, without which the last read would fail.
    are_answered_in_turn(pod.scraper().stream(pod.port()).await.unwrap()).await;
}

#[tokio::test]
async fn a_scraper_that_leaves_over_tls_cancels_its_scrapes() {
    let mut app = Stub::start(vec![Step::Hang]).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nx-prometheus-scrape-timeout-seconds: 3000\r\n\r\n";
    for (behind, says_so) in [("", false), ("", true), ("GET /metrics HT", true)] {
        let mut stream = pod.scraper().stream(pod.port()).await.unwrap();
        stream.write_all(format!("{head}{behind}").as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        app.request().await;
        if says_so {
            stream.shutdown().await.unwrap();
        }
        drop(stream);
        app.gone().await;
    }
}

/// Puts a new certificate where the sidecar's was, while scrapers with kept and with new connections go on.
async fn rotate_while_scrapes_run(pod: &Pod, rotate: impl FnOnce(&Certificate)) {
    let scraper = pod.scraper();
    let mut kept = scraper.connect(pod.port()).await;
    let next = pod.authority.server();
    let mut rotate = Some(rotate);
    let mut scrapes = 0;
    loop {
        let mut fresh = scraper.connect(pod.port()).await;
        for connection in [&mut kept, &mut fresh] {
            let answer = connection.get("/metrics", &[]).await.expect("no scrape is lost");
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, APP_TEXT));
        }
        if fresh.served == next.der() {
            break;
        }
        scrapes += 1;
        if scrapes == 10 {
            rotate.take().expect("once")(&next);
        }
    }
    assert!(scrapes >= 10, "the old one was served before");
}

#[tokio::test]
async fn a_certificate_that_is_written_over_is_served_and_no_scrape_is_lost() {
    let app = Stub::text(APP_TEXT).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    for _ in 0..2 {
        rotate_while_scrapes_run(&pod, |next| {
            pod.directory.write("tls.crt", &next.pem);
            pod.directory.write("tls.key", &next.key);
        })
        .await;
    }
}

#[tokio::test]
async fn a_certificate_that_a_kubelet_exchanges_is_served_and_no_scrape_is_lost() {
    let app = Stub::text(APP_TEXT).await;
    let (authority, directory) = (Authority::new(), Directory::new());
    let mount = |certificate: &Certificate| {
        directory.mount(&[("crt", &certificate.pem), ("key", &certificate.key)]);
    };
    mount(&authority.server());
    let variables = [("QPEXT_TLS_CERT_FILE", &*directory.path("crt")), ("QPEXT_TLS_KEY_FILE", &*directory.path("key"))];
    let sidecar = sidecar_for(&app, &variables).await;
    let pod = Pod { authority, directory: Directory::new(), sidecar };
    rotate_while_scrapes_run(&pod, mount).await;
    rotate_while_scrapes_run(&pod, mount).await;
}

#[tokio::test]
async fn half_a_rotation_keeps_the_certificate_and_is_told_once() {
    let app = Stub::text(APP_TEXT).await;
    let mut pod = Pod::start(&app, Asks::default(), &[]).await;
    let (scraper, port) = (pod.scraper(), pod.port());
    let old = scraper.connect(port).await.served;
    let next = pod.authority.server();
    let scrape_on = async || {
        loop {
            let mut connection = scraper.connect(port).await;
            assert_eq!(connection.served, old);
            assert_eq!(connection.get("/metrics", &[]).await.unwrap().status, 200);
        }
    };
    let torn = &next.key[..next.key.len() / 2];
    for (name, contents, variable) in [
        ("tls.crt", Some(next.pem.as_str()), "QPEXT_TLS_KEY_FILE"),
        ("tls.key", Some(torn), "QPEXT_TLS_KEY_FILE"),
        ("tls.key", Some(""), "QPEXT_TLS_KEY_FILE"),
        ("tls.crt", Some("no certificate"), "QPEXT_TLS_CERT_FILE"),
        ("tls.crt", None, "QPEXT_TLS_CERT_FILE"),
    ] {
        match contents {
            Some(contents) => pod.directory.replace(name, contents),
            None => std::fs::remove_file(pod.directory.path(name)).unwrap(),
        }
        // The next line about files, so that there is one for each change.
        let told = tokio::select! {
            told = pod.sidecar.logged("files changed") => told,
            () = scrape_on() => unreachable!("it goes on"),
        };
        assert!(told.contains("what they held before stays in use"), "{told}");
        assert!(told.contains(variable), "{told}");
        assert!(!told.contains(&next.key[30..60]), "no key is logged");
        let page = scraper.get(port, "/", &[]).await.text;
        assert!(page.contains("A file cannot be used, and what it held before still is: QPEXT_TLS"), "{page}");
        let status = scraper.get(port, "/status.json", &[]).await.text;
        let status: Value = serde_json::from_str(&status).expect("it is JSON");
        let stale = status["stale_files"][0].as_str().expect("there is one");
        assert!(stale.starts_with(variable) && !stale.contains(&next.key[30..60]), "{stale}");
    }
    pod.directory.write("tls.crt", &next.pem);
    pod.directory.write("tls.key", &next.key);
    until(next.der(), async || scraper.connect(port).await.served).await;
    let page = scraper.get(port, "/", &[]).await.text;
    assert!(!page.contains("A file cannot be used"), "{page}");
}

#[tokio::test]
async fn an_authority_whose_time_is_over_vouches_for_nobody() {
    let mut app = Stub::text(APP_TEXT).await;
    let (former, directory) = (Authority::former(), Directory::new());
    for beside in [String::new(), Authority::called("beside").pem()] {
        let both = directory.write("both.pem", former.pem() + &beside);
        let pod = Pod::start(&app, Asks::default(), &[("QPEXT_TLS_CLIENT_CA_FILE", &both)]).await;
        let scraper = Scraper::with(&[&TLS13], &pod.authority, Some(&former.client()));
        assert_eq!(scraper.get(pod.port(), "/metrics", &[]).await.status, 401);
    }
    assert_eq!(app.past_events(), []);

    let both = directory.write("both.pem", Authority::new().pem() + &former.pem());
    let own = Authority::called("own");
    let all = directory.write("all.pem", own.pem() + &std::fs::read_to_string(both).expect("it was written"));
    let pod = Pod::start(&app, Asks::default(), &[("QPEXT_TLS_CLIENT_CA_FILE", &all)]).await;
    let scraper = Scraper::with(&[&TLS13], &pod.authority, Some(&own.client()));
    assert_eq!(scraper.get(pod.port(), "/metrics", &[]).await.status, 200, "the others do");
}

#[tokio::test]
async fn a_certificate_of_the_authority_is_needed_for_all_but_healthz() {
    let mut app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let other = Authority::called("other");
    // One of the same name as the right one.
    let namesake = Authority::new();
    for version in [&TLS12, &TLS13] {
        for certificate in [
            None,
            Some(other.client()),
            Some(namesake.client()),
            Some(pod.authority.former_client()),
            // The sidecar's own kind: for servers, not for who asks.
            Some(pod.authority.server()),
        ] {
            let scraper = Scraper::with(&[version], &pod.authority, certificate.as_ref());
            for path in ["/metrics", "/", "/nothing", "/healthz/x", "/metrics?x"] {
                let refused = scraper.get(pod.port(), path, &[]).await;
                assert_eq!(refused.status, 401, "{path}");
                assert_eq!(refused.text, "expected a client certificate of the right authority\n");
                assert_eq!(refused.headers["connection"], "close");
                assert!(!refused.headers.contains_key("www-authenticate"));
            }
            assert_eq!(scraper.get(pod.port(), "/healthz", &[]).await.status, 200);
        }
        assert_eq!(app.past_events(), []);
        let right = Scraper::with(&[version], &pod.authority, Some(&pod.authority.client()));
        assert_eq!(right.get(pod.port(), "/metrics", &[]).await.text, APP_TEXT);
        assert_eq!(right.get(pod.port(), "/nothing", &[]).await.status, 404);
        app.request().await;
        app.past_events();
    }
}

#[tokio::test]
async fn a_certificate_that_is_its_own_authority_is_taken_where_the_file_has_it() {
    let app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let (own, like_it) = (Certificate::self_signed(), Certificate::self_signed());
    let former = Certificate::formerly_self_signed();
    let listed = pod.authority.pem() + &own.pem + &former.pem;
    pod.directory.write("ca.crt", listed);
    let status = async |certificate: &Certificate| {
        let scraper = Scraper::with_certificate(&pod.authority, certificate);
        scraper.get(pod.port(), "/metrics", &[]).await.status.as_u16()
    };
    until(200, async || status(&own).await).await;
    assert_eq!(status(&pod.authority.client()).await, 200);
    assert_eq!(status(&like_it).await, 401);
    assert_eq!(status(&former).await, 401);
}

#[tokio::test]
async fn a_certificate_that_nobody_can_read_is_told_of() {
    let mut app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let mut pod = Pod::start(&app, asks, &[]).await;
    // As a probe does, whose refusals do not keep those of others from being told.
    assert_eq!(pod.scraper().get(pod.port(), "/readyz", &[]).await.status, 401);
    let log = pod.sidecar.logged("a request was refused").await;
    assert!(log.contains("it has no certificate"), "{log}");
    let certificate = pod.authority.client_of_version_1();
    for version in [&TLS12, &TLS13] {
        let scraper = Scraper::with(&[version], &pod.authority, Some(&certificate));
        assert_eq!(scraper.get(pod.port(), "/metrics", &[]).await.status, 401);
        assert_eq!(scraper.get(pod.port(), "/healthz", &[]).await.status, 200);
    }
    assert_eq!(app.past_events(), []);
    let log = pod.sidecar.logged("a request was refused").await;
    assert!(log.contains("another version of X.509 than the third"), "{log}");
}

#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let mut app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let (right, own) = (pod.authority.client(), pod.authority.client());
    let seen = Certificate { pem: right.pem, key: own.key };
    for version in [&TLS12, &TLS13] {
        let scraper = Scraper::with(&[version], &pod.authority, Some(&seen));
        // In TLS 1.3 a client knows only later that its handshake came to nothing.
        let mut answer = Vec::new();
        if let Ok(mut stream) = scraper.stream(pod.port()).await {
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            stream.read_to_end(&mut answer).await.unwrap_err();
        }
        assert_eq!(answer, b"");
    }
    assert_eq!(app.past_events(), []);
}

#[tokio::test]
async fn an_authority_that_changes_is_asked_anew_on_a_kept_connection() {
    let app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let next = Authority::called("next");
    let old_scraper = Scraper::with_certificate(&pod.authority, &pod.authority.client());
    let new_scraper = Scraper::with_certificate(&pod.authority, &next.client());
    let mut kept = old_scraper.connect(pod.port()).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 200);
    assert_eq!(new_scraper.get(pod.port(), "/metrics", &[]).await.status, 401);

    // Both, as one does while scrapers change over.
    pod.directory.write("ca.crt", pod.authority.pem() + &next.pem());
    until(200, async || new_scraper.get(pod.port(), "/metrics", &[]).await.status.as_u16()).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 200);

    pod.directory.write("ca.crt", next.pem());
    let fresh = async || old_scraper.get(pod.port(), "/metrics", &[]).await.status.as_u16();
    until(401, fresh).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 401);
    assert!(kept.get("/metrics", &[]).await.is_err(), "it is to connect anew");

    // Where only a kept connection asks, its requests have the file read again.
    let mut kept = new_scraper.connect(pod.port()).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 200);
    pod.directory.write("ca.crt", pod.authority.pem());
    while kept.get("/metrics", &[]).await.unwrap().status == 200 {}
    assert_eq!(old_scraper.get(pod.port(), "/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn the_right_token_is_needed_for_all_but_healthz() {
    let mut app = Stub::text(APP_TEXT).await;
    let (sidecar, _directory) = sidecar_with_token(&app, &[]).await;
    for authorization in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer wrong"),
        Some(&*bearer(&TOKEN[1..])),
        Some(&*bearer(&format!("{TOKEN}x"))),
        Some(&*bearer(&TOKEN.to_uppercase())),
        Some(&*format!("Basic {TOKEN}")),
        Some(TOKEN),
    ] {
        for path in ["/metrics", "/", "/nothing", "/healthz/", "//healthz", "/Healthz"] {
            let refused = ask(&sidecar, path, authorization).await;
            assert_eq!(refused.status, 401, "{path} {authorization:?}");
            assert_eq!(refused.text, "expected a bearer token\n");
            assert_eq!(refused.headers["www-authenticate"], "Bearer");
        }
        assert_eq!(ask(&sidecar, "/healthz", authorization).await.status, 200);
    }
    let posted = client().post(sidecar.url("/metrics")).body("body").send().await.unwrap();
    assert_eq!(posted.status(), 401);
    assert_eq!(app.past_events(), [], "none of them cost a scrape");
    for authorization in [bearer(TOKEN), format!("bearer {TOKEN}"), format!("BEARER   {TOKEN}")] {
        assert_eq!(ask(&sidecar, "/metrics", Some(&authorization)).await.text, APP_TEXT);
        assert_eq!(ask(&sidecar, "/nothing", Some(&authorization)).await.status, 404);
    }
}

#[tokio::test]
async fn a_token_that_changes_is_asked_for_and_one_that_is_gone_stays() {
    let app = Stub::text(APP_TEXT).await;
    let (mut sidecar, directory) = sidecar_with_token(&app, &[]).await;
    let status = async |token: &str| ask(&sidecar, "/metrics", Some(&bearer(token))).await.status.as_u16();
    assert_eq!([status(TOKEN).await, status(NEXT_TOKEN).await], [200, 401]);
    directory.write("token", NEXT_TOKEN);
    until(200, async || status(NEXT_TOKEN).await).await;
    assert_eq!(status(TOKEN).await, 401);

    let url = sidecar.url("/metrics");
    for contents in [Some("\n"), None] {
        match contents {
            Some(contents) => directory.replace("token", contents),
            None => std::fs::remove_file(directory.path("token")).unwrap(),
        }
        let ask_on = async || {
            loop {
                for (token, status) in [(NEXT_TOKEN, 200), ("", 401)] {
                    let request = client().get(&url).header("authorization", bearer(token));
                    assert_eq!(request.send().await.unwrap().status(), status);
                }
            }
        };
        let told = tokio::select! {
            told = sidecar.logged("what they held before stays in use") => told,
            () = ask_on() => unreachable!("it goes on"),
        };
        assert!(told.contains("QPEXT_BEARER_TOKEN_FILE"), "{told}");
    }
}

#[tokio::test]
async fn where_both_are_configured_both_are_needed() {
    let mut app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, token: true };
    let pod = Pod::start(&app, asks, &[]).await;
    let (with, without) = (Scraper::with_certificate(&pod.authority, &pod.authority.client()), pod.scraper());
    let (right, wrong) = (bearer(TOKEN), bearer("wrong"));
    for (scraper, authorization) in [(&with, &wrong), (&without, &right), (&without, &wrong)] {
        let refused = scraper.get(pod.port(), "/metrics", &[("authorization", authorization)]).await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.text, "expected a bearer token, and a client certificate of the right authority\n");
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    assert_eq!(app.past_events(), []);
    let answer = with.get(pod.port(), "/metrics", &[("authorization", &right)]).await;
    assert_eq!(answer.text, APP_TEXT);
    assert_eq!(without.get(pod.port(), "/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn a_refused_request_takes_no_place() {
    let go = Arc::new(Semaphore::new(0));
    let mut app = Stub::start(vec![Step::Await(Arc::clone(&go)), ok(APP_TEXT.as_bytes())]).await;
    let (sidecar, _directory) = sidecar_with_token(&app, &[("QPEXT_MAX_CONCURRENT_SCRAPES", "1")]).await;
    let right = bearer(TOKEN);
    let mut running = Box::pin(ask(&sidecar, "/metrics", Some(&right)));
    tokio::select! {
        _ = &mut running => panic!("the application does not answer yet"),
        _ = app.request() => {}
    }
    // The only place is taken, and who is refused is not told so.
    assert_eq!(ask(&sidecar, "/metrics", Some("Bearer wrong")).await.status, 401);
    assert_eq!(ask(&sidecar, "/metrics", Some(&right)).await.status, 503);
    go.add_permits(1);
    assert_eq!(running.await.text, APP_TEXT);
}

#[tokio::test]
async fn wrong_tokens_at_any_rate_cost_no_scrape_and_fill_no_log() {
    let mut app = Stub::text(APP_TEXT).await;
    let (mut sidecar, _directory) = sidecar_with_token(&app, &[]).await;
    let mut guessing = tokio::task::JoinSet::new();
    for guesser in 0..10 {
        let (client, url) = (client(), sidecar.url("/metrics"));
        guessing.spawn(async move {
            for guess in 0..200 {
                let request = client.get(&url).header("authorization", format!("Bearer {guesser}-{guess}"));
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 401);
                answer.bytes().await.unwrap();
            }
        });
    }
    while let Some(guessed) = guessing.join_next().await {
        guessed.unwrap();
    }
    assert_eq!(app.past_events(), []);
    assert_eq!(ask(&sidecar, "/metrics", Some(&bearer(TOKEN))).await.status, 200);
    assert_eq!(app.request().await.to_lowercase().matches("authorization").count(), 0, "the token stays here");
    sidecar.signal("TERM").await;
    let log = sidecar.rest_of_log().await;
    let lines = log.lines().filter(|line| line.contains("its bearer token is wrong")).count();
    assert!((1..=20).contains(&lines), "{lines} lines for 2000 requests");
}

#[tokio::test]
async fn files_that_are_no_good_end_the_start_with_64_and_one_line() {
    let (authority, directory) = (Authority::new(), Directory::new());
    let (own, another) = (authority.server(), authority.server());
    let good = |name: &str| match name {
        "QPEXT_TLS_CERT_FILE" => directory.write("tls.crt", &own.pem),
        "QPEXT_TLS_KEY_FILE" => directory.write("tls.key", &own.key),
        "QPEXT_TLS_CLIENT_CA_FILE" => directory.write("ca.crt", authority.pem()),
        _ => directory.write("token", TOKEN),
    };
    let large = directory.write("large", "x".repeat((1 << 20) + 1));
    // A key whose line breaks were lost: no message may quote it.
    let flat = directory.write("flat.key", own.key.replace('\n', " "));
    let cases = [
        ("QPEXT_TLS_CERT_FILE", directory.path("missing"), "a file that can be used: No such file"),
        ("QPEXT_TLS_CERT_FILE", directory.path(""), "a file that can be used: it is no file"),
        ("QPEXT_TLS_CERT_FILE", "/dev/zero".to_owned(), "a file that can be used: it is no file"),
        ("QPEXT_TLS_CERT_FILE", large.clone(), "a file that can be used: it has more than 1 MiB"),
        ("QPEXT_TLS_CERT_FILE", directory.write("empty", ""), "a file that can be used: holds no certificate in PEM"),
        (
            "QPEXT_TLS_CERT_FILE",
            directory.write("none", "none"),
            "a file that can be used: holds no certificate in PEM",
        ),
        ("QPEXT_TLS_KEY_FILE", directory.path("missing"), "a file that can be used: No such file"),
        ("QPEXT_TLS_KEY_FILE", directory.path("empty"), "a file that can be used: holds no private key in PEM"),
        ("QPEXT_TLS_KEY_FILE", flat, "a file that can be used: holds no private key in PEM"),
        ("QPEXT_TLS_KEY_FILE", directory.path("tls.crt"), "a file that can be used: holds no private key in PEM"),
        (
            "QPEXT_TLS_KEY_FILE",
            directory.write("another.key", &another.key),
            "a file that can be used: is not the key of the certificate in QPEXT_TLS_CERT_FILE",
        ),
        ("QPEXT_TLS_CLIENT_CA_FILE", directory.path("missing"), "a file that can be used: No such file"),
        ("QPEXT_TLS_CLIENT_CA_FILE", directory.path("empty"), "a file that can be used: holds no certificate in PEM"),
        ("QPEXT_TLS_CLIENT_CA_FILE", directory.path("tls.key"), "a file that can be used: holds no certificate in PEM"),
        ("QPEXT_BEARER_TOKEN_FILE", directory.path("missing"), "a file that can be used: No such file"),
        ("QPEXT_BEARER_TOKEN_FILE", directory.path("empty"), "a file that can be used: is empty"),
        ("QPEXT_BEARER_TOKEN_FILE", directory.write("blank", " \r\n"), "a file that can be used: is empty"),
        (
            "QPEXT_BEARER_TOKEN_FILE",
            directory.write("lines", "two-good\nsecrets"),
            "a file that can be used: holds bytes that no header may have",
        ),
    ];
    for (bad, path, expected) in &cases {
        let variables =
            ["QPEXT_TLS_CERT_FILE", "QPEXT_TLS_KEY_FILE", "QPEXT_TLS_CLIENT_CA_FILE", "QPEXT_BEARER_TOKEN_FILE"];
        let variables = variables.map(|name| (name, if name == *bad { path.clone() } else { good(name) }));
        let variables = variables.each_ref().map(|(name, path)| (*name, path.as_str()));
        let (status, said) = run(&variables).await;
        assert_eq!(status, 64, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with(&format!("qpext: {bad}={path:?}: expected {expected}")), "{said}");
        for secret in [&own.key[40..80], &another.key[40..80], TOKEN, "two-good"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, token: true };
    let mut pod = Pod::start(&app, asks, &[("QPEXT_LOG", "trace")]).await;
    let certificate = pod.authority.client();
    let scraper = Scraper::with_certificate(&pod.authority, &certificate);
    let key = std::fs::read_to_string(pod.directory.path("tls.key")).unwrap();
    for (token, status) in [(TOKEN, 200), ("a-wrong-guess", 401)] {
        let authorization = bearer(token);
        let answer = scraper.get(pod.port(), "/metrics", &[("authorization", &authorization)]).await;
        assert_eq!(answer.status, status);
    }
    pod.directory.write("token", NEXT_TOKEN);
    let authorization = bearer(NEXT_TOKEN);
    let headers = [("authorization", authorization.as_str())];
    until(200, async || scraper.get(pod.port(), "/metrics", &headers).await.status.as_u16()).await;
    pod.sidecar.signal("TERM").await;
    let mut log = pod.sidecar.log_before_serving.join("\n");
    log += &pod.sidecar.rest_of_log().await;
    assert!(log.contains("its bearer token is wrong"), "{log}");
    for secret in [TOKEN, NEXT_TOKEN, "a-wrong-guess", &key[40..80], "PRIVATE KEY"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[tokio::test]
async fn a_stop_waits_for_an_answer_and_for_nobody_who_only_connected() {
    let go = Arc::new(Semaphore::new(0));
    let mut app = Stub::start(in_two_parts(b"before 1\n", &go, b"after 2\n")).await;
    let mut pod = Pod::start(&app, Asks::default(), &[]).await;
    let silent = TcpStream::connect(("127.0.0.1", pod.port())).await.unwrap();
    let secured = pod.scraper().stream(pod.port()).await.unwrap();
    let (scraper, port) = (pod.scraper(), pod.port());
    let running = tokio::spawn(async move { scraper.get(port, "/metrics", &[]).await });
    app.request().await;
    pod.sidecar.signal("TERM").await;
    pod.sidecar.logged("stopping").await;
    go.add_permits(1);
    assert_eq!(running.await.unwrap().text, "before 1\nafter 2\n");
    assert_eq!(pod.sidecar.ended().await.code(), Some(0));
    drop((silent, secured));
}

/// A client's first bytes, without the last of them: a handshake that never goes on.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn two_thousand_connections_of_one_client_keep_no_scraper_out() {
    let app = Stub::text(APP_TEXT).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    let scraper = pod.scraper();
    let mut kept = Vec::new();
    for count in 1..=2000 {
        let mut stream = TcpStream::connect(("127.0.0.1", pod.port())).await.unwrap();
        if count % 2 == 0 {
            stream.write_all(HALF_A_HELLO).await.unwrap();
        }
        kept.push(stream);
        // The last of all to ask finds everybody put out who was to be.
        if count % 100 == 0 {
            assert_eq!(scraper.get(pod.port(), "/metrics", &[]).await.status, 200);
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", pod.sidecar.id())).unwrap().count();
    assert!(open < 300, "{open} file descriptors");
    // Who is left of them is put out after its ten seconds.
    for mut stream in kept {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(scraper.get(pod.port(), "/metrics", &[]).await.status, 200);
}

#[tokio::test]
async fn a_neighbour_that_needs_room_loses_its_own_connections() {
    let app = Stub::text(APP_TEXT).await;
    let pod = Pod::start(&app, Asks::default(), &[]).await;
    // They were there first, and have been quiet longest: one that has had its answer, and one inside its handshake.
    let from_elsewhere = async || TcpStream::connect(("::1", pod.port())).await.unwrap();
    let mut kept = pod.scraper().connect_over(from_elsewhere().await).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 200);
    let begun = from_elsewhere().await;
    let mut neighbours = Vec::new();
    for count in 0..600 {
        // Whoever is inside the pod may call from any of these.
        let socket = TcpSocket::new_v4().unwrap();
        let address = std::net::Ipv4Addr::new(127, 0, 1 + (count / 250) as u8, 1 + (count % 250) as u8);
        socket.bind((address, 0).into()).unwrap();
        let address = format!("127.0.0.1:{}", pod.port()).parse().unwrap();
        neighbours.push(socket.connect(address).await.unwrap());
    }
    // One of its own had to leave, so more came than there was room for.
    let _ = neighbours[300].read(&mut [0]).await;
    assert_eq!(kept.get("/metrics", &[]).await.unwrap().status, 200);
    pod.scraper().connect_over(begun).await;
}

#[tokio::test]
async fn a_head_has_its_limits_over_tls_too() {
    let app = Stub::text(APP_TEXT).await;
    let asks = Asks { token: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let large = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(64 << 10));
    let flood = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for head in [large, flood] {
        let mut stream = pod.scraper().stream(pod.port()).await.unwrap();
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    // One that is never whole: its time is that of the handshake and the head together.
    let mut slow = pod.scraper().stream(pod.port()).await.unwrap();
    slow.write_all(b"GET /healthz HT").await.unwrap();
    let mut nothing = Vec::new();
    let _ = slow.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn five_hundred_scrapes_at_once_ask_the_targets_as_often_as_is_allowed() {
    let go = Arc::new(Semaphore::new(0));
    let mut app = Stub::start(vec![Step::Await(Arc::clone(&go)), ok(APP_TEXT.as_bytes())]).await;
    let sidecar = sidecar_for(&app, &[("QPEXT_MAX_CONCURRENT_SCRAPES", "3")]).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let port = sidecar.port;
        asking.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let head = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = Vec::new();
            // More connections than there may be: some are put out before they are answered.
            if stream.write_all(head).await.is_ok() {
                let _ = stream.read_to_end(&mut answer).await;
            }
            String::from_utf8(answer).unwrap()
        });
    }
    for _ in 0..3 {
        app.request().await;
    }
    for _ in 3..500 {
        let answer = asking.join_next().await.unwrap().unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    let is_request = |event: &Event| matches!(event, Event::Request(_));
    assert!(!app.past_events().iter().any(is_request), "three were allowed");
    go.add_permits(3);
    while let Some(answer) = asking.join_next().await {
        assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn what_a_hostile_neighbour_does_at_once_is_bounded_in_memory() {
    let app = Stub::text(bodies::vllm(64 << 20)).await;
    let asks = Asks { certificate: true, ..Asks::default() };
    let pod = Pod::start(&app, asks, &[]).await;
    let idle = resident_kilobytes(pod.sidecar.id(), "VmRSS:");
    let neighbour = Scraper::with_certificate(&pod.authority, &pod.authority.client_of_names(600));
    let (mut kept, mut begun) = (Vec::new(), Vec::new());
    // Every place is taken by who asks and does not read, every connection by who has shown as much certificate as is
    // kept, and sends as much head as is read.
    for count in 0..2 * 256 {
        let mut stream = neighbour.stream(pod.port()).await.unwrap();
        let head = match count {
            ..8 => "GET /metrics HTTP/1.1\r\nhost: x\r\naccept-encoding: zstd\r\n\r\n".to_owned(),
            _ => format!("GET /metrics HTTP/1.1\r\nx: {}", "x".repeat(15 << 10)),
        };
        stream.write_all(head.as_bytes()).await.unwrap();
        kept.push(stream);
    }
    // And then as much of a first message as a handshake may have, which is never whole.
    let mut hello = [b"\x16\x03\x01\x40\x00\x01\x00\xff\xff".as_slice(), &[0; (16 << 10) - 4]].concat();
    for _ in 1..3 {
        hello.extend_from_slice(b"\x16\x03\x01\x40\x00");
        hello.extend_from_slice(&[0; 16 << 10]);
    }
    for _ in 0..2 * 256 {
        let mut stream = TcpStream::connect(("127.0.0.1", pod.port())).await.unwrap();
        let _ = stream.write_all(&hello).await;
        begun.push(stream);
    }
    let answer = neighbour.get(pod.port(), "/healthz", &[]).await;
    assert_eq!(answer.status, 200);
    let peak = resident_kilobytes(pod.sidecar.id(), "VmHWM:");
    println!("{idle} kB resident before, {peak} kB at the peak");
    assert!(peak < 64 << 10, "{idle} kB, {peak} kB");
}

#[tokio::test]
async fn a_real_prometheus_scrapes_with_a_certificate_and_a_token() {
    let app = Stub::text(APP_TEXT).await;
    let asks = Asks { certificate: true, token: true };
    let pod = Pod::start(&app, asks, &[]).await;
    let own = pod.authority.client();
    let (certificate, key) = (pod.directory.write("client.crt", &own.pem), pod.directory.write("client.key", &own.key));
    let (authority, token) = (pod.directory.path("ca.crt"), pod.directory.path("token"));
    let job = |name: &str, tls: &str, authorization: &str| {
        format!(
            "- {{job_name: {name}, scheme: https, tls_config: {{ca_file: {authority}{tls}}}, {authorization} \
             static_configs: [{{targets: ['127.0.0.1:{}']}}]}}\n",
            pod.port()
        )
    };
    let (shown, told) = (
        format!(", cert_file: {certificate}, key_file: {key}"),
        format!("authorization: {{credentials_file: {token}}},"),
    );
    let jobs = [job("both", &shown, &told), job("no_token", &shown, ""), job("no_certificate", "", &told)];
    let prometheus = Prometheus::start(&jobs.concat()).await;
    assert_eq!(prometheus.value("up{job=\"both\"}").await, 1.0);
    assert_eq!(prometheus.value("app_requests_total").await, 3.0);
    for job in ["no_token", "no_certificate"] {
        assert_eq!(prometheus.value(&format!("up{{job=\"{job}\"}}")).await, 0.0);
    }
}
