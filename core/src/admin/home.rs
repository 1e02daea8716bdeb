//! The start page: charts, and every other page with what it is for. One file, no outside resource;
//! its script reads `/stats` like everybody.
//!
//! What it leaves to others: which pages there are (`endpoints`).

use super::endpoints::ENDPOINTS;
use super::query::Query;
use super::{Admin, Reply};

/// The page up to the list of pages, and what follows it.
const FRAME: &str = include_str!("home.html");

/// Stands in the frame where the list comes.
const LIST: &str = "<!-- pages -->";

/// `/`
pub(super) fn page(_: &Admin, _: &Query) -> Reply {
    Reply::html(FRAME.replace(LIST, &list()))
}

fn list() -> String {
    let mut rows = String::new();
    for endpoint in ENDPOINTS.iter().skip(1) {
        let name = &endpoint.path[1..];
        let help = escaped(endpoint.help);
        let action = if endpoint.post {
            format!("<form action=\"{name}\" method=\"post\"><button>{name}</button></form>")
        } else {
            format!("<a href=\"{name}\">{name}</a>")
        };
        rows.push_str(&format!("<li>{action}<span>{help}</span></li>\n"));
    }
    rows
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_what_reads_and_posts_what_changes() {
        let page = FRAME.replace(LIST, &list());
        assert!(page.contains("<a href=\"stats/prometheus\">"));
        assert!(page.contains("<form action=\"quitquitquit\" method=\"post\">"));
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        // A browser that finds no icon asks for one.
        let frame = FRAME.replace("<link rel=\"icon\" href=\"data:,\">", "");
        for part in ["http://", "https://", "src=", "@import", "<link"] {
            assert!(!frame.contains(part), "{part}");
        }
    }
}
