//! The rules of OpenMetrics, one line each, and then those that take more than one line to show.
//!
//! [`CASES`] says what becomes of each line, as OpenMetrics and as text. It runs whole and cut at every byte, past the
//! independent reader, and, in `prometheus.rs`, past a real Prometheus: the table is what Prometheus does, not what the
//! specification says.

use qpext::exposition::{DropReason, End, Families, Untyped};

use crate::engine::cases::{Case, check};
use crate::engine::lines::written;
use crate::engine::protobuf::{Setting, USUAL};
use crate::engine::rules::Form;
use crate::support::reader::{Exposition, read};
use crate::support::{Cell, Converted, Cut, Lines, OPEN_METRICS, OPEN_METRICS_TO_TEXT, open_metrics};

/// What becomes of a line. Where `@` stands, the serving labels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written like this in both formats.
    Becomes(&'static str),
    /// It is written like this as OpenMetrics, and like this as text.
    Differs(&'static str, &'static str),
    /// As `Becomes`, although Prometheus 2.42 rejects the line as it came: 3.x takes it, or the official Python client does.
    Mended(&'static str),
    /// As `Mended`, as OpenMetrics and as text.
    MendedInBoth(&'static str, &'static str),
    /// It is written, as OpenMetrics and as text, without its exemplar, which is malformed and counted.
    WithoutExemplar(&'static str),
    /// It is written like this, without its exemplar: Prometheus 2.42 takes none at this name, 3.x does. In OpenMetrics
    /// that is a loss and counted; text has no exemplars.
    TooNewExemplar(&'static str),
    /// As `TooNewExemplar`, although Prometheus 2.42 takes the line: strict readers refuse the whole answer for it.
    LooseExemplar(&'static str),
    /// It is written like this as OpenMetrics; as text it is dropped and counted.
    OpenMetricsOnly(&'static str),
    /// Nothing is written, nothing is lost, although Prometheus 2.42 rejects the line.
    Comment,
    /// It is dropped and counted: Prometheus rejects it.
    Rejected,
    /// It is dropped and counted, although Prometheus takes it, by a quirk: without a byte that it overlooks.
    Refused,
}

use Fate::{
    Becomes, Comment, Differs, LooseExemplar, Mended, MendedInBoth, OpenMetricsOnly, Refused, Rejected, TooNewExemplar,
    WithoutExemplar,
};

impl Fate {
    /// What is written in this format.
    pub fn written_as(self, format: Lines) -> Option<String> {
        let becomes = match self {
            Becomes(both) | Mended(both) | WithoutExemplar(both) | TooNewExemplar(both) | LooseExemplar(both) => both,
            Differs(open_metrics, text) | MendedInBoth(open_metrics, text) => match format {
                Lines::OpenMetrics => open_metrics,
                Lines::Text => text,
            },
            OpenMetricsOnly(open_metrics) if format == Lines::OpenMetrics => open_metrics,
            OpenMetricsOnly(_) | Comment | Rejected | Refused => return None,
        };
        // A unit is nothing in text.
        (!becomes.is_empty()).then(|| format!("{}\n", written(becomes)))
    }

    /// Whether Prometheus 2.42 takes the line as it came.
    pub fn is_taken(self) -> bool {
        matches!(self, Becomes(_) | Differs(..) | OpenMetricsOnly(_) | LooseExemplar(_) | Refused)
    }

    fn losses(self, format: Lines) -> u64 {
        let is_loss = match self {
            WithoutExemplar(_) | Rejected | Refused => true,
            TooNewExemplar(_) | LooseExemplar(_) => format == Lines::OpenMetrics,
            OpenMetricsOnly(_) => format == Lines::Text,
            Becomes(_) | Differs(..) | Mended(_) | MendedInBoth(..) | Comment => false,
        };
        u64::from(is_loss)
    }
}

/// What stands before a line of the table in a body: only counters and buckets may have exemplars.
pub fn type_of(line: &[u8], format: Lines) -> &'static str {
    let has_exemplar = line.windows(4).any(|bytes| bytes == b" # {");
    match format {
        _ if !has_exemplar => "",
        _ if line.starts_with(b"x_bucket") => "# TYPE x histogram\n",
        _ if !line.starts_with(b"x_total") || line.starts_with(b"x_total_") => "",
        Lines::OpenMetrics => "# TYPE x counter\n",
        Lines::Text => "# TYPE x_total counter\n",
    }
}

pub const CASES: &[(&[u8], Fate)] = &[
    // Escaping.
    (b"x 1", Becomes("x{@} 1")),
    (b"x_1:total 1", Becomes("x_1:total{@} 1")),
    (b":x 1", Becomes(":x{@} 1")),
    (b"_ 1", Becomes("_{@} 1")),
    (b"1x 1", Rejected),
    (b"x-y 1", Rejected),
    (b"x.y 1", Rejected),
    (b"\xc3\xa9 1", Rejected),
    (b"\xef\xbb\xbfx 1", Mended("x{@} 1")),
    (b"{a=\"b\"} 1", Rejected),
    (b"{} 1", Rejected),
    (b"\x00x 1", Rejected),
    (b"x\x00 1", Rejected),
    // Quoted names.
    (b"{\"x\"} 1", Mended("x{@} 1")),
    (b"{\"x.y\",a=\"b\"} 1", Mended("x_y{a=\"b\",@} 1")),
    (b"{a=\"b\",\"x.y\"} 1", Mended("x_y{a=\"b\",@} 1")),
    (b"{\"x.y\",} 1", Mended("x_y{@} 1")),
    (b"{\"x\\\"y\\\\\"} 1", Mended("x_y_{@} 1")),
    (b"{\"\xc3\xa9\"} 1", Mended("_{@} 1")),
    (b"x{\"a.b\"=\"c\"} 1", Mended("x{a_b=\"c\",@} 1")),
    (b"x{a=\"1\",\"b\"=\"\\\"\"} 1", Mended("x{a=\"1\",b=\"\\\"\",@} 1")),
    (
        b"x{\"service.name\"=\"2\"} 1",
        Mended("x{exported_service_name=\"2\",@} 1"),
    ),
    (b"x{a_b=\"1\",\"a.b\"=\"2\"} 1", Mended("x{a_b=\"1\",exported_a_b=\"2\",@} 1")),
    (b"x{\"a\"=\"1\",a=\"2\"} 1", Rejected),
    (b"x{\"__name__\"=\"y\"} 1", Rejected),
    (b"x{\"\"=\"y\"} 1", Rejected),
    (b"{\"x\",\"y\"} 1", Rejected),
    (b"{\"x\" ,a=\"b\"} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{\"y\"} 1", Rejected),
    (b"{\"x\"a=\"b\"} 1", Rejected),
    (b"{\"\"} 1", Rejected),
    (b"{\"x\\q\"} 1", Rejected),
    (b"{\"x\x00\"} 1", Rejected),
    (b"x{\"a\x00\"=\"b\"} 1", Rejected),
    (b"{\"\xff\"} 1", Rejected),
    (b"{\"x", Rejected),
    // Blanks: one space, where one must be.
    (b"x", Rejected),
    (b"x ", Rejected),
    (b" x 1", Rejected),
    (b"x  1", Rejected),
    (b"x\t1", Rejected),
    (b"x 1 ", Rejected),
    (b"x 1\r", Rejected),
    (b"x+5", Rejected),
    (b"x {a=\"b\"} 1", Rejected),
    (b"x{a=\"b\"}1", Rejected),
    (b"x{a=\"b\"}  1", Rejected),
    (b"x{ } 1", Mended("x{@} 1")),
    (b"x{ a=\"b\"} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{a =\"b\"} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{a= \"b\"} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{a=\"b\" } 1", Mended("x{a=\"b\",@} 1")),
    (b"x{ a\t=\t\"b\" ,\tc = \"d\" } 1", Mended("x{a=\"b\",c=\"d\",@} 1")),
    (b"x{a=\"b\" c=\"d\"} 1", Rejected),
    (b"x{a=\"b\", c=\"d\"} 1", Mended("x{a=\"b\",c=\"d\",@} 1")),
    // Labels.
    (b"x{a=\"b\"} 1", Becomes("x{a=\"b\",@} 1")),
    (b"x{} 6", Becomes("x{@} 6")),
    (b"x{a=\"b\",c=\"d\"} 1", Becomes("x{a=\"b\",c=\"d\",@} 1")),
    (b"x{a=\"b\",} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{le=\"0.5\"} 1", Becomes("x{le=\"0.5\",@} 1")),
    (b"x{__a=\"b\"} 1", Becomes("x{exported___a=\"b\",@} 1")),
    (b"x{a=\"b\"c=\"d\"} 1", Rejected),
    (b"x{,} 1", Rejected),
    (b"x{,a=\"b\"} 1", Rejected),
    (b"x{a=\"b\",,} 1", Rejected),
    (b"x{a=\"b\",,c=\"d\"} 1", Rejected),
    (b"x{a=\"b\";} 1", Rejected),
    (b"x{a=\"b\"", Rejected),
    (b"x{a=\"b\" 1", Rejected),
    (b"x{a=\"b} 1", Rejected),
    (b"x{a=b} 1", Rejected),
    (b"x{a='b'} 1", Rejected),
    (b"x{a} 1", Rejected),
    (b"x{a=} 1", Rejected),
    (b"x{1a=\"b\"} 1", Rejected),
    (b"x{a:b=\"c\"} 1", Mended("x{a_b=\"c\",@} 1")),
    (b"x{a.b=\"c\"} 1", Rejected),
    (b"x{}} 1", Rejected),
    (b"x{}{} 1", Rejected),
    (b"x{a=\"\"} 1", Becomes("x{a=\"\",@} 1")),
    (
        b"x{a=\"{},=# \\\"\\\\\\n\"} 1",
        Becomes("x{a=\"{},=# \\\"\\\\\\n\",@} 1"),
    ),
    (b"x{a=\"} 1 # {b=\\\"\"} 1", Becomes("x{a=\"} 1 # {b=\\\"\",@} 1")),
    (b"x{a=\"b\tc\"} 1", Becomes("x{a=\"b\tc\",@} 1")),
    (b"x{a=\"\\q\"} 1", Becomes("x{a=\"\\\\q\",@} 1")),
    (b"x{a=\"\xc3\xa9\"} 1", Becomes("x{a=\"\u{e9}\",@} 1")),
    (b"x{a=\"\xff\"} 1", Rejected),
    (b"x{a=\"b\x00c\"} 1", Becomes("x{a=\"b\0c\",@} 1")),
    (b"x{a=\"\\\x00\"} 1", Rejected),
    (b"x{a=\"b\"\x00} 1", Refused),
    (b"x{\x00a=\"b\"} 1", Rejected),
    (b"x{a=\"b\",a=\"c\"} 1", Rejected),
    (b"x{__name__=\"y\"} 1", Rejected),
    // A label of a name that is added.
    (
        b"x{service_name=\"own\"} 1",
        Becomes("x{exported_service_name=\"own\",@} 1"),
    ),
    (
        b"x{service_name=\"1\",exported_service_name=\"2\"} 1",
        Becomes("x{exported_exported_service_name=\"1\",exported_service_name=\"2\",@} 1"),
    ),
    (
        b"x_total{revision_name=\"r\"} 1 # {service_name=\"s\"} 1",
        Differs(
            "x_total{exported_revision_name=\"r\",@} 1 # {service_name=\"s\"} 1",
            "x_total{exported_revision_name=\"r\",@} 1",
        ),
    ),
    // Values.
    (b"x +5", Becomes("x{@} 5")),
    (b"x -5.5e-3", Becomes("x{@} -5.5e-3")),
    (b"x 1.", Becomes("x{@} 1")),
    (b"x .5", Becomes("x{@} 0.5")),
    (b"x 0001", Becomes("x{@} 0001")),
    (b"x +Infinity", Becomes("x{@} +Inf")),
    (b"x -inf", Becomes("x{@} -Inf")),
    (b"x nan", Becomes("x{@} NaN")),
    (b"x 1e-400", Becomes("x{@} 1e-400")),
    (b"x 18446744073709551616", Becomes("x{@} 18446744073709551616")),
    (b"x 1e400", Mended("x{@} +Inf")),
    (b"x +NaN", Mended("x{@} NaN")),
    (b"x 0x10", Rejected),
    (b"x 1_000", Rejected),
    (b"x 1e", Rejected),
    (b"x .", Rejected),
    (b"x 1,5", Rejected),
    (b"x 5{", Rejected),
    (b"x one", Rejected),
    (b"x 1\x00", Rejected),
    (b"<html>", Rejected),
    // Timestamps, in seconds; in text, in milliseconds.
    (b"x 1 0", Becomes("x{@} 1 0")),
    (b"x 1 0.0009", Differs("x{@} 1 0.0009", "x{@} 1 0")),
    (b"x 1 0.001", Differs("x{@} 1 0.001", "x{@} 1 1")),
    (b"x 1 2", Differs("x{@} 1 2", "x{@} 1 2000")),
    (
        b"x{a=\"b\"} 1 1520879607.789",
        Differs("x{a=\"b\",@} 1 1520879607.789", "x{a=\"b\",@} 1 1520879607789"),
    ),
    (b"x 1 1.0019", Differs("x{@} 1 1.0019", "x{@} 1 1001")),
    (b"x 1 +1.5e3", Differs("x{@} 1 1500", "x{@} 1 1500000")),
    (b"x 1 1.", Differs("x{@} 1 1", "x{@} 1 1000")),
    (b"x 1 -0", Differs("x{@} 1 -0", "x{@} 1 0")),
    (b"x 1 -0.0004", Differs("x{@} 1 -0.0004", "x{@} 1 0")),
    // Text has no time before 1970.
    (b"x 1 -1", OpenMetricsOnly("x{@} 1 -1")),
    (b"x 1 -0.001", OpenMetricsOnly("x{@} 1 -0.001")),
    (
        b"x 1 9223372036854774",
        Differs("x{@} 1 9223372036854774", "x{@} 1 9223372036854773760"),
    ),
    (b"x 1 9223372036854776", OpenMetricsOnly("x{@} 1 9223372036854776")),
    (b"x 1 1e300", OpenMetricsOnly("x{@} 1 1e300")),
    (b"x 1 1e400", Rejected),
    (b"x 1 NaN", Rejected),
    (b"x 1 Inf", Rejected),
    (b"x 1 -Inf", Rejected),
    (b"x 1 0x10", Rejected),
    (b"x 1  2", Rejected),
    (b"x 1 2 ", Rejected),
    (b"x 1 2 3", Rejected),
    // Exemplars.
    (
        b"x_total 1 # {trace_id=\"a\"} 0.5",
        Differs("x_total{@} 1 # {trace_id=\"a\"} 0.5", "x_total{@} 1"),
    ),
    (
        b"x_bucket{le=\"+Inf\"} 1 2 # {a=\"b\",c=\"\\\\\"} 0.5 1520879607.789",
        Differs(
            "x_bucket{le=\"+Inf\",@} 1 2 # {a=\"b\",c=\"\\\\\"} 0.5 1520879607.789",
            "x_bucket{le=\"+Inf\",@} 1 2000",
        ),
    ),
    (b"x_total 1 # {a=\"\\\"\"} 1", LooseExemplar("x_total{@} 1")),
    (b"x_total{} 1 # {} 5", Differs("x_total{@} 1 # {} 5", "x_total{@} 1")),
    (
        b"x_total 1 # {a=\"} # {\"} 5 -1",
        Differs("x_total{@} 1 # {a=\"} # {\"} 5 -1", "x_total{@} 1"),
    ),
    // Longer than the 128 characters that the standard has: Prometheus keeps the sample and leaves the exemplar.
    (
        b"x_total 1 # {a=\"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\"} 1",
        LooseExemplar("x_total{@} 1"),
    ),
    (b"x 1 # {a=\"b\"} 1", TooNewExemplar("x{@} 1")),
    (b"x_sum{} 1 # {} 1 5", TooNewExemplar("x_sum{@} 1")),
    (b"x_total_ 1 # {} 1", TooNewExemplar("x_total_{@} 1")),
    (b"x_total 1 # {a=\"b\"}", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} ", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"}1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"}  1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} one", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} 1 ", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} 1 NaN", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} 1 -Inf", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} 1 1 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"} 1 # {} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\",} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {,} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=b} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"b\"c=\"d\"} 1", WithoutExemplar("x_total{@} 1")),
    (
        b"x_total 1 # {a=\"b\", c=\"d\"} 1",
        MendedInBoth("x_total{@} 1 # {a=\"b\",c=\"d\"} 1", "x_total{@} 1"),
    ),
    (b"x_total 1 # {a=\"b} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"\xff\"} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {a=\"\x00\"} 1", WithoutExemplar("x_total{@} 1")),
    (b"x_total 1 # {\"a\"} 1", WithoutExemplar("x_total{@} 1")),
    // Prometheus takes it; strict readers refuse the whole answer.
    (b"x_total 1 # {a=\"b\"} NaN", LooseExemplar("x_total{@} 1")),
    (b"x_total 1 # {\"a.b\"=\"c\"} 1", TooNewExemplar("x_total{@} 1")),
    (b"x_total 1 # {", WithoutExemplar("x_total{@} 1")),
    (b"x 1 # {", WithoutExemplar("x{@} 1")),
    // Not the beginning of one: the value is followed by something that is no timestamp.
    (b"x_total 1 #", Rejected),
    (b"x_total 1 # ", Rejected),
    (b"x_total 1 # 5", Rejected),
    (b"x_total 1 #{a=\"b\"} 1", Rejected),
    (b"x_total 1  # {a=\"b\"} 1", Rejected),
    (b"x_total 1# {a=\"b\"} 1", Rejected),
    (b"x_total # {a=\"b\"} 1", Rejected),
    (b"x_total one # {a=\"b\"} 1", Rejected),
    (b"x_total 1 NaN # {a=\"b\"} 1", Rejected),
    // Comments and blank lines, of which OpenMetrics has none.
    (b"", Comment),
    (b"#", Comment),
    (b"# ", Comment),
    (b"# x", Comment),
    (b"#x", Comment),
    (b"#EOF", Comment),
    (b"# EOF ", Comment),
    (b"# EOFx", Comment),
    (b"# eof", Comment),
    (b"#HELP x y", Comment),
    (b"#  HELP x y", Comment),
    (b"#\tHELP x y", Comment),
    (b"# HELP\tx y", Comment),
    (b"# HELPx y", Comment),
    (b"# help x y", Comment),
    (b"# \xff", Comment),
    (b" ", Rejected),
    (b"\t", Rejected),
    (b"\r", Rejected),
    (b" # HELP x y", Rejected),
    // Help.
    (b"# HELP x ", Becomes("# HELP x ")),
    (
        b"# HELP x some text: {} \\n \\\\ \xc3\xa9\t#",
        Becomes("# HELP x some text: {} \\n \\\\ \u{e9}\t#"),
    ),
    (
        b"# HELP x \\\"a\\\" \"b\" \\\\\" \\\\\\\" \\q \\",
        Differs(
            "# HELP x \\\"a\\\" \\\"b\\\" \\\\\\\" \\\\\\\" \\\\q \\\\",
            "# HELP x \"a\" \"b\" \\\\\" \\\\\" \\\\q \\\\",
        ),
    ),
    (b"# HELP x  two ", Becomes("# HELP x  two ")),
    (b"# HELP x text\r", Differs("# HELP x text", "# HELP x text\r")),
    (b"# HELP x a\x00b", Becomes("# HELP x a\0b")),
    (b"# HELP \"x.y\" text", Mended("# HELP x_y text")),
    (b"# HELP x", Rejected),
    (b"# HELP ", Rejected),
    (b"# HELP  x text", Rejected),
    (b"# HELP 1x text", Rejected),
    (b"# HELP x-y text", Rejected),
    (b"# HELP x\ttext", Rejected),
    (b"# HELP x\x00 text", Rejected),
    (b"# HELP \"x.y\"text", Rejected),
    (b"# HELP \"x\x00\" text", Rejected),
    (b"# HELP x \xff", Rejected),
    // Type.
    (b"# TYPE x gauge", Becomes("# TYPE x gauge")),
    (b"# TYPE x summary", Becomes("# TYPE x summary")),
    (b"# TYPE x histogram", Becomes("# TYPE x histogram")),
    (b"# TYPE x counter", Differs("# TYPE x counter", "# TYPE x_total counter")),
    (b"# TYPE x unknown", Differs("# TYPE x unknown", "# TYPE x untyped")),
    (b"# TYPE x info", Differs("# TYPE x info", "# TYPE x_info gauge")),
    (b"# TYPE x stateset", Differs("# TYPE x stateset", "# TYPE x gauge")),
    (
        b"# TYPE x gaugehistogram",
        Differs("# TYPE x gaugehistogram", "# TYPE x histogram"),
    ),
    (b"# TYPE \"x.y\" gauge", Mended("# TYPE x_y gauge")),
    (b"# TYPE x untyped", MendedInBoth("# TYPE x unknown", "# TYPE x untyped")),
    (b"# TYPE x", Rejected),
    (b"# TYPE x ", Rejected),
    (b"# TYPE x foo", Rejected),
    (b"# TYPE x Gauge", Mended("# TYPE x gauge")),
    (b"# TYPE x  gauge", Rejected),
    (b"# TYPE x gauge ", Rejected),
    (b"# TYPE x gauge\r", Rejected),
    (b"# TYPE x gauge\x00", Rejected),
    (b"# TYPE 1x gauge", Rejected),
    (b"# TYPE x-y gauge", Rejected),
    // Unit.
    (b"# UNIT x_seconds seconds", Differs("# UNIT x_seconds seconds", "")),
    (b"# UNIT x_per_second per_second", Differs("# UNIT x_per_second per_second", "")),
    (b"# UNIT x ", Differs("# UNIT x ", "")),
    (b"# UNIT _s s", Differs("# UNIT _s s", "")),
    (b"# UNIT x", Rejected),
    (b"# UNIT x seconds", Rejected),
    (b"# UNIT xseconds seconds", Rejected),
    (b"# UNIT seconds seconds", Rejected),
    (b"# UNIT x_seconds  seconds", Rejected),
    (b"# UNIT x_seconds seconds ", Rejected),
    (b"# UNIT x_seconds second", Rejected),
];

