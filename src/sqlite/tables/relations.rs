//! Relations between the chunks and documents of a collection, by their ids.

use rusqlite::{Connection, Row, params};

use super::changes::{self, Change, Entity, Op, Stamp};
use super::expiry::{alive, document_alive};
use super::tombstones;
use crate::error::Result;
use crate::graph::Step;
use crate::hlc::Hlc;
use crate::model::{Direction, Metadata, Relation, Timestamp};
use crate::sqlite::sql;
use crate::sync::merge::Known;

/// Columns of [`read`].
const COLUMNS: &str = "source, target, type, strength, metadata, created_at";

fn read(row: &Row<'_>) -> rusqlite::Result<Relation> {
    Ok(Relation {
        source: row.get(0)?,
        target: row.get(1)?,
        kind: row.get(2)?,
        strength: row.get(3)?,
        metadata: Metadata::from_stored(row.get(4)?),
        created_at: Timestamp(row.get(5)?),
    })
}

/// Whether any collection has one: most stores have none, and then nothing needs to be looked for.
pub fn any(conn: &Connection) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM relations)", [], |row| row.get(0))
}

/// Makes a relation, or changes its strength and metadata.
pub fn put(conn: &Connection, stamp: Stamp, collection_id: i64, relation: &Relation) -> Result<()> {
    let Relation { source, target, kind, strength, metadata, created_at } = relation;
    let row_id: i64 = sql::query_one(
        conn,
        "INSERT INTO relations (collection_id, source, target, type, strength, metadata, created_at, hlc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (collection_id, source, type, target) DO UPDATE
         SET strength = excluded.strength, metadata = excluded.metadata, hlc = excluded.hlc
         RETURNING id",
        params![collection_id, source, target, kind, strength, metadata.as_json(), created_at.0, stamp.hlc.to_bytes()],
        |row| row.get(0),
    )?;
    let uid = uid(source, kind, target);
    changes::unbury(conn, collection_id, Entity::Relation, &uid)?;
    append(conn, stamp, collection_id, &uid, row_id, Op::Put)
}

/// The relation of that name.
pub fn get(conn: &Connection, collection_id: i64, source: &str, kind: &str, target: &str) -> Result<Option<Relation>> {
    let text = format!(
        "SELECT {COLUMNS} FROM relations WHERE collection_id = ?1 AND source = ?2 AND type = ?3 AND target = ?4"
    );
    sql::query_optional(conn, &text, params![collection_id, source, kind, target], read)
}

/// The relations after a rowid whose ends have not expired, each with its own, until `full` says of one that it is the
/// last.
pub fn living_after(
    conn: &Connection,
    collection_id: i64,
    after: i64,
    now: Timestamp,
    mut full: impl FnMut(&Relation) -> bool,
) -> Result<Vec<(i64, Relation)>> {
    let there = |end: &str| {
        format!(
            "(EXISTS (SELECT 1 FROM chunks c JOIN documents d ON d.id = c.document_id
                      WHERE c.collection_id = r.collection_id AND c.uid = r.{end} AND {})
              OR EXISTS (SELECT 1 FROM documents d
                         WHERE d.collection_id = r.collection_id AND d.uid = r.{end} AND {}))",
            alive(3),
            document_alive(3)
        )
    };
    let text = format!(
        "SELECT {COLUMNS}, id FROM relations r WHERE +collection_id = ?1 AND id > ?2 AND {} AND {} ORDER BY id",
        there("source"),
        there("target")
    );
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query(params![collection_id, after, now.0])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let relation = read(row)?;
        let last = full(&relation);
        found.push((row.get(6)?, relation));
        if last {
            break;
        }
    }
    Ok(found)
}

/// Deletes the relations from one id to another, of a type or of any, and says how many.
pub fn delete(
    conn: &Connection,
    stamp: Stamp,
    collection_id: i64,
    source: &str,
    target: &str,
    kind: Option<&str>,
) -> Result<u64> {
    let text =
        "DELETE FROM relations WHERE collection_id = ?1 AND source = ?2 AND target = ?3 AND (?4 IS NULL OR type = ?4)
                RETURNING id, source, type, target";
    bury(conn, stamp, collection_id, sql::query_all(conn, text, params![collection_id, source, target, kind], gone)?)
}

