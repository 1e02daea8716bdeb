//! Path templates (`extensions.path.match.uri_template.v3`, `.rewrite.uri_template.v3`), with
//! Envoy's grammar: `*` and `{name}` stand for one segment, `**` and `{name=**}` for any rest.
//!
//! What it leaves to others: matching the regex that a template becomes (`snapshot`).

use super::convert::At;

/// A path template, as the regex that it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UriTemplate {
    /// As it was written.
    pub text: String,
    /// Matches the whole path; each variable is a group, in order, and there are no others.
    pub regex: String,
    /// Names of the variables, in order.
    pub variables: Vec<String>,
}

/// A template for a new path, of literal text and of variables of the template that matched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UriTemplateRewrite {
    /// In order.
    pub parts: Vec<RewritePart>,
}

/// One part of a [`UriTemplateRewrite`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RewritePart {
    /// Text.
    Literal(String),
    /// What the variable with this place in the matched template stood for.
    Variable(usize),
}

/// What Envoy allows in the path of a template, besides its operators.
const LITERALS: &[u8] = b"-._~%!$&'()+,;:@=";
const SEGMENT_REGEX: &str = r"[a-zA-Z0-9\-._~%!$\&'()+,;:@=]+";
const REST_REGEX: &str = r"[a-zA-Z0-9\-._~%!$\&'()+,;:@=/]*";
const VARIABLES_MAX: usize = 5;
const VARIABLE_LENGTH_MAX: usize = 16;

impl UriTemplate {
    /// A template that is well formed; what is wrong is reported.
    pub(super) fn checked(at: &At<'_>, text: &str) -> Option<UriTemplate> {
        match UriTemplate::parse(text) {
            Ok(template) => Some(template),
            Err(reason) => {
                at.error(format!("`{text}` is no path template: {reason}"));
                None
            }
        }
    }

    /// Reads a template.
    ///
    /// # Errors
    ///
    /// One sentence about what is wrong.
    pub fn parse(text: &str) -> Result<UriTemplate, String> {
        let mut parser = Parser { regex: String::new(), variables: Vec::new(), ended: false };
        let mut rest = text.strip_prefix('/').ok_or("it must begin with `/`")?;
        parser.regex.push('/');
        while !rest.is_empty() {
            rest = parser.segment(rest)?;
            // A slash at the end is one of the path's.
            if let Some(after) = rest.strip_prefix('/') {
                parser.regex.push('/');
                rest = after;
            }
        }
        Ok(UriTemplate { text: text.to_owned(), regex: parser.regex, variables: parser.variables })
    }
}

struct Parser {
    regex: String,
    variables: Vec<String>,
    /// `**` was there: only text can follow.
    ended: bool,
}

impl Parser {
    /// One segment: an operator and the text behind it, or a variable between texts; returns what
    /// follows.
    fn segment<'t>(&mut self, rest: &'t str) -> Result<&'t str, String> {
        if rest.starts_with('/') {
            return Err("a segment is empty".to_owned());
        }
        let (operator, after) = self.operator(rest)?;
        let end = after.find(['/', '{']).unwrap_or(after.len());
        let (text, after) = after.split_at(end);
        self.literal(text)?;
        if operator || !after.starts_with('{') {
            return match after.starts_with('{') {
                true => Err("a variable cannot stand behind an operator".to_owned()),
                false => Ok(after),
            };
        }
        let (variable, after) = after[1..].split_once('}').ok_or("`{` has no `}`")?;
        self.variable(variable)?;
        let (text, after) = after.split_at(after.find('/').unwrap_or(after.len()));
        self.literal(text)?;
        Ok(after)
    }

    /// `*` or `**` at the beginning of a segment. A star elsewhere is only a star.
    fn operator<'t>(&mut self, rest: &'t str) -> Result<(bool, &'t str), String> {
        let Some(after) = rest.strip_prefix('*') else { return Ok((false, rest)) };
        if self.ended {
            return Err("`**` must be its last operator".to_owned());
        }
        if let Some(after) = after.strip_prefix('*') {
            self.ended = true;
            self.regex.push_str(REST_REGEX);
            return Ok((true, after));
        }
        self.regex.push_str(SEGMENT_REGEX);
        Ok((true, after))
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        for c in text.chars() {
            if !u8::try_from(c).is_ok_and(|byte| is_literal(byte) || byte == b'*') {
                return Err(format!("`{c}` cannot be in it"));
            }
            if !c.is_ascii_alphanumeric() {
                self.regex.push('\\');
            }
            self.regex.push(c);
        }
        Ok(())
    }

    /// `name` or `name=pattern`, from between braces.
    fn variable(&mut self, variable: &str) -> Result<(), String> {
        let (name, pattern) = variable.split_once('=').unwrap_or((variable, "*"));
        check_variable(name)?;
        if self.variables.iter().any(|other| other == name) {
            return Err(format!("the variable `{name}` is there twice"));
        }
        if self.variables.len() == VARIABLES_MAX {
            return Err(format!("it has more than {VARIABLES_MAX} variables"));
        }
        self.variables.push(name.to_owned());
        self.regex.push('(');
        for (index, segment) in pattern.split('/').enumerate() {
            if segment.is_empty() {
                return Err(format!("the pattern of the variable `{name}` has an empty segment"));
            }
            if index > 0 {
                self.regex.push('/');
            }
            let (operator, text) = self.operator(segment)?;
            if operator && !text.is_empty() {
                return Err(format!("`{text}` cannot stand behind an operator in a variable"));
            }
            self.literal(text)?;
        }
        self.regex.push(')');
        Ok(())
    }
}

