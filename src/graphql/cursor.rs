//! Pages: which rows of a list are asked for, and cursors, which are bound to their list and order.

use std::fmt::Display;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::connection::PageInfo;
use crate::config::LIMITS;
use crate::error::{Error, Result};
use crate::secrets::Secrets;
use crate::store::Seek;

/// A page of a list: its size, from which end it is taken, and what it lies between.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) size: usize,
    /// The last rows before `before`, rather than the first after `after`.
    pub(super) backwards: bool,
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
}

impl Window {
    /// The page that a connection's arguments ask for.
    pub(super) fn new(
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Self> {
        let size = |argument: &str, rows: i32| match usize::try_from(rows) {
            Ok(rows) if rows <= LIMITS.page_most => Ok(rows),
            Ok(_) => Err(Error::input(
                argument,
                format!("a page has at most {} rows", LIMITS.page_most),
            )),
            Err(_) => Err(Error::input(argument, "a page has 0 rows or more")),
        };
        let (size, backwards) = match (first, last) {
            (Some(_), Some(_)) => return Err(Error::input("last", "give either first or last, not both")),
            (Some(rows), None) => (size("first", rows)?, false),
            (None, Some(rows)) => (size("last", rows)?, true),
            (None, None) => (LIMITS.page_default, before.is_some() && after.is_none()),
        };
        Ok(Self {
            size,
            backwards,
            after,
            before,
        })
    }

    /// The places of a resolved list that the page holds. The digest is the list's in its order.
    pub(super) fn places(&self, length: usize, digest: [u8; 8]) -> Result<Range<usize>> {
        let place = |argument: &str, cursor: &Option<String>| {
            let Some(cursor) = cursor else { return Ok(None) };
            let read = read_place(cursor, digest).filter(|&place| place < length);
            read.map(Some).ok_or_else(|| foreign(argument))
        };
        let start = place("after", &self.after)?.map_or(0, |place| place + 1);
        let end = place("before", &self.before)?.unwrap_or(length).max(start);
        Ok(if self.backwards {
            end.saturating_sub(self.size).max(start)..end
        } else {
            start..(start + self.size).min(end)
        })
    }

    /// Where a page that is read by key begins. One row more than the page tells whether there are more.
    pub(super) fn seek(
        &self,
        secrets: &Secrets,
        hospital: i64,
        list: &impl Display,
        descending: bool,
    ) -> Result<Seek<Option<String>>> {
        let (argument, cursor) = match (&self.after, &self.before) {
            (Some(_), Some(_)) => return Err(Error::input("before", "give either after or before, not both, here")),
            (Some(_), None) if self.backwards => {
                return Err(Error::input("after", "goes with first, not with last, here"));
            }
            (None, Some(_)) if !self.backwards => {
                return Err(Error::input("before", "goes with last, not with first, here"));
            }
            (Some(cursor), None) => ("after", Some(cursor)),
            (None, Some(cursor)) => ("before", Some(cursor)),
            (None, None) => ("", None),
        };
        let from = cursor
            .map(|cursor| read_key(secrets, hospital, &list.to_string(), cursor).ok_or_else(|| foreign(argument)))
            .transpose()?;
        Ok(Seek {
            descending,
            from,
            backwards: self.backwards,
            limit: self.size as u64 + 1,
        })
    }

    /// Cuts the row too many off a page that was read by key; tells whether there are rows before and after.
    pub(super) fn trim<T>(&self, rows: &mut Vec<T>) -> (bool, bool) {
        let more = rows.len() > self.size;
        if more && self.backwards {
            rows.remove(0);
        } else {
            rows.truncate(self.size);
        }
        if self.backwards {
            (more, self.before.is_some())
        } else {
            (self.after.is_some(), more)
        }
    }
}

fn foreign(argument: &str) -> Error {
    Error::input(
        argument,
        "this cursor is of another list or another order: take one from the list that you page",
    )
}

/// The cursor of a place in a resolved list.
pub(super) fn of_place(place: usize, digest: [u8; 8]) -> String {
    let place = (place as u64).to_be_bytes();
    URL_SAFE_NO_PAD.encode([&digest[..], &place[4..]].concat())
}

/// Where a page lies in a resolved list of this length.
pub(super) fn page_info(places: &Range<usize>, length: usize, digest: [u8; 8]) -> PageInfo {
    let some = !places.is_empty();
    PageInfo {
        has_next_page: places.end < length,
        has_previous_page: places.start > 0,
        start_cursor: some.then(|| of_place(places.start, digest)),
        end_cursor: some.then(|| of_place(places.end - 1, digest)),
    }
}

fn read_place(cursor: &str, digest: [u8; 8]) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let place: [u8; 4] = bytes.strip_prefix(&digest)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(place)).ok()
}

/// The cursor of a row that is found by its key. The key may be a name: it is encrypted, and bound to the list. The same row of the
/// same list has the same cursor in each answer, so that clients can cache by it.
pub(super) fn of_key(secrets: &Secrets, hospital: i64, list: &str, key: Option<&str>, id: i64) -> Result<String> {
    let text = serde_json::json!([id, key]).to_string();
    Ok(URL_SAFE_NO_PAD.encode(secrets.seal_same(hospital, list, &text)?))
}

fn read_key(secrets: &Secrets, hospital: i64, list: &str, cursor: &str) -> Option<(Option<String>, i64)> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let text = secrets.open_sealed(hospital, list, &bytes).ok()?;
    let (id, key): (i64, Option<String>) = serde_json::from_str(&text).ok()?;
    Some((key, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(first: Option<i32>, after: Option<usize>, last: Option<i32>, before: Option<usize>) -> Window {
        let cursor = |place: Option<usize>| place.map(|place| of_place(place, [1; 8]));
        Window::new(first, cursor(after), last, cursor(before)).unwrap()
    }

    #[test]
    fn a_window_cuts_places() {
        let cut = |window: Window| window.places(50, [1; 8]).unwrap();
        assert_eq!(cut(window(None, None, None, None)), 0..20);
        assert_eq!(cut(window(Some(7), Some(9), None, None)), 10..17);
        assert_eq!(cut(window(None, None, Some(7), None)), 43..50);
        assert_eq!(cut(window(None, None, Some(7), Some(5))), 0..5);
        assert_eq!(cut(window(Some(7), Some(9), None, Some(12))), 10..12);
        assert_eq!(cut(window(None, Some(9), Some(7), Some(12))), 10..12);
        assert_eq!(cut(window(Some(7), Some(12), None, Some(9))), 13..13);
        assert_eq!(cut(window(Some(0), None, None, None)), 0..0);
        assert_eq!(cut(window(Some(7), Some(49), None, None)), 50..50);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let window = window(Some(7), Some(9), None, None);
        assert!(window.places(50, [2; 8]).is_err());
        assert!(window.places(5, [1; 8]).is_err());
    }

    #[test]
    fn sizes_are_bounded() {
        let refused = |first, last| Window::new(first, None, last, None).is_err();
        assert!(refused(Some(1), Some(1)));
        assert!(refused(Some(-1), None));
        assert!(refused(None, Some(101)));
        assert!(!refused(Some(100), None));
        assert!(!refused(None, None));
    }
}
