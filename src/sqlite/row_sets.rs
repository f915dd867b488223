//! What filters let through, kept for the next search with the same filter.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use super::matching;
use super::row_set::RowSet;
use super::tables::changes;
use crate::error::Result;
use crate::filter::Filter;

/// Bytes of sets that are kept, or a quarter of what they share with indexes.
const BYTES: usize = 4 << 20;
/// Sets that are kept.
const SETS: usize = 32;

/// The sets asked for last, each as of one state of the feed: every commit that could change a set moves its head.
pub struct RowSets {
    kept: Mutex<VecDeque<Kept>>,
    most: usize,
}

struct Kept {
    collection_id: i64,
    filter: Filter,
    head: Option<(i64, i64)>,
    rows: Arc<RowSet>,
}

impl RowSets {
    /// None, within a limit that they share with indexes.
    pub fn within(memory: Option<usize>) -> Self {
        Self { kept: Mutex::default(), most: memory.map_or(BYTES, |memory| BYTES.min(memory / 4)) }
    }

    /// Bytes of the heap.
    pub fn held(&self) -> usize {
        self.kept.lock().iter().map(|kept| kept.rows.bytes()).sum()
    }

    /// Keeps none of them.
    pub fn clear(&self) {
        self.kept.lock().clear();
    }

    /// The chunks of a collection that match a filter, in the snapshot of `conn`.
    pub fn chunks(&self, conn: &Connection, collection_id: i64, filter: &Filter) -> Result<Arc<RowSet>> {
        let head = changes::head(conn)?;
        let same = |kept: &Kept| kept.collection_id == collection_id && kept.head == head && kept.filter == *filter;
        if let Some(kept) = self.kept.lock().iter().find(|kept| same(kept)) {
            return Ok(Arc::clone(&kept.rows));
        }
        let rows = Arc::new(matching::chunks(conn, collection_id, filter)?);
        if rows.bytes() > self.most {
            return Ok(rows);
        }
        let mut sets = self.kept.lock();
        // What an older state of the feed let through is asked for no more, but by a reader that is late.
        sets.retain(|kept| kept.head == head && !same(kept));
        sets.push_back(Kept { collection_id, filter: filter.clone(), head, rows: Arc::clone(&rows) });
        while sets.len() > SETS || sets.iter().map(|kept| kept.rows.bytes()).sum::<usize>() > self.most {
            sets.pop_front();
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::filter_sql;

    #[test]
    fn a_set_is_kept_until_the_feed_moves_on() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../sql/sqlite/migrations/0001_format_1.sql")).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        filter_sql::register(&conn).unwrap();
        let add = "INSERT INTO chunks (document_id, collection_id, uid, chunk_index, metadata, hlc)
                   VALUES (1, 1, hex(randomblob(8)), abs(random() % 100000000), '{\"a\": 1}', zeroblob(24))";
        conn.execute_batch(add).unwrap();
        let sets = RowSets::within(None);
        let filter = |json: &str| Filter::parse(&serde_json::from_str(json).unwrap()).unwrap();
        let one = filter(r#"{"a": 1}"#);
        let first = sets.chunks(&conn, 1, &one).unwrap();
        assert!(Arc::ptr_eq(&first, &sets.chunks(&conn, 1, &one).unwrap()));
        assert_eq!(sets.chunks(&conn, 2, &one).unwrap().len(), 0);
        assert_eq!(sets.chunks(&conn, 1, &filter(r#"{"a": 2}"#)).unwrap().len(), 0);
        conn.execute_batch(add).unwrap();
        conn.execute_batch(
            "INSERT INTO changes (commit_tag, hlc, entity, op) VALUES (1, zeroblob(24), 'document', 'put')",
        )
        .unwrap();
        assert_eq!(sets.chunks(&conn, 1, &one).unwrap().len(), 2);
        for n in 0..100 {
            sets.chunks(&conn, 1, &filter(&format!("{{\"a\": {n}}}"))).unwrap();
        }
        assert_eq!(sets.kept.lock().len(), SETS);
    }
}
