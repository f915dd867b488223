//! The feed, the clock and the counters, and the tables that nothing else is derived from.

use super::{Checker, Remedy, Stride, is_object};
use crate::error::Result;
use crate::hlc::Hlc;
use crate::model::Area;
use crate::sqlite::sql;
use crate::sqlite::tables::replicas::STAMPED;
use crate::sqlite::tables::{meta, relations as relation_rows};

/// Tables whose ids are never used twice.
pub const NUMBERED: [(&str, &str); 8] = [
    ("collections", "id"),
    ("spaces", "id"),
    ("documents", "id"),
    ("chunks", "id"),
    ("fields", "id"),
    ("relations", "id"),
    ("state", "id"),
    ("changes", "seq"),
];

/// Tombstones of documents that are there, and were not written later.
pub const LIVING: &str = "entity = 'document' AND EXISTS (SELECT 1 FROM documents d
    WHERE d.collection_id = tombstones.collection_id AND d.uid = tombstones.uid AND d.hlc < tombstones.hlc)";

/// The feed names what there was: numbers that were given.
pub fn changes(checker: &mut Checker<'_>) -> Result<()> {
    let conn = checker.conn;
    for (entity, table) in [("chunk", "chunks"), ("document", "documents"), ("collection", "collections")] {
        let text = format!(
            "SELECT seq, row_id FROM changes WHERE entity = '{entity}'
             AND row_id > max((SELECT coalesce(max(id), 0) FROM {table}),
                              coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0)) LIMIT 100"
        );
        for (seq, row) in sql::query_all(conn, &text, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))? {
            let what = format!("changes row {seq} names {table} row {row}, a number that was never given");
            checker.findings.repairable(Area::Feed, what, Remedy::Sequences);
        }
    }
    if checker.quick {
        return Ok(());
    }
    let mut statement =
        sql::prepare(conn, "SELECT seq, length(hlc), entity, op, row_id, uid FROM changes ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let seq = row.get::<_, i64>(0)?;
        let typed = seq > 0
            && row.get::<_, i64>(1).is_ok_and(|length| length == 24)
            && row.get::<_, String>(2).is_ok()
            && row.get::<_, String>(3).is_ok()
            && row.get::<_, Option<i64>>(4).is_ok_and(|row| row.is_none_or(|row| row > 0))
            && row.get::<_, Option<String>>(5).is_ok();
        if !typed {
            checker.findings.broken(Area::Feed, format!("changes row {seq} is no change"));
        }
    }
    drop(rows);
    let living = format!("SELECT uid FROM tombstones WHERE {LIVING} LIMIT 100");
    for uid in sql::query_all(conn, &living, [], |row| row.get::<_, String>(0))? {
        let what = format!("tombstones say that document {uid:?} was deleted, and it is there");
        checker.findings.repairable(Area::Feed, what, Remedy::Tombstones);
    }
    Ok(())
}

/// The clock is not behind what it has stamped.
pub fn clock(checker: &mut Checker<'_>) -> Result<()> {
    let conn = checker.conn;
    for key in ["store_id", "replica_id"] {
        let text = "SELECT value FROM meta WHERE key = ?1";
        let found = sql::query_optional(conn, text, [key], |row| Ok(row.get::<_, [u8; 16]>(0).is_ok()))?;
        if found != Some(true) {
            checker.findings.broken(Area::Feed, format!("meta has no {key} of 16 bytes"));
        }
    }
    let clock = match meta::clock(conn) {
        Ok(clock) => clock,
        Err(error) if super::is_outside(&error) => return Err(error),
        Err(error) => {
            checker.findings.repairable(Area::Feed, format!("meta: {}", sql::plain(&error)), Remedy::Clock);
            Hlc::zero([0; 16])
        }
    };
    for table in STAMPED {
        let text = format!("SELECT max(hlc) FROM {table}");
        if let Some(Some(stamp)) = sql::query_optional(conn, &text, [], |row| row.get::<_, Option<Vec<u8>>>(0))?
            && stamp.as_slice() > clock.to_bytes().as_slice()
        {
            let what = format!("{table} has a row with a later stamp than the clock of the store");
            checker.findings.repairable(Area::Feed, what, Remedy::Clock);
        }
        (checker.keep_going)()?;
    }
    Ok(())
}