/// Lines with quoted names, for a scraper that reads those: as OpenMetrics, and as text.
const QUOTED: &[(&str, &str, &str)] = &[
    ("{\"x.y\"} 1", "{\"x.y\",@} 1", "{\"x.y\",@} 1"),
    ("{\"x.y\",} 1", "{\"x.y\",@} 1", "{\"x.y\",@} 1"),
    ("{a=\"b\",\"x\\\"\"} 1 2", "{\"x\\\"\",a=\"b\",@} 1 2", "{\"x\\\"\",a=\"b\",@} 1 2000"),
    (
        "x{\"service.name\"=\"s\",\"service_name\"=\"t\"} 1",
        "x{\"service.name\"=\"s\",exported_service_name=\"t\",@} 1",
        "x{\"service.name\"=\"s\",exported_service_name=\"t\",@} 1",
    ),
    ("{\"x\0\"} 1", "", ""),
    ("x{\"\0\"=\"\"} 1", "", ""),
    ("# HELP \"x.y\" a \\\"b\\\"", "# HELP \"x.y\" a \\\"b\\\"", "# HELP \"x.y\" a \"b\""),
    ("# TYPE \"x.y\" gauge", "# TYPE \"x.y\" gauge", "# TYPE \"x.y\" gauge"),
    ("# TYPE \"x.y\" counter", "# TYPE \"x.y\" counter", "# TYPE \"x.y_total\" counter"),
    ("# UNIT \"x.y_s\" s", "# UNIT \"x.y_s\" s", ""),
    ("# UNIT \"x.s\" s", "", ""),
];

