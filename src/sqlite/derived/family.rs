//! The indexes of one kind in this process.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::index::{Index, Job};
use super::view::{Identity, Kind};
use crate::error::Result;

/// By their table.
pub struct Family<K: Kind>(Mutex<HashMap<K::Of, Arc<Index<K>>>>);

impl<K: Kind> Default for Family<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Kind> Family<K> {
    /// That of a table, which is made where there is none.
    pub fn of(&self, of: &K::Of) -> Arc<Index<K>> {
        let mut all = self.0.lock();
        if let Some(index) = all.get(of) {
            return Arc::clone(index);
        }
        let index = Arc::new(Index::new(of.clone()));
        all.insert(of.clone(), Arc::clone(&index));
        index
    }

    /// That of a table, where there is one.
    pub fn find(&self, of: &K::Of) -> Option<Arc<Index<K>>> {
        self.0.lock().get(of).cloned()
    }

    /// Forgets the indexes of tables that are there no more.
    pub fn retain(&self, living: &HashSet<Identity>) {
        self.0.lock().retain(|of, _| living.contains(&K::identity(of)));
    }

    /// Drops what is known of a collection.
    pub fn forget(&self, collection_id: i64) {
        self.0.lock().retain(|of, _| K::identity(of).collection_id != collection_id);
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    fn all(&self) -> Vec<Arc<Index<K>>> {
        self.0.lock().values().cloned().collect()
    }

    /// Bytes of the heap.
    pub fn held(&self) -> usize {
        self.all().iter().map(|index| index.views.held()).sum()
    }

    /// Whether this process has a snapshot of any.
    pub fn has_view(&self) -> bool {
        self.all().iter().any(|index| index.views.latest().is_some())
    }

    /// Lets go of the views that are kept for late readers.
    pub fn thin(&self) {
        self.all().iter().for_each(|index| index.views.thin());
    }

    /// As [`Index::cancel`].
    pub fn cancel(&self) {
        self.all().iter().for_each(|index| index.cancel());
    }

    /// As [`Index::follow`]. What is wrong is told to whoever searches.
    pub fn follow(&self, conn: &Connection, job: &Job<'_>) {
        for index in self.all() {
            let _: Result<()> = index.follow(conn, job);
        }
    }
}
