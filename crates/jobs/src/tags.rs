//! What jobs are listed under: a campaign and labels.

use std::{collections::BTreeMap, fmt::Write};

/// The longest name, label or value.
const LONGEST: usize = 64;
const LABELS_MOST: usize = 16;

/// A campaign and labels. In Redis they are lines, `campaign/<name>` and `label/<name>=<value>`, each of which names a
/// listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    campaign: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Tags that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTags(String);

impl Tags {
    /// Tags of at most 64 printable characters each, and at most 16 labels. A label's name has no `=`.
    pub fn new(campaign: Option<String>, labels: BTreeMap<String, String>) -> Result<Self, InvalidTags> {
        let check = |what: &str, text: &str| {
            if text.is_empty() || text.chars().count() > LONGEST || text.chars().any(char::is_control) {
                let shown: String = text.chars().take(LONGEST).collect();
                let message = format!("{what} {shown:?}: must have 1 to {LONGEST} printable characters");
                return Err(InvalidTags(message));
            }
            Ok(())
        };
        if let Some(name) = &campaign {
            check("campaign", name)?;
        }
        if labels.len() > LABELS_MOST {
            return Err(InvalidTags(format!("labels: at most {LABELS_MOST}, not {}", labels.len())));
        }
        for (name, value) in &labels {
            check("label", name)?;
            check("label value", value)?;
            if name.contains('=') {
                return Err(InvalidTags(format!("label {name:?}: a name has no \"=\"")));
            }
        }
        Ok(Self { campaign, labels })
    }

    /// The campaign.
    pub fn campaign(&self) -> Option<&str> {
        self.campaign.as_deref()
    }

    /// The labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    pub(crate) fn to_lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            let separator = if lines.is_empty() { "" } else { "\n" };
            // Writing to a string cannot fail.
            let _written = write!(lines, "{separator}{text}");
        };
        if let Some(name) = &self.campaign {
            line(format_args!("campaign/{name}"));
        }
        for (name, value) in &self.labels {
            line(format_args!("label/{name}={value}"));
        }
        lines
    }

    pub(crate) fn from_lines(lines: &str) -> Self {
        let mut tags = Self::default();
        for line in lines.lines() {
            if let Some(name) = line.strip_prefix("campaign/") {
                tags.campaign = Some(name.to_owned());
            } else if let Some((name, value)) =
                line.strip_prefix("label/").and_then(|label| label.split_once('='))
            {
                tags.labels.insert(name.to_owned(), value.to_owned());
            }
        }
        tags
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn tags_survive_redis_and_bad_ones_are_refused() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let tags =
            Tags::new(Some("mean reversion".into()), labels(&[("fast", "5"), ("note", "a=b")])).unwrap();
        assert_eq!(tags.to_lines(), "campaign/mean reversion\nlabel/fast=5\nlabel/note=a=b");
        assert_eq!(Tags::from_lines(&tags.to_lines()), tags);
        assert_eq!(Tags::from_lines(""), Tags::default());
        for bad in ["", "a\nb", &"x".repeat(65)] {
            assert!(Tags::new(Some(bad.into()), BTreeMap::new()).is_err(), "{bad:?}");
            assert!(Tags::new(None, labels(&[("name", bad)])).is_err(), "{bad:?}");
        }
        assert!(Tags::new(None, labels(&[("a=b", "c")])).is_err());
    }
}
