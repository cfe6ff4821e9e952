//! The bounds of XLSX files, checked before `calamine` reads them, since it holds shared strings, styles and each XML element in
//! memory.

use std::fs::File;
use std::io::{self, BufReader, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use crate::MAX_RECORD_BYTES;
use crate::error::{Error, Result};

/// The most cells of a workbook.
pub const MAX_CELLS: u64 = 16_000_000;
/// The most distinct texts of a workbook.
pub const MAX_SHARED_STRINGS: u64 = 1_000_000;
/// The most bytes of all distinct texts, as XML.
pub const MAX_SHARED_STRINGS_BYTES: u64 = 48 << 20;
/// The largest size of all parts of a workbook in bytes, uncompressed.
pub const MAX_UNCOMPRESSED: u64 = 1 << 30;

/// Parts that are neither sheets nor shared strings are small.
const MAX_SMALL_PART: u64 = 8 << 20;
/// Pictures and the like.
const MAX_OTHER_PART: u64 = 16 << 20;
const MAX_STYLES_BYTES: u64 = 4 << 20;
/// Styles repeat the texts that they refer to.
const MAX_STYLES: u64 = 16_384;
const MAX_STYLES_ELEMENT: usize = 2 << 10;
const MAX_MERGED_CELLS: u64 = 1_000_000;
const BUFFER_BYTES: usize = 8 << 10;

/// Inflates an archive and checks all parts. Returns whether cells are merged.
pub(crate) fn check(file: File) -> Result<bool> {
    let damaged = |what: zip::result::ZipError| Error::Damaged(what.to_string());
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut counts = Counts::default();
    for index in 0..archive.len() {
        let part = archive.by_index(index).map_err(damaged)?;
        let name = part.name().map_err(damaged)?.to_ascii_lowercase();
        // Refuses most bombs before they are inflated; what the directory says need not be true.
        counts.check_size(size_limit(&name), part.size())?;
        counts.part(&name, part)?;
    }
    Ok(counts.merged_cells > 0)
}

#[derive(Default)]
struct Counts {
    bytes: u64,
    cells: u64,
    shared_strings: u64,
    styles: u64,
    merged_cells: u64,
}

impl Counts {
    /// Checks the size of a part as its limit says, and that of all parts, of which it is the last.
    fn check_size(&self, limit: (u64, &str), size: u64) -> Result<()> {
        if size > limit.0 {
            return Err(too_large(limit.0 >> 20, limit.1));
        }
        if self.bytes.saturating_add(size) > MAX_UNCOMPRESSED {
            return Err(too_large(MAX_UNCOMPRESSED >> 20, "MiB uncompressed"));
        }
        Ok(())
    }

    /// Reads a part to its end.
    fn part(&mut self, name: &str, part: impl Read) -> Result<()> {
        let size_limit = size_limit(name);
        if !name.ends_with(".xml") && !name.ends_with(".rels") {
            let mut part = part.take(size_limit.0 + 1);
            let size = io::copy(&mut part, &mut io::sink()).map_err(|error| damaged(&error))?;
            self.check_size(size_limit, size)?;
            self.bytes += size;
            return Ok(());
        }
        let is_styles = name.ends_with("styles.xml");
        // What is buffered may belong to the next element.
        let limit = (MAX_RECORD_BYTES + BUFFER_BYTES) as u64;
        let source = Bounded {
            source: part,
            left: limit,
            read: 0,
        };
        let mut xml = Reader::from_reader(BufReader::with_capacity(BUFFER_BYTES, source));
        xml.config_mut().check_end_names = false;
        xml.config_mut().expand_empty_elements = true;
        let mut buffer = Vec::new();
        // How many elements around are a text or cell, whose content must be small as a whole.
        let mut depth = 0_u32;
        loop {
            buffer.clear();
            let event = xml.read_event_into(&mut buffer).map_err(|error| xml_error(&error))?;
            match &event {
                Event::Start(element) => {
                    depth += u32::from(is_whole(element.local_name().as_ref()));
                    self.element(element)?;
                }
                Event::End(element) => depth = depth.saturating_sub(u32::from(is_whole(element.local_name().as_ref()))),
                Event::DocType(_) => return Err(Error::Damaged("it has a document type".to_owned())),
                Event::Eof => break,
                _ => {}
            }
            let is_small = matches!(&event, Event::Start(element) if is_of_small_part(element.local_name().as_ref()));
            drop(event);
            if is_styles && buffer.len() > MAX_STYLES_ELEMENT {
                return Err(too_large(MAX_STYLES_ELEMENT as u64, "bytes in one style"));
            }
            let source = xml.get_mut().get_mut();
            if depth == 0 {
                source.left = limit;
            }
            let read = source.read;
            self.check_size(size_limit, read)?;
            if is_small && read > MAX_SMALL_PART {
                return Err(too_large(MAX_SMALL_PART >> 20, "MiB in the list of sheets"));
            }
        }
        self.bytes += xml.get_ref().get_ref().read;
        Ok(())
    }

    fn element(&mut self, element: &BytesStart<'_>) -> Result<()> {
        let (count, limit, what) = match element.local_name().as_ref() {
            "c" => (&mut self.cells, MAX_CELLS, "cells"),
            "si" => (&mut self.shared_strings, MAX_SHARED_STRINGS, "distinct texts"),
            "xf" => (&mut self.styles, MAX_STYLES, "styles"),
            "mergeCell" => (&mut self.merged_cells, MAX_MERGED_CELLS, "merged cells"),
            "sst" => return check_unique_count(element),
            _ => return Ok(()),
        };
        *count += 1;
        if *count > limit {
            Err(too_large(limit, what))
        } else {
            Ok(())
        }
    }
}

fn xml_error(error: &quick_xml::Error) -> Error {
    match error {
        quick_xml::Error::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            too_large(MAX_RECORD_BYTES as u64, "bytes in one cell or XML element")
        }
        quick_xml::Error::Io(error) => damaged(error),
        // Other texts may quote the file.
        _ => Error::Damaged("a part is not XML".to_owned()),
    }
}

