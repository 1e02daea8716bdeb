//! A resource read in both ways there are, which must agree.
//!
//! What it leaves to others: where the bytes come from (`fuzz_targets`).
#![allow(clippy::panic, reason = "a panic is how a fuzz target says what is wrong")]

use crate::BYTES_MAX;
use std::sync::LazyLock;
use tidegate::config::{
    ConfigErrors, Options, Resource, ResourceContext, ResourceKind, Source, render,
};

/// Something that resources can name.
const SECRET: &str = r#"{"name": "s", "generic_secret": {"secret": {"inline_string": "x"}}}"#;

static SECRETS: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let source = Source { name: "secret".to_owned(), text: SECRET.to_owned() };
    let read = Resource::read(ResourceKind::Secret, &source, &ResourceContext::default());
    read.map(|(resource, _)| vec![resource]).unwrap_or_default()
});

/// Reads a message quickly and by names. The lower bits of `first` are the kind.
pub fn read_both_ways(first: u8, bytes: &[u8]) {
    let kind = ResourceKind::ALL[usize::from(first) % ResourceKind::ALL.len()];
    let options = Options { allow_unsupported: first & 0x08 != 0 };
    let mut context = ResourceContext { options, ..ResourceContext::default() };
    if first & 0x10 != 0 {
        context.secrets.extend(SECRETS.iter().filter_map(|it| match it {
            Resource::Secret(secret) => Some(secret.as_ref().clone()),
            _ => None,
        }));
    }
    let taken = allocation_counter::measure(|| compare(kind, bytes, &context)).bytes_max;
    assert!(taken <= BYTES_MAX, "{} bytes take {} MiB", bytes.len(), taken >> 20);
}

fn compare(kind: ResourceKind, bytes: &[u8], context: &ResourceContext) {
    let quick = Resource::decode(kind, "resource", bytes, context);
    let by_names = Resource::decode_by_names(kind, "resource", bytes, context);
    match (&quick, &by_names) {
        (Ok((resource, found)), Ok((by_names, found_by_names))) => {
            assert_eq!(found, found_by_names, "{kind:?}: another thing is warned of");
            assert!(
                resource == by_names,
                "{kind:?}\nquick: {resource:#?}\nby names: {by_names:#?}"
            );
        }
        (Ok(_), Err(errors)) => panic!("{kind:?} is taken only quickly: {}", text(errors)),
        (Err(errors), Ok(_)) => panic!("{kind:?} is taken only by names: {}", text(errors)),
        // Of entries of a map, any may be the first that is wrong.
        (Err(quick), Err(by_names)) => drop((text(quick), text(by_names))),
    }
}

fn text(errors: &ConfigErrors) -> String {
    assert!(!errors.0.is_empty(), "refused without a reason");
    render(errors, &[])
}