/// Deletes what an id is related to and what is related to it.
pub fn delete_of(conn: &Connection, stamp: Stamp, collection_id: i64, id: &str) -> Result<u64> {
    let text = "DELETE FROM relations WHERE id IN (
                    SELECT id FROM relations WHERE collection_id = ?1 AND source = ?2
                    UNION ALL SELECT id FROM relations WHERE collection_id = ?1 AND target = ?2)
                RETURNING id, source, type, target";
    bury(conn, stamp, collection_id, sql::query_all(conn, text, params![collection_id, id], gone)?)
}

/// How many there are and how many wait for an end.
pub fn count_all(conn: &Connection) -> Result<u64> {
    let text = "SELECT (SELECT count(*) FROM relations) + (SELECT count(*) FROM waiting_relations)";
    sql::query_one(conn, text, [], |row| row.get(0))
}

/// The metadata of the relations of some ids, which are bound as one JSON array, also of those that wait for an end.
pub fn metadata_of(conn: &Connection, collection_id: i64, ids: &str) -> Result<Vec<Metadata>> {
    let of = |table: &str, column: &str| {
        format!(
            "SELECT metadata FROM {table} WHERE collection_id = ?1 AND {column} IN (SELECT value FROM json_each(?2))"
        )
    };
    let all = ["relations", "waiting_relations"].map(|table| ["source", "target"].map(|column| of(table, column)));
    let text = all.concat().join(" UNION ");
    sql::query_all(conn, &text, params![collection_id, ids], |row| Ok(Metadata::from_stored(row.get(0)?)))
}

/// Deletes what waits for an end, where the other end is one of some ids, which are bound as one JSON array.
pub fn delete_waiting(conn: &Connection, stamp: Stamp, collection_id: i64, ids: &str) -> Result<()> {
    let text = "DELETE FROM waiting_relations
                WHERE collection_id = ?1 AND (source IN (SELECT value FROM json_each(?2))
                                              OR target IN (SELECT value FROM json_each(?2)))
                RETURNING 0, source, type, target";
    for (_, uid) in sql::query_all(conn, text, params![collection_id, ids], gone)? {
        changes::bury(conn, stamp, collection_id, Entity::Relation, &uid)?;
    }
    Ok(())
}

