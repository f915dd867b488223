//! The vec0 table of a space: rowid = chunks.id.
//!
//! Rows are written and deleted through vec0 itself. They are read from its shadow tables, whose layout is that of
//! sqlite-vec 0.1.9 (the version is pinned, and a test holds every search against vec0's own): `_chunks` has one row per
//! block with a validity bitmap and the rowids, `_vector_chunks00` the vectors of the block as one blob, `_rowids` the
//! block and place of each row. Reading them gives what vec0's own search does not: inner product, ties by rowid, any
//! k, a filter of any size before the ranking, and the processor's full width (docs/adr/0003).

use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB, params};

use crate::error::{Error, ErrorKind, Result};
use crate::model::Metric;
use crate::sqlite::neighbor::Neighbor;
use crate::sqlite::row_set::RowSet;
use crate::sqlite::sql;
use crate::top_k::TopK;
use crate::vector_index::Query;

/// Vectors of one block.
pub const BLOCK: usize = 128;

/// A filtered search looks vectors up by rowid while they are fewer than one in this many; beyond, it goes through the
/// blocks and what each has of them. By measurement: below, reading every block's rowids costs more than the lookups.
const SPARSE: u64 = 512;
/// Vectors wanted of a block up to which they are read one by one, not the block. By measurement: 50,000 vectors of 384
/// components, random sets of 50 to 50,000; 8 and 32 are slower in between.
const FEW: usize = 16;

/// The living vec0 table of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorTable {
    pub space_id: i64,
    pub generation: i64,
    pub dimension: usize,
    pub metric: Metric,
}

impl VectorTable {
    /// Its name: digits and underscores, safe in SQL.
    pub fn name(self) -> String {
        format!("vec_{}_{}", self.space_id, self.generation)
    }

    fn shadow(self, part: &str) -> String {
        format!("vec_{}_{}_{part}", self.space_id, self.generation)
    }

    fn vector_bytes(self) -> usize {
        self.dimension * size_of::<f32>()
    }
}

/// Makes the table. vec0 has no inner product; the metric it is told is never asked for there.
pub fn create(conn: &Connection, table: VectorTable) -> Result<()> {
    let metric = match table.metric {
        Metric::Cosine => "cosine",
        Metric::L2 | Metric::Ip => "l2",
    };
    let text = format!(
        "CREATE VIRTUAL TABLE {} USING vec0(embedding float[{}] distance_metric={metric}, chunk_size={BLOCK})",
        table.name(),
        table.dimension
    );
    conn.execute_batch(&text).map_err(|error| refused(table, error.into()))
}

/// Drops the table.
pub fn drop_table(conn: &Connection, table: VectorTable) -> Result<()> {
    conn.execute_batch(&format!("DROP TABLE {}", table.name())).map_err(|error| refused(table, error.into()))
}

/// Stores the vector of a chunk that has none.
pub fn insert(conn: &Connection, table: VectorTable, chunk_id: i64, vector: &[f32]) -> Result<()> {
    let text = format!("INSERT INTO {} (rowid, embedding) VALUES (?1, ?2)", table.name());
    let stored = sql::execute(conn, &text, params![chunk_id, bytemuck::cast_slice::<f32, u8>(vector)]);
    stored.map(drop).map_err(|error| refused(table, error))
}

/// What vec0 refuses is checked before: its tables do not fit together. It has no code of its own for that.
fn refused(table: VectorTable, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Internal => damaged(table, error.message()),
        ErrorKind::Corrupt => error.context(table.name()),
        _ => error,
    }
}

/// Removes the vector of a chunk and says whether it had one.
pub fn delete(conn: &Connection, table: VectorTable, chunk_id: i64) -> Result<bool> {
    // vec0 fails on a rowid that it does not have.
    if locate(conn, table, chunk_id)?.is_none() {
        return Ok(false);
    }
    let text = format!("DELETE FROM {} WHERE rowid = ?1", table.name());
    sql::execute(conn, &text, params![chunk_id]).map_err(|error| refused(table, error))?;
    Ok(true)
}

/// Where a vector lies: its block and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Location {
    block: i64,
    place: usize,
}

fn locate(conn: &Connection, table: VectorTable, chunk_id: i64) -> Result<Option<Location>> {
    let text = format!("SELECT chunk_id, chunk_offset FROM {} WHERE rowid = ?1", table.shadow("rowids"));
    let found = sql::query_optional(conn, &text, params![chunk_id], |row| {
        Ok(Location { block: row.get(0)?, place: row.get(1)? })
    })?;
    match found {
        Some(location) if location.place >= BLOCK => Err(damaged(table, "a vector lies outside its block")),
        found => Ok(found),
    }
}

