//! Which metric families are written: those whose names the operator wants.

use regex::bytes::{Regex, RegexBuilder};

use super::bytes::{escape_name, is_old_metric_name};

/// The most memory that one expression may take once it is compiled, in bytes, and what a search with it may keep at hand.
/// An expression of a thousand names has a third of it; one that needs more is a repetition of repetitions.
const MAX_COMPILED: usize = 1 << 20;

/// Chooses metric families by their names.
///
/// A family is written if the whole of its name matches `keep`, where there is one, and does not match `drop`. The name
/// is the one that the family has in Prometheus's text format, with every character that it may have where names are
/// quoted, so that the same families are written whatever a scraper takes. In OpenMetrics, and where it is written as
/// protobuf, this differs from the family's own name:
///
/// * the counter `requests` goes by `requests_total`, and the information `build` by `build_info`;
/// * `requests_created`, and a gauge histogram's `_gsum` and `_gcount`, are families by themselves.
///
/// A histogram's `_bucket`, `_sum` and `_count` go with the histogram, and a summary's `_sum` and `_count` with the summary.
///
/// ```
/// use qpext::exposition::Filter;
///
/// let filter = Filter::new(Some("vllm:.*"), Some(".*_created"))?;
/// # Ok::<(), regex::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Filter {
    keep: Option<Regex>,
    drop: Option<Regex>,
    reserved: Option<&'static str>,
}

impl Filter {
    /// A filter of these regular expressions, which must match a name as a whole, as everywhere in Prometheus. What they
    /// may hold is told by the crate `regex`: what Prometheus reads but for `\Q...\E` and `\C`.
    ///
    /// # Errors
    ///
    /// One is no regular expression, or takes too much memory.
    pub fn new(keep: Option<&str>, drop: Option<&str>) -> Result<Self, regex::Error> {
        Ok(Self { keep: keep.map(anchored).transpose()?, drop: drop.map(anchored).transpose()?, reserved: None })
    }

    /// The same filter, by which families whose names start so are never written, nor such whose names would where a
    /// scraper does not read quoted names.
    #[must_use]
    pub fn without(self, prefix: &'static str) -> Self {
        Self { reserved: Some(prefix), ..self }
    }

    /// Whether the family of this name is written.
    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep.is_match(name))
            && !self.drop.as_ref().is_some_and(|drop| drop.is_match(name))
            && !self.is_reserved(name)
    }

    fn is_reserved(&self, name: &[u8]) -> bool {
        let Some(prefix) = self.reserved else { return false };
        if !name.starts_with(&prefix.as_bytes()[..1]) {
            // Its first letter is none that another character is escaped to.
            return false;
        }
        let mut escaped = Vec::new();
        escape_name(&name[..name.len().min(4 * prefix.len())], is_old_metric_name, &mut escaped);
        escaped.starts_with(prefix.as_bytes())
    }
}

fn anchored(expression: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` would be one in the brackets below, and what is wrong is told in the operator's words.
    compile(expression)?;
    compile(&format!("^(?s:{expression})$"))
}

fn compile(expression: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(expression).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build()
}
