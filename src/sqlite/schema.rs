//! What the schema of a store must be. It is compared as text, so that no trigger, view, index or constraint of another
//! hand takes part in what this library's statements do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::ffi;
use super::migrate;
use super::sql;
use super::tokenizer::TokenizerSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::Metric;

/// One row of `sqlite_schema`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Object {
    kind: String,
    table: String,
    /// `None` for the indexes that SQLite makes by itself.
    sql: Option<String>,
}

/// The schema of each format, made when a file of it is met.
static MODELS: [OnceLock<Result<Model>>; migrate::FORMAT] = [const { OnceLock::new() }; migrate::FORMAT];

/// A schema of one format, with collection 1 and space 1 to take the numbered tables' shape from.
struct Model {
    fixed: BTreeMap<String, Object>,
    /// What belongs to `fts_1_1` and `vec_1_1`, by what follows that in the name.
    fts: BTreeMap<String, Object>,
    vec: BTreeMap<String, Object>,
}

/// The format that a file's record of migrations says it has, and this one where there is no such record. The header says
/// it too, and is the easier to get wrong.
fn format_of(conn: &Connection) -> Result<usize> {
    const RECORD: &str = "migrations";
    let ours = model(migrate::FORMAT)?.fixed.get(RECORD).and_then(|object| object.sql.as_ref());
    let text = "SELECT sql FROM sqlite_schema WHERE name = ?1 AND type = 'table'";
    // What is not the table itself could do anything when it is read.
    let format = || -> Result<Option<usize>> {
        if sql::query_optional(conn, text, [RECORD], |row| row.get::<_, String>(0))?.as_ref() != ours {
            return Ok(None);
        }
        sql::query_optional(conn, "SELECT max(version) FROM migrations", [], |row| row.get(0)).map(Option::flatten)
    };
    match format() {
        // What is damaged names no format; who waits for a lock is asked again.
        Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Locked) => Err(error),
        found => {
            Ok(found.ok().flatten().filter(|found| (1..=migrate::FORMAT).contains(found)).unwrap_or(migrate::FORMAT))
        }
    }
}

fn model_of(conn: &Connection) -> Result<&'static Model> {
    model(format_of(conn)?)
}

fn model(format: usize) -> Result<&'static Model> {
    MODELS[format - 1].get_or_init(|| make_model(format)).as_ref().map_err(Clone::clone)
}

fn make_model(format: usize) -> Result<Model> {
    let conn = Connection::open_in_memory()?;
    ffi::register_vec0(&conn)?;
    migrate::make(&conn, format)?;
    let fixed = read(&conn)?;
    conn.execute_batch(
        "CREATE VIEW fts_src_1 AS SELECT id, content FROM chunks WHERE +collection_id = 1;
         CREATE VIRTUAL TABLE fts_1_1 USING fts5(content, content=\"fts_src_1\", content_rowid=\"id\");
         CREATE VIRTUAL TABLE vec_1_1 USING vec0(embedding float[1], chunk_size=128)",
    )?;
    let all = read(&conn)?;
    let of = |prefix: &str| {
        let own = all.iter().filter(|(name, _)| name.contains(prefix));
        own.map(|(name, object)| (name.clone(), object.clone())).collect()
    };
    Ok(Model { fixed, fts: of("fts_1_1"), vec: of("vec_1_1") })
}

fn read(conn: &Connection) -> Result<BTreeMap<String, Object>> {
    // An index and a table may not have the same name.
    let text = "SELECT name, type, tbl_name, sql FROM sqlite_schema";
    let rows = sql::query_all(conn, text, [], |row| {
        Ok((row.get(0)?, Object { kind: row.get(1)?, table: row.get(2)?, sql: row.get(3)? }))
    })?;
    Ok(rows.into_iter().collect())
}

/// What a name of one of the numbered tables is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Numbered {
    /// The view of a collection.
    View(i64),
    /// The text index of a collection, or a part of it.
    Text { collection: i64, generation: i64 },
    /// The vectors of a space, or a part of them.
    Vectors { space: i64, generation: i64 },
}

