//! The vectors of a space, read block by block out of tables that may be damaged, into the next generation.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{STRIDE, drop_old, lose, next_generation};
use crate::error::Result;
use crate::model::RepairReport;
use crate::sqlite::ops::check::{chunk_rows, is_outside};
use crate::sqlite::schema::{self, Declared, Deviations, Numbered};
use crate::sqlite::sql;
use crate::sqlite::tables::spaces;
use crate::sqlite::tables::vector_blocks::{self, Block, Slot};
use crate::sqlite::tables::vectors::{self, VectorTable};
use crate::sqlite::txn::{Progress, Txn};

/// What a damaged table still has.
pub struct Remains {
    table: VectorTable,
    /// Vectors in blocks that are whole.
    whole: usize,
    /// One place for each chunk, by block.
    slots: Vec<(Slot, i64)>,
    /// Chunks that are said to have a vector, ascending.
    said: Vec<i64>,
}

/// The next generation of a space's vectors takes the place of the one that is there.
pub fn rebuild(txn: &Txn<'_>, progress: &Progress, space_id: i64, report: &mut RepairReport) -> Result<()> {
    let conn = txn.conn;
    let (collection_id, space) = spaces::by_row(conn, space_id)?;
    let Some(table) = space.table() else { return Ok(()) };
    let chunks = chunk_rows(conn, collection_id)?;
    let remains = remains(conn, table, &chunks)?;
    let current = Numbered::Vectors { space: space_id, generation: table.generation };
    let new = VectorTable { generation: next_generation(conn, current)?, ..remains.table };
    vectors::create(conn, new)?;
    let mut kept = Vec::new();
    let mut count = 0;
    each(conn, &remains, &mut |chunk, vector| {
        if count % STRIDE == 0 {
            txn.check(progress)?;
        }
        count += 1;
        kept.push(chunk);
        vectors::insert(conn, new, chunk, vector)
    })?;
    kept.sort_unstable();
    spaces::set_generation(conn, new)?;
    drop_old(conn, &table.name())?;
    drop_old(conn, &remains.table.name())?;
    report.rebuilt.push(format!("the vectors of space {:?} (number {space_id}): {} of them", space.name, kept.len()));
    let lost: Vec<String> =
        remains.said.iter().filter(|chunk| kept.binary_search(chunk).is_err()).map(|chunk| uid(conn, *chunk)).collect();
    lose(report, &format!("the embeddings in space {:?} (number {space_id}) of chunks", space.name), &lost);
    Ok(())
}

/// What a chunk is called.
pub fn uid(conn: &Connection, chunk: i64) -> String {
    let found = sql::query_optional(conn, "SELECT uid FROM chunks WHERE id = ?1", [chunk], |row| row.get(0));
    found.ok().flatten().unwrap_or_else(|| format!("row {chunk}"))
}

/// Looks for vectors of these chunks in every table of the space, under the dimension of the space's row and under that
/// which the table was made with: the remains of whichever has most.
pub fn remains(conn: &Connection, table: VectorTable, chunks: &[i64]) -> Result<Remains> {
    let found = match schema::compare(conn) {
        Ok(found) => found,
        Err(error) if is_outside(&error) => return Err(error),
        Err(_) => Deviations::default(),
    };
    let mut best = look(conn, table, chunks)?;
    for numbered in found.numbered.keys().chain(&found.torn) {
        let Numbered::Vectors { space, generation } = *numbered else { continue };
        if space != table.space_id {
            continue;
        }
        let made = match found.numbered.get(numbered) {
            Some(Declared::Vectors { dimension, .. }) => *dimension,
            _ => table.dimension,
        };
        for dimension in BTreeSet::from([made, table.dimension]) {
            let other = VectorTable { generation, dimension, ..table };
            if other != table {
                let other = look(conn, other, chunks)?;
                if other.whole > best.whole {
                    best = other;
                }
            }
        }
    }
    Ok(best)
}

