//! What to write instead: the nearest name, and the v3 names of what older Envoys called otherwise.
//!
//! What it leaves to others: finding the fault.

use super::super::ast::{Entry, Tree, shorten};
use super::super::support;
use super::Reader;
use super::extension::supported_types;
use super::old_names::{old_field, type_of_name};
use prost_reflect::{FieldDescriptor, MessageDescriptor};

/// For a key that is no field of a bootstrap, nor like one.
const BOOTSTRAP_HAS: &str = "a configuration has `static_resources`, `admin`, `node` and more: \
     `tidegate explain support Bootstrap` lists them";

/// Why a field of v3 is refused: the message's name, the field, the reason.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "Http2ProtocolOptions",
        "custom_settings_parameters",
        "only the settings that have fields of their own are sent",
    ),
    ("Http2ProtocolOptions", "stream_reset_burst", RESETS),
    ("Http2ProtocolOptions", "stream_reset_rate", RESETS),
];

const RESETS: &str = "resets have the bounds of `overload.premature_reset_total_stream_count` and \
     `overload.premature_reset_min_stream_lifetime_seconds`, runtime keys";

impl Reader<'_, '_> {
    /// Reports a key that is no field of its message.
    pub(super) fn unknown_field(
        &mut self,
        entry: &Entry,
        descriptor: &MessageDescriptor,
        siblings: &[Entry],
    ) {
        let path = self.path_of(&shorten(&entry.key));
        let hint = if entry.key == "<<" {
            Some("Envoy's YAML has no merge keys: write the fields out, or use an alias".to_owned())
        } else if let Some((field, name)) = untyped_config(entry, descriptor, siblings) {
            let supported = match supported_types(&field).contains(&name) {
                true => "",
                false => ", which is not supported yet",
            };
            let of_type = format!("with \"@type\": type.googleapis.com/{name}{supported}");
            Some(format!("v3 has `typed_config` {of_type}"))
        } else if let Some(advice) = old_field(descriptor.name(), &entry.key) {
            self.expect_instead(advice);
            Some(self.with_support(advice, descriptor))
        } else {
            let names: Vec<String> =
                descriptor.fields().map(|field| field.name().to_owned()).collect();
            let snake = snake_case(&entry.key);
            let meant = nearest(&snake, names.iter().map(String::as_str)).map(|name| {
                self.report.set_unreadable(self.path_of(name));
                format!("did you mean `{name}`?")
            });
            meant.or_else(|| self.path.is_empty().then(|| BOOTSTRAP_HAS.to_owned()))
        };
        let reason =
            format!("unknown field `{}` in {}", shorten(&entry.key), descriptor.full_name());
        self.report.error(Some(entry.key_at), &path, reason, hint);
    }

    /// The advice, and whether what it names is supported.
    fn with_support(&self, advice: &str, descriptor: &MessageDescriptor) -> String {
        let quoted = advice.split('`').nth(1).unwrap_or_default();
        let name = quoted.split(':').next().unwrap_or_default();
        let is_field = descriptor.get_field_by_name(name).is_some();
        match is_field && support::support(descriptor.full_name(), name).is_none() {
            true => format!("{advice}; it is not supported yet"),
            false => advice.to_owned(),
        }
    }

    /// The first name in backquotes is what was meant: it is then not called missing as well.
    fn expect_instead(&mut self, advice: &str) {
        let quoted = advice.split('`').nth(1).unwrap_or_default();
        if let Some(name) = quoted.split(':').next() {
            self.report.set_unreadable(self.path_of(name));
        }
    }
}

/// The `typed_config` that stands in v3 for this `config` of v2, and the message that its name
/// means.
pub(super) fn untyped_config(
    entry: &Entry,
    descriptor: &MessageDescriptor,
    siblings: &[Entry],
) -> Option<(FieldDescriptor, &'static str)> {
    let field = descriptor.get_field_by_name("typed_config").filter(|_| entry.key == "config")?;
    let name = siblings.iter().find(|sibling| sibling.key == "name")?;
    let Tree::Scalar(name) = &name.value.value else { return None };
    Some((field, type_of_name(descriptor.name(), &name.text)?))
}

/// Why this field of v3 is refused.
pub(super) fn reason(message: &str, field: &str) -> Option<&'static str> {
    let found = REASONS.iter().find(|(of, name, _)| *of == message && *name == field);
    found.map(|(_, _, reason)| *reason)
}

pub(super) fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The name that `written` is a likely slip of, if there is one.
pub(in super::super) fn nearest<'a>(
    written: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // A key of this length is no slip of any field's name, and the distance costs the square of it.
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    let allowed = (written.len() / 3).clamp(1, 3);
    names
        // Each letter more or less costs one, which spares most names the square.
        .filter(|name| name.len().abs_diff(written.len()) <= allowed)
        .map(|name| (distance(written, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be added, removed, replaced or swapped with their neighbour.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = ["address", "name", "filter_chains", "stat_prefix"];
        let rows = [
            ("addres", Some("address")),
            ("adress", Some("address")),
            ("nmae", Some("name")),
            ("filter_chain", Some("filter_chains")),
            ("stats_prefix", Some("stat_prefix")),
            ("hosts", None),
            ("x", None),
            ("", None),
        ];
        for (written, expected) in rows {
            assert_eq!(nearest(written, names.into_iter()), expected, "{written}");
        }
        assert_eq!(snake_case("filterChains"), "filter_chains");
    }
}
