//! The reference of the benchmarks: the statements of the store through bare rusqlite, without the store.
//!
//! Each command prints one JSON object. Inputs are read before the clock starts.

#![allow(unsafe_code, clippy::print_stdout)]

use std::error::Error;
use std::ffi::{c_char, c_int, c_void};
use std::fs;
use std::io::{BufRead, BufReader};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, ffi, params};
use serde_json::{Value, json};

type Outcome = Result<Value, Box<dyn Error>>;
type ExtensionInit = unsafe extern "C" fn(*mut ffi::sqlite3, *mut *mut c_char, *const c_void) -> c_int;

const SCHEMA: &str = concat!(
    include_str!("../sql/sqlite/migrations/0001_format_1.sql"),
    include_str!("../sql/sqlite/migrations/0002_embedding_cache.sql"),
    include_str!("../sql/sqlite/migrations/0003_sync.sql"),
    include_str!("../sql/sqlite/migrations/0004_plain_checks.sql"),
);
const FTS: &str = "CREATE VIEW fts_src_1 AS SELECT id, content FROM chunks WHERE +collection_id = 1;
CREATE VIRTUAL TABLE fts_1_1 USING fts5(content, content=\"fts_src_1\", content_rowid=\"id\", tokenize=\"porter unicode61\")";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["add", database, texts, vectors, dimension, page_size] => {
            add(database, texts, vectors, dimension.parse()?, page_size.parse()?, true)
        }
        ["add_without_feed", database, texts, vectors, dimension, page_size] => {
            add(database, texts, vectors, dimension.parse()?, page_size.parse()?, false)
        }
        ["knn", database, queries, dimension, k] => knn(database, queries, dimension.parse()?, k.parse()?),
        ["keyword", database, expressions, k] => keyword(database, expressions, k.parse()?),
        ["get", database, rounds] => get(database, rounds.parse()?),
        ["filter", database, least, rounds] => filter(database, least.parse()?, rounds.parse()?),
        ["open", database, rounds] => open_and_select(database, rounds.parse()?),
        ["walk", database, first, depth, rounds] => walk(database, first, depth.parse()?, rounds.parse()?),
        ["memory", rounds] => memory(rounds.parse()?),
        _ => Err("usage: bare add|add_without_feed|knn|keyword|get|filter|open|walk|memory ...".into()),
    }?;
    println!("{outcome}");
    Ok(())
}

fn connect(path: &str) -> Result<Connection, Box<dyn Error>> {
    let conn = Connection::open(path)?;
    register(&conn)?;
    Ok(conn)
}

fn register(conn: &Connection) -> Result<(), Box<dyn Error>> {
    // SAFETY: the signature of every SQLite extension entry point; the handle is open while `conn` is borrowed.
    let code = unsafe {
        let init: ExtensionInit = std::mem::transmute(sqlite_vec::sqlite3_vec_init as *const ());
        init(conn.handle(), std::ptr::null_mut(), std::ptr::null())
    };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err("sqlite-vec did not start".into()) }
}

fn schema(conn: &Connection, dimension: usize) -> Result<(), Box<dyn Error>> {
    conn.execute_batch(SCHEMA)?;
    let hlc = [0u8; 24];
    conn.execute(
        "INSERT INTO collections (name, tokenizer, created_at, hlc) VALUES ('c', 'porter unicode61', 0, ?1)",
        params![hlc],
    )?;
    conn.execute_batch(&format!(
        "{FTS}; CREATE VIRTUAL TABLE vec_1_1 USING vec0(embedding float[{dimension}] distance_metric=cosine, chunk_size=128)"
    ))?;
    Ok(())
}

