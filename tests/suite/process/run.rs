//! `qpext run`: the program comes first, and nothing that the metrics do reaches it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Output, Stdio};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use crate::support::directory::Directory;
use crate::support::port::Port;
use crate::support::sidecar::{PROGRAM, command, port_served, scrape};
use crate::support::stub::{Step, Stub, in_two_parts};

const LONG: f64 = 60.0;

/// Aggregation is on, at a port that is free.
const ON: (&str, &str) = ("AGGREGATE_PROMETHEUS_METRICS_PORT", "0");

/// The end of a shell's program that waits for the end of its input, and runs its traps meanwhile.
const AWAIT_END: &str = "exec 3<&0; cat <&3 & while kill -0 $! 2>&3; do wait $!; done; exit 9";

/// A program, the aggregate beside it. Dropped, it is killed.
struct Beside {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
    /// What was read of the output by `shows`.
    shown: Vec<String>,
}

/// Whoever runs the tests may ignore signals, which a shell cannot undo: here none is ignored.
fn undisturbed(variables: &[(&str, &str)], command: &[&str]) -> Command {
    let mut undisturbed = Command::new("env");
    undisturbed.arg("--default-signal").args(command);
    undisturbed.env_clear().envs(variables.iter().copied());
    undisturbed.env("PATH", std::env::var_os("PATH").expect("there is one"));
    let pipes = undisturbed.stdin(Stdio::piped()).stdout(Stdio::piped());
    pipes.stderr(Stdio::piped()).kill_on_drop(true);
    undisturbed
}

fn beside(variables: &[(&str, &str)], program: &[&str]) -> Command {
    undisturbed(variables, &[&[PROGRAM, "run", "--"], program].concat())
}

async fn run(variables: &[(&str, &str)], program: &[&str]) -> Output {
    let output = beside(variables, program).stdin(Stdio::null()).output().await;
    output.expect("the program was built")
}

#[tokio::test]
async fn the_dashes_before_a_program_may_be_left_out() {
    for command in [&["run", "sh", "-c", "exit 7"][..], &["run", "--", "sh", "-c", "exit 7"]] {
        let output = undisturbed(&[], &[&[PROGRAM], command].concat()).stdin(Stdio::null()).output().await;
        assert_eq!(output.expect("the program was built").status.code(), Some(7), "{command:?}");
    }
    let output =
        undisturbed(&[], &[PROGRAM, "run"]).stdin(Stdio::null()).output().await.expect("the program was built");
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PROGRAM"), "it says what is missing");
}

async fn next(lines: &mut Lines<impl tokio::io::AsyncBufRead + Unpin>) -> String {
    let line = lines.next_line().await.expect("it is text");
    line.expect("there is another line")
}

impl Beside {
    /// Runs a shell's program.
    fn start(variables: &[(&str, &str)], script: &str) -> Self {
        Self::spawn(beside(variables, &["sh", "-c", script]))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program was built");
        Self {
            input: child.stdin.take().expect("it is piped"),
            output: BufReader::new(child.stdout.take().expect("it is piped")).lines(),
            log: BufReader::new(child.stderr.take().expect("it is piped")).lines(),
            shown: Vec::new(),
            child,
        }
    }

    async fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// The URL, once it is served.
    async fn served(&mut self) -> String {
        loop {
            if let Some(port) = port_served(&next(&mut self.log).await) {
                return format!("http://127.0.0.1:{port}/metrics");
            }
        }
    }