impl Numbered {
    /// From a name, with or without what follows the numbers.
    pub fn of(name: &str) -> Option<Self> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n > 0 && n.to_string() == text);
        if let Some(rest) = name.strip_prefix("fts_src_") {
            return number(rest).map(Self::View);
        }
        let name = name.strip_prefix("sqlite_autoindex_").unwrap_or(name);
        let mut parts = name.splitn(4, '_');
        let (kind, first, second) = (parts.next()?, number(parts.next()?)?, number(parts.next()?)?);
        match kind {
            "fts" => Some(Self::Text { collection: first, generation: second }),
            "vec" => Some(Self::Vectors { space: first, generation: second }),
            _ => None,
        }
    }

    /// The name of the table itself.
    pub fn name(self) -> String {
        match self {
            Self::View(collection) => format!("fts_src_{collection}"),
            Self::Text { collection, generation } => format!("fts_{collection}_{generation}"),
            Self::Vectors { space, generation } => format!("vec_{space}_{generation}"),
        }
    }
}

/// What is wrong with a schema.
#[derive(Debug, Default)]
pub struct Deviations {
    /// Would take part in what statements do: a sentence each.
    pub foreign: Vec<String>,
    /// Fixed tables and indexes that are not there.
    pub missing: Vec<String>,
    /// The numbered tables that are whole, with the dimension and metric or the tokenizer they were made with.
    pub numbered: BTreeMap<Numbered, Declared>,
    /// The numbered tables of which something is there and something is not.
    pub torn: BTreeSet<Numbered>,
}

/// What a numbered table was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    View,
    Tokenizer(TokenizerSpec),
    Vectors { dimension: usize, metric: &'static str },
}

/// Refuses a schema in which something would take part that this library did not make. What else is in the file is its
/// owner's.
pub fn refuse_foreign(conn: &Connection) -> Result<()> {
    // In one snapshot: another process may bring the file to the next format.
    let _snapshot = if conn.is_autocommit() { Some(conn.unchecked_transaction()?) } else { None };
    let print = fingerprint(conn)?;
    if SOUND.lock().contains(&print) {
        return Ok(());
    }
    match compare(conn)?.foreign.into_iter().next() {
        None => {
            let mut sound = SOUND.lock();
            sound.push_back(print);
            if sound.len() > SOUND_SCHEMAS {
                sound.pop_front();
            }
            Ok(())
        }
        Some(what) => Err(Error::new(ErrorKind::Corrupt, format!("{what}; {REPAIR}"))),
    }
}

/// Fingerprints of the schemas that were found sound last: a store that is opened again is not compared again.
static SOUND: Mutex<VecDeque<blake3::Hash>> = Mutex::new(VecDeque::new());
const SOUND_SCHEMAS: usize = 64;

/// Of the format, and of all that [`compare`] looks at.
fn fingerprint(conn: &Connection) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(format_of(conn)? as u64).to_le_bytes());
    let mut statement = sql::prepare(conn, "SELECT name, type, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            let (kind, bytes) = match row.get_ref(column)? {
                ValueRef::Text(bytes) => (0u8, bytes),
                ValueRef::Null => (1, &[][..]),
                ValueRef::Blob(bytes) => (2, bytes),
                ValueRef::Integer(_) | ValueRef::Real(_) => (3, &[][..]),
            };
            hasher.update(&[kind]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
    }
    Ok(hasher.finalize())
}

/// What helps where a file does not open.
pub const REPAIR: &str = "ragstore.check(path) says more, and ragstore.repair(path, to) salvages what can be read";

