//! Documents of queries that passed the guard: a console sends the same few again and again, and to parse one takes longer than to
//! answer it.

use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use moka::sync::Cache;

use crate::config::LIMITS;

/// Documents by the texts of their queries, bounded; variables are no part of them.
pub(super) struct DocumentCache(Cache<String, Arc<ExecutableDocument>>);

impl Default for DocumentCache {
    fn default() -> Self {
        /// What a document takes for each byte of its text, about.
        const BYTES: usize = 64;
        let weigh =
            |query: &String, _: &Arc<ExecutableDocument>| u32::try_from(query.len() * BYTES).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(LIMITS.parsed).weigher(weigh).build())
    }
}

impl DocumentCache {
    pub(super) fn get(&self, query: &str) -> Option<Arc<ExecutableDocument>> {
        self.0.get(query)
    }

    /// Keeps the document of a query that passed.
    pub(super) fn keep(&self, query: &str, document: &Arc<ExecutableDocument>) {
        self.0.insert(query.to_owned(), Arc::clone(document));
    }
}
