//! The vectors of a space against its chunks, and the tables of vec0 against each other.

use rusqlite::Connection;

use super::catalog::Space;
use super::{Checker, Remedy, Stride};
use crate::error::Result;
use crate::model::Area;
use crate::sqlite::sql;
use crate::sqlite::tables::vector_blocks::{self, Block, Slot};
use crate::sqlite::tables::vectors::VectorTable;

/// One space.
pub fn space(checker: &mut Checker<'_>, space: &Space) -> Result<()> {
    let outcome = tables(checker, space);
    match outcome {
        Err(error) if !super::is_outside(&error) => {
            let what = format!("{}: reading ended early: {}", space.table.name(), sql::plain(&error));
            checker.findings.lossy(Area::Vectors, what, Remedy::Vectors(space.table.space_id));
            Ok(())
        }
        other => other,
    }
}

fn tables(checker: &mut Checker<'_>, space: &Space) -> Result<()> {
    let (conn, table) = (checker.conn, space.table);
    let name = table.name();
    let remedy = || Remedy::Vectors(table.space_id);
    let chunks = chunk_rows(conn, space.collection_id)?;
    let mut slots: Vec<(i64, Slot)> = Vec::new();
    let mut blocks = vector_blocks::ids(conn, table)?;
    let vectors = vector_blocks::vector_ids(conn, table)?;
    for id in blocks.iter().filter(|id| vectors.binary_search(id).is_err()) {
        checker.findings.lossy(Area::Vectors, format!("{name}: block {id} has no vectors"), remedy());
    }
    for id in vectors.iter().filter(|id| blocks.binary_search(id).is_err()) {
        checker.findings.lossy(
            Area::Vectors,
            format!("{name}: the vectors of block {id} belong to no block"),
            remedy(),
        );
    }
    blocks.retain(|id| vectors.binary_search(id).is_ok());
    let (mut buffer, mut unmarked) = (Vec::new(), Vec::new());
    for id in blocks {
        (checker.keep_going)()?;
        match vector_blocks::read(conn, table, id)? {
            Block::Whole { taken: whole, others } => {
                for (place, chunk) in others {
                    unmarked.push((chunk, Slot { block: id, place }));
                }
                if !checker.quick {
                    finite(checker, space, id, &whole, &mut buffer)?;
                }
                slots.extend(whole.into_iter().map(|(place, chunk)| (chunk, Slot { block: id, place })));
            }
            Block::Broken(why) => checker.findings.lossy(Area::Vectors, format!("{name}: block {id} {why}"), remedy()),
        }
    }
    slots.sort_unstable();
    for pair in slots.windows(2).filter(|pair| pair[0].0 == pair[1].0 && chunks.binary_search(&pair[0].0).is_ok()) {
        let what = format!("{name}: chunks row {} has two vectors", pair[0].0);
        checker.findings.lossy(Area::Vectors, what, remedy());
    }
    for (chunk, _) in slots.iter().filter(|(chunk, _)| chunks.binary_search(chunk).is_err()) {
        let what = format!("{name} has a vector of chunks row {chunk}, which is not in the collection");
        checker.findings.repairable(Area::Vectors, what, remedy());
    }
    unmarked.sort_unstable();
    named(checker, table, &slots, &unmarked)
}

/// `_rowids` names each of them once, and nothing else.
fn named(checker: &mut Checker<'_>, table: VectorTable, slots: &[(i64, Slot)], unmarked: &[(i64, Slot)]) -> Result<()> {
    let conn = checker.conn;
    let name = table.name();
    let remedy = || Remedy::Vectors(table.space_id);
    let mut found = 0;
    let mut statement = sql::prepare(conn, &vector_blocks::rowids_query(table))?;
    let mut rows = statement.query([])?;
    let mut stride = Stride::default();
    while let Some(row) = rows.next()? {
        stride.0 += 1;
        if stride.0.is_multiple_of(super::STRIDE) {
            (checker.keep_going)()?;
        }
        let chunk: i64 = row.get(0)?;
        let slot = match (row.get(1), row.get(2)) {
            (Ok(block), Ok(place)) => Some(Slot { block, place }),
            _ => None,
        };
        if slot.is_some_and(|slot| slots.binary_search(&(chunk, slot)).is_ok()) {
            found += 1;
            continue;
        }
        if slots.binary_search_by_key(&chunk, |(chunk, _)| *chunk).is_ok() {
            let what = format!("{name}: chunks row {chunk} is said to be where it is not");
            checker.findings.repairable(Area::Vectors, what, remedy());
        } else if slot.is_some_and(|slot| unmarked.binary_search(&(chunk, slot)).is_ok()) {
            let what = format!("{name}: the vector of chunks row {chunk} is not marked as one");
            checker.findings.repairable(Area::Vectors, what, remedy());
        } else {
            let what = format!("{name} names a vector of chunks row {chunk}, and there is none");
            checker.findings.lossy(Area::Vectors, what, remedy());
        }
    }
    if found != slots.len() {
        let what = format!("{name}: {} vectors are in blocks that do not name them", slots.len() - found);
        checker.findings.repairable(Area::Vectors, what, remedy());
    }
    Ok(())
}

/// Only finite vectors, and under cosine none of length zero.
fn finite(
    checker: &mut Checker<'_>,
    space: &Space,
    block: i64,
    slots: &[(usize, i64)],
    buffer: &mut Vec<f32>,
) -> Result<()> {
    let table = space.table;
    vector_blocks::vectors(checker.conn, table, block, buffer)?;
    for (place, chunk) in slots {
        let vector = &buffer[place * table.dimension..][..table.dimension];
        if let Err(why) = vector_blocks::valid(vector, table.metric) {
            let what = format!("{}: the vector of chunks row {chunk} {why}", table.name());
            checker.findings.lossy(Area::Vectors, what, Remedy::Vectors(table.space_id));
        }
    }
    checker.done(slots.len() as u64)
}

/// The rowids of a collection's chunks, ascending, from an index alone.
pub fn chunk_rows(conn: &Connection, collection_id: i64) -> Result<Vec<i64>> {
    let text = "SELECT id FROM chunks WHERE collection_id = ?1";
    let mut rows: Vec<i64> = sql::query_all(conn, text, [collection_id], |row| row.get(0))?;
    rows.sort_unstable();
    Ok(rows)
}
