//! A small, strict HTTP/1.1 parser that shares nothing with the proxy's: it judges what the proxy
//! wrote.
//!
//! What it leaves to others: who sent what and why (`ledger.rs`).

use std::collections::VecDeque;

/// A head: the words of its first line, and its fields with lower-case names.
#[derive(Clone, Debug)]
pub struct Head {
    pub words: Vec<String>,
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
}

/// How a body is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// What comes out of a connection.
#[derive(Debug)]
pub enum Part {
    Head(Head),
    Data(Vec<u8>),
    /// The message is complete; its trailers.
    End(Vec<(String, String)>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Body(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    UntilClose,
    End,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Parser {
    bytes: VecDeque<u8>,
    state: State,
    /// Responses only: whether each request that waits for one was a HEAD.
    heads: Option<VecDeque<bool>>,
}

impl Parser {
    /// For requests.
    pub fn requests() -> Parser {
        Parser { bytes: VecDeque::new(), state: State::Head, heads: None }
    }

    /// For responses; say which requests they answer with [`Parser::expect`].
    pub fn responses() -> Parser {
        Parser { heads: Some(VecDeque::new()), ..Parser::requests() }
    }

    pub fn expect(&mut self, is_head: bool) {
        self.heads.get_or_insert_default().push_back(is_head);
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Whether it stands between two messages with nothing left over.
    pub fn is_idle(&self) -> bool {
        self.state == State::Head && self.bytes.is_empty()
    }

    /// What is left behind the last head, when the connection speaks no HTTP any more.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.bytes.drain(..).collect()
    }

    /// The connection ended: whether the message was complete by that.
    pub fn is_complete_by_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The next part, if there is one.
    pub fn next(&mut self) -> Result<Option<Part>, String> {
        match self.state {
            State::Head => self.next_head(),
            State::Body(left) => Ok(self.data(left, |left| match left {
                0 => State::End,
                left => State::Body(left),
            })),
            State::UntilClose => Ok(self.data(usize::MAX, |_| State::UntilClose)),
            State::ChunkSize => self.next_chunk(),
            State::Chunk(left) => Ok(self.data(left, |left| match left {
                0 => State::ChunkEnd,
                left => State::Chunk(left),
            })),
            State::ChunkEnd => match self.line()? {
                None => Ok(None),
                Some(line) if line.is_empty() => {
                    self.state = State::ChunkSize;
                    self.next()
                }
                Some(line) => Err(format!("{line:?} after a chunk")),
            },
            State::Trailers => {
                let Some(lines) = self.block()? else { return Ok(None) };
                self.state = State::Head;
                Ok(Some(Part::End(lines.iter().map(|line| field(line)).collect::<Result<_, _>>()?)))
            }
            State::End => {
                self.state = State::Head;
                Ok(Some(Part::End(Vec::new())))
            }
        }
    }

    fn next_head(&mut self) -> Result<Option<Part>, String> {
        let Some(lines) = self.block()? else { return Ok(None) };
        let Some((first, rest)) = lines.split_first() else { return Err("an empty head".into()) };
        let words = first.splitn(3, ' ').map(str::to_owned).collect::<Vec<_>>();
        let fields = rest.iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
        let mut head = Head { words, fields, framing: Framing::None };
        head.framing = match &mut self.heads {
            None => request_framing(&head)?,
            Some(heads) => response_framing(&head, heads)?,
        };
        self.state = match head.framing {
            Framing::None if head.is_interim() => State::Head,
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
        Ok(Some(Part::Head(head)))
    }

    fn next_chunk(&mut self) -> Result<Option<Part>, String> {
        let Some(line) = self.line()? else { return Ok(None) };
        let digits = line.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(&line, 16);
        match size {
            Ok(size) if digits => {
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                self.next()
            }
            _ => Err(format!("{line:?} is no chunk size")),
        }
    }

    fn data(&mut self, left: usize, next: impl Fn(usize) -> State) -> Option<Part> {
        let count = left.min(self.bytes.len());
        if count == 0 {
            return None;
        }
        self.state = next(left - count);
        Some(Part::Data(self.bytes.drain(..count).collect()))
    }

    /// A line without its CRLF.
    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
        line.pop();
        if line.pop() != Some(b'\r') || line.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(format!("a line does not end in CRLF: {line:?}"));
        }
        String::from_utf8(line).map(Some).map_err(|_| "a line is not text".into())
    }

    /// Lines up to an empty one, which is taken too. Nothing is taken before it is there.
    fn block(&mut self) -> Result<Option<Vec<String>>, String> {
        let bytes = self.bytes.make_contiguous();
        let ends = bytes.starts_with(b"\r\n") || bytes.windows(4).any(|four| four == b"\r\n\r\n");
        if !ends {
            return Ok(None);
        }
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            if line.is_empty() {
                return Ok(Some(lines));
            }
            lines.push(line);
        }
        Err("an end of lines was miscounted".into())
    }
}

impl Head {
    /// The only value of a field; an error when there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub fn status(&self) -> u16 {
        self.words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// A response that is followed by another one to the same request.
    pub fn is_interim(&self) -> bool {
        self.words[0].starts_with("HTTP/") && (100..200).contains(&self.status())
    }

