//! `/logging`: shows and changes levels.
//!
//! What it leaves to others: logging.

use super::Reply;
use super::query::Query;
use crate::admin::Admin;
use crate::log::{self, Component, Level};

/// Changes what was asked for, and lists all levels.
pub(super) fn page(_: &Admin, query: &Query) -> Reply {
    let (status, mut text) = match change(query) {
        Ok(()) => (200, String::new()),
        Err(reason) => {
            let levels: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
            (400, format!("error: {reason}\n\n{USAGE}levels: {} \n", levels.join(" ")))
        }
    };
    text.push_str("active loggers:\n");
    for component in Component::ALL {
        let level = log::component_level(component);
        text.push_str(&format!("  {}: {}\n", component.name(), level.name()));
    }
    text.push('\n');
    Reply::text(text).status(status)
}

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
     usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
     usage: /logging?level=<level> (change all levels)\n\
     usage: /logging?group=<group_name>:<level> (change group of loggers)\n";

/// All changes or none.
fn change(query: &Query) -> Result<(), String> {
    let mut changes = Vec::new();
    for (name, value) in query.iter() {
        match name {
            "level" => {
                let level = level(value)?;
                changes.extend(Component::ALL.map(|component| (component, level)));
            }
            "paths" | "group" => {
                for pair in value.split(',').filter(|pair| !pair.is_empty()) {
                    let (name, value) = pair
                        .split_once(':')
                        .ok_or_else(|| "empty logger name or level".to_owned())?;
                    changes.push((component(name)?, level(value)?));
                }
            }
            name => changes.push((component(name)?, level(value)?)),
        }
    }
    for (component, level) in changes {
        log::set_component_level(component, level);
    }
    Ok(())
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|_| "unknown logger level".to_owned())
}

fn component(name: &str) -> Result<Component, String> {
    Component::named(name).ok_or_else(|| "unknown logger name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_and_levels_are_refused() {
        for query in ["level=loud", "bogus=debug", "paths=admin:loud", "paths=admin"] {
            assert!(change(&Query::parse(query)).is_err(), "{query}");
        }
        assert_eq!(change(&Query::default()), Ok(()));
    }
}
