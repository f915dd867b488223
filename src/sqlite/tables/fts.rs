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
    fn numbers_are_read_as_they_were_written() {
        assert_eq!(varints(&[]), Vec::<u64>::new());
        assert_eq!(varints(&[0, 0x7f, 0x81, 0x00, 0x82, 0x80, 0x01]), [0, 127, 128, 0x8001]);
        assert_eq!(varints(&[0xff; 9]), [u64::MAX]);
    }
}
