//! The rules of the text format, one line each.
//!
//! [`CASES`] says what becomes of each line. It runs whole and cut at every byte, past the independent reader, and, in
//! `prometheus.rs`, past a real Prometheus: the table is what Prometheus does, not what we would like.

use qpext::exposition::{DropReason, End, MAX_LINE, Untyped};

use crate::support::reader::read;
use crate::support::{Cut, SERVING, relabel};

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written with the serving labels where `@` stands.
    Becomes(&'static str),
    /// As `Becomes`, although Prometheus 2.42 rejects the line as it came: 3.x takes it, or the official Python client does, or it
    /// can be meant in one way only.
    Mended(&'static str),
    /// Nothing is written, nothing is lost.
    Comment,
    /// As `Comment`, although Prometheus rejects the line.
    Nothing,
    /// It is written like this, without what stands behind its numbers: text has no exemplars. Counted.
    WithoutExemplar(&'static str),
    /// It is dropped and counted: Prometheus rejects it.
    Rejected,
    /// It is dropped and counted, although Prometheus takes it, by a quirk: for the end of the body, for metadata of a
    /// name that nobody gave, or without a byte that it overlooks.
    Refused,
}

use Fate::{Becomes, Comment, Mended, Nothing, Refused, Rejected, WithoutExemplar};

pub const CASES: &[(&[u8], Fate)] = &[
    // Escaping.
    (b"x 1", Becomes("x{@} 1")),
    (b"x_1:total 1", Becomes("x_1:total{@} 1")),
    (b":x 1", Becomes(":x{@} 1")),
    (b"_ 1", Becomes("_{@} 1")),
    (b"vllm:num_requests_running 1", Becomes("vllm:num_requests_running{@} 1")),
    (b"1x 1", Rejected),
    (b"x-y 1", Rejected),
    (b"x.y 1", Rejected),
    (b"\xc3\xa9 1", Rejected),
    (b"\xef\xbb\xbfx 1", Mended("x{@} 1")),
    (b"{a=\"b\"} 1", Rejected),
    // Quoted names (text 1.0.0).
    (b"{\"x\"} 1", Mended("x{@} 1")),
    (b"{\"x.y\",a=\"b\"} 1", Mended("x_y{a=\"b\",@} 1")),
    (b"{ \"x.y\" , a = \"b\" , } 1", Mended("x_y{a=\"b\",@} 1")),
    (b"{a=\"b\",\"x.y\"} 1", Mended("x_y{a=\"b\",@} 1")),
    (b"{\"x\\\"y\\\\\"} 1", Mended("x_y_{@} 1")),
    (b"{\"\xc3\xa9\"} 1 5", Mended("_{@} 1 5")),
    (b"{\"\"} 1", Rejected),
    (b"{\"x\",\"y\"} 1", Rejected),
    (b"x{\"y\"} 1", Rejected),
    (b"{\"x\"a=\"b\"} 1", Rejected),
    (b"{\"x.y\"} ", Rejected),
    (b"{\"x\\q\"} 1", Rejected),
    (b"{\"x", Rejected),
    (b"{\"\xff\"} 1", Rejected),
    (b"{\"x\x00\"} 1", Rejected),
    (b"x{\"a\x00\"=\"b\"} 1", Rejected),
    (b"=1", Rejected),
    (b"\x00x 1", Refused),
    (b"x\x00 1", Rejected),
    // No blank is needed where the value cannot be part of the name.
    (b"x+5", Becomes("x{@} 5")),
    (b"x-5", Becomes("x{@} -5")),
    (b"x.5", Becomes("x{@} 0.5")),
    (b"x5", Rejected),
    // Blanks.
    (b"x\t7", Becomes("x{@} 7")),
    (b"x  8", Becomes("x{@} 8")),
    (b"x 5 ", Becomes("x{@} 5")),
    (b"x 5\t \t", Becomes("x{@} 5")),
    (b"  x 5", Mended("x{@} 5")),
    (b"\tx{a=\"b\"} 5", Mended("x{a=\"b\",@} 5")),
    (b"x {a=\"b\"} 1", Becomes("x{a=\"b\",@} 1")),
    (b"x\x0b1", Rejected),
    (b"x 1\r", Mended("x{@} 1")),
    (b"x 1 5 \r", Mended("x{@} 1 5")),
    (b"x 1\x00", Mended("x{@} 1")),
    (b"x{a=\"b\"} 1\t\x00\r\x00", Mended("x{a=\"b\",@} 1")),
    (b"# HELP x text\r", Becomes("# HELP x text")),
    (b"# TYPE x\t COUNTER \t\x00", Mended("# TYPE x counter")),
    (b"\xef\xbb\xbf  # TYPE x gauge", Mended("# TYPE x gauge")),
    (b"x\r 1", Rejected),
    (b"x 1\r2", Rejected),
    (b"", Comment),
    (b"  \t", Comment),
    (b"\r", Nothing),
    (b" \x00\r", Comment),
    (b"\x00", Comment),
    (b"\xef\xbb\xbf", Nothing),
    (b"# a\x00b", Comment),
    // Labels.
    (b"x{a=\"b\"} 1", Becomes("x{a=\"b\",@} 1")),
    (b"x{} 6", Becomes("x{@} 6")),
    (b"x{ } 5", Becomes("x{@} 5")),
    (b"x{a=\"b\",} 1", Becomes("x{a=\"b\",@} 1")),
    (b"x { a = \"1\" , } 3 ", Becomes("x{a=\"1\",@} 3")),
    (b"x{a=\"b\" } 1", Becomes("x{a=\"b\",@} 1")),
    (b"x{a=\"b\"}5", Becomes("x{a=\"b\",@} 5")),
    (b"x{a=\"b\"}  1", Becomes("x{a=\"b\",@} 1")),
    (b"x{a=\"b\" c=\"d\"} 1", Becomes("x{a=\"b\",c=\"d\",@} 1")),
    (b"x{a=\"b\"c=\"d\"} 1", Becomes("x{a=\"b\",c=\"d\",@} 1")),
    (b"x{a\t=\t\"b\"\t,\tc=\"d\"} 1", Becomes("x{a=\"b\",c=\"d\",@} 1")),
    (b"x{le=\"0.5\"} 1", Becomes("x{le=\"0.5\",@} 1")),
    (b"x{__a=\"b\"} 1", Becomes("x{exported___a=\"b\",@} 1")),
    (b"x{,} 1", Mended("x{@} 1")),
    (b"x{,a=\"b\"} 1", Mended("x{a=\"b\",@} 1")),
    (b"x{a=\"b\",,} 1", Rejected),
    (b"x{a=\"b\";} 1", Rejected),
    (b"x{a=\"b\"", Rejected),
    (b"x{a=\"b\" 1", Rejected),
    (b"x{a=\"b} 1", Rejected),
    (b"x{a=\"b\\\"} 1", Rejected),
    (b"x{a=\"b\\", Rejected),
    (b"x{a=b} 1", Rejected),
    (b"x{a='b'} 1", Rejected),
    (b"x{a} 1", Rejected),
    (b"x{a=} 1", Rejected),
    (b"x{=\"b\"} 1", Rejected),
    (b"x{1a=\"b\"} 1", Rejected),
    (b"x{a:b=\"c\"} 1", Mended("x{a_b=\"c\",@} 1")),
    (b"x{a.b=\"c\"} 1", Rejected),
    (b"x{\"a.b\"=\"c\"} 1", Mended("x{a_b=\"c\",@} 1")),
    (b"x{a=\"1\",\"b\"=\"\\\"\"} 1", Mended("x{a=\"1\",b=\"\\\"\",@} 1")),
    (
        b"x{\"service_name\"=\"1\",\"service.name\"=\"2\"} 1",
        Mended("x{exported_exported_service_name=\"1\",exported_service_name=\"2\",@} 1"),
    ),
    (
        b"x{\"a.b\"=\"1\",\"a-b\"=\"2\",a_b=\"3\"} 1",
        Mended("x{exported_a_b=\"1\",exported_exported_a_b=\"2\",a_b=\"3\",@} 1"),
    ),
    (b"x{\"--name--\"=\"1\"} 1", Mended("x{exported___name__=\"1\",@} 1")),
    (b"x{\"service.name\"=\"2\"} 1", Mended("x{exported_service_name=\"2\",@} 1")),
    (b"x{a_b=\"1\",\"a.b\"=\"2\"} 1", Mended("x{a_b=\"1\",exported_a_b=\"2\",@} 1")),
    (b"x{\"a\"=\"1\",a=\"2\"} 1", Rejected),
    (b"x{\"__name__\"=\"y\"} 1", Rejected),
    (b"x{\"\"=\"y\"} 1", Rejected),
    (b"x{\xc3\xa9=\"c\"} 1", Rejected),
    (b"x{", Rejected),
    (b"x{}", Rejected),
    (b"x{}} 1", Rejected),
    (b"x{}{} 1", Rejected),
    (b"x} 1", Rejected),
    (b"x{a=\"b\"", Rejected),
    // Label values.
    (b"x{a=\"\"} 1", Becomes("x{a=\"\",@} 1")),
    (b"x{a=\"{},=# \\\"\\\\\\n\"} 1", Becomes("x{a=\"{},=# \\\"\\\\\\n\",@} 1")),
    (b"x{a=\"/v1/models/{name}:predict\"} 1", Becomes("x{a=\"/v1/models/{name}:predict\",@} 1")),
    (b"x{a=\"b\tc\"} 1", Becomes("x{a=\"b\tc\",@} 1")),
    (b"x{a=\"\\q\"} 1", Becomes("x{a=\"\\\\q\",@} 1")),
    (b"x{a=\"\\\xc3\xa9\"} 1", Becomes("x{a=\"\\\\\u{e9}\",@} 1")),
    (b"x{a=\"\xc3\xa9\"} 1", Becomes("x{a=\"\u{e9}\",@} 1")),
    (b"x{a=\"12345678\xc3\xa912345678\"} 1", Becomes("x{a=\"12345678\u{e9}12345678\",@} 1")),
    (b"x{a=\"\xff\"} 1", Rejected),
    (b"x{a=\"12345678\xff12345678\"} 1", Rejected),
    (b"x{a=\"12345678\\\"\xff\"} 1", Rejected),
    (b"x{a=\"\xc3\"} 1", Rejected),
    (b"x{a=\"\xed\xa0\x80\"} 1", Rejected),
    (b"x{a=\"b\x00c\"} 1", Becomes("x{a=\"b\0c\",@} 1")),
    (b"x{a=\"\x00\"} 1", Becomes("x{a=\"\0\",@} 1")),
    (b"x{a=\"\\\x00\"} 1", Rejected),
    (b"x{a=\"b\"\x00} 1", Refused),
    (b"x{\x00a=\"b\"} 1", Rejected),
    (b"x{a=\x00\"b\"} 1", Rejected),
    // A label name twice.
    (b"x{a=\"b\",a=\"c\"} 1", Rejected),
    (b"x{a=\"b\",b=\"c\",a=\"d\"} 1", Rejected),
    (b"x{__name__=\"y\"} 1", Rejected),
    (b"x{ab=\"1\",ba=\"2\",aab=\"3\",bb=\"4\"} 1", Becomes("x{ab=\"1\",ba=\"2\",aab=\"3\",bb=\"4\",@} 1")),
    // A label of a name that is added.
    (b"x{service_name=\"own\"} 1", Becomes("x{exported_service_name=\"own\",@} 1")),
    (
        b"x{ revision_name = \"r\" , a=\"b\",service_name=\"s\", } 1",
        Becomes("x{exported_revision_name=\"r\",a=\"b\",exported_service_name=\"s\",@} 1"),
    ),
    (
        b"x{service_name=\"1\",exported_service_name=\"2\"} 1",
        Becomes("x{exported_exported_service_name=\"1\",exported_service_name=\"2\",@} 1"),
    ),
    (b"x{exported_service_name=\"2\"} 1", Becomes("x{exported_service_name=\"2\",@} 1")),
    (b"x{Service_name=\"2\"} 1", Becomes("x{Service_name=\"2\",@} 1")),
    (b"x{a=\"service_name\"} 1", Becomes("x{a=\"service_name\",@} 1")),
    (b"x{service_name=\"1\",service_name=\"2\"} 1", Rejected),
    // Values.
    (b"x +5", Becomes("x{@} 5")),
    (b"x -5.5e-3", Becomes("x{@} -5.5e-3")),
    (b"x 1.", Becomes("x{@} 1")),
    (b"x .5", Becomes("x{@} 0.5")),
    (b"x Inf", Becomes("x{@} +Inf")),
    (b"x -inf", Becomes("x{@} -Inf")),
    (b"x +Infinity", Becomes("x{@} +Inf")),
    (b"x NaN", Becomes("x{@} NaN")),
    (b"x nan", Becomes("x{@} NaN")),
    (b"x 1E5", Becomes("x{@} 1E5")),
    (b"x 1e-400", Becomes("x{@} 1e-400")),
    (b"x 18446744073709551616", Becomes("x{@} 18446744073709551616")),
    (b"x 1.7976931348623157e308", Becomes("x{@} 1.7976931348623157e308")),
    (b"x 1e400", Mended("x{@} +Inf")),
    (b"x -1e309", Mended("x{@} -Inf")),
    (b"x +NaN", Mended("x{@} NaN")),
    (b"x -nan", Mended("x{@} NaN")),
    (b"x infi", Rejected),
    (b"x 0x10", Rejected),
    (b"x 0x1p3", Rejected),
    (b"x 1_000", Rejected),
    (b"x 1e", Rejected),
    (b"x 1e+", Rejected),
    (b"x e5", Rejected),
    (b"x .", Rejected),
    (b"x +", Rejected),
    (b"x 1,5", Rejected),
    (b"x 1.2.3", Rejected),
    (b"x \"1\"", Rejected),
    (b"x 5{", Rejected),
    (b"x", Rejected),
    (b"x ", Rejected),
    (b"x one", Rejected),
    (b"<html>", Rejected),
    // Timestamps.
    (b"x 1 0", Becomes("x{@} 1 0")),
    (b"x  8  1700000000000", Becomes("x{@} 8 1700000000000")),
    (b"x 1 9223372036854775807 ", Becomes("x{@} 1 9223372036854775807")),
    (b"x 1 9223372036854775808", Rejected),
    (b"x 1 2.5", Mended("x{@} 1 2")),
    (b"x 1 -5", Rejected),
    (b"x 1 +5", Mended("x{@} 1 5")),
    (b"x 1 -", Rejected),
    (b"x 1 1e3", Mended("x{@} 1 1000")),
    (b"x 1 2 3", Rejected),
    (b"x 1 5 # {trace_id=\"a\"} 1", WithoutExemplar("x{@} 1 5")),
    (b"x 1 # {trace_id=\"a\"} 1", WithoutExemplar("x{@} 1")),
    (b"x{a=\"b\"} 5 # comment", WithoutExemplar("x{a=\"b\",@} 5")),
    // Comments.
    (b"#", Comment),
    (b"# x", Comment),
    (b"#x", Comment),
    (b"# EOF", Comment),
    (b"# UNIT x seconds", Comment),
    (b"# HELP", Comment),
    (b"# TYPE", Comment),
    (b"#HELP x y", Comment),
    (b"#TYPE x y", Comment),
    (b"# HELPFUL x y", Comment),
    (b"# help x y", Comment),
    (b"# \xff", Comment),
    // Help.
    (b"# HELP x", Becomes("# HELP x ")),
    (b"# HELP x ", Becomes("# HELP x ")),
    (b"# HELP x some text: {} \\n \\\\ \xc3\xa9", Becomes("# HELP x some text: {} \\n \\\\ \u{e9}")),
    (b"#\tHELP\tx\ttext", Becomes("# HELP x text")),
    (b"  # HELP x text", Becomes("# HELP x text")),
    (b"# HELP ", Rejected),
    (b"# HELP 1x text", Rejected),
    (b"# HELP \"x.y\" text", Mended("# HELP x_y text")),
    (b"# HELP \"x.y\"text", Rejected),
    (b"# HELP x \xff", Rejected),
    (b"# HELP x a\x00b", Becomes("# HELP x a\0b")),
    (b"# HELP x \x00", Becomes("# HELP x ")),
    (b"# HELP x-y text", Refused),
    // Type.
    (b"# TYPE x counter", Becomes("# TYPE x counter")),
    (b"# TYPE x gauge", Becomes("# TYPE x gauge")),
    (b"# TYPE x histogram", Becomes("# TYPE x histogram")),
    (b"# TYPE x summary", Becomes("# TYPE x summary")),
    (b"# TYPE x untyped", Becomes("# TYPE x untyped")),
    (b"#  TYPE   x gauge", Becomes("# TYPE x gauge")),
    (b"# TYPE ", Rejected),
    (b"# TYPE x", Rejected),
    (b"# TYPE x ", Rejected),
    (b"# TYPE \"x.y\" counter", Mended("# TYPE x_y counter")),
    (b"# TYPE x foo", Rejected),
    (b"# TYPE x Counter", Mended("# TYPE x counter")),
    (b"# TYPE x unknown", Mended("# TYPE x untyped")),
    (b"# TYPE x  counter", Mended("# TYPE x counter")),
    (b"# TYPE x counter ", Mended("# TYPE x counter")),
    (b"# TYPE x counter\r", Mended("# TYPE x counter")),
    (b"# TYPE 1x counter", Rejected),
    (b"# TYPE x-counter", Refused),
    (b"# TYPE x-xcounter", Rejected),
];

/// The line as the table writes it, with the serving labels.
pub fn written(becomes: &str) -> String {
    becomes.replace('@', SERVING)
}

#[test]
fn each_line_becomes_what_the_table_says_however_it_is_cut() {
    for (line, fate) in CASES {
        let shown = String::from_utf8_lossy(line);
        let expected = match fate {
            Becomes(becomes) | Mended(becomes) | WithoutExemplar(becomes) => format!("{}\n", written(becomes)),
            Comment | Nothing | Rejected | Refused => String::new(),
        };
        let body = [*line, b"\n"].concat();
        for cut in [Cut::Whole, Cut::EveryByte] {
            let (out, counts) = relabel(&body, Untyped::Keep, cut, End::Whole);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{shown:?} {cut:?}");
            let dropped = u64::from(matches!(fate, Rejected | Refused | WithoutExemplar(_)));
            assert_eq!(counts.dropped(DropReason::Malformed), dropped, "{shown:?} {cut:?}");
            assert_eq!(counts.dropped_in_all(), dropped, "{shown:?} {cut:?}");
        }
        let (without_newline, _) = relabel(line, Untyped::Keep, Cut::Whole, End::Whole);
        assert_eq!(String::from_utf8_lossy(&without_newline), expected, "{shown:?} without a newline");
    }
}

#[test]
fn a_line_is_lost_alone() {
    for (line, fate) in CASES.iter().filter(|(_, fate)| matches!(fate, Rejected | Refused)) {
        let body = [b"before 1\n", *line, b"\nafter 2\n"].concat();
        let (out, _) = relabel(&body, Untyped::Keep, Cut::Whole, End::Whole);
        let out = String::from_utf8(out).expect("the output is text");
        assert_eq!(out, written("before{@} 1\nafter{@} 2\n"), "{} {fate:?}", String::from_utf8_lossy(line));
    }
}

#[test]
fn the_independent_reader_agrees_with_the_table() {
    for (line, fate) in CASES {
        let shown = String::from_utf8_lossy(line);
        let verdict = read(&[*line, b"\n"].concat());
        match fate {
            Becomes(becomes) => {
                let is_indented = line.starts_with(b" ");
                assert!(verdict.is_ok() || is_indented, "{shown:?}: {verdict:?}");
                read(format!("{}\n", written(becomes)).as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            }
            Mended(becomes) | WithoutExemplar(becomes) => {
                read(format!("{}\n", written(becomes)).as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            }
            Rejected => assert!(verdict.is_err(), "{shown:?} is read"),
            Comment | Nothing | Refused => {}
        }
    }
}

#[test]
fn a_line_of_more_than_a_mebibyte_is_dropped_alone() {
    for (length, kept) in [(MAX_LINE, true), (MAX_LINE + 1, false), (5 * MAX_LINE, false)] {
        let value = "v".repeat(length - "x{a=\"\"} 1".len());
        let body = format!("before 1\nx{{a=\"{value}\"}} 1\nafter 2\n");
        for cut in [Cut::Whole, Cut::At(&[20, 1000, MAX_LINE, MAX_LINE + 30])] {
            let (out, counts) = relabel(body.as_bytes(), Untyped::Keep, cut, End::Whole);
            let names: Vec<String> = read(&out).unwrap().samples.into_iter().map(|sample| sample.name).collect();
            let expected: &[&str] = if kept { &["before", "x", "after"] } else { &["before", "after"] };
            assert_eq!(names, expected, "{length} bytes {cut:?}");
            assert_eq!(counts.dropped(DropReason::TooLong), u64::from(!kept), "{length} bytes {cut:?}");
        }
    }
}

#[test]
fn a_label_twice_among_very_many_is_found() {
    let label = |number: usize| format!("label_{number}=\"{number}\"");
    let many: Vec<String> = (0..2000).map(label).collect();
    let unique = format!("x{{{}}} 1\n", many.join(","));
    assert_eq!(relabel(unique.as_bytes(), Untyped::Keep, Cut::Whole, End::Whole).1.samples, 1);
    let twice = format!("x{{{},{}}} 1\n", many.join(","), label(700));
    assert_eq!(relabel(twice.as_bytes(), Untyped::Keep, Cut::Whole, End::Whole).1.samples, 0);
}
