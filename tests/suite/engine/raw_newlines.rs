//! Newlines that stand raw between quotes, where a target should have written `\n`.
//!
//! Text is read on to the closing quote, as Prometheus does; in OpenMetrics such a line is malformed. Either way, what stands
//! between quotes is nobody's sample, type, help text or end mark. If no labels follow the quote that closes, it was the line
//! before that was broken, and it is lost alone.

use qpext::exposition::{Counts, DropReason, End, Escaping, Families, MAX_LINE, Rules, Untyped};

use crate::engine::rules::{Form, engine, outputs, run_to};
use crate::engine::to_protobuf::{read_put_together, shown};
use crate::support::{Cut, Lines, SERVING, serving_rules, verbatim};

use Form::{OpenMetrics, Text};

/// What becomes of a body. In all of it `⏎` is a newline, `␍` a carriage return, `␀` a NUL and `ÿ` a byte that is no UTF-8;
/// `@` stands for the serving labels.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub promise: &'static str,
    pub from: Form,
    /// Of OpenMetrics without the end mark that follows unless it broke off.
    body: &'static str,
    end: End,
    has_end_mark: bool,
    /// What it becomes in lines, and in messages, for a scraper that reads quoted names.
    out: &'static str,
    messages: &'static str,
    /// The same for one that does not, if it differs.
    escaped: Option<(&'static str, &'static str)>,
    malformed: u64,
    cut_off: u64,
    /// The first line lost: its number, and what is shown of it.
    first: Option<(u64, &'static str)>,
}

const fn of(from: Form, promise: &'static str, [body, out, messages]: [&'static str; 3]) -> Case {
    Case {
        promise,
        from,
        body,
        end: End::Whole,
        has_end_mark: true,
        out,
        messages,
        escaped: None,
        malformed: 0,
        cut_off: 0,
        first: None,
    }
}

const fn text(promise: &'static str, case: [&'static str; 3]) -> Case {
    of(Text, promise, case)
}

const fn open_metrics(promise: &'static str, case: [&'static str; 3]) -> Case {
    of(OpenMetrics, promise, case)
}

impl Case {
    const fn losing(mut self, malformed: u64, line: u64, shown: &'static str) -> Self {
        (self.malformed, self.first) = (malformed, Some((line, shown)));
        self
    }

    const fn escaped(mut self, out: &'static str, messages: &'static str) -> Self {
        self.escaped = Some((out, messages));
        self
    }

    /// It breaks off in its second line, of which this is shown.
    const fn broken_off(mut self, shown: &'static str) -> Self {
        (self.end, self.has_end_mark) = (End::BrokenOff, false);
        (self.cut_off, self.first) = (1, Some((2, shown)));
        self
    }

    const fn without_end_mark(mut self) -> Self {
        self.has_end_mark = false;
        self
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = bytes(self.body);
        if self.from == OpenMetrics && self.has_end_mark {
            body.extend_from_slice(b"# EOF\n");
        }
        body
    }

    /// Whether Prometheus 2.42 takes the body as it came. It does if nothing is lost of it and no name is quoted; of one that
    /// broke off nobody asks.
    pub fn is_taken(&self) -> Option<bool> {
        (self.end == End::Whole).then_some(self.malformed == 0 && self.escaped.is_none() && !self.body.starts_with(' '))
    }

    /// The lines that are written for a scraper, with these labels.
    pub fn lines(&self, names: Escaping, labels: &str) -> Vec<u8> {
        let lines = match self.escaped {
            Some((lines, _)) if names == Escaping::Underscores => lines,
            _ => self.out,
        };
        let lines = match labels {
            "" => lines.replace("{@}", "").replace(",@", ""),
            labels => lines.replace('@', labels),
        };
        bytes(&lines)
    }

    fn messages(&self, names: Escaping) -> Vec<u8> {
        match self.escaped {
            Some((_, messages)) if names == Escaping::Underscores => bytes(messages),
            _ => bytes(self.messages),
        }
    }
}