fn floats(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(fs::read(path)?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// One document of one chunk for each line of JSON, with a row of float32, in one transaction at full durability.
fn add(database: &str, texts: &str, vectors: &str, dimension: usize, page_size: u32, feed: bool) -> Outcome {
    let lines = BufReader::new(fs::File::open(texts)?).lines().collect::<Result<Vec<String>, _>>()?;
    let texts = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<String>, _>>()?;
    let vectors = floats(vectors)?;
    let conn = connect(database)?;
    conn.pragma_update(None, "page_size", page_size)?;
    conn.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA cache_size = -32768; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = FAST",
    )?;
    schema(&conn, dimension)?;
    let began = Instant::now();
    conn.execute_batch("BEGIN IMMEDIATE")?;
    {
        let mut document = conn.prepare(
            "INSERT INTO documents (collection_id, uid, source_uri, content_hash, content_type, raw_content, metadata,
                                    created_at, updated_at, expires_at, hlc)
             VALUES (1, ?1, NULL, ?2, 'text/plain', ?3, '{}', 0, 0, NULL, ?4)",
        )?;
        let mut chunk = conn.prepare(
            "INSERT INTO chunks (document_id, collection_id, uid, chunk_index, content, content_hash, token_count,
                                 char_start, char_end, byte_start, byte_end, line_start, line_end, metadata, expires_at, hlc)
             VALUES (?1, 1, ?2, 0, ?3, ?4, NULL, 0, ?5, 0, ?5, 1, 1, '{}', NULL, ?6)",
        )?;
        let mut fts = conn.prepare("INSERT INTO fts_1_1 (rowid, content) VALUES (?1, ?2)")?;
        let mut vector = conn.prepare("INSERT INTO vec_1_1 (rowid, embedding) VALUES (?1, ?2)")?;
        let mut change = conn.prepare(
            "INSERT INTO changes (commit_tag, hlc, collection_id, space_id, entity, uid, row_id, op)
             VALUES (1, ?1, 1, NULL, 'document', ?2, ?3, 'put')",
        )?;
        let hlc = [7u8; 24];
        for (index, (text, row)) in texts.iter().zip(vectors.chunks_exact(dimension)).enumerate() {
            let uid = format!("01{index:024}");
            let hash = *blake3::hash(text.as_bytes()).as_bytes();
            document.execute(params![uid, hash, text, hlc])?;
            let id = conn.last_insert_rowid();
            chunk.execute(params![id, uid, text, hash, text.len(), hlc])?;
            let rowid = conn.last_insert_rowid();
            fts.execute(params![rowid, text])?;
            vector.execute(params![rowid, bytemuck::cast_slice::<f32, u8>(row)])?;
            if feed {
                change.execute(params![hlc, uid, id])?;
            }
        }
    }
    conn.execute_batch("COMMIT")?;
    let seconds = began.elapsed().as_secs_f64();
    let pages: u64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok(json!({ "seconds": seconds, "bytes": pages * u64::from(page_size) }))
}

