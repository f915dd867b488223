//! Rebuilding what can be derived, in place and as one transaction; `salvage` reads what it can out of a damaged file.
//!
//! What a check finds decides what is done, each remedy within a savepoint of its own: one that fails on a broken page
//! leaves the others.

mod content;
mod rows;
mod salvage;
mod spaces;
mod vectors;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};

use super::check::{Checker, Remedy, is_outside};
use super::shared::few;
use crate::error::{Error, ErrorKind, Result};
use crate::hlc::Hlc;
use crate::model::RepairReport;
use crate::sqlite::filter_sql;
use crate::sqlite::schema::{self, Numbered};
use crate::sqlite::sql;
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::{changes, chunks, collections, field_values, meta, relations, replicas};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::{Progress, Txn};

pub use self::salvage::{has_content, run as salvage};

/// Rows between two looks at the caller's wish and the lock.
const STRIDE: usize = 64;
/// The end of the year 9999.
const LAST: Hlc = Hlc { millis: 253_402_300_799_999, counter: u16::MAX, replica: [0xff; 16] };

/// Repairs in place. What a check finds afterwards is the caller's to ask.
pub fn run(txn: &mut Txn<'_>, progress: &Progress) -> Result<RepairReport> {
    let checker = Checker {
        conn: txn.conn,
        quick: false,
        progress,
        keep_going: &|| txn.check(progress),
        findings: super::check::Findings::default(),
    };
    let remedies = checker.run()?.remedies;
    let mut report = RepairReport::default();
    let (mut indexes_changed, mut touched) = (false, BTreeSet::new());
    for remedy in remedies {
        txn.check(progress)?;
        let (rebuilt, lost) = (report.rebuilt.len(), report.lost.len());
        let conn = txn.conn;
        if within(conn, || apply(txn, progress, &remedy, &mut report, &mut touched))? {
            indexes_changed |= matches!(remedy, Remedy::Text(_) | Remedy::Vectors(_) | Remedy::View(_));
        } else {
            // The check afterwards names what is left.
            report.rebuilt.truncate(rebuilt);
            report.lost.truncate(lost);
        }
    }
    for document in touched {
        txn.check(progress)?;
        let conn = txn.conn;
        // Of one that cannot be read even now the check afterwards says so.
        within(conn, || content::touch(txn, document))?;
    }
    if indexes_changed {
        // What was derived from them by others is not theirs any more.
        changes::renew_tags(txn.conn, txn.stamp())?;
    }
    progress.done.store(progress.total.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(report)
}

/// Runs one part of a repair, and takes it back where the file does not let it be done. Says whether it was.
fn within(conn: &Connection, run: impl FnOnce() -> Result<()>) -> Result<bool> {
    conn.execute_batch("SAVEPOINT remedy")?;
    let outcome = run();
    if conn.is_autocommit() {
        // The next savepoint would begin a transaction of its own.
        let undone =
            || Error::new(ErrorKind::Corrupt, "SQLite met damage that undid the repair; salvage: repair(path, to)");
        return Err(outcome.err().filter(is_outside).unwrap_or_else(undone));
    }
    match outcome {
        Ok(()) => {
            conn.execute_batch("RELEASE remedy")?;
            Ok(true)
        }
        Err(error) if is_outside(&error) => Err(error),
        Err(_) => {
            conn.execute_batch("ROLLBACK TO remedy; RELEASE remedy")?;
            Ok(false)
        }
    }
}

/// A clock to begin with, where there is none that can be read.
pub fn ensure_clock(conn: &Connection) -> Result<()> {
    match meta::clock(conn) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let replica: Option<[u8; 16]> =
                sql::query_optional(conn, "SELECT value FROM meta WHERE key = 'replica_id'", [], |row| row.get(0))
                    .ok()
                    .flatten();
            let replica = match replica {
                Some(replica) => replica,
                None => meta::random()?,
            };
            meta::put(conn, "replica_id", &replica)?;
            meta::put(conn, "hlc", &Hlc::zero(replica).to_bytes())
        }
        other => other.map(drop),
    }
}

/// What the replica of a salvaged store wrote is the new one's, which remembers no more deletions than the old one did. It
/// has met who that one met, and asks for all that they have.
fn origin(source: &Connection, conn: &Connection) -> Result<()> {
    let text = "SELECT value FROM meta WHERE key = 'replica_id'";
    match sql::query_optional(source, text, [], |row| row.get::<_, [u8; 16]>(0)) {
        Ok(Some(old)) => {
            replicas::reattribute(conn, old, replicas::own(conn)?)?;
            replicas::meet(conn, old)?;
        }
        Err(error) if is_outside(&error) => return Err(error),
        _ => {}
    }
    let text = "SELECT replica_id FROM replicas";
    match sql::query_all(source, text, [], |row| row.get::<_, [u8; 16]>(0)) {
        Ok(met) => met.into_iter().try_for_each(|replica| replicas::meet(conn, replica))?,
        Err(error) if is_outside(&error) => return Err(error),
        Err(_) => {}
    }
    match replicas::forgotten(source) {
        Ok(forgotten) => replicas::forget(conn, &forgotten),
        Err(error) if is_outside(&error) => Err(error),
        Err(_) => Ok(()),
    }
}