const BOTH: [Cell; 2] = [OPEN_METRICS, OPEN_METRICS_TO_TEXT];

/// A body whole, ended by `# EOF`.
fn convert(cell: Cell, untyped: Untyped, body: &[u8]) -> Converted {
    cell.convert(&[body, b"# EOF\n"].concat(), untyped, Cut::Whole, End::Whole)
}

/// The output as text, without the `# EOF` that OpenMetrics ends with; it must be valid.
#[track_caller]
fn body_of(cell: Cell, out: &[u8]) -> (String, Exposition) {
    let exposition = cell.to.read(out, cell.names).expect("the answer is valid");
    let text = String::from_utf8(out.to_vec()).expect("it is text");
    let body = match cell.to {
        Lines::Text => text,
        Lines::OpenMetrics => text.strip_suffix("# EOF\n").expect("it has its end").to_owned(),
    };
    (body, exposition)
}

#[test]
fn each_line_becomes_what_the_table_says_however_it_is_cut() {
    for (line, fate) in CASES {
        let shown = String::from_utf8_lossy(line);
        for cell in BOTH {
            let expected = type_of(line, cell.to).to_owned() + &fate.written_as(cell.to).unwrap_or_default();
            let body = [type_of(line, cell.from).as_bytes(), line, b"\n# EOF\n"].concat();
            for cut in [Cut::Whole, Cut::EveryByte] {
                let converted = cell.convert(&body, Untyped::Keep, cut, End::Whole);
                let (out, _) = body_of(cell, &converted.out);
                assert_eq!(out, expected, "{shown:?} {cut:?}");
                let losses = fate.losses(cell.to);
                assert_eq!(converted.counts.dropped(DropReason::Malformed), losses, "{shown:?} {cut:?}");
                assert_eq!(converted.counts.dropped_in_all(), losses, "{shown:?} {cut:?}");
                assert!(converted.is_whole, "{shown:?} {cut:?}");
            }
        }
    }
}

