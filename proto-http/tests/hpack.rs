//! HPACK against other implementations: the stories of http2jp/hpack-test-case, and an independent
//! encoder and decoder.
//!
//! The stories (47,142 blocks) are read from the archive `shared/data/hpack-test-case.tar.xz` in a
//! folder above, where there is one; the test says so when there is none.
//!
//! What it leaves to others: which fields make a good head.
#![allow(clippy::print_stderr)] // who runs it should know what was not tested
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate_http::Headers;
use tidegate_http::h2::hpack::{Decoder, Encoder, HpackError, Indexing};

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Lines, HpackError> {
    let (mut headers, mut lines) = (Headers::default(), Vec::new());
    decoder.decode(block, &mut headers, |headers, line| {
        lines.push((headers.bytes(line.name).to_vec(), headers.bytes(line.value).to_vec()));
    })?;
    Ok(lines)
}

fn encode(encoder: &mut Encoder, lines: &Lines) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (at, (name, value)) in lines.iter().enumerate() {
        let indexing = if at % 7 == 6 { Indexing::Never } else { Indexing::Repeated };
        encoder.line(name, value, indexing, &mut out);
    }
    out
}

fn lines_of(case: &Value) -> Lines {
    let pair = |field: &Value| {
        let (name, value) = field.as_object().unwrap().iter().next().unwrap();
        (name.clone().into_bytes(), value.as_str().unwrap().as_bytes().to_vec())
    };
    case["headers"].as_array().unwrap().iter().map(pair).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Decodes each block of a story; writes its lines with our encoder, for our decoder and for the
/// independent one. Answers how many blocks there were.
fn check_story(path: &Path) -> usize {
    let story: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut decoder = Decoder::new();
    let mut encoders = [Encoder::new(4096, false), Encoder::new(1000, true)];
    let mut ours = [Decoder::new(), Decoder::new()];
    let mut theirs = [fluke_hpack::Decoder::new(), fluke_hpack::Decoder::new()];
    let cases = story["cases"].as_array().unwrap();
    for case in cases {
        let place = format!("{} {}", path.display(), case["seqno"]);
        let lines = lines_of(case);
        if let Some(size) = case["header_table_size"].as_u64() {
            decoder.set_allowed_size(size as usize);
        }
        // The stories of `raw-data` are lists without blocks.
        if let Some(wire) = case["wire"].as_str() {
            assert_eq!(decode(&mut decoder, &bytes_of(wire)).as_ref(), Ok(&lines), "{place}");
        }
        for which in 0..2 {
            let block = encode(&mut encoders[which], &lines);
            assert_eq!(decode(&mut ours[which], &block).as_ref(), Ok(&lines), "{place}");
            // Its Huffman decoder is slow.
            if which == 0 || cases.len() < 20 {
                assert_eq!(theirs[which].decode(&block).unwrap(), lines, "{place}");
            }
        }
    }
    cases.len()
}

fn stories(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            stories(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
}

#[test]
fn all_stories() {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let archive = above
        .map(|folder| folder.join("shared/data/hpack-test-case.tar.xz"))
        .find(|path| path.exists());
    let Some(archive) = archive else {
        eprintln!("NOT TESTED: there is no shared/data/hpack-test-case.tar.xz in a folder above");
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hpack-test-case");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let status =
        Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&folder).status().unwrap();
    assert!(status.success(), "tar and xz are needed to unpack the stories");
    let (mut found, mut blocks) = (Vec::new(), 0);
    stories(&folder, &mut found);
    for path in found {
        let blocks_of_story = check_story(&path);
        if !path.components().any(|part| part.as_os_str() == "raw-data") {
            blocks += blocks_of_story;
        }
    }
    assert_eq!(blocks, 47_142);
}

fn lines() -> impl Strategy<Value = Lines> {
    let name = prop::sample::select(vec![":path", "x-a", "cookie", "etag", "x-a-long-name"])
        .prop_map(|name: &str| name.as_bytes().to_vec());
    let value = prop_oneof![
        "[ab]{0,2}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..300)
    ];
    prop::collection::vec((name, value), 1..12)
}

proptest! {
    /// Tables of any size, that change between blocks.
    #[test]
    fn what_is_written_is_read(
        blocks in prop::collection::vec((lines(), 0usize..5000), 1..20),
        huffman: bool,
    ) {
        let mut encoder = Encoder::new(4096, huffman);
        let (mut ours, mut theirs) = (Decoder::new(), fluke_hpack::Decoder::new());
        theirs.set_max_allowed_table_size(5000);
        for (lines, size) in blocks {
            encoder.set_allowed_size(size);
            ours.set_allowed_size(size);
            let block = encode(&mut encoder, &lines);
            prop_assert_eq!(decode(&mut ours, &block), Ok(lines.clone()));
            prop_assert_eq!(theirs.decode(&block).unwrap(), lines);
        }
    }

    /// What the independent encoder writes is read.
    #[test]
    fn what_others_write_is_read(blocks in prop::collection::vec(lines(), 1..10)) {
        let (mut encoder, mut decoder) = (fluke_hpack::Encoder::new(), Decoder::new());
        for lines in blocks {
            let block = encoder.encode(lines.iter().map(|(n, v)| (&n[..], &v[..])));
            prop_assert_eq!(decode(&mut decoder, &block), Ok(lines));
        }
    }

    /// Any bytes: no panic, and where the independent decoder reads lines, ours reads the same or
    /// is stricter.
    #[test]
    fn any_bytes(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
        let (mut ours, mut theirs) = (Decoder::new(), fluke_hpack::Decoder::new());
        for block in blocks {
            let Ok(lines) = decode(&mut ours, &block) else { break };
            // It wants a line behind a size update.
            if lines.is_empty() { break }
            prop_assert_eq!(theirs.decode(&block).unwrap(), lines);
        }
    }
}
