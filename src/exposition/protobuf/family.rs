//! A metric family's own fields: its name, its help, its type and its unit.
//!
//! In: a `MetricFamily` message. Out: what it says of itself, or that Prometheus would refuse it. Its metrics are counted
//! and left alone: they are judged one by one.

use super::wire::{Fields, Malformed, Value};
use crate::exposition::metadata::{self, MetricType};

/// The numbers of a family's fields.
pub(super) mod field {
    pub const NAME: u32 = 1;
    pub const HELP: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const METRIC: u32 = 4;
    pub const UNIT: u32 = 5;
}

/// The type of a metric family (`MetricType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// That of a family that says nothing of it.
    #[default]
    Counter = 0,
    Gauge = 1,
    Summary = 2,
    Untyped = 3,
    Histogram = 4,
    GaugeHistogram = 5,
}

impl Kind {
    /// Higher bits than 32 are cut off, as every reader does.
    fn from_wire(value: u64) -> Option<Self> {
        Some(match value as u32 {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Summary,
            3 => Self::Untyped,
            4 => Self::Histogram,
            5 => Self::GaugeHistogram,
            _ => return None,
        })
    }

    /// A type of the line formats, or none, as the schema has it. It has no place for what an information or a state set
    /// is: both are gauges.
    pub(super) fn of(kind: Option<MetricType>) -> Self {
        match kind {
            Some(MetricType::Counter) => Self::Counter,
            Some(MetricType::Gauge | MetricType::Info | MetricType::StateSet) => Self::Gauge,
            Some(MetricType::Summary) => Self::Summary,
            Some(MetricType::Histogram) => Self::Histogram,
            Some(MetricType::GaugeHistogram) => Self::GaugeHistogram,
            None | Some(MetricType::Untyped) => Self::Untyped,
        }
    }

    /// What the line formats call it.
    pub(super) fn of_lines(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Summary => MetricType::Summary,
            Self::Untyped => MetricType::Untyped,
            Self::Histogram => MetricType::Histogram,
            Self::GaugeHistogram => MetricType::GaugeHistogram,
        }
    }

    /// The word for what the schema makes of a type of the line formats.
    pub(super) fn word(kind: MetricType) -> &'static str {
        Self::of(Some(kind)).of_lines().in_open_metrics()
    }

    /// The field of a metric that holds the value of a family of this type.
    pub(super) fn value_field(self) -> u32 {
        match self {
            Self::Gauge => 2,
            Self::Counter => 3,
            Self::Summary => 4,
            Self::Untyped => 5,
            Self::Histogram | Self::GaugeHistogram => 7,
        }
    }
}

/// What a metric family says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Family<'a> {
    pub name: &'a str,
    pub help: Option<&'a str>,
    pub kind: Kind,
    pub unit: &'a str,
    /// The number of its metrics.
    pub metrics: u64,
}

impl<'a> Family<'a> {
    /// Reads a message. A field that comes twice counts the last time, as protobuf has it.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut family = Self {
            name: "",
            help: None,
            kind: Kind::Counter,
            unit: "",
            metrics: 0,
        };
        let mut kind = Some(Kind::Counter);
        for field in Fields::of(message) {
            let field = field?;
            match (field.number, field.value) {
                (field::NAME, Value::Bytes(name)) => family.name = text(name)?,
                (field::HELP, Value::Bytes(help)) => family.help = Some(text(help)?),
                (field::TYPE, Value::Varint(value)) => kind = Kind::from_wire(value),
                (field::METRIC, Value::Bytes(_)) => family.metrics += 1,
                (field::UNIT, Value::Bytes(unit)) => family.unit = text(unit)?,
                (field::NAME..=field::UNIT, _) => return Err(Malformed),
                _ => {}
            }
        }
        family.kind = kind.ok_or(Malformed)?;
        if family.name.is_empty() {
            return Err(Malformed);
        }
        Ok(family)
    }

    /// The name in a message, as it is there, whatever else there is.
    pub(super) fn name_in(message: &[u8]) -> &[u8] {
        let fields = Fields::of(message).map_while(Result::ok);
        let names = fields.filter_map(|field| match field.value {
            Value::Bytes(name) if field.number == field::NAME => Some(name),
            _ => None,
        });
        names.last().unwrap_or_default()
    }

    /// Whether its unit is one that a family may have that goes by `name`.
    pub(super) fn has_valid_unit(&self, name: &[u8]) -> bool {
        is_unit_of(self.kind, name, self.unit.as_bytes())
    }
}

/// Whether Prometheus takes this unit for a family of this name: from 2.53 to 3.5 it refuses the scrape if the name does
/// not end in the unit.
pub(super) fn is_unit_of(kind: Kind, name: &[u8], unit: &[u8]) -> bool {
    let name = match kind {
        Kind::Counter => name.strip_suffix(b"_total").unwrap_or(name),
        _ => name,
    };
    metadata::is_unit_of(name, unit)
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}