#[test]
fn a_line_is_lost_alone() {
    for (line, fate) in CASES {
        for cell in BOTH.into_iter().filter(|cell| fate.written_as(cell.to).is_none()) {
            let body = [b"before 1\n", *line, b"\nafter 2\n"].concat();
            let (out, _) = body_of(cell, &convert(cell, Untyped::Keep, &body).out);
            let expected = written("before{@} 1\nafter{@} 2\n");
            assert_eq!(out, expected, "{} {fate:?}", String::from_utf8_lossy(line));
        }
    }
}

#[test]
fn the_independent_reader_agrees_with_the_table() {
    for (line, fate) in CASES {
        let verdict = OPEN_METRICS.from.read(&[*line, b"\n# EOF\n"].concat(), OPEN_METRICS.names);
        if *fate != Refused {
            assert_eq!(verdict.is_ok(), fate.is_taken(), "{:?}: {verdict:?}", String::from_utf8_lossy(line));
        }
    }
}

#[test]
fn quoted_names_are_kept_for_a_scraper_that_reads_them() {
    for (line, open_metrics, text) in QUOTED {
        for (cell, expected) in [(OPEN_METRICS, open_metrics), (OPEN_METRICS_TO_TEXT, text)] {
            let cell = cell.with_utf8();
            let converted = convert(cell, Untyped::Keep, format!("{line}\n").as_bytes());
            let (out, _) = body_of(cell, &converted.out);
            let newline = if expected.is_empty() { "" } else { "\n" };
            // In OpenMetrics, strict readers take no such name without metadata.
            let metadata = match expected.strip_prefix("{\"").and_then(|rest| rest.split_once("\",")) {
                Some((name, _)) if cell.to == Lines::OpenMetrics => format!("# TYPE \"{name}\" unknown\n"),
                _ => String::new(),
            };
            assert_eq!(out, metadata + &written(expected) + newline, "{line:?}");
            let is_lost = open_metrics.is_empty();
            assert_eq!(converted.counts.dropped_in_all(), u64::from(is_lost), "{line:?}");
        }
    }
}

