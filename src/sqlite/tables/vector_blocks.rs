//! The blocks of a vec0 table one by one, for what must also read those that are damaged. As `vectors`, it knows the
//! shadow tables of sqlite-vec =0.1.9 and no other version.

use rusqlite::{Connection, MAIN_DB, params};

use super::vectors::{BLOCK, VectorTable};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Metric, check_vector};
use crate::sqlite::sql;

/// Where a vector lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub block: i64,
    pub place: usize,
}

/// What a block says of its places.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    Whole {
        /// Those that are taken, each with its chunk.
        taken: Vec<(usize, i64)>,
        /// What is written to those that are not, where that is a chunk.
        others: Vec<(usize, i64)>,
    },
    /// Why nothing can be said.
    Broken(&'static str),
}

/// The blocks there are, ascending.
pub fn ids(conn: &Connection, table: VectorTable) -> Result<Vec<i64>> {
    let text = format!("SELECT chunk_id FROM {}_chunks ORDER BY chunk_id", table.name());
    sql::query_all(conn, &text, [], |row| row.get(0))
}

/// The blocks that have vectors, ascending.
pub fn vector_ids(conn: &Connection, table: VectorTable) -> Result<Vec<i64>> {
    // Its column called rowid is another one.
    let text = format!("SELECT _rowid_ FROM {}_vector_chunks00 ORDER BY _rowid_", table.name());
    sql::query_all(conn, &text, [], |row| row.get(0))
}

/// Whether a table, by its name, has no vectors.
pub fn is_empty(conn: &Connection, name: &str) -> Result<bool> {
    let text = format!("SELECT NOT EXISTS (SELECT 1 FROM {name}_rowids) AND NOT EXISTS (SELECT 1 FROM {name}_chunks)");
    sql::query_one(conn, &text, [], |row| row.get(0))
}

/// `rowid, chunk_id, chunk_offset` of every vector that has a name.
pub fn rowids_query(table: VectorTable) -> String {
    format!("SELECT rowid, chunk_id, chunk_offset FROM {}_rowids ORDER BY rowid", table.name())
}

/// One block, without its vectors.
pub fn read(conn: &Connection, table: VectorTable, id: i64) -> Result<Block> {
    let text = format!("SELECT size, validity, rowids FROM {}_chunks WHERE chunk_id = ?1", table.name());
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else { return Ok(Block::Broken("is found and not found")) };
    if row.get::<_, i64>(0).ok() != Some(BLOCK as i64) {
        return Ok(Block::Broken("has a wrong number of places"));
    }
    let Ok(valid) = row.get::<_, [u8; BLOCK / 8]>(1) else {
        return Ok(Block::Broken("has a validity bitmap of a wrong size"));
    };
    let Ok(rowids) = row.get::<_, [u8; BLOCK * size_of::<i64>()]>(2) else {
        return Ok(Block::Broken("has rowids of a wrong size"));
    };
    if vector_bytes(conn, table, id)? != Some(BLOCK * table.dimension * size_of::<f32>()) {
        return Ok(Block::Broken("has vectors of a wrong size"));
    }
    let is_taken = |place: usize| valid[place / 8] & (1 << (place % 8)) != 0;
    let chunk = |place: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&rowids[place * 8..place * 8 + 8]);
        i64::from_ne_bytes(bytes)
    };
    let all = (0..BLOCK).map(|place| (place, chunk(place)));
    let (taken, others): (Vec<_>, Vec<_>) = all.partition(|(place, _)| is_taken(*place));
    // What vec0 deletes it overwrites.
    Ok(Block::Whole { taken, others: others.into_iter().filter(|(_, chunk)| *chunk != 0).collect() })
}

/// The size of the vectors of a block; `None` where they are no blob.
fn vector_bytes(conn: &Connection, table: VectorTable, id: i64) -> Result<Option<usize>> {
    let text = format!(
        "SELECT CASE typeof(vectors) WHEN 'blob' THEN length(vectors) END FROM {}_vector_chunks00 WHERE _rowid_ = ?1",
        table.name()
    );
    Ok(sql::query_optional(conn, &text, params![id], |row| row.get(0))?.flatten())
}

/// All vectors of a block that is whole, also of places that are not taken.
pub fn vectors(conn: &Connection, table: VectorTable, id: i64, out: &mut Vec<f32>) -> Result<()> {
    out.resize(BLOCK * table.dimension, 0.0);
    let shadow = format!("{}_vector_chunks00", table.name());
    let blob = conn.blob_open(MAIN_DB, shadow.as_str(), "vectors", id, true)?;
    if blob.len() != out.len() * size_of::<f32>() {
        return Err(Error::new(ErrorKind::Corrupt, format!("{}: block {id} has a wrong size", table.name())));
    }
    Ok(blob.read_at_exact(bytemuck::cast_slice_mut(out), 0)?)
}

/// Whether a vector may be stored; why not.
pub fn valid(vector: &[f32], metric: Metric) -> std::result::Result<(), &'static str> {
    check_vector(vector, metric).map_err(|_| "has components that are not finite, or is zero under cosine")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::ffi;
    use crate::sqlite::tables::vectors;

    #[test]
    fn blocks_say_what_was_stored() {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        let table = VectorTable { space_id: 1, generation: 1, dimension: 3, metric: Metric::L2 };
        vectors::create(&conn, table).unwrap();
        for id in 1..=300 {
            vectors::insert(&conn, table, id * 10, &[id as f32, 0.0, 1.0]).unwrap();
        }
        for id in 1..=128 {
            vectors::delete(&conn, table, id * 10).unwrap();
        }
        vectors::insert(&conn, table, 5, &[5.0, 0.0, 1.0]).unwrap();
        let blocks = ids(&conn, table).unwrap();
        assert_eq!(blocks, vector_ids(&conn, table).unwrap());
        let named: Vec<(i64, Slot)> = sql::query_all(&conn, &rowids_query(table), [], |row| {
            Ok((row.get(0)?, Slot { block: row.get(1)?, place: row.get(2)? }))
        })
        .unwrap();
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        for block in blocks {
            super::vectors(&conn, table, block, &mut buffer).unwrap();
            let Block::Whole { taken: slots, others } = read(&conn, table, block).unwrap() else {
                panic!("block {block}")
            };
            assert_eq!(others, []);
            for (place, chunk) in slots {
                assert!(named.contains(&(chunk, Slot { block, place })));
                let expected = if chunk == 5 { 5 } else { chunk / 10 };
                assert_eq!(buffer[place * 3], expected as f32);
                all.push(chunk);
            }
        }
        all.sort_unstable();
        assert_eq!(all, [5].into_iter().chain((129..=300).map(|id| id * 10)).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_broken_says_why() {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        let table = VectorTable { space_id: 1, generation: 1, dimension: 3, metric: Metric::L2 };
        vectors::create(&conn, table).unwrap();
        vectors::insert(&conn, table, 1, &[1.0; 3]).unwrap();
        for (damage, word) in [
            ("UPDATE vec_1_1_vector_chunks00 SET vectors = x'00'", "vectors"),
            ("UPDATE vec_1_1_chunks SET rowids = zeroblob(7)", "rowids"),
            ("UPDATE vec_1_1_chunks SET validity = 'a'", "bitmap"),
            ("UPDATE vec_1_1_chunks SET size = 1 << 40", "places"),
        ] {
            conn.execute_batch(damage).unwrap();
            let Block::Broken(why) = read(&conn, table, 1).unwrap() else { panic!("{damage}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
