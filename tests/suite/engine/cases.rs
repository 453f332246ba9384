//! A table's row: a body, what it is read as and written as, and what comes of it.
//!
//! Each runs whole, cut into single bytes and in two at every place, and what is written is read by what shares nothing with
//! the engine. `prometheus.rs` puts what the tables write past a real server.

use qpext::exposition::{Counts, DropReason, End, Families, Rules};

use crate::engine::protobuf::Setting;
use crate::engine::rules::{Form, engine};
use crate::engine::to_protobuf::{read_put_together, shown};
use crate::engine::to_protobuf_properties::check_counts;
use crate::support::{Cut, Lines, SERVING, verbatim};

/// What becomes of a body.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub promise: &'a str,
    /// What it is read as: in each of these it is the same.
    pub from: &'a [Lines],
    pub to: Form,
    pub setting: Setting,
    /// The queue-proxy's text in front of it, which is left out of what is expected.
    pub behind: Option<&'a str>,
    /// Of OpenMetrics without its end mark.
    pub body: &'a str,
    /// What is written, in lines or as [`show`](crate::support::protobuf::show) shows it. `@` stands for the serving labels.
    pub out: &'a str,
    /// The lines that are dropped as malformed, and by the rule for untyped families.
    pub malformed: u64,
    pub untyped: u64,
}

impl<'a> Case<'a> {
    pub const fn new(
        promise: &'a str,
        from: &'a [Lines],
        to: Form,
        setting: Setting,
        body: &'a str,
        out: &'a str,
    ) -> Self {
        Self { promise, from, to, setting, behind: None, body, out, malformed: 0, untyped: 0 }
    }

    /// As many of the lines are dropped as malformed.
    pub const fn losing(self, malformed: u64) -> Self {
        Self { malformed, ..self }
    }

    /// As many of the lines are dropped by the rule for untyped families.
    pub const fn dropping(self, untyped: u64) -> Self {
        Self { untyped, ..self }
    }

    /// What is written of the body, read as this and cut so, and how much.
    fn run(&self, from: Lines, cut: Cut<'_>) -> (Vec<u8>, Counts) {
        let (mut families, mut out) = (Families::default(), Vec::new());
        if let Some(queue_proxy) = self.behind {
            let mut engine = verbatim(self.setting.names, &Rules::default());
            for chunk in cut.chunks(queue_proxy.as_bytes()) {
                engine.push(chunk, &mut families, &mut out);
            }
            engine.finish(End::Whole, &mut families, &mut out);
            families.turn_to(1);
        }
        let end = if from == Lines::OpenMetrics { "# EOF\n" } else { "" };
        let body = format!("{}{end}", self.body);
        let from = if from == Lines::OpenMetrics { Form::OpenMetrics } else { Form::Text };
        let mut engine = engine(from, self.to, &self.setting.rules(), self.setting.names);
        for chunk in cut.chunks(body.as_bytes()) {
            engine.push(chunk, &mut families, &mut out);
        }
        engine.finish(End::Whole, &mut families, &mut out);
        (out, engine.progress().counts())
    }

    /// What is written, ended, of the body read as each format.
    pub fn written(&self) -> Vec<Vec<u8>> {
        let end: &[u8] = if self.to == Form::OpenMetrics { b"# EOF\n" } else { b"" };
        self.from.iter().map(|from| [self.run(*from, Cut::Whole).0.as_slice(), end].concat()).collect()
    }

    /// What is wrong with what the body, read as this and cut so, becomes.
    fn fault(&self, from: Lines, cut: Cut<'_>) -> Result<(), String> {
        let (out, counts) = self.run(from, cut);
        let behind = self.behind.unwrap_or_default();
        let expected = format!(
            "{behind}{}",
            if self.to == Form::Protobuf { self.out.to_owned() } else { self.out.replace('@', SERVING) }
        );
        let (written, samples) = match self.to.lines() {
            None => {
                let families = read_put_together(&out, self.setting.names)?;
                check_counts(&families, counts.samples).map_err(|error| error.to_string())?;
                (shown(&families), counts.samples)
            }
            Some(lines) => {
                let samples = |body: &[u8]| -> Result<u64, String> {
                    let end: &[u8] = if lines == Lines::OpenMetrics { b"# EOF\n" } else { b"" };
                    Ok(lines.read(&[body, end].concat(), self.setting.names)?.samples.len() as u64)
                };
                let samples = samples(&out)? - samples(behind.as_bytes())?;
                (String::from_utf8_lossy(&out).into_owned(), samples)
            }
        };
        if written != expected {
            return Err(format!("became\n{written}expected was\n{expected}"));
        }
        let dropped = [DropReason::Malformed, DropReason::Untyped].map(|reason| counts.dropped(reason));
        if (counts.samples, dropped, counts.dropped_in_all())
            != (samples, [self.malformed, self.untyped], self.malformed + self.untyped)
        {
            return Err(format!(
                "{counts:?}: expected were {samples} samples, {} malformed and {} untyped",
                self.malformed, self.untyped
            ));
        }
        Ok(())
    }

    /// What is wrong with this row, if anything is.
    fn faults(&self) -> Option<String> {
        let places: Vec<usize> = (0..=self.body.len()).collect();
        let cuts = || places.iter().map(|place| Cut::At(std::slice::from_ref(place)));
        let mut runs = self
            .from
            .iter()
            .flat_map(|from| [Cut::Whole, Cut::EveryByte].into_iter().chain(cuts()).map(|cut| (*from, cut)));
        runs.find_map(|(from, cut)| {
            let fault = self.fault(from, cut).err()?;
            Some(format!("{}: {from:?} as {:?} {cut:?}\n{fault}\n", self.promise, self.to))
        })
    }
}

/// Checks all rows of a table, and tells of each that is wrong.
#[track_caller]
pub fn check<'a>(cases: impl IntoIterator<Item = &'a Case<'a>>) {
    let faults: String = cases.into_iter().filter_map(Case::faults).collect();
    assert!(faults.is_empty(), "{faults}");
}
