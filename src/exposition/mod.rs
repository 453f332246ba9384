//! The exposition engine: bytes of a target's exposition in, bytes of the answer's out.
//!
//! This room knows bytes only: no socket, no clock, no log. One answer is made of the bodies of several targets, one
//! after the other; what they share is [`Families`], so that each family's metadata stands in the answer once.
//!
//! [`verbatim`] passes a body on byte for byte (the queue-proxy's text). Those of [`engine`] check every line or message of a
//! body and do to it what the [`Rules`] say: they add a [`LabelSet`] to its samples (the application's), leave out families
//! that a [`Filter`] does not let through, and end where there are too many samples. All are push parsers, an [`Engine`] each:
//! chunks go in, cut anywhere; whole lines or messages come out. They hold one line at most, and one family where messages
//! are read or written.
//!
//! ```
//! use qpext::exposition::{
//!     End, Escaping, Families, Format, LabelSet, Rules, Spelling, TextVersion, Untyped, engine,
//! };
//!
//! let rules = Rules::new(LabelSet::new([("service_name", "iris")])?, Untyped::Convert);
//! let text = Format::Text(TextVersion::V0_0_4);
//! let to = Spelling { format: text, escaping: Escaping::Underscores };
//! let mut families = Families::default();
//! let mut app = engine(text, to, &rules).expect("text becomes text");
//! let mut out = Vec::new();
//! app.push(b"# TYPE requests counter\nrequests{path=\"/v1/{name}\"} 4", &mut families, &mut out);
//! app.push(b"2\nnot a sample\n", &mut families, &mut out);
//! app.finish(End::Whole, &mut families, &mut out);
//!
//! let expected = "# TYPE requests counter\nrequests{path=\"/v1/{name}\",service_name=\"iris\"} 42\n";
//! assert_eq!(out, expected.as_bytes());
//! assert_eq!(app.progress().counts().dropped_in_all(), 1);
//! # Ok::<(), qpext::exposition::LabelError>(())
//! ```

mod bytes;
mod engine;
mod families;
mod filter;
mod format;
mod labels;
mod lines;
mod lint;
mod model;
mod progress;
mod protobuf;
mod room;
mod rules;
mod stage;
mod together;

pub use bytes::printable;
pub use engine::{End, Engine, engine, is_text_line, spelling_engine, verbatim};
pub use families::{Conflict, Families, Types};
pub use filter::Filter;
pub use format::{Escaping, Format, OpenMetricsVersion, Spelling, TextVersion};
pub use labels::{LabelError, LabelSet};
pub use lines::MAX_LINE;
pub use lint::{Finding, FindingKind, Lint};
pub(crate) use progress::listed;
pub use progress::{Counts, DropReason, FirstDropped, MAX_QUOTED, Progress, Unwritten};
pub use protobuf::MAX_FAMILY;
pub(crate) use room::Held;
pub use room::Room;
pub use rules::{Rules, Untyped};
pub use together::{Piece, Together, together};
