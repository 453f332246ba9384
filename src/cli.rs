//! The command line: what is to be done. What it is done with, the environment says.

use std::ffi::OsString;

use clap::{Parser, Subcommand, ValueEnum};
use http::HeaderValue;

use crate::config::{TARGET_OPTIONS, TargetOption, VARIABLES, Variable};

/// The command line, as clap reads it.
#[derive(Debug, Clone, Parser)]
#[command(name = "qpext", version, about = "One Prometheus endpoint for a Knative or KServe pod.", long_about = ABOUT)]
#[command(after_help = variables(), disable_help_subcommand = true, max_term_width = 100)]
pub struct Arguments {
    /// What is to be done; to serve, if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const ABOUT: &str = "One Prometheus endpoint for a Knative or KServe pod: scrapes the queue-proxy and the pod's \
                     containers at once, and serves what they say at /metrics.\n\nWithout a command it serves, until \
                     SIGTERM or SIGINT. Environment variables configure it.";

/// Anything but to serve.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Scrape once and say what came of it: each target's state, what was dropped and why, duplicate series.
    ///
    /// Ends with status 0, with 1 if there is something to be mended, and with 64 if the configuration is bad.
    Check {
        /// How it is said.
        #[arg(long, value_enum, default_value_t)]
        format: CheckFormat,
        /// The `Accept` of the scraper whose answer is checked; Prometheus's, without it.
        #[arg(long, value_name = "HEADER", value_parser = accept)]
        accept: Option<HeaderValue>,
    },
    /// Tell the sidecar of this pod that the pod is about to end: from now on it keeps what its targets say.
    ///
    /// For the hook `preStop` of its container. It is the sidecar of AGGREGATE_PROMETHEUS_METRICS_PORT, with a QPEXT_LINGER other than 0s.
    /// Returns at once: with status 0, or with 1 if there is none.
    Leave,
    /// Run a program, and serve beside it, as in KServe's image of the queue-proxy.
    ///
    /// The program is started first and gets the signals 1 to 31 that are sent to this process; nothing that the metrics do
    /// reaches it. Ends as the program does: with its status, with 128 and the number of the signal that ended it (128 alone
    /// for a real-time signal), with 127 if there is no such program, or with 126 if it cannot be run. Where
    /// AGGREGATE_PROMETHEUS_METRICS_PORT is not set, only the program runs.
    Run {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
        program: Vec<OsString>,
    },
}

fn accept(text: &str) -> Result<HeaderValue, &'static str> {
    HeaderValue::from_str(text).map_err(|_| "expected what may stand in a header")
}

/// How `check` says what it found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// A table, for people.
    #[default]
    Table,
    /// One JSON object, for programs.
    Json,
}

/// The most letters in a line of help, and what stands before the first word of one.
const WIDTH: usize = 100;
const INDENT: &str = "     ";

/// Every variable and what it does, and every option of a target.
fn variables() -> String {
    let mut text = String::from("Environment variables:\n");
    for Variable { name, default, example, about, .. } in VARIABLES {
        explain(&format!("{name} [default: {default}]"), about, example, &mut text);
    }
    text.push_str("\nOptions of targets, where QPEXT_TARGETS is JSON:\n");
    for TargetOption { name, example, about, .. } in &TARGET_OPTIONS {
        explain(name, about, example, &mut text);
    }
    text.push_str("\nExit status: 0, 1 if it cannot serve, 64 if the command line or a variable is bad.");
    text
}

fn explain(title: &str, about: &str, example: &str, text: &mut String) {
    text.push_str(&format!("  {title}\n"));
    let mut line = String::from(INDENT);
    for word in format!("{} Example: {example}", about.replace('`', "")).split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            text.push_str(&line);
            line = format!("\n{INDENT}");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
