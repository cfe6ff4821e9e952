//! Pages: which rows of a list are asked for, and cursors, which are bound to their list and order.

use std::fmt::{self, Display};
use std::ops::Range;
use std::sync::Arc;

use async_graphql::{Context, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::context;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::secrets::Secrets;
use crate::store::Keyset;

/// The position of a page in its list.
#[derive(SimpleObject, Clone, Default)]
pub(super) struct PageInfo {
    /// Whether there are rows after this page.
    pub(super) has_next_page: bool,
    /// Whether there are rows before this page.
    pub(super) has_previous_page: bool,
    /// The cursor of the first row of the page; null if the page is empty.
    pub(super) start_cursor: Option<String>,
    /// The cursor of the last row of the page; null if the page is empty.
    pub(super) end_cursor: Option<String>,
}

/// The arguments of a page: its size, from which end of the list, and the cursors that bound it.
#[derive(Clone, Debug)]
pub(super) struct PageArgs {
    pub(super) size: usize,
    /// Whether it has the last rows before `before` instead of the first after `after`.
    pub(super) backwards: bool,
    pub(super) after: Option<String>,
    pub(super) before: Option<String>,
}

impl PageArgs {
    /// Validates the arguments of a connection.
    pub(super) fn new(
        limits: &Limits,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<Self> {
        let size = |argument: &str, rows: i32| match usize::try_from(rows) {
            Ok(rows) if rows <= limits.max_page_size => Ok(rows),
            Ok(_) => Err(Error::input(
                argument,
                format!("a page has at most {} rows", limits.max_page_size),
            )),
            Err(_) => Err(Error::input(argument, "a page has 0 rows or more")),
        };
        let (size, backwards) = match (first, last) {
            (Some(_), Some(_)) => return Err(Error::input("last", "give either first or last, not both")),
            (Some(rows), None) => (size("first", rows)?, false),
            (None, Some(rows)) => (size("last", rows)?, true),
            (None, None) => (limits.default_page_size, before.is_some() && after.is_none()),
        };
        Ok(Self {
            size,
            backwards,
            after,
            before,
        })
    }

    /// The positions of the page in a resolved list. `digest` identifies the list and its order.
    pub(super) fn places(&self, length: usize, digest: [u8; 8]) -> Result<Range<usize>> {
        let place = |argument: &str, cursor: &Option<String>| {
            let Some(cursor) = cursor else { return Ok(None) };
            let read = parse_place_cursor(cursor, digest).filter(|&place| place < length);
            read.map(Some).ok_or_else(|| foreign_cursor(argument))
        };
        let start = place("after", &self.after)?.map_or(0, |place| place + 1);
        let end = place("before", &self.before)?.unwrap_or(length).max(start);
        Ok(if self.backwards {
            end.saturating_sub(self.size).max(start)..end
        } else {
            start..(start + self.size).min(end)
        })
    }

    /// The keyset to read a page by. It reads one row more than the page, to know whether there are more.
    pub(super) fn keyset(
        &self,
        secrets: &Secrets,
        hospital: i64,
        list: &impl Display,
        descending: bool,
    ) -> Result<Keyset<Option<String>>> {
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
            .map(|cursor| {
                parse_key_cursor(secrets, hospital, &list.to_string(), cursor).ok_or_else(|| foreign_cursor(argument))
            })
            .transpose()?;
        Ok(Keyset {
            descending,
            from,
            backwards: self.backwards,
            limit: self.size as u64 + 1,
        })
    }

    /// Removes the extra row of a page that was read by keyset; returns whether there are rows before and after.
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

/// What binds a cursor to its list. It is formatted only when a cursor is.
pub(super) type CursorScope = Arc<dyn fmt::Display + Send + Sync>;

/// A row that was read by keyset, and what its cursor is made from.
#[derive(Clone)]
pub(super) struct KeyedRow<T> {
    pub(super) scope: CursorScope,
    pub(super) key: Option<String>,
    pub(super) id: i64,
    pub(super) row: T,
}

impl<T> KeyedRow<T> {
    pub(super) fn cursor(&self, ctx: &Context<'_>) -> Result<String> {
        let (hospital, secrets) = (context::viewer(ctx)?.hospital, context::services(ctx)?.store.secrets());
        key_cursor(secrets, hospital, &self.scope.to_string(), self.key.as_deref(), self.id)
    }
}

fn foreign_cursor(argument: &str) -> Error {
    Error::input(
        argument,
        "this cursor is of another list or another order: take one from the list that you page",
    )
}

/// The cursor of a position in a resolved list.
pub(super) fn place_cursor(place: usize, digest: [u8; 8]) -> String {
    let place = (place as u64).to_be_bytes();
    URL_SAFE_NO_PAD.encode([&digest[..], &place[4..]].concat())
}

/// The page info of positions in a resolved list of this length.
pub(super) fn place_page_info(places: &Range<usize>, length: usize, digest: [u8; 8]) -> PageInfo {
    let some = !places.is_empty();
    PageInfo {
        has_next_page: places.end < length,
        has_previous_page: places.start > 0,
        start_cursor: some.then(|| place_cursor(places.start, digest)),
        end_cursor: some.then(|| place_cursor(places.end - 1, digest)),
    }
}

fn parse_place_cursor(cursor: &str, digest: [u8; 8]) -> Option<usize> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let place: [u8; 4] = bytes.strip_prefix(&digest)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(place)).ok()
}

/// The cursor of a row that is found by its sort key. The key may be a name: it is encrypted, and bound to the list. The same row of
/// the same list has the same cursor in each response, so that clients can cache by it.
pub(super) fn key_cursor(secrets: &Secrets, hospital: i64, list: &str, key: Option<&str>, id: i64) -> Result<String> {
    let text = serde_json::json!([id, key]).to_string();
    Ok(URL_SAFE_NO_PAD.encode(secrets.seal_same(hospital, list, &text)?))
}

fn parse_key_cursor(secrets: &Secrets, hospital: i64, list: &str, cursor: &str) -> Option<(Option<String>, i64)> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let text = secrets.open_sealed(hospital, list, &bytes).ok()?;
    let (id, key): (i64, Option<String>) = serde_json::from_str(&text).ok()?;
    Some((key, id))
}

