//! Finds format, encoding and delimiter from a file's first bytes.

use crate::csv::Records;
use crate::encoding::{Decoder, Encoding};
use crate::error::{Error, NoHeader, Result};
use crate::{Delimiter, Options, header};

pub(crate) enum Content {
    Zip,
    Text,
}

/// What the bytes are by their signature.
pub(crate) fn content(prefix: &[u8]) -> Result<Content> {
    let other = match prefix {
        [] => return Err(Error::Empty),
        [b'P', b'K', 3, 4, ..] => return Ok(Content::Zip),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "an old Excel file (.xls) or one with a password",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [0x1f, 0x8b, ..] | [b'P', b'K', ..] => "a compressed file",
        _ => {
            let text = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
            if text.is_empty() {
                return Err(Error::Empty);
            }
            if !text.trim_ascii_start().starts_with(b"<") {
                return Ok(Content::Text);
            }
            // What some systems call .xls.
            "HTML or XML"
        }
    };
    Err(Error::OtherFormat(other))
}

/// The only encoding and delimiter that fit.
pub(crate) fn reading(prefix: &[u8], complete: bool, options: &Options) -> Result<(Encoding, Delimiter)> {
    let encodings = match (options.encoding, Encoding::of_byte_order_mark(prefix)) {
        (Some(encoding), Some(mark)) if encoding != mark => return Err(Error::OtherByteOrderMark { mark, encoding }),
        (Some(encoding), _) | (None, Some(encoding)) => vec![encoding],
        (None, None) => encodings(prefix, complete)?,
    };
    let delimiters = options.delimiter.as_ref().map_or(Delimiter::ALL, std::slice::from_ref);
    let mut fitting: Vec<(Encoding, Delimiter)> = Vec::new();
    let (mut failed, mut not_found) = (None, Vec::new());
    for &encoding in &encodings {
        let (mut of_several_cells, mut of_one_cell) = (Vec::new(), Vec::new());
        for &delimiter in delimiters {
            let mut records = Records::new(Decoder::new(prefix, encoding), delimiter.byte());
            match header::search_csv(&mut records, options) {
                Ok(Ok((_, headers))) if headers.len() > 1 => of_several_cells.push((encoding, delimiter)),
                // Without a delimiter all readings are the same.
                Ok(Ok(_)) if of_one_cell.is_empty() => of_one_cell.push((encoding, delimiter)),
                Ok(Ok(_)) => {}
                Ok(Err(searched)) => not_found.push(searched),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        fitting.append(if of_several_cells.is_empty() {
            &mut of_one_cell
        } else {
            &mut of_several_cells
        });
    }
    match fitting[..] {
        [fits] => Ok(fits),
        [] => Err(failed.unwrap_or_else(|| Error::NoHeader(closest(not_found)))),
        _ => Err(Error::SeveralReadings(
            fitting
                .iter()
                .map(|(encoding, delimiter)| format!("{} with {}", encoding.as_str(), delimiter.as_str()))
                .collect(),
        )),
    }
}

/// Of rows that were searched in vain, those that come closest to a header row.
pub(crate) fn closest(searched: Vec<NoHeader>) -> NoHeader {
    let missing = |searched: &NoHeader| {
        searched
            .closest
            .as_ref()
            .map_or(usize::MAX, |(_, missing)| missing.len())
    };
    searched.into_iter().min_by_key(missing).unwrap_or_default()
}

/// The encodings of text without a byte order mark.
fn encodings(prefix: &[u8], complete: bool) -> Result<Vec<Encoding>> {
    let fits = |encoding: &Encoding| {
        encoding
            .decode(prefix, complete)
            .is_some_and(|text| encoding.is_plausible(&text))
    };
    let nul_bytes = prefix.iter().filter(|byte| **byte == 0).count();
    if nul_bytes > prefix.len() / 100 {
        let fitting: Vec<Encoding> = [Encoding::Utf16Le, Encoding::Utf16Be]
            .into_iter()
            .filter(fits)
            .collect();
        return if fitting.is_empty() {
            Err(Error::OtherFormat("a binary file"))
        } else {
            Ok(fitting)
        };
    }
    if Encoding::Utf8.decode(prefix, complete).is_some() {
        return Ok(vec![Encoding::Utf8]);
    }
    let fitting: Vec<Encoding> = [Encoding::Cp949, Encoding::ShiftJis, Encoding::Windows1252]
        .into_iter()
        .filter(fits)
        .collect();
    if fitting.is_empty() {
        Err(Error::UnknownEncoding)
    } else {
        Ok(fitting)
    }
}
