//! Vectors that embedders made, by model and text. Nothing refers to them: they outlive what was embedded.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::meta;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContentHash, Timestamp};
use crate::sqlite::sql;

/// The dimension of the newest vector of a text.
pub fn newest_dimension(conn: &Connection, model: &str, hash: ContentHash) -> Result<Option<usize>> {
    sql::query_optional(
        conn,
        "SELECT dimension FROM embedding_cache WHERE model = ?1 AND content_hash = ?2 ORDER BY id DESC LIMIT 1",
        params![model, hash.0],
        |row| row.get(0),
    )
}

/// Appends the vector of a text to `out` and says whether there is one of that dimension.
pub fn read(conn: &Connection, model: &str, hash: ContentHash, dimension: usize, out: &mut Vec<f32>) -> Result<bool> {
    let found = sql::query_optional(
        conn,
        "SELECT embedding FROM embedding_cache WHERE model = ?1 AND content_hash = ?2 AND dimension = ?3",
        params![model, hash.0, dimension],
        |row| row.get::<_, Vec<u8>>(0),
    )?;
    let Some(bytes) = found else { return Ok(false) };
    if bytes.len() != dimension * size_of::<f32>() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "embedding_cache: a vector has a wrong size; clear_embedding_cache() removes it",
        ));
    }
    out.extend(bytes.chunks_exact(size_of::<f32>()).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    Ok(true)
}