/// Whether the rows of a page are selected, and not only its totalCount.
pub(super) fn rows_selected(ctx: &Context<'_>) -> bool {
    let asked = ctx.look_ahead();
    ["edges", "nodes", "pageInfo"]
        .iter()
        .any(|field| asked.field(field).exists())
}

/// The page info of a page that was read by keyset.
pub(super) fn page_info<T>(
    ctx: &Context<'_>,
    rows: &[KeyedRow<T>],
    (has_previous_page, has_next_page): (bool, bool),
) -> Result<PageInfo> {
    Ok(PageInfo {
        has_next_page,
        has_previous_page,
        start_cursor: rows.first().map(|row| row.cursor(ctx)).transpose()?,
        end_cursor: rows.last().map(|row| row.cursor(ctx)).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_args(first: Option<i32>, after: Option<usize>, last: Option<i32>, before: Option<usize>) -> PageArgs {
        let cursor = |place: Option<usize>| place.map(|place| place_cursor(place, [1; 8]));
        PageArgs::new(&Limits::default(), first, cursor(after), last, cursor(before)).unwrap()
    }

    #[test]
    fn a_window_cuts_places() {
        let cut = |page_args: PageArgs| page_args.places(50, [1; 8]).unwrap();
        assert_eq!(cut(page_args(None, None, None, None)), 0..20);
        assert_eq!(cut(page_args(Some(7), Some(9), None, None)), 10..17);
        assert_eq!(cut(page_args(None, None, Some(7), None)), 43..50);
        assert_eq!(cut(page_args(None, None, Some(7), Some(5))), 0..5);
        assert_eq!(cut(page_args(Some(7), Some(9), None, Some(12))), 10..12);
        assert_eq!(cut(page_args(None, Some(9), Some(7), Some(12))), 10..12);
        assert_eq!(cut(page_args(Some(7), Some(12), None, Some(9))), 13..13);
        assert_eq!(cut(page_args(Some(0), None, None, None)), 0..0);
        assert_eq!(cut(page_args(Some(7), Some(49), None, None)), 50..50);
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let page_args = page_args(Some(7), Some(9), None, None);
        assert!(page_args.places(50, [2; 8]).is_err());
        assert!(page_args.places(5, [1; 8]).is_err());
    }

    #[test]
    fn a_keyset_reads_one_row_more_and_continues_at_its_cursor() {
        use base64::engine::general_purpose::STANDARD;
        let secrets = Secrets::from_base64(&STANDARD.encode([1; 32])).unwrap();
        let cursor = |list: &str| key_cursor(&secrets, 7, list, Some("Kim"), 3).unwrap();
        let keyset = |page_args: PageArgs, descending| page_args.keyset(&secrets, 7, &"by name", descending);
        let first = keyset(
            PageArgs::new(&Limits::default(), Some(2), None, None, None).unwrap(),
            false,
        )
        .unwrap();
        assert!(first.from.is_none() && !first.backwards && !first.descending && first.limit == 3);
        let after = PageArgs::new(&Limits::default(), Some(2), Some(cursor("by name")), None, None).unwrap();
        let after = keyset(after, true).unwrap();
        assert_eq!(after.from, Some((Some("Kim".to_owned()), 3)));
        assert!(after.descending && !after.backwards);
        let before = PageArgs::new(&Limits::default(), None, None, Some(2), Some(cursor("by name"))).unwrap();
        assert!(keyset(before, false).unwrap().backwards);
        for refused in [
            PageArgs::new(&Limits::default(), Some(2), Some(cursor("by date")), None, None),
            PageArgs::new(&Limits::default(), Some(2), None, None, Some(cursor("by name"))),
            PageArgs::new(&Limits::default(), None, Some(cursor("by name")), Some(2), None),
        ] {
            assert!(keyset(refused.unwrap(), false).is_err());
        }
    }

    #[test]
    fn a_page_drops_the_extra_row_at_its_far_end() {
        let trimmed = |page_args: PageArgs, count: i32| {
            let mut rows: Vec<i32> = (0..count).collect();
            let around = page_args.trim(&mut rows);
            (rows, around)
        };
        let first = || PageArgs::new(&Limits::default(), Some(2), None, None, None).unwrap();
        assert_eq!(trimmed(first(), 3), (vec![0, 1], (false, true)));
        assert_eq!(trimmed(first(), 2), (vec![0, 1], (false, false)));
        let last = PageArgs::new(&Limits::default(), None, None, Some(2), None).unwrap();
        assert_eq!(trimmed(last, 3), (vec![1, 2], (true, false)));
    }

    #[test]
    fn sizes_are_bounded() {
        let refused = |first, last| PageArgs::new(&Limits::default(), first, None, last, None).is_err();
        assert!(refused(Some(1), Some(1)));
        assert!(refused(Some(-1), None));
        assert!(refused(None, Some(101)));
        assert!(!refused(Some(100), None));
        assert!(!refused(None, None));
    }
}
