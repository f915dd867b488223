//! What has expired: it is not there for any read from that moment on, whether its row is still there or not. A chunk
//! expires with its document.

use rusqlite::{Connection, params};

use crate::error::Result;
use crate::model::Timestamp;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::sql;

/// The chunk `c` of the document `d` is there, with now bound to this place.
pub fn alive(place: usize) -> String {
    format!("{} AND {}", chunk_alive(place), document_alive(place))
}

/// The chunk `c` has not expired by itself, with now bound to this place; so has none that a left join did not find.
pub fn chunk_alive(place: usize) -> String {
    format!("(c.expires_at IS NULL OR c.expires_at > ?{place})")
}

/// The document `d` is there, with now bound to this place.
pub fn document_alive(place: usize) -> String {
    format!("(d.expires_at IS NULL OR d.expires_at > ?{place})")
}

/// Whether anything in the store has expired: most stores have nothing that could.
pub fn any(conn: &Connection, now: Timestamp) -> Result<bool> {
    let text = "SELECT EXISTS (SELECT 1 FROM chunks WHERE expires_at <= ?1)
                    OR EXISTS (SELECT 1 FROM documents WHERE expires_at <= ?1)";
    sql::query_one(conn, text, [now.0], |row| row.get(0))
}

/// The chunks of a collection that have expired; `None` where there are none.
pub fn chunks(conn: &Connection, collection_id: i64, now: Timestamp) -> Result<Option<RowSet>> {
    if !any(conn, now)? {
        return Ok(None);
    }
    // The plus signs keep the planner with the indexes of what can expire.
    let text = "SELECT id FROM chunks WHERE expires_at <= ?2 AND +collection_id = ?1
                UNION ALL
                SELECT c.id FROM documents d CROSS JOIN chunks c ON c.document_id = d.id
                WHERE d.expires_at <= ?2 AND +d.collection_id = ?1";
    let rows: Vec<i64> = sql::query_all(conn, text, params![collection_id, now.0], |row| row.get(0))?;
    Ok((!rows.is_empty()).then(|| RowSet::from_rows(&rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_expire_is_looked_at() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("../../../sql/sqlite/migrations/0001_format_1.sql")).unwrap();
        for text in [
            "SELECT EXISTS (SELECT 1 FROM chunks WHERE expires_at <= 5)",
            "SELECT id FROM chunks WHERE expires_at <= 5 AND +collection_id = 1",
        ] {
            let text = format!("EXPLAIN QUERY PLAN {text}");
            let mut statement = conn.prepare(&text).unwrap();
            let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
            let plan: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
            assert!(plan.iter().any(|step| step.contains("INDEX chunks_expires_at")), "{plan:?}");
        }
    }
}