#[test]
fn exemplars_with_quoted_names_are_kept_for_a_scraper_that_reads_them() {
    let body = "# TYPE \"x.y\" counter\n{\"x.y_total\"} 1 # {\"a.b\"=\"c\"} 1\n";
    let converted = convert(OPEN_METRICS.with_utf8(), Untyped::Keep, body.as_bytes());
    let (out, _) = body_of(OPEN_METRICS.with_utf8(), &converted.out);
    assert_eq!(out, written(&body.replace("\"} 1", "\",@} 1").replace("\"c\",@}", "\"c\"}")));
    assert_eq!(converted.counts.dropped_in_all(), 0);
}

/// Prometheus takes these exemplars, but strict readers do not take the body then.
#[test]
fn an_exemplar_of_a_sample_that_may_have_none_is_left_out_and_counted() {
    for body in [
        "x_total{@} 1 # {} 1\n",
        "# TYPE x gauge\nx{@} 1 # {} 1\n",
        "# TYPE x unknown\nx{@} 1 # {} 1\n",
        "# TYPE x summary\nx_sum{@} 1 # {} 1\n",
        "# TYPE x counter\nx_total{@} 1\nx_created{@} 1 # {} 1\n",
        "# TYPE x counter\nx_total{@} 1 # {__a=\"b\"} 1\n",
    ] {
        let converted = convert(OPEN_METRICS.with_utf8(), Untyped::Keep, body.replace("{@}", "").as_bytes());
        let (out, _) = body_of(OPEN_METRICS.with_utf8(), &converted.out);
        let (sample, _) = body.split_once(" # {").expect("it has an exemplar");
        assert_eq!(out, written(sample) + "\n");
        assert_eq!(converted.counts.dropped(DropReason::Malformed), 1, "{body}");
    }
}

/// Prometheus takes these exemplars, but strict readers do not take the body then.
#[test]
fn an_exemplar_with_a_label_twice_is_left_out_and_counted() {
    for exemplar in ["{a=\"1\",a=\"2\"}", "{__name__=\"y\"}"] {
        for cell in BOTH {
            let converted =
                convert(cell, Untyped::Keep, format!("# TYPE x counter\nx_total 1 # {exemplar} 1\n").as_bytes());
            let (out, _) = body_of(cell, &converted.out);
            assert_eq!(out, written(&format!("{}x_total{{@}} 1\n", type_of(b"x_total # {", cell.to))));
            assert_eq!(converted.counts.dropped(DropReason::Malformed), 1);
        }
    }
}

#[test]
fn the_end_must_be_the_end() {
    // What stands there, whether the body is whole by it, and how many lines are lost.
    for (end, is_whole, losses) in [
        ("# EOF\n", true, 0),
        ("# EOF", true, 0),
        ("# EOF\n\n\n", true, 0),
        ("# EOF\n# EOF\n", true, 1),
        ("# EOF\n \n", true, 1),
        ("# EO", false, 1),
        ("#EOF\n", false, 0),
        ("# EOF \n", false, 0),
        ("# EOF\r\n", false, 0),
        ("# EOFy\n", false, 0),
        ("\n", false, 0),
        ("", false, 0),
        // A line that breaks off may lack more than its newline.
        ("y 2", false, 1),
        ("y 2 # {", false, 1),
        ("# TYPE y gaugehistogram", false, 1),
        (" # EOF\n", false, 1),
    ] {
        for cell in BOTH {
            for cut in [Cut::Whole, Cut::EveryByte] {
                let converted = cell.convert(format!("x 1\n{end}").as_bytes(), Untyped::Keep, cut, End::Whole);
                assert_eq!(body_of(cell, &converted.out).0, written("x{@} 1\n"), "{end:?}");
                assert_eq!(converted.is_whole, is_whole, "{end:?}");
                assert_eq!(converted.counts.dropped_in_all(), losses, "{end:?}");
            }
        }
    }
    for cell in BOTH {
        // It tells by itself that it is whole, even where only the connection's end ends the body.
        let closed = cell.convert(b"x 1\n# EOF", Untyped::Keep, Cut::Whole, End::BrokenOff);
        assert!(closed.is_whole);
        assert!(!cell.convert(b"", Untyped::Keep, Cut::Whole, End::Whole).is_whole);
    }
}

#[test]
fn what_stands_behind_an_end_is_read_and_told_once() {
    let glued = "x 1\n# EOF\n# TYPE y gauge\ny 2\n# EOF\n\nz 3\n# EOF\n";
    for cell in BOTH {
        for cut in [Cut::Whole, Cut::EveryByte] {
            let converted = cell.convert(glued.as_bytes(), Untyped::Keep, cut, End::Whole);
            assert_eq!(body_of(cell, &converted.out).0, written("x{@} 1\n# TYPE y gauge\ny{@} 2\nz{@} 3\n"));
            assert_eq!((converted.is_whole, converted.counts.dropped_in_all()), (true, 1));
        }
    }
}

#[test]
fn the_end_of_one_body_is_not_that_of_the_answer() {
    let (mut out, mut families) = (Vec::new(), Families::default());
    OPEN_METRICS.append(b"x 1\n# EOF\n", Untyped::Keep, Cut::Whole, End::Whole, &mut families, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), written("x{@} 1\n"));
}

