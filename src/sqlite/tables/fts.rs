//! The FTS5 table of a collection: one row per chunk, content in a view over the chunks of that collection alone.
//!
//! A row goes before the chunk it indexes: FTS5 reads the old text from the view, and without it the delete would be a
//! silent no-op that leaves postings behind.

use rusqlite::{Connection, params};

use crate::error::{Error, ErrorKind, Result};
use crate::sqlite::sql;
use crate::sqlite::tokenizer::TokenizerSpec;

/// The living FTS5 table of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FtsTable {
    pub collection_id: i64,
    pub generation: i64,
}

impl FtsTable {
    /// Its name: digits and underscores, safe in SQL.
    pub fn name(self) -> String {
        format!("fts_{}_{}", self.collection_id, self.generation)
    }
}

/// Makes the view that FTS5 reads content from. The plus sign keeps the planner on the rowid.
pub fn create_view(conn: &Connection, collection_id: i64) -> Result<()> {
    conn.execute_batch(&format!(
        "CREATE VIEW fts_src_{collection_id} AS SELECT id, content FROM chunks WHERE +collection_id = {collection_id}"
    ))?;
    Ok(())
}

/// Drops the view.
pub fn drop_view(conn: &Connection, collection_id: i64) -> Result<()> {
    conn.execute_batch(&format!("DROP VIEW fts_src_{collection_id}"))?;
    Ok(())
}

/// Makes the table.
pub fn create(conn: &Connection, table: FtsTable, tokenizer: &TokenizerSpec) -> Result<()> {
    // The tokenizer was parsed and written anew by us; inside FTS5's double quotes a double quote is doubled.
    conn.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {} USING fts5(content, content=\"fts_src_{}\", content_rowid=\"id\", tokenize=\"{}\")",
        table.name(),
        table.collection_id,
        tokenizer.as_text().replace('"', "\"\"")
    ))?;
    Ok(())
}

/// Drops the table.
pub fn drop_table(conn: &Connection, table: FtsTable) -> Result<()> {
    conn.execute_batch(&format!("DROP TABLE {}", table.name()))?;
    Ok(())
}

/// Indexes a chunk.
pub fn insert(conn: &Connection, table: FtsTable, chunk_id: i64, content: Option<&str>) -> Result<()> {
    let text = format!("INSERT INTO {} (rowid, content) VALUES (?1, ?2)", table.name());
    sql::execute(conn, &text, params![chunk_id, content]).map(drop)
}

/// Indexes a chunk with the content that its row has.
pub fn copy(conn: &Connection, table: FtsTable, chunk_id: i64) -> Result<()> {
    let text = format!("INSERT INTO {} (rowid, content) SELECT id, content FROM chunks WHERE id = ?1", table.name());
    sql::execute(conn, &text, params![chunk_id]).map(drop)
}

/// Removes a chunk, whose row must still be there.
pub fn delete(conn: &Connection, table: FtsTable, chunk_id: i64) -> Result<()> {
    match sql::execute(conn, &format!("DELETE FROM {} WHERE rowid = ?1", table.name()), params![chunk_id])? {
        0 => {
            Err(Error::new(ErrorKind::Corrupt, format!("chunk row {chunk_id} is not in the text index; run repair()")))
        }
        _ => Ok(()),
    }
}

/// Whether the table is the living one of its collection.
pub fn lives(conn: &Connection, table: FtsTable) -> Result<bool> {
    let text = "SELECT 1 FROM collections WHERE id = ?1 AND fts_generation = ?2";
    Ok(sql::query_optional(conn, text, params![table.collection_id, table.generation], |_| Ok(()))?.is_some())
}

/// What FTS5's record of its structure says of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Structure {
    pub segments: u64,
    /// Pages of FTS5, of [`LEAF_BYTES`] at most.
    pub leaves: u64,
}

/// FTS5's own page size, unless configured.
pub const LEAF_BYTES: u64 = 4050;

/// Reads the structure record: a cookie, then levels of segments as variable-length integers (fts5_index.c).
pub fn structure(conn: &Connection, table: FtsTable) -> Result<Structure> {
    const RECORD: i64 = 10;
    const VERSION_2: [u8; 4] = [0xff, 0x00, 0x00, 0x01];
    let text = format!("SELECT block FROM {}_data WHERE id = ?1", table.name());
    let record: Vec<u8> = sql::query_one(conn, &text, params![RECORD], |row| row.get(0))?;
    let damaged = || Error::new(ErrorKind::Corrupt, format!("{}: its structure record is damaged", table.name()));
    let mut rest = record.get(4..).ok_or_else(damaged)?;
    let second = rest.starts_with(&VERSION_2);
    if second {
        rest = &rest[VERSION_2.len()..];
    }
    let mut next = || varint(&mut rest).ok_or_else(damaged);
    let (levels, segments, _writes) = (next()?, next()?, next()?);
    let mut leaves = 0u64;
    for _ in 0..levels {
        let (_merging, here) = (next()?, next()?);
        for _ in 0..here {
            let (_id, first, last) = (next()?, next()?, next()?);
            if second {
                // Origins, tombstone pages, entries.
                for _ in 0..5 {
                    next()?;
                }
            }
            leaves = leaves.saturating_add(last.saturating_sub(first).saturating_add(u64::from(last > 0)));
        }
    }
    Ok(Structure { segments, leaves })
}

