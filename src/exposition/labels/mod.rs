//! Labels: those of a sample or a metric, those that are added, and the names that both have in the end.
//!
//! In: where the labels stand in their line or message. Out: whether they may stand together, and the names by which they
//! are written: escaped for a scraper that reads the old character set only, and renamed as Prometheus does
//! (`exported_`) where they are among those added. Nothing is copied where all names stay.

mod pairs;
mod resolver;

use std::fmt::{self, Write as _};

pub(super) use self::pairs::{KnownNames, NameKind, Pairs};
pub(super) use self::resolver::{Names, Resolver};
use super::bytes::{Span, is_old_label_name};
use super::lines::is_bound;
use super::model::Text;

/// The label under which Prometheus keeps a metric's name.
const METRIC_NAME: &[u8] = b"__name__";

/// Room for labels that is kept for the next sample.
const KEPT_LABELS: usize = 1 << 10;

/// Labels to add to samples, in the order in which they are written.
///
/// ```
/// use qpext::exposition::LabelSet;
///
/// let labels = LabelSet::new([("service_name", "sklearn-iris"), ("revision_name", "sklearn-iris-00001")])?;
/// assert_eq!(labels.to_string(), r#"service_name="sklearn-iris",revision_name="sklearn-iris-00001""#);
/// # Ok::<(), qpext::exposition::LabelError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct LabelSet {
    pairs: Vec<(Box<str>, Box<str>)>,
    /// They, as they stand between the braces of a sample.
    text: String,
    /// A name that no sample's own label may have either.
    reserved: Option<Box<str>>,
    fingerprints: u64,
}

/// A label that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The name is none that a label may have.
    #[error("{0:?} is no label name: expected letters, digits and underscores, not starting with a digit")]
    Name(String),
    /// Two labels have the same name.
    #[error("the label {0:?} is given twice")]
    Duplicate(String),
}

impl LabelSet {
    /// A set of these names and values.
    ///
    /// # Errors
    ///
    /// A name that no label may have (`[a-zA-Z_][a-zA-Z0-9_]*`, and not `__name__`), or one that comes twice.
    pub fn new<N, V>(labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut set = Self::default();
        for (name, value) in labels {
            let (name, value) = (name.as_ref(), value.as_ref());
            if !is_old_label_name(name.as_bytes()) || name.as_bytes() == METRIC_NAME {
                return Err(LabelError::Name(name.to_owned()));
            }
            if set.contains(name.as_bytes()) {
                return Err(LabelError::Duplicate(name.to_owned()));
            }
            set.fingerprints |= fingerprint(name.as_bytes());
            set.pairs.push((name.into(), value.into()));
            let mut quoted = Vec::new();
            Text::Plain(value.as_bytes()).put_quoted(&mut quoted);
            let comma = if set.text.is_empty() { "" } else { "," };
            let _ = write!(set.text, "{comma}{name}=\"{}\"", String::from_utf8_lossy(&quoted));
        }
        Ok(set)
    }

    /// The same labels, and a name that is added to other targets' samples: a sample's own label of that name is renamed as
    /// if it collided, so that no target passes for another.
    #[must_use]
    pub fn reserving(mut self, name: &str) -> Self {
        self.fingerprints |= fingerprint(name.as_bytes());
        self.reserved = Some(name.into());
        self
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// They, as they stand between the braces of a sample.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The names and the values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    fn contains(&self, name: &[u8]) -> bool {
        let mut names = self.pairs.iter().map(|(name, _)| name).chain(&self.reserved);
        names.any(|own| own.as_bytes() == name)
    }
}

/// Writes the labels as they stand between the braces of a sample.
impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One bit of 64, told by the name's length and its first and last bytes: two equal names always share one, two different
/// names seldom do.
const fn fingerprint(name: &[u8]) -> u64 {
    match name {
        [] => 1,
        [only] => 1 << ((5 + *only as usize * 4) % 64),
        [first, .., last] => 1 << ((name.len() * 5 + *first as usize * 3 + *last as usize) % 64),
    }
}

/// The labels of a sample or a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'a> {
    /// The line or message in which they stand.
    bytes: &'a [u8],
    pairs: &'a [Pair],
    /// They stand in a line, in which their values have escapes.
    has_escapes: bool,
}

/// Where a label stands.
#[derive(Debug, Clone, Copy)]
struct Pair {
    name: Span,
    value: Span,
    fingerprint: u64,
    /// The fingerprints of its name and of all before it: no bit in common means no name in common.
    fingerprints: u64,
    /// What holds of it, and of it or any before it.
    facts: u8,
}

/// The name stands between quotes.
const IS_QUOTED: u8 = 1;
/// The name is not in the old character set.
const IS_ODD: u8 = 1 << 1;
/// Of this label or one before it the same holds.
const ANY_QUOTED: u8 = 1 << 2;
const ANY_ODD: u8 = 1 << 3;
/// This label, or one before it, does not stand there as it would be written.
const ANY_MISSPELT: u8 = 1 << 4;
/// The name of this label, or of one before it, is not among those known.
const ANY_UNKNOWN: u8 = 1 << 5;
/// The name of this label, or of one before it, is reserved.
const ANY_RESERVED: u8 = 1 << 6;
/// What goes on to hold.
const ANY: u8 = ANY_QUOTED | ANY_ODD | ANY_MISSPELT | ANY_UNKNOWN | ANY_RESERVED;

/// How the names begin that Prometheus keeps for itself. It reads them all the same, and so do others; the official Python client
/// refuses the whole body for one.
const RESERVED: &[u8] = b"__";

impl<'a> Labels<'a> {
    #[inline(always)]
    fn fingerprints(&self) -> u64 {
        self.pairs.last().map_or(0, |pair| pair.fingerprints)
    }

    #[inline(always)]
    fn any(&self, fact: u8) -> bool {
        self.pairs.last().is_some_and(|pair| pair.facts & fact != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether they take more room than is kept for the next ones.
    pub(super) fn are_many(&self) -> bool {
        self.pairs.len() > KEPT_LABELS
    }

    /// Whether a name stands between quotes, or must.
    pub(super) fn has_odd_name(&self) -> bool {
        self.any(ANY_QUOTED | ANY_ODD)
    }

    /// Whether a name is one that Prometheus keeps for itself.
    pub(super) fn has_reserved_name(&self) -> bool {
        self.any(ANY_RESERVED)
    }

    /// Whether the label of this name, if there is one, is a number to every reader.
    pub(super) fn may_bound(&self, name: &[u8]) -> bool {
        let bound = self.iter().find(|(own, _)| own.bytes() == name);
        bound.is_none_or(|(_, value)| is_bound(value.bytes()))
    }

    /// Each label's name and value, as they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        let Self { bytes, pairs, has_escapes } = *self;
        pairs.iter().map(move |pair| {
            let value = pair.value.of(bytes);
            let value = if has_escapes { Text::Quoted(value) } else { Text::Plain(value) };
            (pair.name_in(bytes), value)
        })
    }
}

impl Pair {
    fn name_in(self, bytes: &[u8]) -> Text<'_> {
        let name = self.name.of(bytes);
        if self.facts & IS_QUOTED != 0 { Text::Quoted(name) } else { Text::Plain(name) }
    }
}

/// Whether no two names are the same.
fn are_different<T: AsRef<[u8]> + Ord>(names: impl Iterator<Item = T>) -> bool {
    let mut sorted: Vec<T> = names.collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}