/// What becomes of a body, as OpenMetrics and as text.
const fn becomes<'a>(
    promise: &'a str,
    untyped: Untyped,
    body: &'a str,
    as_open_metrics: &'a str,
    as_text: &'a str,
) -> [Case<'a>; 2] {
    let setting = Setting { untyped, ..USUAL };
    let from = &[Lines::OpenMetrics];
    [
        Case::new(promise, from, Form::OpenMetrics, setting, body, as_open_metrics),
        Case::new(promise, from, Form::Text, setting, body, as_text),
    ]
}

pub const BODIES: &[[Case; 2]] = &[
    becomes(
        "a counter is in text a family by the name of its samples",
        Untyped::Drop,
        "# HELP a Words.\n# TYPE a counter\n# UNIT a \na_total{x=\"y\"} 1 # {t=\"1\"} 0.5 9\na_created{x=\"y\"} 5\na_total 2\n",
        "# HELP a Words.\n# TYPE a counter\n# UNIT a \na_total{x=\"y\",@} 1 # {t=\"1\"} 0.5 9\na_created{x=\"y\",@} 5\na_total{@} 2\n",
        "# HELP a_total Words.\n# TYPE a_total counter\na_total{x=\"y\",@} 1\na_total{@} 2\n\
         # HELP a_created Words.\n# TYPE a_created gauge\na_created{x=\"y\",@} 5\n",
    ),
    becomes(
        "the parts of a family may come in any order",
        Untyped::Convert,
        "# TYPE a counter\n# HELP a Words.\na_created 5\na_total 1\n",
        "# TYPE a counter\n# HELP a Words.\na_created{@} 5\na_total{@} 1\n",
        "# HELP a_total Words.\n# TYPE a_total counter\na_total{@} 1\n\
         # HELP a_created Words.\n# TYPE a_created gauge\na_created{@} 5\n",
    ),
    becomes(
        "histograms and summaries keep their parts and give away their creation",
        Untyped::Drop,
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 1\na_sum 2\na_created 3\n\
         # TYPE b summary\nb{quantile=\"0.5\"} 1\nb_count 1\nb_sum 2\nb_created 3\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_count{@} 1\na_sum{@} 2\na_created{@} 3\n\
         # TYPE b summary\nb{quantile=\"0.5\",@} 1\nb_count{@} 1\nb_sum{@} 2\nb_created{@} 3\n",
        "# TYPE a histogram\na_bucket{le=\"+Inf\",@} 1\na_count{@} 1\na_sum{@} 2\n# TYPE a_created gauge\na_created{@} 3\n\
         # TYPE b summary\nb{quantile=\"0.5\",@} 1\nb_count{@} 1\nb_sum{@} 2\n# TYPE b_created gauge\nb_created{@} 3\n",
    ),
    becomes(
        "a gauge histogram is in text a histogram and two gauges",
        Untyped::Drop,
        "# TYPE a gaugehistogram\n# HELP a Words.\na_bucket{le=\"+Inf\"} 1\na_gcount 1\na_gsum 2\n",
        "# TYPE a gaugehistogram\n# HELP a Words.\na_bucket{le=\"+Inf\",@} 1\na_gcount{@} 1\na_gsum{@} 2\n",
        "# TYPE a histogram\n# HELP a Words.\na_bucket{le=\"+Inf\",@} 1\n\
         # HELP a_gsum Words.\n# TYPE a_gsum gauge\na_gsum{@} 2\n# HELP a_gcount Words.\n# TYPE a_gcount gauge\na_gcount{@} 1\n",
    ),
    becomes(
        "infos and state sets are gauges in text",
        Untyped::Drop,
        "# TYPE a info\n# HELP a Words.\na_info{v=\"1\"} 1\n# TYPE b stateset\nb{b=\"on\"} 1\nb{b=\"off\"} 0\n",
        "# TYPE a info\n# HELP a Words.\na_info{v=\"1\",@} 1\n# TYPE b stateset\nb{b=\"on\",@} 1\nb{b=\"off\",@} 0\n",
        "# HELP a_info Words.\n# TYPE a_info gauge\na_info{v=\"1\",@} 1\n# TYPE b gauge\nb{b=\"on\",@} 1\nb{b=\"off\",@} 0\n",
    ),
    becomes(
        "units are kept in OpenMetrics and go in text",
        Untyped::Keep,
        "# UNIT a_seconds seconds\n# TYPE a_seconds gauge\n# HELP a_seconds Words.\n# UNIT a_seconds \na_seconds 1\n# UNIT b_s s\n",
        "# UNIT a_seconds seconds\n# TYPE a_seconds gauge\n# HELP a_seconds Words.\na_seconds{@} 1\n# UNIT b_s s\n",
        "# TYPE a_seconds gauge\n# HELP a_seconds Words.\na_seconds{@} 1\n",
    ),
    becomes(
        "metadata that comes twice is written once",
        Untyped::Keep,
        "# HELP a One.\n# HELP a Two.\n# TYPE a counter\n# TYPE a counter\na_total 1\n# HELP a Three.\n# TYPE a counter\na_total 2\n",
        "# HELP a One.\n# TYPE a counter\na_total{@} 1\na_total{@} 2\n",
        "# HELP a_total One.\n# TYPE a_total counter\na_total{@} 1\na_total{@} 2\n",
    ),
    // Strict readers of OpenMetrics want it so.
    becomes(
        "metadata stands before its samples, or at the end where there are none",
        Untyped::Keep,
        "# TYPE a counter\n# HELP a A.\n# TYPE b gauge\n# TYPE c gauge\n# HELP b B.\n# HELP d D.\nb 1\na_total 2\ne 1\n",
        "# TYPE b gauge\n# HELP b B.\nb{@} 1\n# TYPE a counter\n# HELP a A.\na_total{@} 2\ne{@} 1\n# TYPE c gauge\n# HELP d D.\n",
        "# HELP a_total A.\n# TYPE a_total counter\n# TYPE b gauge\n# TYPE c gauge\n# HELP b B.\n# HELP d D.\n\
         b{@} 1\na_total{@} 2\ne{@} 1\n",
    ),
    // In text the counter goes by the name that has samples by now.
    becomes(
        "a type behind the first sample is dropped",
        Untyped::Keep,
        "a_total 1\n# TYPE a counter\na_total 2\n",
        "a_total{@} 1\n# TYPE a counter\na_total{@} 2\n",
        "a_total{@} 1\na_total{@} 2\n",
    ),
    becomes(
        "a part of a family has no metadata of its own",
        Untyped::Keep,
        "# HELP a Counter.\n# TYPE a counter\na_total 1\n# HELP a_total Gauge.\n# TYPE a_total gauge\na_total 2\n",
        "# HELP a Counter.\n# TYPE a counter\na_total{@} 1\na_total{@} 2\n",
        "# HELP a_total Counter.\n# TYPE a_total counter\na_total{@} 1\na_total{@} 2\n",
    ),
    becomes(
        "a part of a family has no metadata of its own",
        Untyped::Keep,
        "# TYPE a_created gauge\na_created 1\n# TYPE a counter\na_total 2\na_created 3\n",
        "# TYPE a_created gauge\na_created{@} 1\n# TYPE a counter\na_total{@} 2\na_created{@} 3\n",
        "# TYPE a_created gauge\na_created{@} 1\n# TYPE a_total counter\na_total{@} 2\na_created{@} 3\n",
    ),
    // In text, too, it keeps its name and its type.
    becomes(
        "a counter's sample without its ending is kept",
        Untyped::Keep,
        "# HELP a Words.\n# TYPE a counter\na 1\na_total 2\n# TYPE b info\nb 1\n",
        "# HELP a Words.\n# TYPE a unknown\na{@} 1\na_total{@} 2\n# TYPE b gauge\nb{@} 1\n",
        "# HELP a Words.\n# TYPE a counter\na{@} 1\n# HELP a_total Words.\n# TYPE a_total counter\na_total{@} 2\n# TYPE b gauge\nb{@} 1\n",
    ),
    becomes(
        "a counter that is called as its sample is called by the rule",
        Untyped::Keep,
        "# HELP a_total Words.\n# TYPE a_total counter\na_total 2 # {} 1\n# TYPE b_info info\nb_info 1\n",
        "# HELP a Words.\n# TYPE a counter\na_total{@} 2 # {} 1\n# TYPE b info\nb_info{@} 1\n",
        "# HELP a_total Words.\n# TYPE a_total counter\na_total{@} 2\n# TYPE b_info gauge\nb_info{@} 1\n",
    ),
    becomes(
        "a counter's sample without its ending is kept",
        Untyped::Keep,
        "# TYPE a_b counter\na_b 1\n# TYPE \"a.b\" gauge\n{\"a.b\"} 2\n",
        "# TYPE a_b unknown\na_b{@} 1\na_b{@} 2\n",
        "# TYPE a_b counter\na_b{@} 1\na_b{@} 2\n",
    ),
    // Escaping that differ only in what a scraper does not read are one family to it.
    becomes(
        "names that are one when escaped have their metadata once",
        Untyped::Keep,
        "# HELP a_b One.\n# TYPE a_b gauge\na_b 1\n# HELP \"a.b\" Two.\n# TYPE \"a.b\" gauge\n{\"a.b\"} 2\n",
        "# HELP a_b One.\n# TYPE a_b gauge\na_b{@} 1\na_b{@} 2\n",
        "# HELP a_b One.\n# TYPE a_b gauge\na_b{@} 1\na_b{@} 2\n",
    ),
    becomes(
        "what is a part of another family when escaped has no metadata",
        Untyped::Convert,
        "# TYPE \"a.b\" histogram\n{\"a.b_created\"} 1\n# HELP a_b_bucket Words.\na_b_bucket 2\na_b_created 3\n",
        "# TYPE a_b_created unknown\na_b_created{@} 1\na_b_bucket{@} 2\na_b_created{@} 3\n",
        "# TYPE a_b histogram\n# TYPE a_b_created gauge\na_b_created{@} 1\na_b_bucket{@} 2\na_b_created{@} 3\n",
    ),
    // Prometheus 2.42 rejects a unit that the family's name does not end in, and so the name as it is escaped counts.
    becomes(
        "a unit that does not fit the escaped name is left out",
        Untyped::Keep,
        "# UNIT \"a_\u{b0}C\" \u{b0}C\n# TYPE \"a_\u{b0}C\" gauge\n# UNIT \"a.b_s\" s\n",
        "# TYPE a__C gauge\n# UNIT a_b_s s\n",
        "# TYPE a__C gauge\n",
    ),
];