    pub fn closes(&self) -> bool {
        self.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|(it, _)| it == name).count()
    }

    fn framing(&self) -> Result<Option<Framing>, String> {
        let chunked = self.count("transfer-encoding");
        let length = self.count("content-length");
        if chunked + length > 1 {
            return Err(format!("two lengths in {self:?}"));
        }
        if let Some(coding) = self.get("transfer-encoding") {
            return match coding {
                "chunked" => Ok(Some(Framing::Chunked)),
                _ => Err(format!("transfer-encoding {coding:?}")),
            };
        }
        let Some(length) = self.get("content-length") else { return Ok(None) };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        match length.parse() {
            Ok(length) if digits => Ok(Some(Framing::Length(length))),
            _ => Err(format!("content-length {length:?}")),
        }
    }
}

fn request_framing(head: &Head) -> Result<Framing, String> {
    match &head.words[..] {
        [method, path, version]
            if method.bytes().all(|byte| byte.is_ascii_uppercase())
                && path.starts_with('/')
                && version == "HTTP/1.1" => {}
        words => return Err(format!("a request line of {words:?}")),
    }
    if head.count("host") != 1 {
        return Err(format!("{} host fields", head.count("host")));
    }
    Ok(head.framing()?.unwrap_or(Framing::None))
}

fn response_framing(head: &Head, heads: &mut VecDeque<bool>) -> Result<Framing, String> {
    let status = head.status();
    if head.words[0] != "HTTP/1.1" || !(100..600).contains(&status) {
        return Err(format!("a status line of {:?}", head.words));
    }
    if status < 200 {
        let length = head.framing()?.is_some();
        return if length {
            Err("an interim response with a body".into())
        } else {
            Ok(Framing::None)
        };
    }
    let Some(is_head) = heads.pop_front() else { return Err("a response to nothing".into()) };
    let framing = head.framing()?;
    if status == 204 && framing.is_some() {
        return Err("a 204 with a body".into());
    }
    if is_head || matches!(status, 204 | 304) {
        return Ok(Framing::None);
    }
    Ok(framing.unwrap_or(Framing::UntilClose))
}

fn field(line: &str) -> Result<(String, String), String> {
    let Some((name, value)) = line.split_once(':') else {
        return Err(format!("a field of {line:?}"));
    };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("a field name of {name:?}"));
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parser: &mut Parser, bytes: &[u8]) -> Result<String, String> {
        let mut said = String::new();
        for byte in bytes {
            parser.push(&[*byte]);
            while let Some(part) = parser.next()? {
                match part {
                    Part::Head(head) => said += &format!("{} ", head.words.join("_")),
                    Part::Data(data) => said += std::str::from_utf8(&data).unwrap(),
                    Part::End(trailers) => said += &format!(" end{} ", trailers.len()),
                }
            }
        }
        Ok(said)
    }

    #[test]
    fn messages_are_told_apart() {
        let mut parser = Parser::requests();
        let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost:y\r\n\r\n";
        assert_eq!(
            parse(&mut parser, bytes).unwrap(),
            "POST_/a_HTTP/1.1 abc end0 GET_/_HTTP/1.1  end0 "
        );
        let mut parser = Parser::responses();
        parser.expect(false);
        parser.expect(true);
        let bytes = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nt: 1\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        let said = parse(&mut parser, bytes).unwrap();
        assert_eq!(
            said,
            "HTTP/1.1_103_Early HTTP/1.1_200_OK 0123456789 end1 HTTP/1.1_200_OK  end0 "
        );
        assert!(parser.is_idle());
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\nHost: x\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\nhost : x\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n",
            b"PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\n",
            b"PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(parse(&mut Parser::requests(), bytes).is_err(), "{text}");
        }
        assert!(parse(&mut Parser::responses(), b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