    async fn logged(&mut self, words: &str) -> String {
        loop {
            let line = next(&mut self.log).await;
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Reads the output until a line holds these words.
    async fn shows(&mut self, words: &str) {
        loop {
            let line = self.output.next_line().await.expect("it is text");
            let line = line.unwrap_or_else(|| panic!("expected {words:?} after {:?}", self.shown));
            self.shown.push(line);
            if self.shown.last().is_some_and(|line| line.contains(words)) {
                return;
            }
        }
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(killed.expect("kill is there").success());
    }

    async fn status(&mut self) -> Option<i32> {
        self.child.wait().await.expect("it was started").code()
    }
}

#[tokio::test]
async fn the_program_has_the_environment_the_directory_the_streams_and_its_arguments() {
    let directory = Directory::new();
    let script = "cat; pwd; echo \"$QPEXT_UNTYPED $MINE\"; echo to stderr >&2; for it; do echo \"[$it]\"; done";
    for on in [&[][..], &[ON]] {
        let variables = [on, &[("QPEXT_UNTYPED", "keep"), ("MINE", "as it is"), ("QPEXT_LOG", "off")]].concat();
        let mut command = beside(&variables, &["sh", "-c", script, "sh", "a b", "", "--help"]);
        let mut child = command.current_dir(directory.path("")).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"from stdin\n").await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        let here = fs::canonicalize(directory.path("")).unwrap();
        let expected = format!("from stdin\n{}\nkeep as it is\n[a b]\n[]\n[--help]\n", here.display());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "to stderr\n");
        assert!(output.status.success());
    }
}

