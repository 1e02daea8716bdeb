//! `tidegate explain support`: how each field of Envoy's configuration is implemented.
//!
//! What it leaves to others: the tables (`config`).

use super::Failure;
use crate::config::{ListedField, ListedMessage, Support, listed};
use clap::Args;
use std::fmt::Write;

/// More than so many messages are only counted: a part of a name was too short.
const MESSAGES_MAX: usize = 200;

/// Flags of `tidegate explain support`.
#[derive(Args, Debug, Clone)]
pub struct ExplainSupportArgs {
    /// A field, a message, or a part of a field's name; everything when absent
    #[arg(value_name = "FIELD")]
    pub field: Option<String>,
}

/// Lists fields, message by message.
///
/// # Errors
///
/// When nothing has such a name.
pub fn support(args: &ExplainSupportArgs) -> Result<String, Failure> {
    let messages = listed(args.field.as_deref());
    if messages.is_empty() {
        let name = args.field.as_deref().unwrap_or_default();
        return Err(Failure::Usage(format!("Envoy has no field and no message `{name}`")));
    }
    let mut out = String::new();
    for message in messages.iter().take(MESSAGES_MAX) {
        write_message(&mut out, message);
    }
    if let Some(left) = messages.len().checked_sub(MESSAGES_MAX).filter(|left| *left > 0) {
        let _ = writeln!(out, "and {left} messages more: name more of it");
    }
    if args.field.is_none() {
        write_sums(&mut out, &messages);
    }
    Ok(out)
}

fn write_message(out: &mut String, message: &ListedMessage) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{}", message.name);
    let width = message.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for field in &message.fields {
        let _ = writeln!(out, "  {:width$}  {}", field.name, words(field));
    }
    out.push('\n');
}

/// How a field is implemented, in words.
fn words(field: &ListedField) -> String {
    match field.support {
        Some(Support::Used) => "supported".to_owned(),
        Some(Support::Types([])) => "refused".to_owned(),
        Some(Support::Types(types)) => format!("supported: {}", types.join(", ")),
        Some(Support::FirstOf(types)) => format!("supported: the first of {}", types.join(", ")),
        Some(Support::Only(values) | Support::Must(values)) => {
            format!("supported: {} only", values.join(", "))
        }
        Some(Support::Kept(reason)) => format!("accepted: {reason}"),
        Some(Support::Reported(reason)) => format!("accepted with a warning: {reason}"),
        Some(Support::Refused) | None => "refused".to_owned(),
    }
}

fn write_sums(out: &mut String, messages: &[ListedMessage]) {
    let fields = || messages.iter().flat_map(|message| &message.fields);
    let count = |begin: &str| fields().filter(|field| words(field).starts_with(begin)).count();
    let _ = writeln!(
        out,
        "{} messages with {} fields: {} supported, {} accepted, {} refused",
        messages.len(),
        fields().count(),
        count("supported"),
        count("accepted"),
        count("refused"),
    );
    let _ = writeln!(out, "A message that is not here is refused where it is named.");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &str) -> String {
        support(&ExplainSupportArgs { field: Some(field.to_owned()) }).unwrap()
    }

    #[test]
    fn fields_are_listed_with_what_becomes_of_them() {
        let text = of("RuntimeLayer");
        assert!(text.contains("envoy.config.bootstrap.v3.RuntimeLayer\n"), "{text}");
        assert!(text.contains("  static_layer  supported\n"), "{text}");
        assert!(of("ChannelCredentials").contains("  google_default     refused\n"), "{text}");
        assert!(of("flags_path").contains("accepted: there is no flags file\n"));
        let nothing = ExplainSupportArgs { field: Some("no_such_field".to_owned()) };
        assert!(support(&nothing).is_err());
        let all = support(&ExplainSupportArgs { field: None }).unwrap();
        assert!(all.contains(" supported, ") && all.contains("envoy.config.route.v3.Route\n"));
    }
}
