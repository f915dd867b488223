//! The terms that the pages of an FTS5 table hold, beside those that FTS5 finds in them: a term of which every row is
//! gone may stay behind in a page, found by nobody (fts5_index.c has the form of a page).

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use rusqlite::Connection;

use super::fts::{FtsTable, varint};
use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::sql;

/// The least number of a page that belongs to a segment, and the bits that are none in that of a leaf: whether it lists
/// rowids, and its height. From another number on, pages are hashes of rowids.
const FIRST: i64 = 1 << 37;
const NO_LEAF: i64 = 0x3f << 31;
const HASHES: i64 = 1 << 53;

/// Gives each term that has a row.
pub fn living(conn: &Connection, table: FtsTable, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    const NAME: &str = "temp.ragstore_living_terms";
    conn.execute_batch(&format!("CREATE VIRTUAL TABLE {NAME} USING fts5vocab(main, {}, row)", table.name()))?;
    let mut read = || -> Result<()> {
        let mut statement = conn.prepare(&format!("SELECT term FROM {NAME}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?)?;
        }
        Ok(())
    };
    let outcome = read();
    // An own name for one table at a time; on a damaged index it may not be dropped before the transaction ends.
    let dropped = conn.execute_batch(&format!("DROP TABLE {NAME}"));
    outcome?;
    Ok(dropped?)
}

/// Gives each term that is on a page, once for each segment.
pub fn stored(conn: &Connection, table: FtsTable, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let text = format!("SELECT id, block FROM {}_data WHERE id >= ?1 AND id < ?2", table.name());
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query([FIRST, HASHES])?;
    let mut term = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? & NO_LEAF == 0 {
            let leaf = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            terms(leaf, &mut term, each).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, format!("{}: a page is damaged; run repair()", table.name()))
            })?;
        }
    }
    Ok(())
}

/// A leaf: where its first rowid is and where its content ends, in two bytes each, and from there on where its terms
/// are, each as its distance from the one before. A term is as many bytes of the one before, but for the first, and new
/// ones.
fn terms(leaf: &[u8], term: &mut Vec<u8>, each: &mut dyn FnMut(&[u8])) -> Option<()> {
    let end = usize::from(u16::from_be_bytes([*leaf.get(2)?, *leaf.get(3)?]));
    let (content, mut places) = (leaf.get(..end)?, leaf.get(end..)?);
    let (mut at, mut first) = (0usize, true);
    while !places.is_empty() {
        at = at.checked_add(usize::try_from(varint(&mut places)?).ok()?)?;
        let mut rest = content.get(at..)?;
        let kept = if std::mem::take(&mut first) { 0 } else { usize::try_from(varint(&mut rest)?).ok()? };
        let new = usize::try_from(varint(&mut rest)?).ok()?;
        if kept > term.len() {
            return None;
        }
        term.truncate(kept);
        term.extend_from_slice(rest.get(..new)?);
        // Its first byte says of which index it is; there is one, and no prefixes.
        each(term.get(1..).unwrap_or_default());
    }
    Some(())
}

/// Whether no page holds a term of which every row is gone.
pub fn all_live(conn: &Connection, table: FtsTable) -> Result<bool> {
    let hasher = FixedState::default();
    let mut dead: HashSet<u64> = HashSet::new();
    stored(conn, table, &mut |term| {
        dead.insert(hasher.hash_one(term));
    })?;
    living(conn, table, &mut |term| {
        dead.remove(&hasher.hash_one(term));
        Ok(())
    })?;
    Ok(dead.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::tables::fts;

    /// An index of texts, as a collection has it, but with content of its own.
    fn index(texts: &[&str]) -> (Connection, FtsTable) {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE chunks (id INTEGER PRIMARY KEY, collection_id INTEGER DEFAULT 1, content TEXT);
             CREATE VIEW fts_src_1 AS SELECT id, content FROM chunks WHERE +collection_id = 1;
             CREATE VIRTUAL TABLE fts_1_1 USING fts5(content, content=fts_src_1, content_rowid=id)",
        )
        .unwrap();
        let table = FtsTable { collection_id: 1, generation: 1 };
        for text in texts {
            add(&conn, table, text);
        }
        (conn, table)
    }

    fn add(conn: &Connection, table: FtsTable, text: &str) -> i64 {
        conn.execute("INSERT INTO chunks (content) VALUES (?1)", [text]).unwrap();
        let row = conn.last_insert_rowid();
        fts::insert(conn, table, row, Some(text)).unwrap();
        row
    }

    fn delete(conn: &Connection, table: FtsTable, row: i64) {
        fts::delete(conn, table, row).unwrap();
        conn.execute("DELETE FROM chunks WHERE id = ?1", [row]).unwrap();
    }

    fn all_stored(conn: &Connection, table: FtsTable) -> Vec<String> {
        let mut all = Vec::new();
        stored(conn, table, &mut |term| all.push(String::from_utf8(term.to_vec()).unwrap())).unwrap();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn pages_hold_the_terms_that_were_indexed() {
        let words: Vec<String> = (0..5000).map(|number| format!("word{number:05}x{}", number % 7)).collect();
        let texts: Vec<String> = words.chunks(10).map(|words| words.join(" ")).collect();
        let (conn, table) = index(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(all_stored(&conn, table), words);
        let mut found = Vec::new();
        living(&conn, table, &mut |term| {
            found.push(String::from_utf8(term.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(found, words);
        assert!(all_live(&conn, table).unwrap());
    }

    #[test]
    fn a_deleted_term_stays_until_all_segments_are_merged() {
        let (conn, table) = index(&["common one", "common two", "common three"]);
        let row = add(&conn, table, "common zyzzyva");
        delete(&conn, table, row);
        assert!(all_stored(&conn, table).contains(&"zyzzyva".to_owned()));
        assert!(!all_live(&conn, table).unwrap());
        let mut first = true;
        while fts::merge(&conn, table, std::mem::take(&mut first), 100).unwrap() {}
        assert_eq!(all_stored(&conn, table), ["common", "one", "three", "two"]);
        assert!(all_live(&conn, table).unwrap());
    }

    #[test]
    fn a_damaged_page_is_an_error() {
        let (conn, table) = index(&["common one", "common two"]);
        let ids: i64 = conn.query_row("SELECT max(id) FROM fts_1_1_data", [], |row| row.get(0)).unwrap();
        for block in ["x''", "x'00'", "x'0000ffff'", "x'0000000403'", "x'000000050f09'"] {
            conn.execute_batch(&format!("UPDATE fts_1_1_data SET block = {block} WHERE id = {ids}")).unwrap();
            let error = stored(&conn, table, &mut |_| {}).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{block}");
        }
    }
}
