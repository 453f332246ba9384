//! JSON as operators write it: nothing is said twice, and what is wrong is told by its place.
//!
//! In: a text. Out: its value, or where it is none. The format leaves open what an object with one key twice means, and
//! serde_json takes the last: half of what an operator wrote would not be in force, without a word.

use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::ConfigError;
use super::values::{TEXT, did_you_mean};

/// A value, in none of whose objects a key comes twice.
pub(super) struct Json(pub(super) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

/// Makes a value of what serde_json reads.
struct JsonVisitor;

macro_rules! visits {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, value: $type) -> Result<Value, E> {
            Ok(value.into())
        })*
    };
}

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    visits!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = entries.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, _>()? {
            if map.insert(key, value).is_some() {
                // The key itself may be part of what nobody is to see.
                return Err(Error::custom("a key comes twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// A value in JSON. What is said of it does not show it, unless that is asked for: it may be a secret.
pub(super) struct JsonValue<'a> {
    /// Where it stands.
    pub(super) place: String,
    pub(super) expected: &'static str,
    pub(super) value: &'a Value,
}

impl<'a> JsonValue<'a> {
    pub(super) fn refuse(&self, expected: impl Into<String>) -> ConfigError {
        ConfigError::without_value(self.place.clone(), expected)
    }

    pub(super) fn refuse_shown(&self, text: &str, expected: &str) -> ConfigError {
        ConfigError::new(self.place.clone(), text, expected)
    }

    pub(super) fn text(&self) -> Result<String, ConfigError> {
        let text = self.value.as_str().filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| self.refuse(self.expected))
    }

    /// A text, or a port as a number, which means what it says.
    pub(super) fn url(&self) -> Result<String, ConfigError> {
        self.value.as_number().map_or_else(|| self.text(), |port| Ok(port.to_string()))
    }

    pub(super) fn file(&self) -> Result<PathBuf, ConfigError> {
        self.text().map(PathBuf::from)
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.refuse(self.expected))
    }

    /// What an object holds.
    pub(super) fn entries(&self) -> Result<&'a Map<String, Value>, ConfigError> {
        self.value.as_object().ok_or_else(|| self.refuse(self.expected))
    }

    /// What an object holds behind a key; null where it has none.
    pub(super) fn key(&self, key: &str, expected: &'static str) -> Self {
        let (place, value) = (format!("{}.{key}", self.place), self.value.get(key));
        Self { place, expected, value: value.unwrap_or(&Value::Null) }
    }

    /// Refuses what an object holds behind any other key.
    pub(super) fn refuse_others(&self, keys: impl Iterator<Item = &'static str> + Clone) -> Result<(), ConfigError> {
        let is_other = |key: &&String| !keys.clone().any(|known| known == *key);
        let Some(other) = self.entries()?.keys().find(is_other) else {
            return Ok(());
        };
        let known = keys.clone().collect::<Vec<_>>().join(", ");
        let (known, last) = known.rsplit_once(", ").unwrap_or_default();
        let nearest = did_you_mean(other, keys);
        Err(self.key(other, TEXT).refuse(format!("one of {known} and {last}{nearest}")))
    }
}