fn check_variable(name: &str) -> Result<(), String> {
    let first = name.bytes().next().ok_or("a variable has no name")?;
    let well_formed = first.is_ascii_alphabetic()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !well_formed {
        return Err(format!("`{name}` is no name of a variable"));
    }
    match name.len() > VARIABLE_LENGTH_MAX {
        true => Err(format!("the variable `{name}` is longer than {VARIABLE_LENGTH_MAX}")),
        false => Ok(()),
    }
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || LITERALS.contains(&byte)
}

impl UriTemplateRewrite {
    /// Reads the template of a new path for what `template` matched.
    ///
    /// # Errors
    ///
    /// One sentence about what is wrong.
    pub fn parse(text: &str, template: &UriTemplate) -> Result<UriTemplateRewrite, String> {
        if !text.starts_with('/') {
            return Err("it must begin with `/`".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, after) = rest.split_once('{').unwrap_or((rest, ""));
            if let Some(c) = literal
                .chars()
                .find(|c| !(matches!(c, '/' | '*') || u8::try_from(*c).is_ok_and(is_literal)))
            {
                return Err(format!("`{c}` cannot be in it"));
            }
            let braced = literal.len() < rest.len();
            if !literal.is_empty() {
                parts.push(RewritePart::Literal(literal.to_owned()));
            }
            if !braced {
                break;
            }
            let (name, after) = after.split_once('}').ok_or("`{` has no `}`")?;
            check_variable(name)?;
            let place = template.variables.iter().position(|variable| variable == name);
            let place = place.ok_or_else(|| {
                format!("the variable `{name}` is not in the path template that matches")
            })?;
            parts.push(RewritePart::Variable(place));
            rest = after;
        }
        if text.contains("//") {
            return Err("a segment is empty".to_owned());
        }
        Ok(UriTemplateRewrite { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        let template = UriTemplate::parse(template).unwrap();
        regex::Regex::new(&format!("^(?:{})$", template.regex)).unwrap().is_match(path)
    }

    #[test]
    fn operators_match_segments_and_rests() {
        let rows = [
            ("/videos/*/*/*.m4s", "/videos/123414/hls/1080p5000_00001.m4s", true),
            ("/videos/*/*/*.m4s", "/videos/123414/1080p5000_00001.m4s", false),
            ("/videos/{file}", "/videos/a.m4s", true),
            ("/videos/{file}", "/videos/", false),
            ("/videos/{file}", "/videos/a/b", false),
            ("/**.mpd", "/content/123/india/dash/55/manifest.mpd", true),
            ("/**", "/", true),
            ("/a/{rest=**}", "/a/", true),
            ("/a/{rest=**}", "/a", false),
            ("/api/v{version}/users/{id}.json", "/api/v2/users/456.json", true),
            ("/{a=videos/*}/x", "/videos/1/x", true),
            ("/{a=videos/*}/x", "/audio/1/x", false),
            ("/a.b", "/axb", false),
            ("/*", "/a*b", false),
            ("/a*", "/a*", true),
            ("/a*", "/ab", false),
            ("/{a=b*c}", "/b*c", true),
            ("/a/", "/a/", true),
            ("/**/a", "/x/y/a", true),
        ];
        for (template, path, expected) in rows {
            assert_eq!(matches(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let rows = [
            ("a", "begin with `/`"),
            ("/a//b", "empty"),
            ("/{a", "no `}`"),
            ("/{}", "no name"),
            ("/{1a}", "no name of a variable"),
            ("/{a}/{a}", "twice"),
            ("/{aaaaaaaaaaaaaaaaa}", "longer than 16"),
            ("/{a}/{b}/{c}/{d}/{e}/{f}", "more than 5"),
            ("/**/*", "last operator"),
            ("/{a=**}/{b}", "last operator"),
            ("/{a=}", "empty segment"),
            ("/{a=x/}", "empty segment"),
            ("/{a=/x}", "empty segment"),
            ("/{a=**.x}", "behind an operator"),
            ("/*{a}", "behind an operator"),
            ("/{a}{b}", "`{` cannot be in it"),
            ("/{a={b}}", "`{` cannot be in it"),
            ("/a b", "cannot be in it"),
        ];
        for (template, expected) in rows {
            let error = UriTemplate::parse(template).unwrap_err();
            assert!(error.contains(expected), "{template}: {error}");
        }
    }

    #[test]
    fn a_rewrite_names_variables_of_the_match() {
        let template = UriTemplate::parse("/{one}/{two}").unwrap();
        let rewrite = UriTemplateRewrite::parse("/{two}/x{one}", &template).unwrap();
        let literal = |text: &str| RewritePart::Literal(text.to_owned());
        let expected =
            [literal("/"), RewritePart::Variable(1), literal("/x"), RewritePart::Variable(0)];
        assert_eq!(rewrite.parts, expected);
        for text in ["/{three}", "two", "/{one", "/a//b", "/{one}}", "/a?b", "/{one=*}"] {
            assert!(UriTemplateRewrite::parse(text, &template).is_err(), "{text}");
        }
    }
}