fn bytes(written: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for character in written.chars() {
        match character {
            '⏎' => bytes.push(b'\n'),
            '␍' => bytes.push(b'\r'),
            '␀' => bytes.push(0),
            'ÿ' => bytes.push(0xff),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

pub const CASES: &[Case] = &[
    // What text has between quotes.
    text(
        "a newline in a label's value is escaped",
        [r#"x{a="b⏎c"} 1⏎"#, r#"x{a="b\nc",@} 1⏎"#, r#"x untyped⏎  {a="b\nc",@} 1⏎"#],
    ),
    text(
        "several are escaped",
        [r#"x{a="⏎b⏎⏎c⏎"} 1⏎"#, r#"x{a="\nb\n\nc\n",@} 1⏎"#, r#"x untyped⏎  {a="\nb\n\nc\n",@} 1⏎"#],
    ),
    text(
        "those of two values are escaped",
        [
            r#"x{a="b⏎c",d="e",f="⏎"} 1 5⏎"#,
            r#"x{a="b\nc",d="e",f="\n",@} 1 5⏎"#,
            r#"x untyped⏎  {a="b\nc",d="e",f="\n",@} 1 at 5⏎"#,
        ],
    ),
    text(
        "blanks may stand where they may in other lines",
        [
            r#"  x { a = "b⏎c" , d="e" } +5 7 ⏎"#,
            r#"x{a="b\nc",d="e",@} 5 7⏎"#,
            r#"x untyped⏎  {a="b\nc",d="e",@} 5 at 7⏎"#,
        ],
    ),
    text(
        "one in a metric's name is escaped",
        [r#"{"x⏎y",a="b"} 1⏎"#, r#"{"x\ny",a="b",@} 1⏎"#, r#"x⏎y untyped⏎  {a="b",@} 1⏎"#],
    )
    .escaped(r#"x_y{a="b",@} 1⏎"#, r#"x_y untyped⏎  {a="b",@} 1⏎"#),
    text(
        "one in a label's name is escaped",
        [r#"x{"a⏎b"="c"} 1⏎"#, r#"x{"a\nb"="c",@} 1⏎"#, r#"x untyped⏎  {a⏎b="c",@} 1⏎"#],
    )
    .escaped(r#"x{a_b="c",@} 1⏎"#, r#"x untyped⏎  {a_b="c",@} 1⏎"#),
    text(
        "one in the name of a family is escaped",
        [
            r#"# HELP "x⏎y" Words.⏎# TYPE "x⏎y" gauge⏎{"x⏎y"} 1⏎"#,
            r#"# HELP "x\ny" Words.⏎# TYPE "x\ny" gauge⏎{"x\ny",@} 1⏎"#,
            r#"x⏎y gauge help "Words."⏎  {@} 1⏎"#,
        ],
    )
    .escaped("# HELP x_y Words.⏎# TYPE x_y gauge⏎x_y{@} 1⏎", r#"x_y gauge help "Words."⏎  {@} 1⏎"#),
    text(
        "what looks like lines is a label's value",
        [
            r#"x{a="b⏎forged 1⏎# TYPE forged counter⏎# HELP forged Words.⏎# EOF⏎"} 1⏎y 2⏎"#,
            r#"x{a="b\nforged 1\n# TYPE forged counter\n# HELP forged Words.\n# EOF\n",@} 1⏎y{@} 2⏎"#,
            r#"x untyped⏎  {a="b\nforged 1\n# TYPE forged counter\n# HELP forged Words.\n# EOF\n",@} 1⏎y untyped⏎  {@} 2⏎"#,
        ],
    ),
    text(
        "an escaped quote beside it closes nothing",
        [r#"x{a="b\"⏎\"c"} 1⏎"#, r#"x{a="b\"\n\"c",@} 1⏎"#, r#"x untyped⏎  {a="b\"\n\"c",@} 1⏎"#],
    ),
    text(
        "an escaped backslash before it escapes nothing",
        [r#"x{a="b\\⏎c"} 1⏎"#, r#"x{a="b\\\nc",@} 1⏎"#, r#"x untyped⏎  {a="b\\\nc",@} 1⏎"#],
    ),
    text(
        "an escaped backslash before the quote behind it escapes nothing",
        [
            r#"x{a="b⏎\\"} 1⏎y{a="c"} 2⏎"#,
            r#"x{a="b\n\\",@} 1⏎y{a="c",@} 2⏎"#,
            r#"x untyped⏎  {a="b\n\\",@} 1⏎y untyped⏎  {a="c",@} 2⏎"#,
        ],
    ),
    text(
        "one stands beside one that is escaped",
        [r#"x{a="\n⏎\n"} 1⏎"#, r#"x{a="\n\n\n",@} 1⏎"#, r#"x untyped⏎  {a="\n\n\n",@} 1⏎"#],
    ),
    text(
        "an escape that is none beside it keeps its backslash",
        [r#"x{a="\q⏎\q"} 1⏎"#, r#"x{a="\\q\n\\q",@} 1⏎"#, r#"x untyped⏎  {a="\\q\n\\q",@} 1⏎"#],
    ),
    text(
        "a carriage return before it stays",
        [r#"x{a="b␍⏎c"} 1⏎"#, r#"x{a="b␍\nc",@} 1⏎"#, r#"x untyped⏎  {a="b\r\nc",@} 1⏎"#],
    ),
    text("a NUL before it stays", [r#"x{a="b␀⏎c"} 1⏎"#, r#"x{a="b␀\nc",@} 1⏎"#, r#"x untyped⏎  {a="b\0\nc",@} 1⏎"#]),
    text(
        "several such samples may stand in a row",
        [
            r#"x{a="b⏎c"} 1⏎x{a="d⏎e"} 2⏎x{a="f"} 3⏎y{a="b⏎c"} 4⏎x{a="b⏎c",d="e"} 5⏎"#,
            r#"x{a="b\nc",@} 1⏎x{a="d\ne",@} 2⏎x{a="f",@} 3⏎y{a="b\nc",@} 4⏎x{a="b\nc",d="e",@} 5⏎"#,
            r#"x untyped⏎  {a="b\nc",@} 1⏎  {a="d\ne",@} 2⏎  {a="f",@} 3⏎y untyped⏎  {a="b\nc",@} 4⏎x untyped⏎  {a="b\nc",d="e",@} 5⏎"#,
        ],
    ),
    text(
        "the parts of a histogram find each other",
        [
            r#"# TYPE h histogram⏎h_bucket{m="b⏎c",le="+Inf"} 1⏎h_sum{m="b⏎c"} 2⏎h_count{m="b⏎c"} 1⏎"#,
            r#"# TYPE h histogram⏎h_bucket{m="b\nc",le="+Inf",@} 1⏎h_sum{m="b\nc",@} 2⏎h_count{m="b\nc",@} 1⏎"#,
            r#"h histogram⏎  {m="b\nc",@} count 1 sum 2 inf:1⏎"#,
        ],
    ),
    // Lines of text that are broken.
    text(
        "a broken line is lost alone in front of lines with quotes",
        [
            r#"before 1⏎x{a="foo⏎y{b="c",d="e"} 1⏎z 2⏎"#,
            r#"before{@} 1⏎y{b="c",d="e",@} 1⏎z{@} 2⏎"#,
            r#"before untyped⏎  {@} 1⏎y untyped⏎  {b="c",d="e",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(1, 2, r#"x{a="foo"#),
    text(
        "a broken line is lost alone in front of lines without quotes",
        [
            r#"before 1⏎x{a="foo⏎y 1⏎z 2⏎"#,
            "before{@} 1⏎y{@} 1⏎z{@} 2⏎",
            "before untyped⏎  {@} 1⏎y untyped⏎  {@} 1⏎z untyped⏎  {@} 2⏎",
        ],
    )
    .losing(1, 2, r#"x{a="foo"#),
    text("a broken line is lost alone at the end", [r#"y 1⏎x{a="foo⏎"#, "y{@} 1⏎", "y untyped⏎  {@} 1⏎"]).losing(
        1,
        2,
        r#"x{a="foo"#,
    ),
    text(
        "broken lines in a row are lost alone",
        [
            r#"x{a="foo⏎y{a="foo⏎y{b="c"} 1⏎z 2⏎"#,
            r#"y{b="c",@} 1⏎z{@} 2⏎"#,
            r#"y untyped⏎  {b="c",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(2, 1, r#"x{a="foo"#),
    text(
        "a broken line costs no metadata",
        [
            r#"x{a="foo⏎# HELP y A "word".⏎# TYPE y gauge⏎y 1⏎"#,
            r#"# HELP y A "word".⏎# TYPE y gauge⏎y{@} 1⏎"#,
            r#"y gauge help "A \"word\"."⏎  {@} 1⏎"#,
        ],
    )
    .losing(1, 1, r#"x{a="foo"#),
    text(
        "a broken line costs no sample that goes on in the next line",
        [
            r#"x{a="foo⏎y{b="c⏎d"} 1⏎z 2⏎"#,
            r#"y{b="c\nd",@} 1⏎z{@} 2⏎"#,
            r#"y untyped⏎  {b="c\nd",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(1, 1, r#"x{a="foo"#),
    text(
        "a broken name of a family is lost alone",
        [
            r#"# HELP "x⏎y{a="b"} 1⏎# TYPE "x⏎z 2⏎"#,
            r#"y{a="b",@} 1⏎z{@} 2⏎"#,
            r#"y untyped⏎  {a="b",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(2, 1, r#"# HELP "x"#),
    text(
        "behind a line that goes on broken lines are counted right",
        [r#"x{a="b⏎c⏎d"} 1⏎bad⏎"#, r#"x{a="b\nc\nd",@} 1⏎"#, r#"x untyped⏎  {a="b\nc\nd",@} 1⏎"#],
    )
    .losing(1, 4, "bad"),
    text(
        "behind a family's name that goes on broken lines are counted right",
        [r#"# TYPE "x⏎y" gauge⏎bad⏎"#, r#"# TYPE "x\ny" gauge⏎"#, ""],
    )
    .escaped("# TYPE x_y gauge⏎", "")
    .losing(1, 3, "bad"),
    // Samples that are lost for something else.
    text("a value that is none forges nothing", [r#"x{a="b⏎forged 1⏎c"} one⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
        .losing(1, 1, r#"x{a="b\nforged 1\nc"} one"#),
    text(
        "a value that is missing forges nothing",
        [r#"x{a="b⏎# TYPE y counter⏎"}⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\n# TYPE y counter\n"}"#),
    text(
        "something behind the timestamp forges nothing",
        [r#"x{a="b⏎# HELP y Words.⏎"} 1 2 3⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\n# HELP y Words.\n"} 1 2 3"#),
    text(
        "a value that is none forges nothing behind the second of two newlines",
        [r#"x{a="b⏎c",d="e⏎forged 1⏎"} one⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\nc",d="e\nforged 1\n"} one"#),
    text("a label twice forges nothing", [r#"x{a="b⏎forged 1⏎",a="c"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
        .losing(1, 1, r#"x{a="b\nforged 1\n",a="c"} 1"#),
    text(
        "a label twice in the first line forges nothing",
        [r#"x{a="c",a="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="c",a="b\nforged 1\n"} 1"#),
    text("what is no UTF-8 forges nothing", [r#"x{a="ÿ⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
        1,
        1,
        "x{a=\"\u{fffd}\\nforged 1\\n\"} 1",
    ),
    text(
        "what is no UTF-8 behind the newline forges nothing",
        [r#"x{a="⏎forged 1⏎ÿ"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, "x{a=\"\\nforged 1\\n\u{fffd}\"} 1"),
    text(
        "the metric's name as a label forges nothing",
        [r#"x{__name__="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{__name__="b\nforged 1\n"} 1"#),
    text("a metric without a name forges nothing", [r#"{a="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
        .losing(1, 1, r#"{a="b\nforged 1\n"} 1"#),
    text("behind one that is lost others are counted", [r#"x{a="b⏎c"} one⏎bad⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
        .losing(2, 1, r#"x{a="b\nc"} one"#),
    // Bodies of text that break off.
    text(
        "a body that breaks off between quotes forges nothing",
        [r#"y 2⏎x{a="b⏎forged 1⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .broken_off(r#"x{a="b\nforged 1\n"#),
    text(
        "a body that breaks off behind quotes has a piece of a line",
        [r#"y 2⏎x{a="b⏎forged 1⏎"} 1"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .broken_off(r#"x{a="b\nforged 1\n"} 1"#),
    text(
        "a body that breaks off in a family's name forges nothing",
        [r#"y 2⏎# HELP "b⏎forged 1⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .broken_off(r#"# HELP "b\nforged 1\n"#),
    // OpenMetrics has none between quotes.
    open_metrics(
        "a newline in a label's value costs the sample",
        [r#"x{a="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\nforged 1\n"} 1"#),
    open_metrics(
        "newlines in two values cost the sample once",
        [r#"x{a="b⏎c",d="⏎forged 1⏎",e="f"} 1 2⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\nc",d="\nforged 1\n",e="f"} 1 2"#),
    open_metrics(
        "one in a metric's name costs the sample",
        [r#"{"x⏎forged 1⏎",a="b"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"{"x\nforged 1\n",a="b"} 1"#),
    open_metrics(
        "one in a label's name costs the sample",
        [r#"x{"a⏎forged 1⏎"="b"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{"a\nforged 1\n"="b"} 1"#),
    open_metrics(
        "one in the name of a family costs its help text",
        [r#"# HELP "x⏎forged 1⏎" Words.⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"# HELP "x\nforged 1\n" Words."#),
    open_metrics(
        "one in the name of a family costs its type",
        [r#"# TYPE "x⏎# EOF⏎" gauge⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r##"# TYPE "x\n# EOF\n" gauge"##),
    open_metrics(
        "one in the name of a family costs its unit",
        [r#"# UNIT "x⏎forged 1⏎_s" s⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"# UNIT "x\nforged 1\n_s" s"#),
    open_metrics(
        "what looks like lines is nothing between quotes",
        [
            r#"x{a="b⏎# EOF⏎forged 1⏎# TYPE y counter⏎# HELP y Words.⏎"} 1⏎# TYPE y gauge⏎y 2⏎"#,
            "# TYPE y gauge⏎y{@} 2⏎",
            "y gauge⏎  {@} 2⏎",
        ],
    )
    .losing(1, 1, r##"x{a="b\n# EOF\nforged 1\n# TYPE y counter\n# HELP y Words.\n"} 1"##),
    open_metrics(
        "an end mark between quotes ends nothing",
        [r#"x{a="b⏎# EOF⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r##"x{a="b\n# EOF\n"} 1"##)
    .without_end_mark(),
    open_metrics(
        "an escaped quote beside a newline closes nothing",
        [r#"x{a="b\"⏎forged 1⏎\""} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\"\nforged 1\n\""} 1"#),
    open_metrics(
        "an escaped backslash beside a newline escapes nothing",
        [r#"x{a="b\\⏎forged 1⏎\\"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\\\nforged 1\n\\"} 1"#),
    open_metrics(
        "a carriage return before a newline changes nothing",
        [r#"x{a="b␍⏎forged 1␍⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\r\nforged 1\r\n"} 1"#),
    open_metrics(
        "several such samples in a row are lost one by one",
        [
            r#"x{a="b⏎c"} 1⏎x{a="d⏎e"} 2⏎y{a="f"} 3⏎y{a="g⏎h"} 4⏎y{a="i"} 5⏎"#,
            r#"y{a="f",@} 3⏎y{a="i",@} 5⏎"#,
            r#"y untyped⏎  {a="f",@} 3⏎  {a="i",@} 5⏎"#,
        ],
    )
    .losing(3, 1, r#"x{a="b\nc"} 1"#),
    open_metrics(
        "a value that is none forges nothing",
        [r#"x{a="b⏎forged 1⏎"} one⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\nforged 1\n"} one"#),
    open_metrics(
        "a label twice forges nothing",
        [r#"x{a="b⏎forged 1⏎",a="c"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{a="b\nforged 1\n",a="c"} 1"#),
    open_metrics("what is no UTF-8 forges nothing", [r#"x{a="ÿ⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
        .losing(1, 1, "x{a=\"\u{fffd}\\nforged 1\\n\"} 1"),
    open_metrics(
        "the metric's name as a label forges nothing",
        [r#"x{__name__="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .losing(1, 1, r#"x{__name__="b\nforged 1\n"} 1"#),
    open_metrics(
        "a newline in an exemplar costs the exemplar alone",
        [
            r#"x_total 1 # {a="b⏎forged 1⏎# EOF⏎"} 1 2⏎y 2⏎"#,
            "x_total{@} 1⏎y{@} 2⏎",
            "x_total untyped⏎  {@} 1⏎y untyped⏎  {@} 2⏎",
        ],
    )
    .losing(1, 1, r##"x_total 1 # {a="b\nforged 1\n# EOF\n"} 1 2"##),
    open_metrics(
        "a newline in the second label of an exemplar costs the exemplar alone",
        [
            r#"x_total{a="b"} 1 # {a="b",c="d⏎forged 1⏎"} 1⏎y 2⏎"#,
            r#"x_total{a="b",@} 1⏎y{@} 2⏎"#,
            r#"x_total untyped⏎  {a="b",@} 1⏎y untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(1, 1, r#"x_total{a="b"} 1 # {a="b",c="d\nforged 1\n"} 1"#),
    open_metrics(
        "an exemplar that is malformed besides forges nothing",
        [
            r#"x_total 1 # {a="b⏎forged 1⏎",a="c"} one⏎y 2⏎"#,
            "x_total{@} 1⏎y{@} 2⏎",
            "x_total untyped⏎  {@} 1⏎y untyped⏎  {@} 2⏎",
        ],
    )
    .losing(1, 1, r#"x_total 1 # {a="b\nforged 1\n",a="c"} one"#),
    open_metrics(
        "behind an exemplar that goes on broken lines are counted right",
        [
            r#"x_total 1 # {a="foo⏎y{b="c"} 2⏎bad⏎z 3⏎"#,
            r#"x_total{@} 1⏎y{b="c",@} 2⏎z{@} 3⏎"#,
            r#"x_total untyped⏎  {@} 1⏎y untyped⏎  {b="c",@} 2⏎z untyped⏎  {@} 3⏎"#,
        ],
    )
    .losing(2, 1, r#"x_total 1 # {a="foo"#),
    open_metrics(
        "a broken exemplar costs itself alone in front of lines without quotes",
        [
            r#"x_total 1 # {a="foo⏎y 2⏎z 3⏎"#,
            "x_total{@} 1⏎y{@} 2⏎z{@} 3⏎",
            "x_total untyped⏎  {@} 1⏎y untyped⏎  {@} 2⏎z untyped⏎  {@} 3⏎",
        ],
    )
    .losing(1, 1, r#"x_total 1 # {a="foo"#),
    open_metrics(
        "a broken line is lost alone in front of lines with quotes",
        [
            r#"before 1⏎x{a="foo⏎y{b="c",d="e"} 1⏎z 2⏎"#,
            r#"before{@} 1⏎y{b="c",d="e",@} 1⏎z{@} 2⏎"#,
            r#"before untyped⏎  {@} 1⏎y untyped⏎  {b="c",d="e",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(1, 2, r#"x{a="foo"#),
    open_metrics(
        "a broken line is lost alone in front of lines without quotes, and the end mark is one",
        [
            r#"before 1⏎x{a="foo⏎y 1⏎z 2⏎"#,
            "before{@} 1⏎y{@} 1⏎z{@} 2⏎",
            "before untyped⏎  {@} 1⏎y untyped⏎  {@} 1⏎z untyped⏎  {@} 2⏎",
        ],
    )
    .losing(1, 2, r#"x{a="foo"#),
    open_metrics(
        "a broken name of a family is lost alone",
        [
            r#"# HELP "x⏎y{a="b"} 1⏎# TYPE "x⏎z 2⏎"#,
            r#"y{a="b",@} 1⏎z{@} 2⏎"#,
            r#"y untyped⏎  {a="b",@} 1⏎z untyped⏎  {@} 2⏎"#,
        ],
    )
    .losing(2, 1, r#"# HELP "x"#),
    open_metrics(
        "a body that breaks off between quotes forges nothing",
        [r#"y 2⏎x{a="b⏎forged 1⏎# EOF⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .broken_off(r#"x{a="b\nforged 1\n# EOF\n"#),
    open_metrics(
        "a body that breaks off in an exemplar has a piece of a line",
        [r#"y 2⏎x_total 1 # {a="b⏎forged 1⏎# EOF⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
    )
    .broken_off(r#"x_total 1 # {a="b\nforged 1\n# EOF\n"#),
];

const BOTH_NAMES: [Escaping; 2] = [Escaping::AllowUtf8, Escaping::Underscores];

/// Hands on each way in which a body may be cut in two, and that into single bytes.
fn for_every_cut(body: &[u8], mut run: impl FnMut(Cut<'_>)) {
    run(Cut::EveryByte);
    (0..=body.len()).for_each(|place| run(Cut::At(&[place])));
}

/// The samples and the lines lost, and for what.
fn counts(counts: Counts) -> (u64, u64, u64) {
    (counts.samples, counts.dropped(DropReason::Malformed), counts.dropped_in_all())
}

#[track_caller]
fn check(case: &Case) {
    let body = case.body();
    for names in BOTH_NAMES {
        let samples = case.lines(names, SERVING).split(|byte| *byte == b'\n').filter(|line| is_sample(line)).count();
        for to in outputs(case.from) {
            for_every_cut(&body, |cut| {
                let rules = serving_rules(Untyped::Keep);
                let outcome = run_to(case.end, engine(case.from, *to, &rules, names), &body, cut);
                let what = || format!("{}: {:?} as {to:?}, {names:?} {cut:?}", case.promise, case.from);
                let (out, expected) = match to {
                    Form::Protobuf => {
                        let families = read_put_together(&outcome.out, names);
                        let families = families.unwrap_or_else(|error| panic!("{}: {error}", what()));
                        (shown(&families).into_bytes(), case.messages(names))
                    }
                    Text => {
                        let read = Lines::Text.read(&outcome.out, names);
                        read.unwrap_or_else(|error| panic!("{}: {error}", what()));
                        (outcome.out, case.lines(names, SERVING))
                    }
                    OpenMetrics => {
                        let read = Lines::OpenMetrics.read(&[&outcome.out[..], b"# EOF\n"].concat(), names);
                        read.unwrap_or_else(|error| panic!("{}: {error}", what()));
                        (outcome.out, case.lines(names, SERVING))
                    }
                };
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{}", what());
                assert_eq!(
                    counts(outcome.counts),
                    (samples as u64, case.malformed, case.malformed + case.cut_off),
                    "{}",
                    what()
                );
                let first = outcome.first_dropped.as_ref().map(|first| (first.line, first.text.as_str()));
                assert_eq!(first, case.first, "{}", what());
                assert_eq!(outcome.is_whole, Some(case.from == Text || case.has_end_mark), "{}", what());
            });
        }
    }
}

fn is_sample(line: &[u8]) -> bool {
    line.first().is_some_and(|first| *first != b'#')
}

#[test]
fn newlines_between_quotes_are_read_as_the_table_says_however_the_body_is_cut() {
    CASES.iter().for_each(check);
}

#[test]
fn what_is_passed_on_verbatim_has_no_raw_newlines_either() {
    for case in CASES.iter().filter(|case| case.from == Text) {
        let body = case.body();
        for names in BOTH_NAMES {
            for_every_cut(&body, |cut| {
                let outcome = run_to(case.end, verbatim(names, &Rules::default()), &body, cut);
                let (out, expected) = (outcome.out, case.lines(names, ""));
                let what = format!("{} {names:?} {cut:?}", case.promise);
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{what}");
                assert_eq!(outcome.counts.dropped(DropReason::Malformed), case.malformed, "{what}");
                let first = outcome.first_dropped.as_ref().map(|first| (first.line, first.text.as_str()));
                assert_eq!(first, case.first, "{what}");
            });
        }
    }
}

#[test]
fn who_goes_on_checked_goes_on_between_quotes() {
    for case in CASES.iter().filter(|case| case.from == Text) {
        let body = case.body();
        for place in 0..=body.len() {
            let (mut families, mut out) = (Families::default(), Vec::new());
            let mut verbatim = verbatim(Escaping::AllowUtf8, &Rules::default());
            verbatim.push(&body[..place], &mut families, &mut out);
            let mut checked = verbatim.check_the_rest().expect("it was not checked");
            checked.push(&body[place..], &mut families, &mut out);
            checked.finish(case.end, &mut families, &mut out);
            let what = format!("{} at {place}", case.promise);
            let expected = case.lines(Escaping::AllowUtf8, "");
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{what}");
            assert_eq!(checked.progress().counts().dropped(DropReason::Malformed), case.malformed, "{what}");
            let first = checked.progress().first_dropped().map(|first| (first.line, first.text.as_str()));
            assert_eq!(first, case.first, "{what}");
        }
    }
}

/// Prometheus takes no backslash there, but the quote that closes is the same.
#[test]
fn nothing_is_forged_behind_a_backslash_before_the_newline() {
    for case in
        [
            text("in a value", [r#"x{a="b\⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x{a="b\\nforged 1\n"} 1"#,
            ),
            text("behind another newline", [r#"x{a="b⏎\⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x{a="b\n\\nforged 1\n"} 1"#,
            ),
            text("behind a NUL", [r#"x{a="b\␀⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x{a="b\\u{0}\nforged 1\n"} 1"#,
            ),
            text("in a family's name", [r#"# TYPE "b\⏎forged 1⏎" gauge⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
                .losing(1, 1, r#"# TYPE "b\\nforged 1\n" gauge"#),
            open_metrics("in a value", [r#"x{a="b\⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x{a="b\\nforged 1\n"} 1"#,
            ),
            open_metrics(
                "in an exemplar",
                [
                    r#"x_total 1 # {a="b\⏎forged 1⏎"} 1⏎y 2⏎"#,
                    "x_total{@} 1⏎y{@} 2⏎",
                    "x_total untyped⏎  {@} 1⏎y untyped⏎  {@} 2⏎",
                ],
            )
            .losing(1, 1, r#"x_total 1 # {a="b\\nforged 1\n"} 1"#),
        ]
    {
        check(&case);
    }
}

/// Whatever is wrong before the quote, what stands behind it is quoted.
#[test]
fn nothing_is_forged_by_a_line_that_is_malformed_before_its_quote() {
    for case in
        [
            text("a label's name", [r#"x{a.b="c⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x{a.b="c\nforged 1\n"} 1"#,
            ),
            text("a metric's name", [r#"x.y{a="c⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r#"x.y{a="c\nforged 1\n"} 1"#,
            ),
            text(
                "a carriage return at the end changes nothing",
                [
                    r#"x{a="b␍⏎forged 1␍⏎"} 1␍⏎y 2⏎"#,
                    r#"x{a="b␍\nforged 1␍\n",@} 1⏎y{@} 2⏎"#,
                    r#"x untyped⏎  {a="b\r\nforged 1\r\n",@} 1⏎y untyped⏎  {@} 2⏎"#,
                ],
            ),
            text(
                "an exemplar",
                [r#"x 1 # {a="b⏎forged 1⏎"} 1⏎y 2⏎"#, "x{@} 1⏎y{@} 2⏎", "x untyped⏎  {@} 1⏎y untyped⏎  {@} 2⏎"],
            )
            .losing(1, 1, r#"x 1 # {a="b\nforged 1\n"} 1"#),
            open_metrics("a semicolon", [r#"x{a="b"; c="d⏎# EOF⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
                1,
                1,
                r##"x{a="b"; c="d\n# EOF\n"} 1"##,
            ),
            open_metrics("a value", [r#"x_total one # {a="b⏎forged 1⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"])
                .losing(1, 1, r#"x_total one # {a="b\nforged 1\n"} 1"#),
            open_metrics(
                "a newline",
                [r#"x_total{a="b⏎forged 1⏎"} 1 # {c="d⏎forged 2⏎"} 1⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"],
            )
            .losing(1, 1, r#"x_total{a="b\nforged 1\n"} 1 # {c="d\nforged 2\n"} 1"#),
        ]
    {
        check(&case);
    }
}

#[test]
fn nothing_is_forged_by_metadata_that_is_malformed_behind_its_name() {
    for case in [
        text("no type", [r#"# TYPE "x⏎forged 1⏎" foo⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
            1,
            1,
            r#"# TYPE "x\nforged 1\n" foo"#,
        ),
        text("no UTF-8", [r#"# HELP "x⏎forged 1⏎" ÿ⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
            1,
            1,
            "# HELP \"x\\nforged 1\\n\" \u{fffd}",
        ),
        text("no name", [r#"# HELP "x␀⏎forged 1⏎" Words.⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
            1,
            1,
            r#"# HELP "x\u{0}\nforged 1\n" Words."#,
        ),
        open_metrics("no type", [r#"# TYPE "x⏎# EOF⏎" foo⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
            1,
            1,
            r##"# TYPE "x\n# EOF\n" foo"##,
        ),
        open_metrics("no unit", [r#"# UNIT "x⏎forged 1⏎" s⏎y 2⏎"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
            1,
            1,
            r#"# UNIT "x\nforged 1\n" s"#,
        ),
    ] {
        check(&case);
    }
}

/// The target said all it had to say.
#[test]
fn the_last_line_may_lack_its_newline_behind_one_between_quotes() {
    check(&text(
        "a sample",
        [r#"y 2⏎x{a="b⏎c"} 1"#, r#"y{@} 2⏎x{a="b\nc",@} 1⏎"#, r#"y untyped⏎  {@} 2⏎x untyped⏎  {a="b\nc",@} 1⏎"#],
    ));
    check(&text("one that is malformed", [r#"y 2⏎x{a="b⏎forged 1⏎"} one"#, "y{@} 2⏎", "y untyped⏎  {@} 2⏎"]).losing(
        1,
        2,
        r#"x{a="b\nforged 1\n"} one"#,
    ));
    check(&text("a type", [r#"# TYPE "x⏎y" gauge"#, r#"# TYPE "x\ny" gauge⏎"#, ""]).escaped("# TYPE x_y gauge⏎", ""));
}

/// More than a line may have.
fn too_much() -> String {
    "v".repeat(MAX_LINE)
}

/// A body with a line that is too long, between `before` and `after`, goes out with those alone, and that line is told once.
#[track_caller]
fn is_skipped(line: &str, samples: &[&str]) {
    for from in [Text, OpenMetrics] {
        let body = format!("before 1\n{line}after 2\n# EOF\n");
        let places: Vec<usize> = (0..40).chain((0..40).map(|place| body.len() - place)).chain([MAX_LINE]).collect();
        for cut in [Cut::Whole, Cut::At(&[20, 1000, MAX_LINE, MAX_LINE + 30]), Cut::At(&places)] {
            for to in outputs(from) {
                let engine = engine(from, *to, &serving_rules(Untyped::Keep), Escaping::AllowUtf8);
                let outcome = run_to(End::Whole, engine, body.as_bytes(), cut);
                let what = format!("{from:?} as {to:?} {:?}", &line[..line.len().min(20)]);
                let out = match to {
                    Form::Protobuf => {
                        shown(&read_put_together(&outcome.out, Escaping::AllowUtf8).expect("it is valid"))
                    }
                    _ => String::from_utf8_lossy(&outcome.out).replace(SERVING, "@"),
                };
                let expected = samples.iter().map(|sample| match (to, sample.split_once(' ')) {
                    (Form::Protobuf, Some((name, value))) => format!("{name} untyped\n  {{@}} {value}\n"),
                    _ => format!("{}\n", sample.replace(' ', "{@} ")),
                });
                assert_eq!(out, expected.collect::<String>(), "{what}");
                assert_eq!(outcome.counts.samples, samples.len() as u64, "{what}");
                assert_eq!(outcome.counts.dropped(DropReason::TooLong), 1, "{what}");
                assert_eq!(outcome.counts.dropped_in_all(), 1, "{what}");
                let first = outcome.first_dropped.expect("it was lost");
                assert_eq!((first.line, first.reason), (2, DropReason::TooLong), "{what}");
            }
        }
    }
}

#[test]
fn a_line_over_the_bound_is_skipped_to_the_end_of_the_line_on_which_its_quote_closes() {
    let long = too_much();
    let forged = "\nforged 1\n# TYPE forged counter\n# HELP forged Words.\n# EOF\n";
    let both = ["before 1", "after 2"];
    is_skipped(&format!("x{{a=\"b\n{long}{forged}\"}} 1\n"), &both);
    is_skipped(&format!("x{{a=\"b{forged}{long}{forged}\",c=\"d\"}} 1\n"), &both);
    is_skipped(&format!("x{{a=\"b\n{long}\\\"{forged}\\\\\"}} 1\n"), &both);
    is_skipped(&format!("x{{a=\"b\n{long}{forged}\"}} one\n"), &both);
    is_skipped(&format!("x{{a=\"b\n\"}} {long}\n"), &both);
    is_skipped(&format!("# HELP \"b\n{long}{forged}\" Words.\n"), &both);
    // It never closes.
    is_skipped(&format!("x{{a=\"b\n{long}{forged}"), &both[..1]);
}

#[test]
fn a_first_line_over_the_bound_is_skipped_to_where_its_quote_closes() {
    let forged = "\nforged 1\n# TYPE forged counter\n# HELP forged Words.\n# EOF\n";
    is_skipped(&format!("x{{a=\"{}{forged}\"}} 1\n", too_much()), &["before 1", "after 2"]);
}

#[test]
fn a_line_that_goes_on_may_be_as_long_as_any() {
    for (longer, is_kept) in [(0, true), (1, false)] {
        let value = "v".repeat(MAX_LINE + longer - "x{a=\"b\n\"} 1".len());
        let body = format!("x{{a=\"b\n{value}\"}} 1\ny 2\n");
        for cut in [Cut::Whole, Cut::At(&[9, 500_000, MAX_LINE + longer, MAX_LINE + longer + 1])] {
            let engine = engine(Text, Text, &Rules::default(), Escaping::Underscores);
            let outcome = run_to(End::Whole, engine, body.as_bytes(), cut);
            assert_eq!(outcome.counts.samples, 1 + u64::from(is_kept), "{cut:?}");
            assert_eq!(outcome.counts.dropped(DropReason::TooLong), u64::from(!is_kept), "{cut:?}");
        }
    }
}