/// Keeps the vector of a text; one that is there stays.
pub fn insert(conn: &Connection, now: Timestamp, model: &str, hash: ContentHash, vector: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    let added = sql::execute(
        conn,
        "INSERT INTO embedding_cache (model, content_hash, dimension, created_at, embedding)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        params![model, hash.0, vector.len(), now.0, bytes],
    )?;
    if added > 0 {
        meta::add_embedding_cache_bytes(conn, i64::try_from(bytes.len()).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

/// Removes the oldest until those that are left have no more bytes than `limit`.
pub fn evict(conn: &Connection, limit: u64) -> Result<()> {
    let mut excess = meta::embedding_cache_bytes(conn)?.saturating_sub(limit);
    if excess == 0 {
        return Ok(());
    }
    let mut last = None;
    let mut statement = sql::prepare(conn, "SELECT id, 4 * dimension FROM embedding_cache ORDER BY id")?;
    let mut rows = statement.query([])?;
    while excess > 0
        && let Some(row) = rows.next()?
    {
        last = Some(row.get::<_, i64>(0)?);
        excess = excess.saturating_sub(row.get(1)?);
    }
    drop(rows);
    delete(conn, "id <= ?1", params![last]).map(drop)
}

/// Removes every vector, or those of a model, and says how many.
pub fn clear(conn: &Connection, model: Option<&str>) -> Result<u64> {
    delete(conn, "?1 IS NULL OR model = ?1", params![model])
}

/// The hashes of the texts that it has embeddings of.
pub fn texts(conn: &Connection) -> Result<HashSet<ContentHash>> {
    let text = "SELECT DISTINCT content_hash FROM embedding_cache";
    let all = sql::query_all(conn, text, [], |row| Ok(ContentHash(row.get(0)?)))?;
    Ok(all.into_iter().collect())
}

/// The vectors of one text, of every model.
pub fn of_text(conn: &Connection, hash: ContentHash) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for model in models(conn)? {
        let text = "SELECT embedding FROM embedding_cache WHERE model = ?1 AND content_hash = ?2";
        all.extend(sql::query_all(conn, text, params![model, hash.0], |row| row.get::<_, Vec<u8>>(0))?);
    }
    Ok(all)
}

/// Removes the vectors of one text, of every model or of one, and says how many.
pub fn forget(conn: &Connection, model: Option<&str>, hash: ContentHash) -> Result<u64> {
    // No index begins with the hash alone, so each model is asked.
    let models = match model {
        Some(model) => vec![model.to_owned()],
        None => models(conn)?,
    };
    models.iter().try_fold(0, |removed, model| {
        Ok(removed + delete(conn, "model = ?1 AND content_hash = ?2", params![model, hash.0])?)
    })
}

/// The models there are, each found by one step in the index.
fn models(conn: &Connection) -> Result<Vec<String>> {
    sql::query_all(
        conn,
        "WITH RECURSIVE each (model) AS (
             SELECT min(model) FROM embedding_cache
             UNION ALL
             SELECT (SELECT min(c.model) FROM embedding_cache c WHERE c.model > each.model)
             FROM each WHERE each.model IS NOT NULL
         )
         SELECT model FROM each WHERE model IS NOT NULL",
        [],
        |row| row.get(0),
    )
}

fn delete(conn: &Connection, condition: &'static str, values: impl rusqlite::Params) -> Result<u64> {
    let text = format!("DELETE FROM embedding_cache WHERE {condition} RETURNING 4 * dimension");
    let sizes: Vec<i64> = sql::query_all(conn, &text, values, |row| row.get(0))?;
    meta::add_embedding_cache_bytes(conn, -sizes.iter().sum::<i64>())?;
    Ok(sizes.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::sqlite::migrate;

    fn store() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        migrate::migrate(&conn, Instant::now() + Duration::from_secs(5), &|_| Ok(())).unwrap();
        conn
    }

    fn put(conn: &Connection, model: &str, text: &str, vector: &[f32]) {
        insert(conn, Timestamp::now(), model, ContentHash::of_text(text), vector).unwrap();
    }

    fn has(conn: &Connection, model: &str, text: &str, dimension: usize) -> bool {
        read(conn, model, ContentHash::of_text(text), dimension, &mut Vec::new()).unwrap()
    }

    fn counted(conn: &Connection) -> (u64, u64) {
        let sum = "SELECT coalesce(sum(length(embedding)), 0) FROM embedding_cache";
        (meta::embedding_cache_bytes(conn).unwrap(), conn.query_row(sum, [], |row| row.get(0)).unwrap())
    }

    #[test]
    fn vectors_come_back_by_model_text_and_dimension() {
        let conn = store();
        put(&conn, "m", "a", &[1.0, -0.5]);
        put(&conn, "m", "a", &[9.0, 9.0]);
        put(&conn, "m", "a", &[3.0]);
        put(&conn, "n", "a", &[4.0]);
        let mut out = vec![7.0];
        assert!(read(&conn, "m", ContentHash::of_text("a"), 2, &mut out).unwrap());
        assert_eq!(out, [7.0, 1.0, -0.5]);
        assert_eq!(newest_dimension(&conn, "m", ContentHash::of_text("a")).unwrap(), Some(1));
        assert_eq!(newest_dimension(&conn, "m", ContentHash::of_text("b")).unwrap(), None);
        assert!(!has(&conn, "n", "a", 2) && !has(&conn, "m", "b", 2));
        assert_eq!(counted(&conn), (16, 16));
    }

    #[test]
    fn the_oldest_go_first() {
        let conn = store();
        for i in 0..10 {
            put(&conn, "m", &i.to_string(), &[1.0; 4]);
        }
        evict(&conn, 160).unwrap();
        assert_eq!(counted(&conn), (160, 160));
        evict(&conn, 79).unwrap();
        assert_eq!(counted(&conn), (64, 64));
        assert!(!has(&conn, "m", "5", 4) && has(&conn, "m", "6", 4) && has(&conn, "m", "9", 4));
        evict(&conn, 0).unwrap();
        assert_eq!(counted(&conn), (0, 0));
    }

    #[test]
    fn what_is_removed_is_counted() {
        let conn = store();
        for model in ["a", "b", "c"] {
            put(&conn, model, "x", &[1.0]);
            put(&conn, model, "y", &[1.0]);
            put(&conn, model, "y", &[1.0, 2.0]);
        }
        assert_eq!(models(&conn).unwrap(), ["a", "b", "c"]);
        assert_eq!(forget(&conn, None, ContentHash::of_text("x")).unwrap(), 3);
        assert_eq!(forget(&conn, Some("b"), ContentHash::of_text("y")).unwrap(), 2);
        assert_eq!(forget(&conn, None, ContentHash::of_text("z")).unwrap(), 0);
        assert_eq!(models(&conn).unwrap(), ["a", "c"]);
        assert_eq!(clear(&conn, Some("a")).unwrap(), 2);
        assert_eq!(clear(&conn, None).unwrap(), 2);
        assert_eq!(counted(&conn), (0, 0));
    }
}