/// SQLite's integer of one to nine bytes.
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..9 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(value << 8 | u64::from(*byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

/// Merges segments, writing some so many leaves, and says whether there was anything to do. The first call takes all
/// segments into the merge, those after it go on with it.
pub fn merge(conn: &Connection, table: FtsTable, first: bool, leaves: u32) -> Result<bool> {
    let name = table.name();
    let before = conn.total_changes();
    let leaves = i64::from(leaves);
    let text = format!("INSERT INTO {name} ({name}, rank) VALUES ('merge', ?1)");
    sql::execute(conn, &text, params![if first { -leaves } else { leaves }])?;
    // The command itself counts as one.
    Ok(conn.total_changes().saturating_sub(before) >= 2)
}

/// How many rows match a full-text expression, counted up to `cap`.
pub fn count(conn: &Connection, table: FtsTable, expression: &str, cap: u32) -> Result<u32> {
    let name = table.name();
    let text = format!("SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {name} MATCH ?1 LIMIT ?2)");
    sql::query_one(conn, &text, params![expression, cap], |row| row.get(0))
}

/// How many rows the index counts, and how many tokens in all of them.
pub fn totals(conn: &Connection, table: FtsTable) -> Result<(u64, u64)> {
    let text = format!("SELECT block FROM {}_data WHERE id = 1", table.name());
    let block = sql::query_optional(conn, &text, [], |row| row.get::<_, Option<Vec<u8>>>(0))?.flatten();
    let counts = varints(&block.unwrap_or_default());
    Ok((counts.first().copied().unwrap_or(0), counts.get(1).copied().unwrap_or(0)))
}

/// Numbers as SQLite and FTS5 write them: seven bits in each byte, the most significant first, and eight in a ninth.
pub fn varints(bytes: &[u8]) -> Vec<u64> {
    let (mut numbers, mut number, mut length) = (Vec::new(), 0u64, 0);
    for &byte in bytes {
        length += 1;
        if length == 9 {
            number = number << 8 | u64::from(byte);
        } else {
            number = number << 7 | u64::from(byte & 0x7f);
        }
        if length == 9 || byte < 0x80 {
            numbers.push(number);
            (number, length) = (0, 0);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_are_read() {
        for (bytes, value) in
            [(&[0x05][..], 5), (&[0x81, 0x00], 128), (&[0xff, 0xff, 0x7f], (1 << 21) - 1), (&[0xff; 9], u64::MAX)]
        {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
        assert_eq!(varint(&mut &[0x80][..]), None);
    }

    #[test]
    fn a_merge_leaves_one_segment_and_no_word_of_what_was_deleted() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE chunks (id INTEGER PRIMARY KEY, collection_id, content)").unwrap();
        create_view(&conn, 1).unwrap();
        let table = FtsTable { collection_id: 1, generation: 1 };
        create(&conn, table, &TokenizerSpec::parse("unicode61").unwrap()).unwrap();
        assert_eq!(structure(&conn, table).unwrap(), Structure::default());
        for id in 1..=2005 {
            let others: String = (0..30).map(|word| format!(" w{}", id * 37 + word)).collect();
            let content = format!("common word{id}{others}");
            conn.execute("INSERT INTO chunks VALUES (?1, 1, ?2)", params![id, content]).unwrap();
            insert(&conn, table, id, Some(&content)).unwrap();
            if id > 100 {
                delete(&conn, table, id - 100).unwrap();
                conn.execute("DELETE FROM chunks WHERE id = ?1", [id - 100]).unwrap();
            }
        }
        let before = structure(&conn, table).unwrap();
        let leaves = |conn: &Connection| -> u64 {
            conn.query_row("SELECT count(*) FROM fts_1_1_data WHERE id > 10 AND id & 0x7fffffff > 0", [], |row| {
                row.get(0)
            })
            .unwrap()
        };
        assert!(before.segments > 1);
        assert_eq!(before.leaves, leaves(&conn));
        let mut steps = 1;
        assert!(merge(&conn, table, true, 1).unwrap());
        while merge(&conn, table, false, 1).unwrap() {
            steps += 1;
        }
        assert!(steps > 1);
        let after = structure(&conn, table).unwrap();
        assert_eq!(after.segments, 1);
        assert_eq!(after.leaves, leaves(&conn));
        assert!(after.leaves * 2 < before.leaves, "{before:?} {after:?}");
        assert!(!merge(&conn, table, true, 8).unwrap());
        assert_eq!((count(&conn, table, "common", 1000).unwrap(), count(&conn, table, "word5", 9).unwrap()), (100, 0));
        conn.execute_batch("INSERT INTO fts_1_1 (fts_1_1, rank) VALUES ('integrity-check', 1)").unwrap();
    }

    #[test]
    fn numbers_are_read_as_they_were_written() {
        assert_eq!(varints(&[]), Vec::<u64>::new());
        assert_eq!(varints(&[0, 0x7f, 0x81, 0x00, 0x82, 0x80, 0x01]), [0, 127, 128, 0x8001]);
        assert_eq!(varints(&[0xff; 9]), [u64::MAX]);
    }
}