/// As much memory is reserved as it says.
fn check_unique_count(element: &BytesStart<'_>) -> Result<()> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| Error::Damaged("a part is not XML".to_owned()))?;
        let is_small = || {
            attribute
                .value
                .parse::<u64>()
                .is_ok_and(|count| count <= MAX_SHARED_STRINGS)
        };
        if attribute.key.as_ref().ends_with("uniqueCount") && !is_small() {
            return Err(too_large(MAX_SHARED_STRINGS, "distinct texts"));
        }
    }
    Ok(())
}

/// Elements whose content is held as a whole.
fn is_whole(name: &str) -> bool {
    matches!(name, "c" | "si" | "is" | "definedName")
}

/// Elements of which a list is held, in parts that are small.
fn is_of_small_part(name: &str) -> bool {
    matches!(name, "sheet" | "definedName" | "Relationship")
}

/// The largest size of a part, and in MiB of what.
fn size_limit(name: &str) -> (u64, &'static str) {
    if name.ends_with("sharedstrings.xml") {
        (MAX_SHARED_STRINGS_BYTES, "MiB of distinct texts")
    } else if name.ends_with("styles.xml") {
        (MAX_STYLES_BYTES, "MiB of styles")
    } else if name.ends_with(".xml") {
        (MAX_UNCOMPRESSED, "MiB uncompressed")
    } else {
        (MAX_OTHER_PART, "MiB in a picture or other part")
    }
}

fn too_large(limit: u64, what: &str) -> Error {
    Error::TooLarge(format!("{limit} {what}"))
}

fn damaged(error: &io::Error) -> Error {
    Error::Damaged(error.kind().to_string())
}

/// Fails when more is read than is `left`.
struct Bounded<R> {
    source: R,
    left: u64,
    read: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read += count as u64;
        self.left = self.left.checked_sub(count as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(count)
    }
}
