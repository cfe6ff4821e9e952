//! The explorer (GraphiQL with a sign-in) as `build.rs` bundled it. A crate of its own, so that no change of the server's code
//! runs npm.

use include_dir::{Dir, include_dir};

static FILES: Dir<'_> = include_dir!("$EXPLORER");

/// The content of the file at a path within the bundle. Where the build had no npm, there is an `index.html` alone that says so.
#[must_use]
pub fn file(path: &str) -> Option<&'static [u8]> {
    Some(FILES.get_file(path)?.contents())
}