/// vec0's own search in a store's file: milliseconds of each query, and the rowids it found.
fn knn(database: &str, queries: &str, dimension: usize, k: usize) -> Outcome {
    let conn = connect(database)?;
    conn.execute_batch("PRAGMA cache_size = -8192; PRAGMA mmap_size = 0")?;
    let mut statement = conn.prepare("SELECT rowid, distance FROM vec_1_1 WHERE embedding MATCH ?1 AND k = ?2")?;
    let (mut millis, mut found) = (Vec::new(), Vec::new());
    for query in floats(queries)?.chunks_exact(dimension) {
        let began = Instant::now();
        let rows = statement
            .query_map(params![bytemuck::cast_slice::<f32, u8>(query), k], |row| row.get::<_, i64>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        found.push(rows);
    }
    Ok(json!({ "millis": millis, "found": found }))
}

/// FTS5's own ranking in a store's file, with the texts of what it found: the best milliseconds of each expression, by
/// rank alone and with ties by rowid.
fn keyword(database: &str, expressions: &str, k: usize) -> Outcome {
    let conn = connect(database)?;
    conn.execute_batch("PRAGMA cache_size = -8192; PRAGMA mmap_size = 0")?;
    let expressions: Vec<String> = serde_json::from_str(&fs::read_to_string(expressions)?)?;
    let measure = |order: &str| -> Outcome {
        let mut statement =
            conn.prepare(&format!("SELECT rowid, rank FROM fts_1_1 WHERE fts_1_1 MATCH ?1 ORDER BY {order} LIMIT ?2"))?;
        let mut content = conn.prepare("SELECT content FROM chunks WHERE id = ?1")?;
        let (mut millis, mut scores) = (Vec::new(), Vec::new());
        for expression in &expressions {
            let (mut best, mut found) = (f64::INFINITY, Vec::new());
            for _ in 0..3 {
                let began = Instant::now();
                let rows = statement
                    .query_map(params![expression, k], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<Vec<(i64, f64)>, _>>()?;
                for (rowid, _) in &rows {
                    std::hint::black_box(content.query_row([rowid], |row| row.get::<_, Option<String>>(0))?);
                }
                best = best.min(began.elapsed().as_secs_f64() * 1e3);
                found = rows;
            }
            millis.push(best);
            scores.push(found.into_iter().map(|(_, rank)| -rank).collect::<Vec<_>>());
        }
        Ok(json!({ "millis": millis, "scores": scores }))
    };
    Ok(json!({ "rank": measure("rank")?, "rank, rowid": measure("rank, rowid")? }))
}

/// Ten chunks by id through one prepared SELECT: milliseconds of each round.
fn get(database: &str, rounds: usize) -> Outcome {
    let conn = connect(database)?;
    let ids: Vec<String> = conn
        .prepare("SELECT uid FROM chunks ORDER BY id")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut statement = conn.prepare(
        "SELECT c.uid, c.content, c.metadata, d.uid, d.source_uri, c.chunk_index, c.char_start, c.char_end
         FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.collection_id = 1 AND c.uid = ?1",
    )?;
    let mut millis = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        for place in 0..10 {
            let uid = &ids[(round * 7919 + place * 104_729) % ids.len()];
            let row: (String, Option<String>, String, String) =
                statement.query_row([uid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            std::hint::black_box(row);
        }
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({ "millis": millis }))
}

/// Counts the chunks whose number is less: by `json_extract` over their metadata, and on a plain column with an index.
fn filter(database: &str, least: i64, rounds: usize) -> Outcome {
    let conn = connect(database)?;
    conn.execute_batch(
        "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE plain (id INTEGER PRIMARY KEY, n INTEGER);
         INSERT INTO plain SELECT id, json_extract(metadata, '$.n') FROM chunks; CREATE INDEX plain_n ON plain (n)",
    )?;
    let mut scan = conn.prepare("SELECT count(*) FROM chunks WHERE json_extract(metadata, ?1) < ?2")?;
    let mut index = conn.prepare("SELECT count(*) FROM plain WHERE n < ?1")?;
    let (mut scans, mut indexes, mut found) = (Vec::new(), Vec::new(), 0i64);
    for _ in 0..rounds {
        let began = Instant::now();
        found = scan.query_row(params!["$.n", least], |row| row.get(0))?;
        scans.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        let same: i64 = index.query_row(params![least], |row| row.get(0))?;
        indexes.push(began.elapsed().as_secs_f64() * 1e3);
        assert_eq!(found, same);
    }
    Ok(json!({ "scan": scans, "index": indexes, "found": found }))
}

/// Opening a file and reading one row: milliseconds of each round.
fn open_and_select(database: &str, rounds: usize) -> Outcome {
    let mut millis = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let uid: String = conn.query_row("SELECT uid FROM chunks WHERE id = 1", [], |row| row.get(0))?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(uid);
    }
    Ok(json!({ "millis": millis }))
}

/// What can be reached over relations, by one recursive query: milliseconds of each round, and how many ids it finds.
fn walk(database: &str, first: &str, depth: i64, rounds: usize) -> Outcome {
    let conn = connect(database)?;
    let mut statement = conn.prepare(
        "WITH RECURSIVE walk (id, depth, strength, path) AS (
             SELECT ?1, 0, 1.0, '/' || ?1 || '/'
             UNION ALL
             SELECT r.target, depth + 1, walk.strength * r.strength, path || r.target || '/'
             FROM walk CROSS JOIN relations r ON r.collection_id = 1 AND r.source = walk.id
             WHERE depth < ?2 AND instr(path, '/' || r.target || '/') = 0)
         SELECT id, max(strength), path FROM walk WHERE depth > 0 GROUP BY id ORDER BY 2 DESC LIMIT 100",
    )?;
    let (mut millis, mut found) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = Instant::now();
        let rows = statement.query_map(params![first, depth], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows: Vec<(String, f64, String)> = rows.collect::<Result<_, _>>()?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
        found = rows;
    }
    Ok(json!({ "millis": millis, "strengths": found.iter().map(|row| row.1).collect::<Vec<_>>() }))
}

/// The schema with one collection, in memory: milliseconds to make and drop it.
fn memory(rounds: usize) -> Outcome {
    let mut millis = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let conn = connect(":memory:")?;
        schema(&conn, 384)?;
        drop(conn);
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({ "millis": millis }))
}
