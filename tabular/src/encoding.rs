//! Encodings, and their bytes as UTF-8.

use std::io::Read;

use encoding_rs::DecoderResult;

string_enum::string_enum!(
    /// The encoding of a CSV file.
    ///
    /// Without a byte order mark, UTF-16 is taken for text that has many NUL bytes. For CP949 (which contains EUC-KR), Shift_JIS and
    /// Windows-1252, text with control characters or characters for private use does not fit; for Windows-1252, nor does text with
    /// signs that names and words do not have, such as `±` or `¼`.
    Encoding {
        Utf8 = "UTF-8",
        Utf16Le = "UTF-16LE",
        Utf16Be = "UTF-16BE",
        Cp949 = "CP949",
        ShiftJis = "Shift_JIS",
        Windows1252 = "Windows-1252",
    }
);

/// Stands for a sequence of bytes that the encoding does not have. UTF-8 has no such byte.
pub(crate) const MALFORMED: u8 = 0xff;

impl Encoding {
    fn decoder(self) -> encoding_rs::Decoder {
        let encoding = match self {
            Self::Utf8 => encoding_rs::UTF_8,
            Self::Utf16Le => encoding_rs::UTF_16LE,
            Self::Utf16Be => encoding_rs::UTF_16BE,
            Self::Cp949 => encoding_rs::EUC_KR,
            Self::ShiftJis => encoding_rs::SHIFT_JIS,
            Self::Windows1252 => encoding_rs::WINDOWS_1252,
        };
        encoding.new_decoder_with_bom_removal()
    }

    /// The encoding that a byte order mark says.
    pub(crate) fn of_byte_order_mark(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xef, 0xbb, 0xbf, ..] => Some(Self::Utf8),
            [0xff, 0xfe, ..] => Some(Self::Utf16Le),
            [0xfe, 0xff, ..] => Some(Self::Utf16Be),
            _ => None,
        }
    }

    /// Whether text that was decoded from this encoding has only characters of names and words.
    pub(crate) fn is_plausible(self, text: &str) -> bool {
        let is_plausible = |char: char| match char {
            '\t' | '\n' | '\r' => true,
            '\u{e000}'..='\u{f8ff}' => false,
            ' '..='~' => true,
            _ if self == Self::Windows1252 => {
                char.is_alphabetic() && char != 'µ' && char != 'ƒ' || "‘’‚“”„–—…•€£§°´·«»¡¿\u{a0}".contains(char)
            }
            _ => !char.is_control(),
        };
        let has_lines = || text.contains(['\n', '\r']);
        text.chars().all(is_plausible) && (!matches!(self, Self::Utf16Le | Self::Utf16Be) || has_lines())
    }

    /// The bytes as text; none where they are not all of this encoding. Where they are not `complete`, the last character may be
    /// incomplete.
    pub(crate) fn decode(self, bytes: &[u8], complete: bool) -> Option<String> {
        let mut decoder = self.decoder();
        let mut text = String::with_capacity(decoder.max_utf8_buffer_length(bytes.len())?);
        match decoder.decode_to_string_without_replacement(bytes, &mut text, complete) {
            (DecoderResult::InputEmpty, _) => Some(text),
            _ => None,
        }
    }
}

/// Reads bytes of an encoding as UTF-8, with `MALFORMED` for what is not in it.
pub(crate) struct Decoder<R> {
    source: R,
    decoder: encoding_rs::Decoder,
    bytes: Vec<u8>,
    /// The part of `bytes` that is to be decoded.
    start: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    pub(crate) fn new(source: R, encoding: Encoding) -> Self {
        Self {
            source,
            decoder: encoding.decoder(),
            bytes: vec![0; 64 << 10],
            start: 0,
            end: 0,
            ended: false,
        }
    }

    pub(crate) fn source(&self) -> &R {
        &self.source
    }
}

impl<R: Read> Read for Decoder<R> {
    /// The buffer must have room for a character and the mark, 16 bytes.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.start == self.end && !self.ended {
                (self.start, self.end) = (0, self.source.read(&mut self.bytes)?);
                self.ended = self.end == 0;
            } else if self.ended && self.start == usize::MAX {
                return Ok(0);
            }
            let bytes = self.bytes.get(self.start..self.end).unwrap_or_default();
            let room = buffer.len().saturating_sub(1);
            let room = buffer.get_mut(..room).unwrap_or_default();
            let (result, read, mut written) = self.decoder.decode_to_utf8_without_replacement(bytes, room, self.ended);
            self.start += read;
            match result {
                DecoderResult::Malformed(..) => {
                    if let Some(byte) = buffer.get_mut(written) {
                        *byte = MALFORMED;
                        written += 1;
                    }
                }
                // The decoder must not be used after its end.
                DecoderResult::InputEmpty if self.ended => (self.start, self.end) = (usize::MAX, usize::MAX),
                DecoderResult::InputEmpty | DecoderResult::OutputFull => {}
            }
            if written > 0 {
                return Ok(written);
            }
        }
    }
}