/// No number that was given is given again.
pub fn sequences(checker: &mut Checker<'_>) -> Result<()> {
    for (table, id) in NUMBERED {
        let text = format!(
            "SELECT coalesce(max({id}), 0), (SELECT max(CASE typeof(seq) WHEN 'integer' THEN seq END) FROM sqlite_sequence \
             WHERE name = '{table}'), (SELECT count(*) FROM sqlite_sequence WHERE name = '{table}') FROM {table}"
        );
        let (greatest, last, rows): (i64, Option<i64>, i64) =
            sql::query_one(checker.conn, &text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if greatest > last.unwrap_or(0) || rows > 1 {
            let what = format!("sqlite_sequence would give a number of {table} for a second time");
            checker.findings.repairable(Area::Feed, what, Remedy::Sequences);
        }
        if greatest == i64::MAX || last == Some(i64::MAX) {
            checker.findings.broken(Area::Feed, format!("{table} has no number left for another row"));
        }
    }
    Ok(())
}

/// The cache holds vectors, and counts them.
pub fn embedding_cache(checker: &mut Checker<'_>) -> Result<()> {
    let conn = checker.conn;
    let text = "SELECT coalesce(sum(length(embedding)), 0) FROM embedding_cache";
    let there: i64 = sql::query_one(conn, text, [], |row| row.get(0))?;
    let text = "SELECT value FROM meta WHERE key = 'embedding_cache_bytes'";
    let counted = sql::query_optional(conn, text, [], |row| Ok(row.get::<_, i64>(0).ok()))?.flatten();
    if counted != Some(there) {
        let counted = counted.map_or("no".to_owned(), |bytes| bytes.to_string());
        let what = format!("meta counts {counted} bytes of cached embeddings, and there are {there}");
        checker.findings.repairable(Area::EmbeddingCache, what, Remedy::EmbeddingCache);
    }
    if checker.quick {
        return Ok(());
    }
    let mut statement = sql::prepare(conn, "SELECT id, dimension, embedding FROM embedding_cache")?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.row(checker)?;
        let id: i64 = row.get(0)?;
        if !sound_vector(row)? {
            // A copy: who needs it makes it again.
            let what = format!("embedding_cache row {id} holds no vector of its dimension");
            checker.findings.repairable(Area::EmbeddingCache, what, Remedy::EmbeddingCache);
        }
    }
    Ok(())
}

/// Whether a row of `id, dimension, embedding` holds a vector.
pub fn sound_vector(row: &rusqlite::Row<'_>) -> Result<bool> {
    Ok(match (row.get::<_, i64>(1), row.get_ref(2)?.as_blob()) {
        (Ok(dimension), Ok(bytes)) => {
            bytes.len() as i64 == dimension.saturating_mul(4)
                && bytes.chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
        }
        _ => false,
    })
}

/// Relations and peers hold JSON; what is related is there.
pub fn relations(checker: &mut Checker<'_>) -> Result<()> {
    let loose = relation_rows::count_loose(checker.conn)?;
    if loose > 0 {
        let what = format!("relations: {loose} of what is no chunk and no document");
        checker.findings.repairable(Area::Relations, what, Remedy::Relations);
    }
    json(checker, Area::Relations, "SELECT id, metadata, strength BETWEEN 0 AND 1 FROM relations", "relations")?;
    json(checker, Area::Relations, "SELECT id, watermark, 1 FROM sync_peers", "sync_peers")
}

fn json(checker: &mut Checker<'_>, area: Area, text: &str, table: &str) -> Result<()> {
    let mut statement = sql::prepare(checker.conn, text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        (checker.keep_going)()?;
        let id: i64 = row.get(0)?;
        if let Err(why) = row.get::<_, String>(1).map_err(|e| e.to_string()).and_then(|text| is_object(&text)) {
            checker.findings.broken(area, format!("{table} row {id} holds no JSON object: {why}"));
        }
        if !row.get::<_, bool>(2).unwrap_or(false) {
            checker.findings.broken(area, format!("{table} row {id}: its strength is not from 0 to 1"));
        }
    }
    Ok(())
}

/// State holds JSON values.
pub fn state(checker: &mut Checker<'_>) -> Result<()> {
    let mut statement = sql::prepare(checker.conn, "SELECT id, value FROM state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        (checker.keep_going)()?;
        let id: i64 = row.get(0)?;
        let value = row.get::<_, String>(1).map_err(|e| e.to_string());
        if let Err(why) = value.and_then(|v| serde_json::from_str::<serde_json::Value>(&v).map_err(|e| e.to_string())) {
            checker.findings.broken(Area::State, format!("state row {id} holds no JSON: {why}"));
        }
    }
    Ok(())
}
