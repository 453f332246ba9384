//! The labels that are added to every sample of a relabelled target.

use super::chars::label_name_end;
use super::protobuf::wire::{put_bytes_field, put_bytes_head, varint_len};
use super::sample::{METRIC_NAME, fingerprint};

/// What Prometheus puts before the name of a label that collides with one it adds
/// (`model.ExportedLabelPrefix` in prometheus/common).
pub(super) const EXPORTED: &[u8] = b"exported_";

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
    /// The names that no sample's own label may have.
    names: Vec<Box<str>>,
    fingerprints: u64,
    /// `,a="b",c="d"`, escaped: each label has its comma before it.
    rendered: String,
    /// Fields `label` of a `Metric`.
    protobuf: Vec<u8>,
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
    /// Renders the labels once; a sample then costs one copy.
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
            set.add(name.as_ref(), value.as_ref())?;
        }
        Ok(set)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), LabelError> {
        if label_name_end(name.as_bytes(), 0) != Some(name.len()) || name.as_bytes() == METRIC_NAME {
            return Err(LabelError::Name(name.to_owned()));
        }
        if self.contains(name.as_bytes()) {
            return Err(LabelError::Duplicate(name.to_owned()));
        }
        self.rendered.push(',');
        self.rendered.push_str(name);
        self.rendered.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => self.rendered.push_str(r"\\"),
                '"' => self.rendered.push_str("\\\""),
                '\n' => self.rendered.push_str(r"\n"),
                other => self.rendered.push(other),
            }
        }
        self.rendered.push('"');
        put_label(METRIC_LABEL, name.as_bytes(), value.as_bytes(), &mut self.protobuf);
        self.fingerprints |= fingerprint(name.as_bytes());
        self.names.push(name.into());
        Ok(())
    }

    /// The same labels, and a name that is added to other targets' samples: a sample's own label of that name is renamed as
    /// if it collided, so that no target passes for another.
    #[must_use]
    pub fn reserving(mut self, name: &str) -> Self {
        self.fingerprints |= fingerprint(name.as_bytes());
        self.names.push(name.into());
        self
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rendered.is_empty()
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.names.iter().any(|own| own.as_bytes() == name)
    }

    /// The set of its names' fingerprints: no bit in common means no name in common.
    pub(super) fn fingerprints(&self) -> u64 {
        self.fingerprints
    }

    /// The labels as they stand in a `Metric` message.
    pub(super) fn protobuf(&self) -> &[u8] {
        &self.protobuf
    }

    /// The labels as they stand between braces, behind a comma.
    pub(super) fn after_comma(&self) -> &[u8] {
        self.rendered.as_bytes()
    }

    /// The labels as they stand between braces.
    pub(super) fn rendered(&self) -> &[u8] {
        self.rendered.as_bytes().get(1..).unwrap_or_default()
    }
}

/// The field `label` of the message `Metric`, and the fields of `LabelPair`.
pub(super) const METRIC_LABEL: u32 = 1;
const NAME: u32 = 1;
const VALUE: u32 = 2;

/// Appends a label pair to a message that has such in this field.
pub(super) fn put_label(field: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let length_of = |bytes: &[u8]| 1 + varint_len(bytes.len() as u64) + bytes.len();
    put_bytes_head(field, length_of(name) + length_of(value), out);
    put_bytes_field(NAME, name, out);
    put_bytes_field(VALUE, value, out);
}

/// Writes the labels as they stand between the braces of a sample.
impl std::fmt::Display for LabelSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.rendered.get(1..).unwrap_or_default())
    }
}
