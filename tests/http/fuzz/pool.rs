//! IDs and cursors of all types, of this hospital and of another.

use std::collections::BTreeMap;

use serde_json::Value;
use test_support::{Client, EXAMPLE};

use super::choices::Choices;

#[derive(Default)]
pub struct IdPool {
    /// By the type that they refer to.
    ids: BTreeMap<String, Vec<String>>,
    cursors: Vec<String>,
}

const ROWS: &str = "edges { cursor node { __typename id } } pageInfo { startCursor endCursor }";

/// Queries for IDs and cursors of everything.
fn lists(rows: usize) -> String {
    format!(
        "{{ patients(first: {rows}) {{ {ROWS} }} visits(first: {rows}) {{ {ROWS} }} byName: patients(first: 3, orderBy: {{field: NAME}}) {{ {ROWS} }}
                audit(first: {rows}) {{ {ROWS} }} staff {{ __typename id }}
                hospital {{ __typename id departments(includeRetired: true) {{ __typename id }} doctors {{ __typename id }} }}
                {EXAMPLE} {{ __typename id buckets {{ visitors {{ __typename id }} }}
                    total {{ newPatients {{ __typename id patients {{ {ROWS} }} visits {{ {ROWS} }} }} }} }} }}"
    )
}

impl IdPool {
    /// Those of this hospital, and some of the other.
    pub async fn of(user: &Client<'_>, foreign_client: &Client<'_>) -> Self {
        let mut pool = Self::default();
        for (user, rows) in [(user, 40), (foreign_client, 4)] {
            pool.take(&user.graphql(&lists(rows)).await);
        }
        pool
    }

    fn take(&mut self, response: &Value) {
        match response {
            Value::Array(items) => items.iter().for_each(|item| self.take(item)),
            Value::Object(fields) => {
                if let (Some(of), Some(id)) = (fields.get("__typename"), fields.get("id")) {
                    let of = of.as_str().unwrap().to_owned();
                    self.ids.entry(of).or_default().push(id.as_str().unwrap().to_owned());
                }
                for (name, value) in fields {
                    match value.as_str() {
                        Some(cursor) if name.to_lowercase().contains("cursor") => self.cursors.push(cursor.to_owned()),
                        _ => self.take(value),
                    }
                }
            }
            _ => {}
        }
    }

    /// An ID for a place, whose name says what it refers to; sometimes of another type, or none.
    pub fn id(&self, place: &str, choices: &mut Choices<'_>) -> String {
        let place = place
            .to_lowercase()
            .replace("snapshot", "statistics")
            .replace("since", "statistics");
        let fits = |of: &&String| place.contains(&of.trim_end_matches("Member").to_lowercase());
        let right = self.ids.keys().filter(fits).max_by_key(|of| of.len());
        let all: Vec<_> = self.ids.keys().collect();
        let of = match right {
            Some(of) if !choices.once_in(12) => of,
            _ => choices.of(&all),
        };
        let ids = &self.ids[of];
        mangled(&ids[choices.below(ids.len())], choices)
    }

    pub fn cursor(&self, choices: &mut Choices<'_>) -> String {
        mangled(&self.cursors[choices.below(self.cursors.len())], choices)
    }
}

/// Usually unchanged.
fn mangled(text: &str, choices: &mut Choices<'_>) -> String {
    if !choices.once_in(10) {
        return text.to_owned();
    }
    let at = choices.below(text.len().max(1));
    match choices.below(6) {
        0 => text[..at].to_owned(),
        1 => format!("{text}A"),
        2 => String::new(),
        3 => text[at..].to_owned(),
        4 => format!("{text}{text}"),
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = b"AZaz09-_=+/"[choices.below(11)];
            String::from_utf8(bytes).unwrap()
        }
    }
}