fn damaged(table: VectorTable, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{}: {what}; run repair()", table.name()))
}

/// Reads vectors of one table, keeping its blob open from one to the next.
pub struct Reader<'c> {
    conn: &'c Connection,
    table: VectorTable,
    blob: Option<Blob<'c>>,
}

impl<'c> Reader<'c> {
    /// Opens nothing yet.
    pub fn new(conn: &'c Connection, table: VectorTable) -> Self {
        Self { conn, table, blob: None }
    }

    /// The vector of a chunk into `out`, which has the table's dimension; false when it has none.
    pub fn read(&mut self, chunk_id: i64, out: &mut [f32]) -> Result<bool> {
        match locate(self.conn, self.table, chunk_id)? {
            None => Ok(false),
            Some(location) => self.vectors(location, out).map(|()| true),
        }
    }

    /// Consecutive vectors of a block, as many as fit into `out`.
    fn vectors(&mut self, from: Location, out: &mut [f32]) -> Result<()> {
        let blob = match &mut self.blob {
            Some(blob) => {
                blob.reopen(from.block)?;
                blob
            }
            none => {
                let shadow = self.table.shadow("vector_chunks00");
                none.insert(self.conn.blob_open(MAIN_DB, shadow.as_str(), "vectors", from.block, true)?)
            }
        };
        if blob.len() != BLOCK * self.table.vector_bytes() {
            return Err(damaged(self.table, "a block of vectors has a wrong size"));
        }
        blob.read_at_exact(bytemuck::cast_slice_mut(out), from.place * self.table.vector_bytes())?;
        Ok(())
    }
}

/// Vectors that are read in the order of their rowids.
pub struct Walk<'c> {
    reader: Reader<'c>,
    /// Of as many vectors as lie one behind the other.
    vectors: Vec<f32>,
}

impl<'c> Walk<'c> {
    /// Reads nothing yet.
    pub fn new(conn: &'c Connection, table: VectorTable) -> Self {
        Self { reader: Reader::new(conn, table), vectors: Vec::new() }
    }