/// Applies one remedy; documents whose content it changes are touched in the end.
fn apply(
    txn: &mut Txn<'_>,
    progress: &Progress,
    remedy: &Remedy,
    report: &mut RepairReport,
    touched: &mut BTreeSet<i64>,
) -> Result<()> {
    let conn = txn.conn;
    let mut rebuilt = |what: String| report.rebuilt.push(what);
    match remedy {
        Remedy::Reindex => {
            for table in
                ["collections", "spaces", "documents", "chunks", "fields", "field_values", "relations", "state"]
            {
                conn.execute_batch(&format!("REINDEX {table}"))?;
            }
            conn.execute_batch("REINDEX sync_peers; REINDEX embedding_cache")?;
            rebuilt("the indexes of every table".to_owned());
        }
        Remedy::Drop(name) => {
            let kind = if matches!(Numbered::of(name), Some(Numbered::View(_))) { "VIEW" } else { "TABLE" };
            conn.execute_batch(&format!("DROP {kind} {name}"))?;
            rebuilt(format!("{name}, which belonged to nothing, is gone"));
        }
        Remedy::Make(name) => {
            schema::make(conn, name)?;
            rebuilt(format!("{name}, which was not there"));
        }
        Remedy::View(collection) => {
            fts::create_view(conn, *collection)?;
            rebuilt(format!("the view of collection {collection}"));
        }
        Remedy::Text(collection) => rebuilt(text(txn, progress, *collection)?),
        Remedy::Vectors(space) => vectors::rebuild(txn, progress, *space, report)?,
        Remedy::Fields(collection) => rebuilt(fields(txn, progress, *collection)?),
        Remedy::FieldsOfNothing => {
            let removed = sql::execute(
                conn,
                "DELETE FROM field_values
                 WHERE chunk_id NOT IN (SELECT id FROM chunks) OR field_id NOT IN (SELECT id FROM fields)",
                [],
            )?;
            rebuilt(format!("{removed} values of fields that belonged to nothing are gone"));
        }
        Remedy::EmbeddingCache => rebuilt(embedding_cache(conn)?),
        Remedy::Clock => {
            // A stamp beyond every calendar is no moment; what carries it changed no later than now.
            let stamp = txn.stamp().hlc.to_bytes();
            for table in replicas::STAMPED {
                let text = format!("UPDATE {table} SET hlc = ?1 WHERE hlc > ?2");
                sql::execute(conn, &text, params![stamp, LAST.to_bytes()])?;
            }
            let latest = latest(conn)?.map_or(txn.clock(), |latest| latest.max(txn.clock()));
            txn.raise_clock(latest);
            rebuilt("the clock".to_owned());
        }
        Remedy::Sequences => rebuilt(sequences(conn)?),
        Remedy::DocumentMetadata(id) => content::document_metadata(txn, *id, report, touched)?,
        Remedy::ChunkMetadata(id) => content::chunk_metadata(txn, *id, report, touched)?,
        Remedy::Places(id) => content::places(txn, *id, report, touched)?,
        Remedy::Orphans => content::orphans(txn, report, touched)?,
        Remedy::Tombstones => {
            let removed = sql::execute(conn, &format!("DELETE FROM tombstones WHERE {}", super::check::LIVING), [])?;
            rebuilt(format!("{removed} tombstones of documents that are there are gone"));
        }
        Remedy::Relations => {
            let waiting = relations::suspend_loose(conn, txn.stamp())?;
            rebuilt(format!("{waiting} relations of what is not there wait for it"));
        }
        // What only a new file can be rid of.
        Remedy::Salvage => {}
    }
    Ok(())
}

