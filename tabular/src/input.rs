//! The bytes of a file or stream, hashed as they are read.

use std::fs::{File, Metadata};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// How much of a file is looked at to find its encoding and delimiter.
pub(crate) const PREFIX_BYTES: usize = 1 << 20;

/// The largest XLSX file.
pub const MAX_XLSX_BYTES: u64 = 256 << 20;

pub(crate) struct Input {
    source: Box<dyn Read + Send>,
    /// The regular file that is read, and what was known of it at first.
    file: Option<(File, Metadata)>,
    prefix: Vec<u8>,
    /// How much of the prefix was read.
    prefix_read: usize,
    hasher: Sha256,
    bytes_read: u64,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut input = Self::stream(file.try_clone()?);
        if metadata.is_file() {
            input.file = Some((file, metadata));
        }
        Ok(input)
    }

    pub(crate) fn stream(source: impl Read + Send + 'static) -> Self {
        Self {
            source: Box::new(source),
            file: None,
            prefix: Vec::new(),
            prefix_read: 0,
            hasher: Sha256::new(),
            bytes_read: 0,
        }
    }

    /// The first bytes, which are read again later. There are less than `PREFIX_BYTES` only where the file has no more.
    pub(crate) fn peek(&mut self) -> Result<&[u8]> {
        if self.prefix.is_empty() {
            (&mut self.source)
                .take(PREFIX_BYTES as u64)
                .read_to_end(&mut self.prefix)?;
        }
        Ok(&self.prefix)
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    /// Checks at the end that the file is as it was at first.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let Some((file, before)) = &self.file else {
            return Ok(());
        };
        let now = file.metadata()?;
        let same = now.len() == before.len() && now.len() == self.bytes_read && now.modified()? == before.modified()?;
        if same { Ok(()) } else { Err(Error::Changed) }
    }

    /// All bytes as a file, for an archive, which is not read in order.
    pub(crate) fn into_file(mut self) -> Result<Spooled> {
        let mut copy = match &self.file {
            Some(_) => None,
            // Has no name, and only its owner may read it.
            None => Some(tempfile::tempfile()?),
        };
        let mut entries = DirectoryEntries::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = self.read(&mut buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if self.bytes_read > MAX_XLSX_BYTES {
                return Err(Error::TooLarge(format!("{} MiB", MAX_XLSX_BYTES >> 20)));
            }
            entries.count(bytes)?;
            if let Some(copy) = &mut copy {
                copy.write_all(bytes)?;
            }
        }
        self.check_unchanged()?;
        let mut file = match (&copy, &self.file) {
            (Some(copy), _) => copy.try_clone()?,
            (None, Some((file, _))) => file.try_clone()?,
            (None, None) => return Err(Error::Changed),
        };
        file.seek(SeekFrom::Start(0))?;
        Ok(Spooled { file, input: self })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut left = self.prefix.get(self.prefix_read..).unwrap_or_default();
        let count = if left.is_empty() {
            self.source.read(buffer)?
        } else {
            let count = left.read(buffer)?;
            self.prefix_read += count;
            if self.prefix_read == self.prefix.len() {
                (self.prefix, self.prefix_read) = (Vec::new(), 0);
            }
            count
        };
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.bytes_read += count as u64;
        Ok(count)
    }
}

/// A file whose bytes were all read once.
pub(crate) struct Spooled {
    pub(crate) file: File,
    pub(crate) input: Input,
}

/// Counts the entries of a zip archive's directory by their signature, since opening it takes memory for each.
#[derive(Default)]
struct DirectoryEntries {
    last: u32,
    count: u32,
}

impl DirectoryEntries {
    const SIGNATURE: u32 = u32::from_be_bytes(*b"PK\x01\x02");
    const MAX: u32 = 10_000;

    fn count(&mut self, bytes: &[u8]) -> Result<()> {
        for &byte in bytes {
            self.last = self.last << 8 | u32::from(byte);
            self.count += u32::from(self.last == Self::SIGNATURE);
        }
        if self.count > Self::MAX {
            return Err(Error::TooLarge(format!("{} parts", Self::MAX)));
        }
        Ok(())
    }
}