    /// Gives the vectors of rowids in a range, ascending, at most so many, and says how many there were.
    pub fn range(
        &mut self,
        (after, through): (i64, i64),
        most: usize,
        each: &mut dyn FnMut(i64, &[f32]) -> Result<()>,
    ) -> Result<usize> {
        let text = format!(
            "SELECT rowid, chunk_id, chunk_offset FROM {} WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3",
            self.reader.table.shadow("rowids")
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let found = sql::query_all(self.reader.conn, &text, params![after, through, most], |row| {
            Ok((row.get::<_, i64>(0)?, Location { block: row.get(1)?, place: row.get(2)? }))
        })?;
        let mut rest = found.as_slice();
        while let Some((_, first)) = rest.first() {
            // Rows that came together lie together.
            let run = rest.iter().zip(first.place..BLOCK);
            let run = run.take_while(|((_, at), place)| at.block == first.block && at.place == *place).count();
            if run == 0 {
                return Err(damaged(self.reader.table, "a vector lies outside its block"));
            }
            let dimension = self.reader.table.dimension;
            self.vectors.resize(run * dimension, 0.0);
            self.reader.vectors(*first, &mut self.vectors)?;
            for ((row, _), vector) in rest.iter().zip(self.vectors.chunks_exact(dimension)) {
                each(*row, vector)?;
            }
            rest = &rest[run..];
        }
        Ok(found.len())
    }
}

/// Whether the table is the living one of its space.
pub fn lives(conn: &Connection, table: VectorTable) -> Result<bool> {
    let text = "SELECT 1 FROM spaces WHERE id = ?1 AND vec_generation = ?2";
    Ok(sql::query_optional(conn, text, params![table.space_id, table.generation], |_| Ok(()))?.is_some())
}

/// Rowids, drawn at random.
pub fn sample(conn: &Connection, table: VectorTable, most: usize) -> Result<Vec<i64>> {
    let text = format!("SELECT rowid FROM {} ORDER BY random() LIMIT ?1", table.shadow("rowids"));
    sql::query_all(conn, &text, params![i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get(0))
}

/// How many vectors there are.
pub fn count(conn: &Connection, table: VectorTable) -> Result<u64> {
    sql::query_one(conn, &format!("SELECT count(*) FROM {}", table.shadow("rowids")), [], |row| row.get(0))
}

/// Bytes of the blocks, with the holes in them.
pub fn bytes(conn: &Connection, table: VectorTable) -> Result<u64> {
    let place = table.vector_bytes() + size_of::<i64>();
    Ok(stored(conn, table)?.saturating_mul(place as u64))
}

/// Blocks with holes that are worth filling, each with its number of vectors, the emptiest first. vec0 fills holes of
/// the last block alone, so that one is not among them.
pub fn sparse_blocks(conn: &Connection, table: VectorTable) -> Result<Vec<(i64, u32)>> {
    const FULL_ENOUGH: u32 = (BLOCK - BLOCK / 8) as u32;
    let text = format!(
        "SELECT chunk_id, validity FROM {chunks} WHERE chunk_id < (SELECT max(chunk_id) FROM {chunks})",
        chunks = table.shadow("chunks")
    );
    let blocks = sql::query_all(conn, &text, [], |row| {
        let validity = row.get_ref(1)?.as_blob()?;
        Ok((row.get(0)?, validity.iter().map(|bits| bits.count_ones()).sum::<u32>()))
    })?;
    let mut sparse: Vec<(i64, u32)> = blocks.into_iter().filter(|(_, vectors)| *vectors < FULL_ENOUGH).collect();
    sparse.sort_unstable_by_key(|(block, vectors)| (*vectors, *block));
    Ok(sparse)
}

/// Moves every vector out of a block, which goes with the last of them, and says how many there were. Rowids stay.
pub fn empty_block(conn: &Connection, table: VectorTable, block: i64) -> Result<u64> {
    let text = format!("SELECT validity, rowids FROM {} WHERE chunk_id = ?1", table.shadow("chunks"));
    let found = sql::query_optional(conn, &text, params![block], |row| {
        Ok((row.get::<_, [u8; BLOCK / 8]>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let Some((valid, rowids)) = found else { return Ok(0) };
    if rowids.len() != BLOCK * size_of::<i64>() {
        return Err(damaged(table, "a block of rowids has a wrong size"));
    }
    let mut vector = vec![0.0; table.dimension];
    let mut moved = 0;
    for place in (0..BLOCK).filter(|place| valid[place / 8] & (1 << (place % 8)) != 0) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&rowids[place * 8..place * 8 + 8]);
        let chunk_id = i64::from_ne_bytes(bytes);
        // Anew for each: writing through vec0 expires an open blob.
        if !Reader::new(conn, table).read(chunk_id, &mut vector)? || !delete(conn, table, chunk_id)? {
            return Err(damaged(table, "a block holds a row that is not listed"));
        }
        insert(conn, table, chunk_id, &vector)?;
        moved += 1;
    }
    Ok(moved)
}

/// How vectors were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// One by one, by rowid.
    Rows,
    /// Block by block.
    Blocks,
}

/// What a search of vectors found.
#[derive(Debug)]
pub struct Found {
    /// Of each query, nearest first, ties by rowid.
    pub neighbors: Vec<Vec<Neighbor>>,
    pub road: Road,
    /// Whether every vector that was allowed was looked at.
    pub complete: bool,
}

/// Which vectors are looked at.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    All,
    Only(&'a RowSet),
    Without(&'a RowSet),
}

/// The `k` nearest to each query, of all vectors or of some. Asks before each block whether to go on.
pub fn search(
    conn: &Connection,
    table: VectorTable,
    queries: &[&[f32]],
    k: usize,
    rows: Rows<'_>,
    keep_going: &dyn Fn() -> bool,
) -> Result<Found> {
    let mut queries: Vec<_> = queries.iter().map(|vector| (Query::new(vector, table.metric), TopK::new(k))).collect();
    let (road, complete) = match rows {
        Rows::Only(allowed) if allowed.len().saturating_mul(SPARSE) < stored(conn, table)? => {
            (Road::Rows, walk(conn, table, &mut queries, allowed, keep_going)?)
        }
        rows => (Road::Blocks, scan(conn, table, &mut queries, rows, keep_going)?),
    };
    Ok(Found { neighbors: queries.into_iter().map(|(_, best)| best.into_sorted()).collect(), road, complete })
}

/// An upper bound of the number of vectors, soon known.
pub fn stored(conn: &Connection, table: VectorTable) -> Result<u64> {
    let blocks: u64 =
        sql::query_one(conn, &format!("SELECT count(*) FROM {}", table.shadow("chunks")), [], |row| row.get(0))?;
    Ok(blocks.saturating_mul(BLOCK as u64))
}

fn walk(
    conn: &Connection,
    table: VectorTable,
    queries: &mut [(Query<'_>, TopK<Neighbor>)],
    allowed: &RowSet,
    keep_going: &dyn Fn() -> bool,
) -> Result<bool> {
    let mut reader = Reader::new(conn, table);
    let mut vector = vec![0.0; table.dimension];
    for (place, chunk_id) in allowed.iter().enumerate() {
        if place.is_multiple_of(BLOCK) && !keep_going() {
            return Ok(false);
        }
        if reader.read(chunk_id, &mut vector)? {
            for (query, best) in &mut *queries {
                best.offer(Neighbor { chunk_id, distance: query.distance(&vector) });
            }
        }
    }
    Ok(true)
}

fn scan(
    conn: &Connection,
    table: VectorTable,
    queries: &mut [(Query<'_>, TopK<Neighbor>)],
    rows: Rows<'_>,
    keep_going: &dyn Fn() -> bool,
) -> Result<bool> {
    let text = format!("SELECT chunk_id, validity, rowids FROM {}", table.shadow("chunks"));
    let mut statement = sql::prepare(conn, &text)?;
    let mut blocks = statement.query([])?;
    let mut reader = Reader::new(conn, table);
    let mut vectors = vec![0.0; BLOCK * table.dimension];
    while let Some(row) = blocks.next()? {
        if !keep_going() {
            return Ok(false);
        }
        let block: i64 = row.get(0)?;
        let mut valid: [u8; BLOCK / 8] =
            row.get(1).map_err(|_| damaged(table, "a validity bitmap has a wrong size"))?;
        let rowids = row.get_ref(2)?.as_blob().map_err(|_| damaged(table, "a block has no rowids"))?;
        if rowids.len() != BLOCK * size_of::<i64>() {
            return Err(damaged(table, "a block of rowids has a wrong size"));
        }
        let chunk_id = |place: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&rowids[place * 8..place * 8 + 8]);
            i64::from_ne_bytes(bytes)
        };
        match rows {
            Rows::All => {}
            Rows::Only(allowed) => keep(&mut valid, |place| allowed.contains(chunk_id(place))),
            Rows::Without(left_out) => keep(&mut valid, |place| !left_out.contains(chunk_id(place))),
        }
        let wanted = valid.iter().map(|bits| bits.count_ones() as usize).sum::<usize>();
        if wanted > FEW {
            reader.vectors(Location { block, place: 0 }, &mut vectors)?;
            for (query, best) in &mut *queries {
                query.distances(&vectors, &valid, &mut |place, distance| {
                    best.offer(Neighbor { chunk_id: chunk_id(place), distance });
                });
            }
        } else if wanted > 0 {
            for place in (0..BLOCK).filter(|place| valid[place / 8] & (1 << (place % 8)) != 0) {
                let vector = &mut vectors[..table.dimension];
                reader.vectors(Location { block, place }, vector)?;
                for (query, best) in &mut *queries {
                    best.offer(Neighbor { chunk_id: chunk_id(place), distance: query.distance(vector) });
                }
            }
        }
    }
    Ok(true)
}

/// Takes from a validity bitmap the places that are not wanted.
fn keep(valid: &mut [u8; BLOCK / 8], wanted: impl Fn(usize) -> bool) {
    for place in (0..BLOCK).filter(|&place| !wanted(place)) {
        valid[place / 8] &= !(1 << (place % 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::ffi;

    fn vector(seed: i64, dimension: usize) -> Vec<f32> {
        (0..dimension as i64).map(|i| ((seed * 7919 + i * 104_729) % 1009) as f32 / 1009.0 - 0.4).collect()
    }

    fn filled(metric: Metric, dimension: usize, rows: i64) -> (Connection, VectorTable) {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        let table = VectorTable { space_id: 3, generation: 2, dimension, metric };
        create(&conn, table).unwrap();
        for id in 1..=rows {
            insert(&conn, table, id, &vector(id, dimension)).unwrap();
        }
        (conn, table)
    }

    fn nearest(
        conn: &Connection,
        table: VectorTable,
        query: &[f32],
        k: usize,
        allowed: Option<&RowSet>,
    ) -> Vec<Neighbor> {
        let rows = allowed.map_or(Rows::All, Rows::Only);
        let mut found = search(conn, table, &[query], k, rows, &|| true).unwrap();
        assert!(found.complete);
        found.neighbors.remove(0)
    }

    fn by_vec0(conn: &Connection, table: VectorTable, query: &[f32], k: usize) -> Vec<Neighbor> {
        let text = format!("SELECT rowid, distance FROM {} WHERE embedding MATCH ?1 AND k = ?2", table.name());
        sql::query_all(conn, &text, params![bytemuck::cast_slice::<f32, u8>(query), k], |row| {
            Ok(Neighbor { chunk_id: row.get(0)?, distance: row.get(1)? })
        })
        .unwrap()
    }

    #[test]
    fn the_version_is_the_one_whose_layout_is_read() {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        let version: String = conn.query_row("SELECT vec_version()", [], |row| row.get(0)).unwrap();
        assert_eq!(version, "v0.1.9");
    }

    #[test]
    fn answers_are_those_of_vec0_also_after_deletes() {
        for metric in [Metric::Cosine, Metric::L2] {
            let (conn, table) = filled(metric, 33, 500);
            for id in (1..=300).filter(|id| id % 3 == 0 || *id <= 128) {
                assert!(delete(&conn, table, id).unwrap());
            }
            assert!(!delete(&conn, table, 3).unwrap());
            for id in 501..=520 {
                insert(&conn, table, id, &vector(id, 33)).unwrap();
            }
            let query = vector(77, 33);
            let (ours, theirs) = (nearest(&conn, table, &query, 40, None), by_vec0(&conn, table, &query, 40));
            assert_eq!(ours.len(), 40);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.chunk_id, theirs.chunk_id, "{metric}");
                assert!((ours.distance - theirs.distance).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn inner_product_ranks_by_the_product() {
        let (conn, table) = filled(Metric::Ip, 8, 300);
        let query = vector(5, 8);
        let mut expected: Vec<(i64, f32)> =
            (1..=300).map(|id| (id, vector(id, 8).iter().zip(&query).map(|(a, b)| a * b).sum())).collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (got, expected) in nearest(&conn, table, &query, 10, None).iter().zip(expected) {
            assert!((got.distance + expected.1).abs() < 1e-5);
        }
    }

    #[test]
    fn equal_distances_go_by_rowid_and_filters_apply_first() {
        let (conn, table) = filled(Metric::L2, 4, 0);
        for id in 1..=600 {
            insert(&conn, table, id, &[1.0, 0.0, 0.0, (id % 2) as f32]).unwrap();
        }
        let ids = |allowed: Option<&RowSet>, k| -> Vec<i64> {
            nearest(&conn, table, &[1.0, 0.0, 0.0, 1.0], k, allowed).iter().map(|n| n.chunk_id).collect()
        };
        assert_eq!(ids(None, 4), [1, 3, 5, 7]);
        assert_eq!(ids(Some(&RowSet::from_rows(&[99])), 5), [99]);
        assert_eq!(ids(Some(&RowSet::from_rows(&[2, 4, 99])), 5), [99, 2, 4]);
        let even: Vec<i64> = (1..=300).map(|i| i * 2).collect();
        assert_eq!(ids(Some(&RowSet::from_rows(&even)), 3), [2, 4, 6]);
        assert_eq!(ids(None, 1000).len(), 600);
    }

    #[test]
    fn blocks_with_holes_are_emptied_and_vectors_stay() {
        let (conn, table) = filled(Metric::L2, 8, 1000);
        let blocks = || stored(&conn, table).unwrap() / BLOCK as u64;
        assert_eq!((blocks(), sparse_blocks(&conn, table).unwrap()), (8, Vec::new()));
        // A full block, one with few holes, three of which little is left, and the last.
        for id in (257..=640).filter(|id| id % 10 != 0).chain(129..140) {
            assert!(delete(&conn, table, id).unwrap());
        }
        let sparse = sparse_blocks(&conn, table).unwrap();
        assert_eq!(sparse.iter().map(|(_, vectors)| *vectors).collect::<Vec<_>>(), [13, 13, 13]);
        let before = nearest(&conn, table, &vector(3, 8), 1000, None);
        for (block, vectors) in sparse {
            assert_eq!(empty_block(&conn, table, block).unwrap(), u64::from(vectors));
            assert_eq!(empty_block(&conn, table, block).unwrap(), 0);
        }
        assert_eq!(nearest(&conn, table, &vector(3, 8), 1000, None), before);
        assert_eq!((blocks(), sparse_blocks(&conn, table).unwrap()), (6, Vec::new()));
        assert_eq!(count(&conn, table).unwrap(), 1000 - 345 - 11);
        let theirs = by_vec0(&conn, table, &vector(3, 8), 1000);
        assert_eq!(theirs.len(), before.len());
    }

    #[test]
    fn vectors_come_back_as_they_went_in() {
        let (conn, table) = filled(Metric::Cosine, 384, 200);
        let mut reader = Reader::new(&conn, table);
        let mut out = vec![0.0; 384];
        for id in [1, 128, 129, 200] {
            assert!(reader.read(id, &mut out).unwrap());
            assert_eq!(out, vector(id, 384));
        }
        assert!(!reader.read(201, &mut out).unwrap());
    }
}