/// The next generation of a text index takes the place of the one that is there.
fn text(txn: &Txn<'_>, progress: &Progress, collection_id: i64) -> Result<String> {
    let conn = txn.conn;
    // The generation may be what is damaged.
    let columns = "SELECT name, tokenizer, max(fts_generation, 0) FROM collections WHERE id = ?1";
    let (name, tokenizer, generation): (String, String, i64) =
        sql::query_one(conn, columns, [collection_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let spec = TokenizerSpec::parse(&tokenizer).map_err(|e| Error::new(ErrorKind::Corrupt, e.message()))?;
    let old = FtsTable { collection_id, generation };
    let new = FtsTable {
        generation: next_generation(conn, Numbered::Text { collection: collection_id, generation: old.generation })?,
        ..old
    };
    fts::create(conn, new, &spec)?;
    let rows = chunks::rows_of_collection(conn, collection_id)?;
    for step in rows.chunks(STRIDE) {
        txn.check(progress)?;
        for &row in step {
            fts::copy(conn, new, row)?;
        }
    }
    collections::set_fts_generation(conn, collection_id, new.generation)?;
    drop_old(conn, &old.name())?;
    Ok(format!("the text index of collection {name:?}: {} chunks", rows.len()))
}

/// One more than that of any table of the same collection or space.
fn next_generation(conn: &Connection, current: Numbered) -> Result<i64> {
    let names: Vec<String> = sql::query_all(conn, "SELECT name FROM sqlite_schema", [], |row| row.get(0))?;
    let mut greatest = match current {
        Numbered::Text { generation, .. } | Numbered::Vectors { generation, .. } => generation.max(0),
        Numbered::View(_) => 0,
    };
    for name in names {
        greatest = match (Numbered::of(&name), current) {
            (Some(Numbered::Text { collection, generation }), Numbered::Text { collection: own, .. })
                if collection == own =>
            {
                greatest.max(generation)
            }
            (Some(Numbered::Vectors { space, generation }), Numbered::Vectors { space: own, .. }) if space == own => {
                greatest.max(generation)
            }
            _ => greatest,
        };
    }
    sql::next_generation(greatest)
}

/// What cannot be dropped is left behind, and belongs to nothing.
fn drop_old(conn: &Connection, name: &str) -> Result<()> {
    within(conn, || Ok(conn.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?)).map(drop)
}

/// Reads every field of a collection from its metadata.
fn fields(txn: &Txn<'_>, progress: &Progress, collection_id: i64) -> Result<String> {
    let conn = txn.conn;
    let indexes = filter_sql::indexes(conn, collection_id)?;
    for id in indexes.values() {
        sql::execute(conn, "DELETE FROM field_values WHERE field_id = ?1", [id])?;
    }
    let mut statement = sql::prepare(
        conn,
        "SELECT c.id, c.metadata, d.metadata FROM chunks c JOIN documents d ON d.id = c.document_id
         WHERE +c.collection_id = ?1",
    )?;
    let mut rows = statement.query([collection_id])?;
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        if seen % STRIDE == 0 {
            txn.check(progress)?;
        }
        seen += 1;
        let (chunk, document) = (row.get_ref(1)?.as_str(), row.get_ref(2)?.as_str());
        if let (Ok(chunk), Ok(document)) = (chunk, document) {
            field_values::insert(conn, &indexes, row.get(0)?, chunk, document)?;
        }
    }
    Ok(format!("the indexes of metadata of collection {collection_id}: {} fields", indexes.len()))
}

/// The last stamp of any row.
fn latest(conn: &Connection) -> Result<Option<Hlc>> {
    let mut latest: Option<Hlc> = None;
    for table in replicas::STAMPED {
        let text = format!("SELECT max(hlc) FROM {table} WHERE typeof(hlc) = 'blob' AND length(hlc) = 24");
        if let Some(Some(stamp)) = sql::query_optional(conn, &text, [], |row| row.get::<_, Option<Vec<u8>>>(0))? {
            latest = latest.max(Some(Hlc::from_bytes(&stamp)?));
        }
    }
    Ok(latest)
}

fn embedding_cache(conn: &Connection) -> Result<String> {
    let mut unsound = Vec::new();
    {
        let mut statement = sql::prepare(conn, "SELECT id, dimension, embedding FROM embedding_cache")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !super::check::sound_vector(row)? {
                unsound.push(row.get::<_, i64>(0)?);
            }
        }
    }
    for id in &unsound {
        sql::execute(conn, "DELETE FROM embedding_cache WHERE id = ?1", [id])?;
    }
    let text = "SELECT coalesce(sum(length(embedding)), 0) FROM embedding_cache";
    let bytes: i64 = sql::query_one(conn, text, [], |row| row.get(0))?;
    meta::put(conn, "embedding_cache_bytes", &bytes)?;
    Ok(format!("the count of the embedding cache; {} of its rows held no vector and are gone", unsound.len()))
}

/// Moves the number of the next row past all that were given.
fn sequences(conn: &Connection) -> Result<String> {
    for (table, id) in super::check::NUMBERED {
        let named = match table {
            "chunks" => "(SELECT coalesce(max(row_id), 0) FROM changes WHERE entity = 'chunk')",
            "documents" => "(SELECT coalesce(max(row_id), 0) FROM changes WHERE entity = 'document')",
            "collections" => "(SELECT coalesce(max(row_id), 0) FROM changes WHERE entity = 'collection')",
            _ => "0",
        };
        let text = format!(
            "SELECT max(coalesce(max({id}), 0), {named}, coalesce((SELECT max(CASE typeof(seq) WHEN 'integer' THEN seq END)
             FROM sqlite_sequence WHERE name = '{table}'), 0)) FROM {table}"
        );
        let last: i64 = sql::query_one(conn, &text, [], |row| row.get(0))?;
        sql::execute(conn, "DELETE FROM sqlite_sequence WHERE name = ?1", [table])?;
        if last > 0 {
            sql::execute(conn, "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", params![table, last])?;
        }
    }
    Ok("the numbers that new rows get".to_owned())
}

/// Names the first of what is lost, and counts the rest.
fn lose(report: &mut RepairReport, what: &str, names: &[String]) {
    if !names.is_empty() {
        report.lost.push(format!("{what}: {}", few(names)));
    }
}
