//! Files and folders that only their owner may read.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Creates the folder with those above it where they do not exist. One that exists stays as it is.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates an empty file for writing; an error where it exists.
pub(crate) fn create_file(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates an empty file where none exists.
pub(crate) fn create_file_if_missing(path: &Path) -> Result<()> {
    match create_file(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