/// What is known of a relation of that name, and the one that is there or waits for an end.
pub fn known(conn: &Connection, collection_id: i64, relation: &Relation) -> Result<Option<(Known, Option<Relation>)>> {
    let Relation { source, target, kind, .. } = relation;
    for table in ["relations", "waiting_relations"] {
        let text = format!(
            "SELECT {COLUMNS}, hlc FROM {table} WHERE collection_id = ?1 AND source = ?2 AND type = ?3 AND target = ?4"
        );
        let found = sql::query_optional(conn, &text, params![collection_id, source, kind, target], |row| {
            Ok((Known { stamp: sql::hlc(row, 6)?, living: true }, Some(read(row)?)))
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    let gone = tombstones::get(conn, collection_id, Entity::Relation, &uid(source, kind, target))?;
    Ok(gone.map(|stamp| (Known { stamp, living: false }, None)))
}

/// The names and moments of those of a collection up to a moment, of those that wait, too.
pub fn upto(conn: &Connection, collection_id: i64, moment: Hlc) -> Result<Vec<(String, Hlc)>> {
    let of =
        |table: &str| format!("SELECT source, type, target, hlc FROM {table} WHERE collection_id = ?1 AND hlc <= ?2");
    let text = ["relations", "waiting_relations"].map(of).join(" UNION ALL ");
    sql::query_all(conn, &text, params![collection_id, moment.to_bytes()], |row| {
        let [source, kind, target]: [String; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok((uid(&source, &kind, &target), sql::hlc(row, 3)?))
    })
}

/// Puts a relation that another replica made: it is there once both of its ends are.
pub fn receive(conn: &Connection, stamp: Stamp, collection_id: i64, relation: &Relation) -> Result<()> {
    let Relation { source, target, kind, strength, metadata, created_at } = relation;
    remove(conn, collection_id, source, kind, target)?;
    if there(conn, collection_id, source)? && there(conn, collection_id, target)? {
        return put(conn, stamp, collection_id, relation);
    }
    sql::execute(
        conn,
        "INSERT INTO waiting_relations (collection_id, source, target, type, strength, metadata, created_at, hlc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![collection_id, source, target, kind, strength, metadata.as_json(), created_at.0, stamp.hlc.to_bytes()],
    )?;
    changes::unbury(conn, collection_id, Entity::Relation, &uid(source, kind, target))
}

/// Buries a relation that another replica deleted.
pub fn receive_end(conn: &Connection, stamp: Stamp, collection_id: i64, relation: &Relation) -> Result<()> {
    let Relation { source, target, kind, .. } = relation;
    let uid = uid(source, kind, target);
    if let Some(row_id) = remove(conn, collection_id, source, kind, target)? {
        append(conn, stamp, collection_id, &uid, row_id, Op::Delete)?;
    }
    changes::bury(conn, stamp, collection_id, Entity::Relation, &uid)
}

fn remove(conn: &Connection, collection_id: i64, source: &str, kind: &str, target: &str) -> Result<Option<i64>> {
    let name = params![collection_id, source, kind, target];
    let waiting =
        "DELETE FROM waiting_relations WHERE collection_id = ?1 AND source = ?2 AND type = ?3 AND target = ?4";
    sql::execute(conn, waiting, name)?;
    let text =
        "DELETE FROM relations WHERE collection_id = ?1 AND source = ?2 AND type = ?3 AND target = ?4 RETURNING id";
    sql::query_optional(conn, text, name, |row| row.get(0))
}

/// Whether there is a chunk or a document of that id, expired or not.
fn there(conn: &Connection, collection_id: i64, id: &str) -> Result<bool> {
    let text = "SELECT EXISTS (SELECT 1 FROM chunks WHERE collection_id = ?1 AND uid = ?2)
                    OR EXISTS (SELECT 1 FROM documents WHERE collection_id = ?1 AND uid = ?2)";
    sql::query_one(conn, text, params![collection_id, id], |row| row.get(0))
}

/// Whether any relation waits for an end.
pub fn any_waiting(conn: &Connection) -> Result<bool> {
    sql::query_one(conn, "SELECT EXISTS (SELECT 1 FROM waiting_relations)", [], |row| row.get(0))
}

/// Of a row `w` that waits: it is from before `?1`, and so is the end of each document that it names.
const LONG_WAITING: &str = "w.hlc < ?1 AND NOT EXISTS (
    SELECT 1 FROM tombstones t WHERE t.collection_id = w.collection_id AND t.entity = 'document'
    AND t.uid IN (w.source, w.target) AND t.hlc >= ?1)";

/// How many wait since before a moment.
pub fn count_waiting_before(conn: &Connection, moment: Hlc) -> Result<u64> {
    let text = format!("SELECT count(*) FROM waiting_relations w WHERE {LONG_WAITING}");
    sql::query_one(conn, &text, [moment.to_bytes()], |row| row.get(0))
}

/// Forgets at most so many of those, and says how many.
pub fn forget_waiting_before(conn: &Connection, moment: Hlc, most: i64) -> Result<u64> {
    let text = format!(
        "DELETE FROM waiting_relations WHERE (collection_id, source, type, target) IN (
             SELECT collection_id, source, type, target FROM waiting_relations w WHERE {LONG_WAITING} LIMIT ?2)"
    );
    Ok(sql::execute(conn, &text, params![moment.to_bytes(), most])? as u64)
}

/// The columns that both tables have.
const SHARED: &str = "collection_id, source, target, type, strength, metadata, created_at, hlc";

/// Both ends of a row `r` of either table are there.
const WHOLE: &str = "(EXISTS (SELECT 1 FROM chunks e WHERE e.collection_id = r.collection_id AND e.uid = r.source)
                      OR EXISTS (SELECT 1 FROM documents e WHERE e.collection_id = r.collection_id AND e.uid = r.source))
                     AND
                     (EXISTS (SELECT 1 FROM chunks e WHERE e.collection_id = r.collection_id AND e.uid = r.target)
                      OR EXISTS (SELECT 1 FROM documents e WHERE e.collection_id = r.collection_id AND e.uid = r.target))";

/// Relations whose ends are both there wait no more.
pub fn restore(conn: &Connection, stamp: Stamp) -> Result<()> {
    let text = format!(
        "INSERT INTO relations ({SHARED}) SELECT {SHARED} FROM waiting_relations r WHERE {WHOLE} RETURNING {MOVED}"
    );
    for Moved { id, collection_id, name: [source, kind, target], hlc } in sql::query_all(conn, &text, [], moved)? {
        let text = "DELETE FROM waiting_relations WHERE (collection_id, source, type, target) = (?1, ?2, ?3, ?4)";
        sql::execute(conn, text, params![collection_id, source, kind, target])?;
        append(conn, Stamp { hlc, ..stamp }, collection_id, &uid(&source, &kind, &target), id, Op::Put)?;
    }
    Ok(())
}

/// The relations of an id that went wait for it to come back.
pub fn suspend(conn: &Connection, stamp: Stamp, collection_id: i64, id: &str) -> Result<()> {
    if there(conn, collection_id, id)? {
        return Ok(());
    }
    for column in ["source", "target"] {
        let text = format!(
            "INSERT INTO waiting_relations ({SHARED}) SELECT {SHARED} FROM relations
             WHERE collection_id = ?1 AND {column} = ?2"
        );
        sql::execute(conn, &text, params![collection_id, id])?;
        let text = format!("DELETE FROM relations WHERE collection_id = ?1 AND {column} = ?2 RETURNING {MOVED}");
        tell_ends(conn, stamp, sql::query_all(conn, &text, params![collection_id, id], moved)?)?;
    }
    Ok(())
}

/// How many relations have an end that is not there: none, in a sound file.
pub fn count_loose(conn: &Connection) -> Result<u64> {
    sql::query_one(conn, &format!("SELECT count(*) FROM relations r WHERE NOT ({WHOLE})"), [], |row| row.get(0))
}

/// These wait for their ends; says how many.
pub fn suspend_loose(conn: &Connection, stamp: Stamp) -> Result<u64> {
    let text = format!(
        "INSERT OR REPLACE INTO waiting_relations ({SHARED}) SELECT {SHARED} FROM relations r WHERE NOT ({WHOLE})"
    );
    let loose = sql::execute(conn, &text, [])?;
    let text = format!("DELETE FROM relations AS r WHERE NOT ({WHOLE}) RETURNING {MOVED}");
    tell_ends(conn, stamp, sql::query_all(conn, &text, [], moved)?)?;
    Ok(loose as u64)
}

/// Forgets those of a collection that are not later than its end, which is the stamp.
pub fn forget_upto(conn: &Connection, stamp: Stamp, collection_id: i64) -> Result<()> {
    let values = params![collection_id, stamp.hlc.to_bytes()];
    sql::execute(conn, "DELETE FROM waiting_relations WHERE collection_id = ?1 AND hlc <= ?2", values)?;
    let text = format!("DELETE FROM relations WHERE collection_id = ?1 AND hlc <= ?2 RETURNING {MOVED}");
    tell_ends(conn, stamp, sql::query_all(conn, &text, values, moved)?)
}

/// A relation that is there no more, or again.
struct Moved {
    id: i64,
    collection_id: i64,
    /// Source, type and target.
    name: [String; 3],
    hlc: Hlc,
}

/// Columns of [`moved`].
const MOVED: &str = "id, collection_id, source, type, target, hlc";

fn moved(row: &Row<'_>) -> rusqlite::Result<Moved> {
    let name = [row.get(2)?, row.get(3)?, row.get(4)?];
    Ok(Moved { id: row.get(0)?, collection_id: row.get(1)?, name, hlc: sql::hlc(row, 5)? })
}

/// What follows the feed is told of what is there no more, although nobody deleted it.
fn tell_ends(conn: &Connection, stamp: Stamp, gone: Vec<Moved>) -> Result<()> {
    gone.into_iter().try_for_each(|Moved { id, collection_id, name: [source, kind, target], hlc }| {
        append(conn, Stamp { hlc, ..stamp }, collection_id, &uid(&source, &kind, &target), id, Op::Delete)
    })
}

/// The relations of a collection that goes wait for it to come back.
pub fn suspend_all(conn: &Connection, collection_id: i64) -> Result<()> {
    let text =
        format!("INSERT INTO waiting_relations ({SHARED}) SELECT {SHARED} FROM relations WHERE collection_id = ?1");
    sql::execute(conn, &text, [collection_id])?;
    sql::execute(conn, "DELETE FROM relations WHERE collection_id = ?1", [collection_id]).map(drop)
}

/// Deletes all of a collection.
pub fn delete_all(conn: &Connection, stamp: Stamp, collection_id: i64) -> Result<u64> {
    let text = "DELETE FROM waiting_relations WHERE collection_id = ?1 RETURNING 0, source, type, target";
    for (_, uid) in sql::query_all(conn, text, [collection_id], gone)? {
        changes::bury(conn, stamp, collection_id, Entity::Relation, &uid)?;
    }
    let text = "DELETE FROM relations WHERE collection_id = ?1 RETURNING id, source, type, target";
    bury(conn, stamp, collection_id, sql::query_all(conn, text, [collection_id], gone)?)
}

/// Rowid and name.
fn gone(row: &Row<'_>) -> rusqlite::Result<(i64, String)> {
    let (source, kind, target): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok((row.get(0)?, uid(&source, &kind, &target)))
}

fn bury(conn: &Connection, stamp: Stamp, collection_id: i64, gone: Vec<(i64, String)>) -> Result<u64> {
    for (row_id, uid) in &gone {
        changes::bury(conn, stamp, collection_id, Entity::Relation, uid)?;
        append(conn, stamp, collection_id, uid, *row_id, Op::Delete)?;
    }
    Ok(gone.len() as u64)
}

/// The relations of an id, or all, in the order in which they were made.
pub fn of(
    conn: &Connection,
    collection_id: i64,
    id: Option<&str>,
    direction: Direction,
    kind: Option<&str>,
) -> Result<Vec<Relation>> {
    let side = |condition: &str| {
        format!(
            "SELECT id, {COLUMNS} FROM relations WHERE collection_id = ?1 AND {condition} AND (?3 IS NULL OR type = ?3)"
        )
    };
    let (out, into) = (side("source = ?2"), side("target = ?2"));
    let rows = match direction {
        _ if id.is_none() => side("?2 IS NULL"),
        Direction::Out => out,
        Direction::In => into,
        // A relation of an id with itself would come twice, but there is none.
        Direction::Both => format!("{out} UNION ALL {into}"),
    };
    let text = format!("SELECT {COLUMNS} FROM ({rows}) ORDER BY id");
    sql::query_all(conn, &text, params![collection_id, id, kind], read)
}

/// The relations that lead on from some ids, which are bound as one JSON array, as are the types.
pub fn steps(
    conn: &Connection,
    collection_id: i64,
    ids: &[String],
    direction: Direction,
    kinds: Option<&[String]>,
) -> Result<Vec<Step>> {
    let side = |from: &str, to: &str| {
        format!(
            "SELECT r.{from}, r.{to}, r.strength FROM json_each(?2) j CROSS JOIN relations r
             ON r.collection_id = ?1 AND r.{from} = j.value
             WHERE ?3 IS NULL OR r.type IN (SELECT value FROM json_each(?3))"
        )
    };
    let text = match direction {
        Direction::Out => side("source", "target"),
        Direction::In => side("target", "source"),
        Direction::Both => format!("{} UNION ALL {}", side("source", "target"), side("target", "source")),
    };
    let kinds = kinds.map(|kinds| serde_json::json!(kinds).to_string());
    let values = params![collection_id, serde_json::json!(ids).to_string(), kinds];
    sql::query_all(conn, &text, values, |row| Ok(Step { from: row.get(0)?, to: row.get(1)?, strength: row.get(2)? }))
}

fn append(conn: &Connection, stamp: Stamp, collection_id: i64, uid: &str, row_id: i64, op: Op) -> Result<()> {
    let change = Change {
        collection_id: Some(collection_id),
        space_id: None,
        entity: Entity::Relation,
        uid: Some(uid),
        row_id: Some(row_id),
        op,
    };
    changes::append(conn, stamp, change)
}

/// The name of a relation in the feed and among the tombstones: no two of a collection have the same.
pub fn uid(source: &str, kind: &str, target: &str) -> String {
    serde_json::json!([source, kind, target]).to_string()
}