/// Compares the schema of a file with that of its format.
pub fn compare(conn: &Connection) -> Result<Deviations> {
    let model = model_of(conn)?;
    let mut found = Deviations::default();
    let mut there: BTreeMap<Numbered, BTreeSet<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut statement = sql::prepare(conn, "SELECT name, type, tbl_name, sql FROM sqlite_schema")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let object = Object { kind: row.get(1)?, table: row.get(2)?, sql: row.get(3)? };
        if object.kind == "trigger" {
            found.foreign.push(format!("there is a trigger {name:?}, which no store has"));
        } else if let Some(expected) = model.fixed.get(&name) {
            if object != *expected {
                found.foreign.push(format!("{} {name:?} is not as this format has it", object.kind));
            }
        } else if let Some(numbered) = Numbered::of(&name) {
            match declared(model, numbered, &name, &object) {
                Some(part) => {
                    if let Part::Whole(declared) = part {
                        found.numbered.insert(numbered, declared);
                    }
                    there.entry(numbered).or_default().insert(name.clone());
                }
                None => found.foreign.push(format!("{} {name:?} is not as this format has it", object.kind)),
            }
        } else if object.kind == "index"
            && (model.fixed.contains_key(&object.table) || Numbered::of(&object.table).is_some())
        {
            found.foreign.push(format!("there is an index {name:?} on {:?}, which no store has", object.table));
        }
        if !seen.insert(name.clone()) {
            found.foreign.push(format!("the schema has {name:?} twice"));
        }
    }
    found.missing = model.fixed.keys().filter(|name| !seen.contains(*name)).cloned().collect();
    for (numbered, names) in there {
        let whole = match numbered {
            Numbered::View(_) => 1,
            Numbered::Text { .. } => model.fts.len(),
            Numbered::Vectors { .. } => model.vec.len(),
        };
        if names.len() != whole {
            found.numbered.remove(&numbered);
            found.torn.insert(numbered);
        }
    }
    Ok(found)
}

/// A table itself, or what belongs to it.
enum Part {
    Whole(Declared),
    Shadow,
}

/// `None` where it is not what the numbers say.
fn declared(model: &Model, numbered: Numbered, name: &str, object: &Object) -> Option<Part> {
    let own = numbered.name();
    let sql = object.sql.as_deref();
    if name == own {
        if object.table != own {
            return None;
        }
        return match numbered {
            Numbered::View(id) => {
                let expected =
                    format!("CREATE VIEW fts_src_{id} AS SELECT id, content FROM chunks WHERE +collection_id = {id}");
                (object.kind == "view" && sql == Some(&expected)).then_some(Part::Whole(Declared::View))
            }
            Numbered::Text { collection, .. } => {
                let rest = sql?.strip_prefix(&format!(
                    "CREATE VIRTUAL TABLE {own} USING fts5(content, content=\"fts_src_{collection}\", \
                     content_rowid=\"id\", tokenize=\""
                ))?;
                let written = rest.strip_suffix("\")")?.replace("\"\"", "\"");
                let spec = TokenizerSpec::parse(&written).ok().filter(|spec| spec.as_text() == written)?;
                Some(Part::Whole(Declared::Tokenizer(spec)))
            }
            Numbered::Vectors { .. } => {
                let rest = sql?.strip_prefix(&format!("CREATE VIRTUAL TABLE {own} USING vec0(embedding float["))?;
                let (dimension, rest) = rest.split_once("] distance_metric=")?;
                let metric =
                    ["cosine", "l2"].into_iter().find(|metric| rest == format!("{metric}, chunk_size=128)"))?;
                let dimension = dimension.parse().ok().filter(|d| (1..=limits::DIMENSION).contains(d))?;
                Some(Part::Whole(Declared::Vectors { dimension, metric }))
            }
        };
    }
    let (shapes, of) = match numbered {
        Numbered::View(_) => return None,
        Numbered::Text { .. } => (&model.fts, "fts_1_1"),
        Numbered::Vectors { .. } => (&model.vec, "vec_1_1"),
    };
    let shape = shapes.get(&name.replacen(&own, of, 1))?;
    let expected = Object {
        kind: shape.kind.clone(),
        table: shape.table.replacen(of, &own, 1),
        sql: shape.sql.as_ref().map(|sql| sql.replace(of, &own)),
    };
    (*object == expected).then_some(Part::Shadow)
}

/// Whether a fixed name is that of an index.
pub fn is_index(name: &str) -> Result<bool> {
    let model = model(migrate::FORMAT)?;
    Ok(model.fixed.get(name).is_some_and(|object| object.kind == "index"))
}

/// Makes a table or an index of the format that is not there.
pub fn make(conn: &Connection, name: &str) -> Result<()> {
    let model = model(migrate::FORMAT)?;
    let sql = model.fixed.get(name).and_then(|object| object.sql.as_deref());
    let sql = sql.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("{name} cannot be made by itself")))?;
    Ok(conn.execute_batch(sql)?)
}