#[tokio::test]
async fn it_ends_as_the_program_does() {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -s KILL $$", 137),
        ("kill -s SEGV $$", 139),
        ("kill -s TERM $$", 143),
        // A real-time signal, of whose number nobody tells.
        ("kill -s 34 $$", 128),
        ("kill -s 64 $$", 128),
    ] {
        let output = run(&[ON], &["sh", "-c", script]).await;
        assert_eq!(output.status.code(), Some(status), "{script}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named_and_ends_with_what_shells_have_for_it() {
    let directory = Directory::new();
    let no_program = directory.write("file", "");
    for on in [&[][..], &[ON]] {
        for (program, status) in [("/no/such/program", 127), ("no-such-program", 127), (&*no_program, 126), ("/", 126)]
        {
            let output = run(on, &[program]).await;
            assert_eq!(output.status.code(), Some(status), "{program}");
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.starts_with(&format!("qpext: cannot start {program:?}: ")), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
    let output = command(&[ON]).arg("run").output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("PROGRAM"));
}

/// The signals that are passed on: all that have a name and can be. Stopping goes last but one, as what is stopped says
/// nothing.
fn signals() -> impl Iterator<Item = u8> {
    let named = (1..32).filter(|signal| ![9, 17, 18, 19, 20].contains(signal));
    named.chain([20, 18])
}

#[tokio::test]
async fn every_signal_with_a_name_goes_to_the_program() {
    let real_time = || 34..=64;
    let numbers: Vec<String> = signals().chain(real_time()).map(|signal| signal.to_string()).collect();
    let numbers = numbers.join(" ");
    let traps = format!("for it in {numbers}; do trap \"echo got $it\" $it; done; echo ready; {AWAIT_END}");
    // Whoever runs the tests may do so at a terminal, whose job would be stopped.
    let alone = undisturbed(&[ON], &["setsid", PROGRAM, "run", "--", "sh", "-c", &traps]);
    let mut pod = Beside::spawn(alone);
    assert_eq!(next(&mut pod.output).await, "ready");
    // The others end at nobody.
    for signal in real_time() {
        pod.signal(&signal.to_string()).await;
    }
    for signal in signals() {
        pod.signal(&signal.to_string()).await;
        assert_eq!(next(&mut pod.output).await, format!("got {signal}"));
    }
    drop(pod.input);
    assert_eq!(pod.child.wait().await.unwrap().code(), Some(9));
}

#[tokio::test]
async fn the_program_ignores_and_holds_back_what_this_process_did() {
    let odd = ["--ignore-signal=HUP,INT,USR1", "--block-signal=USR2,CHLD,TERM"];
    for before in [&[][..], &odd] {
        let look = async |beside: &[&str]| {
            let mut env = Command::new("env");
            env.args(before).args(beside).args(["cat", "/proc/self/status"]);
            let output = env.env(ON.0, ON.1).stdin(Stdio::null()).output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
            // But for two that are glibc's own: it has the programs that it starts ignore them.
            let of_glibc = 0b11 << 31;
            let said = String::from_utf8(output.stdout).unwrap();
            let sets = said.lines().filter_map(|line| {
                let (name, set) = line.split_once(":\t")?;
                let is_asked = ["SigBlk", "SigIgn", "SigCgt"].contains(&name);
                is_asked.then(|| (name.to_owned(), u64::from_str_radix(set, 16).unwrap() & !of_glibc))
            });
            sets.collect::<Vec<_>>()
        };
        let alone = look(&[]).await;
        assert_eq!(look(&[PROGRAM, "run", "--"]).await, alone);
        assert_eq!(alone.len(), 3);
    }
    // A child's status is lost where this one is ignored.
    let mut ignored = Command::new("env");
    ignored.args(["--ignore-signal=CHLD", PROGRAM, "run", "--", "sh", "-c", "exit 9"]);
    let output = ignored.env(ON.0, ON.1).stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(9), "{output:?}");
}

#[tokio::test]
async fn a_signal_after_the_programs_end_does_not_change_how_it_ended() {
    let mut queue_proxy = Stub::start(vec![Step::Hang]).await;
    let port = queue_proxy.port().to_string();
    let mut pod = Beside::start(
        &[ON, ("QPEXT_QUEUE_PROXY_METRICS_PORT", &port)],
        "trap 'exit 9' TERM; echo ready; while :; do read -r line; done",
    );
    let url = pod.served().await;
    assert_eq!(next(&mut pod.output).await, "ready");
    let scraped = tokio::spawn(async move { scrape(&url, 3000.0).await });
    queue_proxy.request().await;
    pod.signal("TERM").await;
    pod.logged("stopping").await;
    for signal in ["TERM", "INT", "40"] {
        pod.signal(signal).await;
    }
    assert_eq!(pod.status().await, Some(9));
    scraped.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn nobody_has_to_read_what_is_said() {
    let directory = Directory::new();
    // It does not say what runs it: beside metrics it cannot be started, and alone it can.
    let program = directory.path("program");
    // Written by another process: what starts in another test must not have it open for writing.
    let written = format!("printf 'exit 9' > {program} && chmod 755 {program}");
    assert!(Command::new("sh").args(["-c", &written]).status().await.unwrap().success());
    let output = run(&[ON], &[&program]).await;
    assert_eq!(output.status.code(), Some(9));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("qpext: no metrics are served: cannot start a program beside them: "), "{said}");

    let (_reader, writer) = io::pipe().unwrap();
    let full = pipe::Sender::from_owned_fd(writer.into()).unwrap();
    full.writable().await.unwrap();
    while full.try_write(&[0; 4096]).is_ok() {}
    let writer = full.into_blocking_fd().unwrap();
    for (program, status) in [(&*program, 9), ("/no/such/program", 127)] {
        let mut full = beside(&[ON], &[program]);
        full.stdin(Stdio::null()).stderr(writer.try_clone().unwrap());
        assert_eq!(full.status().await.unwrap().code(), Some(status));
    }
}

#[tokio::test]
async fn the_aggregate_is_served_while_the_program_drains_and_ends_with_it() {
    let queue_proxy = Stub::text("kn_requests 7\n").await;
    let port = queue_proxy.port().to_string();
    let variables = [ON, ("QPEXT_QUEUE_PROXY_METRICS_PORT", &port), ("QPEXT_SELF_METRICS", "false")];
    let mut pod = Beside::start(&variables, &format!("trap 'echo draining' TERM; echo ready; {AWAIT_END}"));
    let url = pod.served().await;
    assert_eq!(next(&mut pod.output).await, "ready");
    // Its last numbers matter, and another signal changes nothing of that.
    for _ in 0..2 {
        pod.signal("TERM").await;
        assert_eq!(next(&mut pod.output).await, "draining");
        assert_eq!(scrape(&url, LONG).await.unwrap().text, "kn_requests 7\n");
    }
    drop(pod.input);
    assert_eq!(pod.child.wait().await.unwrap().code(), Some(9));
    scrape(&url, LONG).await.unwrap_err();
}

#[tokio::test]
async fn a_scrape_that_is_answered_when_the_program_ends_is_answered_whole() {
    let gate = Arc::new(Semaphore::new(0));
    let mut queue_proxy = Stub::start(in_two_parts(b"kn_requests 7\n", &gate, b"kn_errors 1\n")).await;
    let port = queue_proxy.port().to_string();
    let mut pod = Beside::start(
        &[ON, ("QPEXT_QUEUE_PROXY_METRICS_PORT", &port), ("QPEXT_SELF_METRICS", "false")],
        "read -r line; exit 9",
    );
    let url = pod.served().await;
    let scraped = tokio::spawn(async move { scrape(&url, LONG).await });
    queue_proxy.request().await;
    pod.tell("end").await;
    // It is told to stop once the port is closed.
    pod.logged("stopping").await;
    gate.add_permits(1);
    assert_eq!(scraped.await.unwrap().unwrap().text, "kn_requests 7\nkn_errors 1\n");
    assert_eq!(pod.status().await, Some(9));
}

#[tokio::test]
async fn a_scrape_without_end_does_not_keep_it_from_ending() {
    let mut queue_proxy = Stub::start(vec![Step::Hang]).await;
    let port = queue_proxy.port().to_string();
    let mut pod = Beside::start(&[ON, ("QPEXT_QUEUE_PROXY_METRICS_PORT", &port)], "read -r line; exit 9");
    let url = pod.served().await;
    let scraped = tokio::spawn(async move { scrape(&url, 3000.0).await });
    queue_proxy.request().await;
    pod.tell("end").await;
    assert_eq!(pod.status().await, Some(9));
    scraped.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_client_that_hangs_up_costs_the_program_nothing() {
    let app = Stub::text("x 1\n").await;
    let port = app.port().to_string();
    let script = format!("trap 'echo a broken pipe' PIPE; echo ready; {AWAIT_END}");
    let mut pod = Beside::start(&[ON, ("QPEXT_QUEUE_PROXY_METRICS_PORT", &port)], &script);
    let url = pod.served().await;
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics").to_owned();
    assert_eq!(next(&mut pod.output).await, "ready");
    for _ in 0..50 {
        // The second answer meets nobody.
        let mut client = TcpStream::connect(&address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(&[&request[..], request].concat()).await.unwrap();
        let mut begin = [0; 8];
        client.read_exact(&mut begin).await.unwrap();
        drop(client);
    }
    assert_eq!(scrape(&url, LONG).await.unwrap().status, 200);
    drop(pod.input);
    assert_eq!(pod.output.next_line().await.unwrap(), None, "it was told of nothing");
    assert_eq!(pod.child.wait().await.unwrap().code(), Some(9));
}

#[tokio::test]
async fn with_too_few_files_there_is_the_program_alone() {
    for limit in 4..12 {
        let script = format!("ulimit -n {limit}; exec {PROGRAM} run -- sh -c 'exit 9'");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env(ON.0, ON.1).stdin(Stdio::null());
        let output = shell.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(9), "{limit} files: {said}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_served_once_it_is_free() {
    let (taken, absent) = (Port::new(), Stub::absent());
    let (listener, port) = (taken.listen(), taken.number().to_string());
    let queue_proxy = absent.port().to_string();
    let variables = [
        ("AGGREGATE_PROMETHEUS_METRICS_PORT", &*port),
        ("QPEXT_BIND_ADDRESS", "127.0.0.1"),
        ("QPEXT_QUEUE_PROXY_METRICS_PORT", &queue_proxy),
    ];
    let mut pod = Beside::start(&variables, "echo at work; read -r line; exit 9");
    assert_eq!(next(&mut pod.output).await, "at work");
    for _ in 0..2 {
        let log = pod.logged("no metrics are served, for now").await;
        assert!(log.contains("AGGREGATE_PROMETHEUS_METRICS_PORT=") && log.contains("Address already in use"), "{log}");
    }
    drop(listener);
    let url = pod.served().await;
    assert!(url.contains(&port), "{url}");
    assert_eq!(scrape(&url, LONG).await.unwrap().status, 503, "the queue-proxy is not there");
    pod.tell("end").await;
    assert_eq!(pod.status().await, Some(9));
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_served_with_once_it_is() {
    let directory = Directory::new();
    let token = directory.path("token");
    let mut pod = Beside::start(&[ON, ("QPEXT_BEARER_TOKEN_FILE", &token)], "read -r line; exit 9");
    let log = pod.logged("no metrics are served, for now").await;
    assert!(log.contains("QPEXT_BEARER_TOKEN_FILE="), "{log}");
    directory.write("token", "secret");
    let url = pod.served().await;
    assert_eq!(scrape(&url, LONG).await.unwrap().status, 401);
    pod.tell("end").await;
    assert_eq!(pod.status().await, Some(9));
}

#[tokio::test]
async fn a_bad_value_is_logged_and_the_program_runs_on() {
    for (variable, value) in [("AGGREGATE_PROMETHEUS_METRICS_PORT", "http"), ("QPEXT_UNTYPED", "x"), ("QPEXT_LOG", "x")]
    {
        let mut pod = Beside::start(&[ON, (variable, value)], "echo at work; read -r line; exit 9");
        assert_eq!(next(&mut pod.output).await, "at work");
        let log = pod.logged("no metrics are served").await;
        assert!(log.contains(&format!("{variable}=\\\"{value}\\\": expected")), "{log}");
        pod.tell("end").await;
        assert_eq!(pod.status().await, Some(9));
    }
}

#[tokio::test]
async fn without_a_port_there_is_the_program_alone() {
    for off in [&[][..], &[("AGGREGATE_PROMETHEUS_METRICS_PORT", "")]] {
        let mut pod = Beside::start(&[off, &[("QPEXT_UNTYPED", "x")]].concat(), "echo $$; read -r line; exit 9");
        let own = next(&mut pod.output).await;
        assert_eq!(own, pod.child.id().unwrap().to_string(), "it is this very process");
        pod.tell("end").await;
        assert_eq!(pod.status().await, Some(9));
        assert_eq!(pod.log.next_line().await.unwrap(), None, "nothing is logged");
    }
}

#[tokio::test]
async fn as_the_first_process_it_takes_leave_of_orphans_and_passes_signals_on() {
    // A shell in between leaves each sleeper behind, and it ends when nobody waits for it. What is left in the end, but for
    // what looks: a process that has ended, or one that is about to.
    let script = r#"
        [ "$PPID" = 1 ] || exit 1
        trap 'told=yes' TERM
        kill -s TERM 1
        until [ "$told" ]; do :; done
        for it in 1 2 3 4 5 6 7 8; do sh -c 'sleep 0.1 & exit 0'; done
        # One ends by a signal without a name.
        kill -s 40 "$(sh -c 'sleep 60 > /dev/null & echo $!')"
        while grep -lsE '^State:.Z|^Name:.sleep' /proc/[0-9]*/status; do :; done > /dev/null
        exit 9
    "#;
    let mut unshare = Command::new("unshare");
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    unshare.args([PROGRAM, "run", "--", "sh", "-c", script]);
    unshare.env(ON.0, ON.1).stdin(Stdio::null()).kill_on_drop(true);
    let output = unshare.output().await.expect("unshare is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(9), "{said}");
}

/// The end of a shell's program at a terminal that waits for the word.
const AWAIT_WORD: &str = "until read -r line && [ \"$line\" = end ]; do :; done; exit 9";

#[tokio::test]
async fn a_program_at_a_terminal_reads_from_it_and_is_interrupted_once() {
    let script = format!("trap 'echo interrupted' INT; echo ready; read -r line; echo \"read $line\"; {AWAIT_WORD}");
    // With four files there is no room for more than the program.
    for limit in ["", "ulimit -n 4;"] {
        let mut pod = at_terminal(&format!("{limit} exec {}", beside_script(&script)));
        pod.shows("ready").await;
        pod.tell("a line").await;
        pod.shows("read a line").await;
        pod.tell("\x03").await;
        pod.shows("interrupted").await;
        pod.tell("end").await;
        let mut rest = String::new();
        pod.output.get_mut().read_to_string(&mut rest).await.unwrap();
        assert!(!rest.contains("interrupted"), "{:?} {rest}", pod.shown);
        assert_eq!(pod.status().await, Some(9));
    }
}

#[tokio::test]
async fn a_program_that_leaves_the_terminals_job_is_interrupted_all_the_same() {
    let script = "trap 'echo interrupted' INT; echo ready; while :; do sleep 1; done";
    let mut pod = at_terminal(&format!("exec {PROGRAM} run -- setsid sh -c {}", quoted(script)));
    pod.shows("ready").await;
    pod.tell("\x03").await;
    pod.shows("interrupted").await;
}

#[tokio::test]
async fn a_terminal_that_is_gone_hangs_up_on_the_program() {
    let directory = Directory::new();
    let told = directory.path("told");
    let made = Command::new("mkfifo").arg(&told).status().await.unwrap();
    assert!(made.success());
    let script = format!("exec 3<>{told}; trap 'echo hung up >&3; exit 9' HUP; echo ready; while :; do sleep 1; done");
    let mut pod = at_terminal(&format!("exec {}", beside_script(&script)));
    pod.shows("ready").await;
    let heard = pipe::OpenOptions::new().open_receiver(&told).unwrap();
    pod.child.kill().await.unwrap();
    assert_eq!(next(&mut BufReader::new(heard).lines()).await, "hung up");
}

#[tokio::test]
async fn what_others_send_at_a_terminal_goes_to_the_program() {
    let names = ["HUP", "INT", "QUIT", "WINCH", "TERM"];
    let traps = names.map(|name| format!("trap 'echo got {name}' {name}; ")).concat();
    let script = format!("{traps} echo ready; for it in {}; do kill -s $it $PPID; done; {AWAIT_WORD}", names.join(" "));
    let mut pod = at_terminal(&format!("exec {}", beside_script(&script)));
    pod.shows("ready").await;
    let mut awaited: HashSet<String> = names.iter().map(|name| format!("got {name}")).collect();
    while !awaited.is_empty() {
        awaited.remove(next(&mut pod.output).await.trim_end());
    }
    pod.tell("end").await;
    assert_eq!(pod.status().await, Some(9));
}

#[tokio::test]
async fn a_terminal_stops_and_wakes_all_of_a_job_whatever_the_program_reads_from() {
    let script = format!("trap 'echo interrupted' INT; echo ready; exec <&3; {AWAIT_WORD}");
    let mut pod = job_at_terminal(&script, "3<&0 < /dev/null");
    pod.shows("ready").await;
    pod.tell("\x03").await;
    pod.shows("interrupted").await;
    pod.tell("\x1a").await;
    pod.shows("stopped with 148").await;
    pod.tell("end").await;
    pod.shows("ended with 9").await;
}

#[tokio::test]
async fn a_program_that_stops_itself_stops_the_job() {
    let mut pod = job_at_terminal("kill -s STOP $$; echo awake; exit 9", "");
    pod.shows("stopped with 148").await;
    pod.shows("awake").await;
    pod.shows("ended with 9").await;
}

#[tokio::test]
async fn a_program_that_does_not_stop_is_not_left_behind() {
    let mut pod = job_at_terminal(&format!("trap '' TSTP; echo ready; {AWAIT_WORD}"), "");
    pod.shows("ready").await;
    pod.tell("\x1a").await;
    pod.tell("end").await;
    // It has never stopped.
    pod.shows("stopped with 9").await;
}

/// A shell's program as a job of a shell at a terminal, that says how it stopped and wakes it up.
fn job_at_terminal(script: &str, files: &str) -> Beside {
    let program = beside_script(script);
    at_terminal(&format!("set -m; {program} {files}; echo stopped with $?; fg; echo ended with $?; read -r line"))
}

#[tokio::test]
async fn a_program_in_the_background_of_a_terminal_runs_and_ends() {
    let program = beside_script("exit 9");
    let mut pod = at_terminal(&format!("set -m; {program} & wait $!; echo ended with $?; read -r line"));
    pod.shows("ended with 9").await;
}

/// A shell's program at a terminal of its own, with aggregation on and no log. The last that is said of a program that ends may be
/// lost.
fn at_terminal(script: &str) -> Beside {
    // An interrupt must not take with it what was said since.
    let script = format!("stty noflsh; {script}");
    let terminal = ["script", "--quiet", "--return", "--command", &script, "/dev/null"];
    Beside::spawn(undisturbed(&[ON, ("QPEXT_LOG", "off"), ("SHELL", "/bin/sh")], &terminal))
}

/// The words that run a shell's program, and serve beside it.
fn beside_script(script: &str) -> String {
    format!("{PROGRAM} run -- sh -c {}", quoted(script))
}

/// A word of a shell's, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