#[test]
fn bodies_become_what_the_table_says_however_they_are_cut() {
    check(BODIES.as_flattened());
}

#[test]
fn unknown_families_are_sanitized_and_counters_are_not() {
    let body = "# HELP a_total Words.\na_total 1\n# TYPE b_created unknown\nb_created 2\n# TYPE c unknown\nc 3\n\
                d 4\n# TYPE e counter\ne_total 5\ne_created 6\n";
    check(&becomes(
        "unknown families are sanitized and counters are not",
        Untyped::Keep,
        body,
        "# HELP a_total Words.\na_total{@} 1\n# TYPE b_created unknown\nb_created{@} 2\n# TYPE c unknown\nc{@} 3\n\
         d{@} 4\n# TYPE e counter\ne_total{@} 5\ne_created{@} 6\n",
        "# HELP a_total Words.\na_total{@} 1\n# TYPE b_created untyped\nb_created{@} 2\n# TYPE c untyped\nc{@} 3\n\
         d{@} 4\n# TYPE e_total counter\ne_total{@} 5\n# TYPE e_created gauge\ne_created{@} 6\n",
    ));
    // A counter of OpenMetrics is known by samples that end in `_total`: this one is a gauge instead.
    check(&becomes(
        "unknown families are sanitized and counters are not",
        Untyped::Convert,
        body,
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE b_created gauge\nb_created{@} 2\n# TYPE c unknown\nc{@} 3\n\
         d{@} 4\n# TYPE e counter\ne_total{@} 5\ne_created{@} 6\n",
        "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE b_created counter\nb_created{@} 2\n# TYPE c untyped\nc{@} 3\n\
         d{@} 4\n# TYPE e_total counter\ne_total{@} 5\n# TYPE e_created gauge\ne_created{@} 6\n",
    ));
    check(
        &becomes(
            "unknown families are sanitized and counters are not",
            Untyped::Drop,
            body,
            "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE b_created gauge\nb_created{@} 2\n\
         # TYPE e counter\ne_total{@} 5\ne_created{@} 6\n",
            "# HELP a_total Words.\n# TYPE a_total gauge\na_total{@} 1\n# TYPE b_created counter\nb_created{@} 2\n\
         # TYPE e_total counter\ne_total{@} 5\n# TYPE e_created gauge\ne_created{@} 6\n",
        )
        .map(|case| case.dropping(2)),
    );
}

#[test]
fn a_type_behind_the_first_sample_is_dropped_and_told() {
    let cases = becomes(
        "a type behind the first sample is dropped and told",
        Untyped::Keep,
        "a 1\n# TYPE a gauge\na 2\n# TYPE b counter\nb_total 1\n# TYPE b gauge\nb_total 2\n",
        "a{@} 1\na{@} 2\n# TYPE b counter\nb_total{@} 1\nb_total{@} 2\n",
        "a{@} 1\na{@} 2\n# TYPE b_total counter\nb_total{@} 1\nb_total{@} 2\n",
    );
    check(&cases.map(|case| case.losing(2)));
}