/// Whether a fixed table is there as the file's format has it: then its rows are all that reading it does.
pub fn is_fixed_table(conn: &Connection, name: &str) -> Result<bool> {
    let model = model_of(conn)?;
    let text = "SELECT type, tbl_name, sql FROM sqlite_schema WHERE name = ?1";
    let found = sql::query_all(conn, text, [name], |row| {
        Ok(Object { kind: row.get(0)?, table: row.get(1)?, sql: row.get(2)? })
    });
    match found {
        Ok(found) => Ok(!found.is_empty() && found.iter().eq(model.fixed.get(name))),
        Err(error) if error.kind() == ErrorKind::Cancelled => Err(error),
        Err(_) => Ok(false),
    }
}

/// What vec0 is told of a metric.
pub fn declared_metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::L2 | Metric::Ip => "l2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        migrate::make(&conn, migrate::FORMAT).unwrap();
        conn.execute_batch(
            "CREATE VIEW fts_src_12 AS SELECT id, content FROM chunks WHERE +collection_id = 12;
             CREATE VIRTUAL TABLE fts_12_3 USING fts5(content, content=\"fts_src_12\", content_rowid=\"id\", tokenize=\"porter unicode61\");
             CREATE VIRTUAL TABLE vec_7_11 USING vec0(embedding float[24] distance_metric=l2, chunk_size=128);
             CREATE TABLE notes (text); CREATE INDEX of_notes ON notes (text); ANALYZE",
        )
        .unwrap();
        conn
    }

    #[test]
    fn what_was_found_sound_is_known_by_all_of_it() {
        let conn = Connection::open_in_memory().unwrap();
        ffi::register_vec0(&conn).unwrap();
        migrate::make(&conn, migrate::FORMAT).unwrap();
        refuse_foreign(&conn).unwrap();
        let print = fingerprint(&conn).unwrap();
        assert!(SOUND.lock().contains(&print));
        refuse_foreign(&conn).unwrap();
        conn.execute_batch("CREATE TRIGGER t AFTER INSERT ON meta BEGIN SELECT 1; END").unwrap();
        assert_ne!(fingerprint(&conn).unwrap(), print);
        assert_eq!(refuse_foreign(&conn).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(refuse_foreign(&conn).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_store_deviates_in_nothing() {
        let found = compare(&store()).unwrap();
        assert!(found.foreign.is_empty() && found.missing.is_empty() && found.torn.is_empty(), "{found:?}");
        assert_eq!(found.numbered.len(), 3);
        let vectors = &found.numbered[&Numbered::Vectors { space: 7, generation: 11 }];
        assert_eq!(*vectors, Declared::Vectors { dimension: 24, metric: "l2" });
    }

    #[test]
    fn what_takes_part_is_refused() {
        for hostile in [
            "CREATE TRIGGER t AFTER INSERT ON chunks BEGIN DELETE FROM documents; END",
            "CREATE INDEX i ON chunks (length(content))",
            "CREATE INDEX i ON fts_12_3_docsize (sz)",
            "DROP VIEW fts_src_12; CREATE VIEW fts_src_12 AS SELECT 1 AS id, 'x' AS content",
            "DROP TABLE sync_log; CREATE TABLE sync_log (id)",
            "DROP TABLE state; CREATE VIEW state AS SELECT 1",
            "CREATE VIEW fts_src_9 AS SELECT 1",
            "CREATE TABLE vec_1_1_chunks (x)",
            "CREATE VIRTUAL TABLE fts_1_1 USING fts5(content, tokenize='unicode61')",
            "CREATE VIRTUAL TABLE vec_7_12 USING vec0(embedding float[24], chunk_size=256)",
        ] {
            let conn = store();
            conn.execute_batch(hostile).unwrap();
            let error = refuse_foreign(&conn).expect_err(hostile);
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        refuse_foreign(&store()).unwrap();
    }

    #[test]
    fn what_is_not_there_is_named() {
        let conn = store();
        conn.execute_batch("DROP TABLE vec_7_11_rowids; DROP INDEX chunks_expires_at; DROP TABLE sync_log").unwrap();
        let found = compare(&conn).unwrap();
        assert_eq!(found.missing, ["chunks_expires_at", "sync_log"]);
        assert_eq!(found.torn.into_iter().collect::<Vec<_>>(), [Numbered::Vectors { space: 7, generation: 11 }]);
    }
}
