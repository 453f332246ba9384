//! The page for people.
//!
//! In: what is to be said. Out: HTML. Whatever a target sent is a value here, never markup: the page is written by a library
//! that escapes, and has neither scripts nor anything that is fetched.

use std::time::{Duration, SystemTime};

use humantime::format_duration;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{About, Now, notes, target_of};
use crate::telemetry::TargetState;

/// What a browser may do with the page: show it, and nothing else.
pub(crate) const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2128; --quiet: #57606a; --paper: #fff; --card: #f6f8fa; --line: #d0d7de;
  --up: #116329; --down: #b3261e; --link: #0550ae }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --quiet: #9da7b3; --paper: #0d1117; --card: #161b22;
  --line: #30363d; --up: #56d364; --down: #ff8f85; --link: #79b8ff } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper) }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 0 }
a { color: var(--link) } nav a { margin-right: 1rem } p { margin: .25rem 0 } .quiet { color: var(--quiet) }
article { margin: .75rem 0; padding: .75rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-left: .4rem solid var(--quiet); border-radius: .4rem; overflow-wrap: anywhere }
article.up { border-left-color: var(--up) } article.down { border-left-color: var(--down) }
article header { display: flex; flex-wrap: wrap; gap: 0 .75rem; align-items: baseline }
.up strong { color: var(--up) } .down strong, .error { color: var(--down) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .5rem 1rem; margin: .5rem 0 0 }
dt { font-size: .8rem; color: var(--quiet) } dd { margin: 0; font-variant-numeric: tabular-nums }
code { font: .85rem/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
table { width: 100%; border-collapse: collapse } td, th { padding: .3rem 0; text-align: left; vertical-align: top;
  border-top: 1px solid var(--line); overflow-wrap: anywhere } th { font-weight: normal; padding-right: 1rem; width: 45% }
@media (max-width: 40rem) { tr, th, td { display: block; width: auto } td { border: 0; padding-top: 0 } }
";

pub(crate) fn page(about: &About, is: &Now, now: SystemTime) -> String {
    let states = &is.targets;
    let up = states.iter().filter(|state| state.is_up() == Some(true)).count();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "qpext: " (up) " of " (states.len()) " targets up" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "qpext " (env!("CARGO_PKG_VERSION")) }
                    p.quiet { (up) " of " (states.len()) " targets up; serving for " (since(about.started, now)) }
                    nav {
                        a href="/metrics" { "metrics" }
                        a href="/status.json" { "status.json" }
                        a href="/readyz" { "readyz" }
                        a href="/healthz" { "healthz" }
                    }
                }
                @for problem in &is.stale_files { (stale(problem)) }
                h2 { "Targets" }
                @for note in notes(states, is.apart.as_ref()) {
                    p { "In the last answer: " (note) }
                }
                @for state in states { (card(state, now)) }
                @if !is.conflicts.is_empty() {
                    h2 { "Families of two types" }
                    @for conflict in &is.conflicts {
                        p {
                            code { (conflict.family) } " is a " (conflict.types.first) " in the answer, and a "
                            (conflict.types.second) " in " (target_of(conflict, states))
                        }
                    }
                }
                h2 { "Labels added" }
                p { @if about.labels.is_empty() { span.quiet { "none" } } @else { code { (about.labels) } } }
                h2 { "Configuration in force" }
                table {
                    @for (variable, value) in &about.configuration {
                        tr {
                            th scope="row" { code { (variable.name) } }
                            td {
                                @if value.is_empty() { span.quiet { (variable.nothing()) } } @else { code { (value) } }
                            }
                        }
                    }
                }
            }
        }
    }
    .into_string()
}

fn card(state: &TargetState, now: SystemTime) -> Markup {
    let word = state.word();
    html! {
        article class=(word) {
            header {
                h3 { (state.name) }
                strong { (word) }
                @if let Some(at) = state.since { span.quiet { "for " (since(at, now)) } }
                code.quiet { (state.address) }
            }
            @if let Some((at, outcome)) = &state.last {
                @if let Err(error) = &outcome.result { p.error { (error) } }
                @if let Some(age) = outcome.kept_for {
                    p { "It is gone, and the sidecar is leaving: what it said " (format!("{:.3} s", age.as_secs_f64())) " before stands in the answer." }
                }
                @if let Some(problem) = &outcome.stale_file { (stale(problem)) }
                @if let Some(told) = outcome.told_of_type() { p { (told) } }
                dl {
                    (fact("Last scrape", &format!("{} ago", since(*at, now))))
                    (fact("Took", &format!("{:.3} s", outcome.duration.as_secs_f64())))
                    (fact("Samples", &outcome.counts.samples.to_string()))
                    (fact("Bytes", &outcome.body_bytes.to_string()))
                    (fact("Format", &outcome.format.map_or("none".to_owned(), |format| format.to_string())))
                    (fact("Families given a type", &outcome.counts.retyped.to_string()))
                    @if outcome.counts.torn > 0 { (fact("Metrics taken apart", &outcome.counts.torn.to_string())) }
                    (fact("Lines dropped", &outcome.counts.dropped_in_words()))
                }
            }
            @if let Some((at, dropped)) = &state.last_dropped {
                p {
                    "Line " (dropped.line) " was dropped as " (dropped.reason.as_str()) " " (since(*at, now)) " ago: "
                    code { (dropped.text) }
                }
            }
            @if let Some((at, error)) = &state.last_failure && state.is_up() == Some(true) {
                p.quiet { "Last failure " (since(*at, now)) " ago: " (error) }
            }
        }
    }
}

fn stale(problem: &str) -> Markup {
    html! { p.error { "A file cannot be used, and what it held before still is: " (problem) } }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// How long ago that was, in its two largest units from seconds up. The clock may have been set back since.
fn since(at: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    let text = format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ago_is_told_in_two_units() {
        let at = SystemTime::UNIX_EPOCH;
        for (seconds, told) in [
            (0.9, "0s"),
            (59.0, "59s"),
            (125.9, "2m 5s"),
            (3600.0, "1h"),
            (86_399.0, "23h 59m"),
            (180_061.0, "2days 2h"),
        ] {
            assert_eq!(since(at, at + Duration::from_secs_f64(seconds)), told);
        }
        assert_eq!(since(at + Duration::from_secs(9), at), "0s", "the clock was set back");
    }
}