#[test]
fn a_gauge_and_a_counter_of_one_name_stay_what_they_are() {
    // As Go's default registry writes them.
    let body =
        "# HELP a Bytes.\n# TYPE a gauge\na 1\n# HELP a All bytes.\n# TYPE a counter\na_total 5\n# TYPE b gauge\nb 2\n";
    check(&becomes(
        "a gauge and a counter of one name stay what they are",
        Untyped::Convert,
        body,
        "# HELP a Bytes.\n# TYPE a gauge\na{@} 1\n# HELP a_total All bytes.\na_total{@} 5\n# TYPE b gauge\nb{@} 2\n",
        "# HELP a Bytes.\n# TYPE a gauge\na{@} 1\n# HELP a_total All bytes.\n# TYPE a_total counter\na_total{@} 5\n# TYPE b gauge\nb{@} 2\n",
    ));
}

#[test]
fn quoted_families_and_their_parts_find_each_other() {
    let body = "# HELP \"a.b\" Words.\n# TYPE \"a.b\" counter\n{\"a.b_total\",x=\"y\"} 1 # {} 1\n{\"a.b_created\",x=\"y\"} 2\n\
                # TYPE \"c.total\" gauge\n{\"c.total\"} 3\n";
    check(&becomes(
        "quoted families and their parts find each other",
        Untyped::Drop,
        body,
        "# HELP a_b Words.\n# TYPE a_b counter\na_b_total{x=\"y\",@} 1 # {} 1\na_b_created{x=\"y\",@} 2\n\
         # TYPE c_total gauge\nc_total{@} 3\n",
        "# HELP a_b_total Words.\n# TYPE a_b_total counter\na_b_total{x=\"y\",@} 1\n\
         # HELP a_b_created Words.\n# TYPE a_b_created gauge\na_b_created{x=\"y\",@} 2\n# TYPE c_total gauge\nc_total{@} 3\n",
    ));
    let expected = "# HELP \"a.b_total\" Words.\n# TYPE \"a.b_total\" counter\n{\"a.b_total\",x=\"y\",@} 1\n\
                    # HELP \"a.b_created\" Words.\n# TYPE \"a.b_created\" gauge\n{\"a.b_created\",x=\"y\",@} 2\n\
                    # TYPE \"c.total\" gauge\n{\"c.total\",@} 3\n";
    let cell = OPEN_METRICS_TO_TEXT.with_utf8();
    let (out, _) = body_of(cell, &convert(cell, Untyped::Drop, body.as_bytes()).out);
    assert_eq!(out, written(expected));
}

#[test]
fn two_open_metrics_bodies_have_their_metadata_once() {
    let queue_proxy = b"# HELP a One.\n# TYPE a counter\n# UNIT a \na_total 1\n# EOF\n";
    let app = b"# TYPE a counter\n# UNIT a \n# HELP a Two.\na_total 2\n# TYPE b gauge\nb 3\n# EOF\n";
    let (mut out, mut families) = (Vec::new(), Families::default());
    for (target, body) in [&queue_proxy[..], app].into_iter().enumerate() {
        families.turn_to(target);
        OPEN_METRICS.append(body, Untyped::Convert, Cut::EveryByte, End::Whole, &mut families, &mut out);
    }
    let expected =
        written("# HELP a One.\n# TYPE a counter\n# UNIT a \na_total{@} 1\na_total{@} 2\n# TYPE b gauge\nb{@} 3\n");
    assert_eq!(String::from_utf8(out.clone()).unwrap(), expected);
    out.extend_from_slice(b"# EOF\n");
    open_metrics::read(&out, OPEN_METRICS.names).expect("the answer is valid");
}

#[test]
fn a_counter_that_is_none_leaves_its_samples_without_a_type() {
    let (mut out, mut families) = (Vec::new(), Families::default());
    let bodies = ["# TYPE a counter\na 1\na_total 2\n# EOF\n", "# TYPE a_total gauge\na_total{x=\"y\"} 3\n# EOF\n"];
    for (target, body) in bodies.into_iter().enumerate() {
        families.turn_to(target);
        OPEN_METRICS.append(body.as_bytes(), Untyped::Keep, Cut::Whole, End::Whole, &mut families, &mut out);
    }
    out.extend_from_slice(b"# EOF\n");
    let expected = written("# TYPE a unknown\na{@} 1\na_total{@} 2\na_total{x=\"y\",@} 3\n# EOF\n");
    assert_eq!(String::from_utf8(out.clone()).expect("it is text"), expected);
    open_metrics::read(&out, OPEN_METRICS.names).expect("the answer is valid");
}

#[test]
fn an_open_metrics_body_behind_the_queue_proxys_text_has_the_metadata_that_is_missing() {
    let queue_proxy = "# HELP a_total One.\n# TYPE a_total counter\na_total 1\n# TYPE b_created gauge\nb_total 1\n";
    let app = "# HELP a Two.\n# TYPE a counter\na_total 2\na_created 3\n\
               # HELP b Two.\n# TYPE b counter\nb_total 4\nb_created 5\n# EOF\n";
    let (out, _) = crate::support::merge_as(
        OPEN_METRICS_TO_TEXT,
        Some(queue_proxy.as_bytes()),
        app.as_bytes(),
        Untyped::Convert,
        Cut::EveryByte,
        End::Whole,
    );
    let expected = "a_total{@} 2\n# HELP a_created Two.\n# TYPE a_created gauge\na_created{@} 3\n\
                    # HELP b_total Two.\nb_total{@} 4\n# HELP b_created Two.\nb_created{@} 5\n";
    assert_eq!(String::from_utf8(out.clone()).unwrap(), format!("{queue_proxy}{}", written(expected)));
    read(&out).expect("the answer is valid");
}

/// Prometheus takes such bodies, and stores the samples under the names that they have.
#[test]
fn a_family_that_goes_by_its_samples_name_keeps_its_name_and_type_as_text() {
    let body = b"# TYPE a_total counter\na_total 1\n# TYPE b_info info\nb_info{c=\"d\"} 1\n# EOF\n";
    let converted = OPEN_METRICS_TO_TEXT.convert(body, Untyped::Convert, Cut::Whole, End::Whole);
    let out = String::from_utf8(converted.out).unwrap();
    for expected in ["# TYPE a_total counter\na_total{@} 1\n", "# TYPE b_info gauge\nb_info{c=\"d\",@} 1\n"] {
        assert!(out.contains(&written(expected)), "{out}");
    }
}