fn look(conn: &Connection, table: VectorTable, chunks: &[i64]) -> Result<Remains> {
    let wanted = |chunk: &i64| chunks.binary_search(chunk).is_ok();
    let mut named = readable(named(conn, table))?;
    named.retain(|(chunk, _)| wanted(chunk));
    named.sort_unstable();
    let mut slots: Vec<(i64, Slot)> = Vec::new();
    let mut unsure: Vec<(i64, Slot)> = Vec::new();
    for block in readable(vector_blocks::vector_ids(conn, table))? {
        let at = |(place, chunk): (usize, i64)| (chunk, Slot { block, place });
        match vector_blocks::read(conn, table, block) {
            Ok(Block::Whole { taken, others }) => {
                slots.extend(taken.iter().copied().map(at));
                // Not marked as taken, but two tables say that it is.
                unsure.extend(others.into_iter().map(at).filter(|slot| named.binary_search(slot).is_ok()));
                // Taken, and by nothing that there is: the names say by what.
                let by_nothing = |place| taken.iter().any(|(taken, chunk)| *taken == place && !wanted(chunk));
                let here = named.iter().filter(|(_, slot)| slot.block == block && by_nothing(slot.place));
                unsure.extend(here);
            }
            Err(error) if is_outside(&error) => return Err(error),
            // The names alone say what is there; a wrong size is seen when it is read.
            Ok(Block::Broken(_)) | Err(_) => {
                unsure.extend(named.iter().filter(|(_, slot)| slot.block == block && slot.place < vectors::BLOCK));
            }
        }
    }
    slots.retain(|(chunk, _)| wanted(chunk));
    let whole = slots.len();
    slots.extend(unsure);
    slots.sort_unstable();
    let mut said: Vec<i64> = slots.iter().chain(&named).map(|(chunk, _)| *chunk).collect();
    said.sort_unstable();
    said.dedup();
    // Of two places of one chunk the one that is named.
    let mut chosen: Vec<(Slot, i64)> = Vec::with_capacity(slots.len());
    for same in slots.chunk_by(|a, b| a.0 == b.0) {
        let best = same.iter().find(|slot| named.binary_search(slot).is_ok()).or_else(|| same.first());
        chosen.extend(best.map(|(chunk, slot)| (*slot, *chunk)));
    }
    chosen.sort_unstable();
    Ok(Remains { table, whole, slots: chosen, said })
}

fn named(conn: &Connection, table: VectorTable) -> Result<Vec<(i64, Slot)>> {
    let mut statement = sql::prepare(conn, &vector_blocks::rowids_query(table))?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    // A broken page ends it; what was read before is there.
    while let Ok(Some(row)) = rows.next() {
        if let (Ok(chunk), Ok(block), Ok(place)) = (row.get(0), row.get(1), row.get(2)) {
            all.push((chunk, Slot { block, place }));
        }
    }
    Ok(all)
}

/// What cannot be read is not there.
fn readable<T>(read: Result<Vec<T>>) -> Result<Vec<T>> {
    match read {
        Err(error) if !is_outside(&error) => Ok(Vec::new()),
        other => other,
    }
}

/// Every vector that may be stored, with its chunk.
pub fn each(conn: &Connection, remains: &Remains, sink: &mut dyn FnMut(i64, &[f32]) -> Result<()>) -> Result<()> {
    let table = remains.table;
    let mut buffer = Vec::new();
    for block in remains.slots.chunk_by(|a, b| a.0.block == b.0.block) {
        let Some((first, _)) = block.first() else { continue };
        match vector_blocks::vectors(conn, table, first.block, &mut buffer) {
            Ok(()) => {}
            Err(error) if is_outside(&error) => return Err(error),
            Err(_) => continue,
        }
        for (slot, chunk) in block {
            let vector = &buffer[slot.place * table.dimension..][..table.dimension];
            if vector_blocks::valid(vector, table.metric).is_ok() {
                sink(*chunk, vector)?;
            }
        }
    }
    Ok(())
}

impl Remains {
    /// What the vectors are of, as far as they say.
    pub fn dimension(&self) -> usize {
        self.table.dimension
    }

    /// How many chunks are said to have one.
    pub fn said(&self) -> &[i64] {
        &self.said
    }
}
