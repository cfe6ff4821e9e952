//! A cache of parsed documents: a console sends the same few queries again and again, and parsing one takes longer than answering it.

use std::sync::Arc;

use async_graphql::parser::types::ExecutableDocument;
use moka::sync::Cache;

/// Documents by the text of their query; variables are not part of them.
pub(super) struct DocumentCache(Cache<String, Arc<ExecutableDocument>>);

impl DocumentCache {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        /// Memory of a document per byte of its text, estimated.
        const BYTES: usize = 64;
        let weigh =
            |query: &String, _: &Arc<ExecutableDocument>| u32::try_from(query.len() * BYTES).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(capacity_bytes).weigher(weigh).build())
    }

    pub(super) fn get(&self, query: &str) -> Option<Arc<ExecutableDocument>> {
        self.0.get(query)
    }

    /// Caches the document of a query that passed all checks and was sent by a signed-in viewer.
    pub(super) fn insert(&self, query: &str, document: &Arc<ExecutableDocument>) {
        self.0.insert(query.to_owned(), Arc::clone(document));
    }
}
