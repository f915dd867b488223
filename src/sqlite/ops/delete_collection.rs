use rusqlite::params;

use super::shared::Target;
use crate::error::Result;
use crate::request::DeleteCollection;
use crate::sqlite::sql;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::{chunks, collections, documents, fts, spaces};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &DeleteCollection) -> Result<()> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.name)?;
    let stamp = txn.stamp();
    fts::drop_table(conn, target.fts())?;
    fts::drop_view(conn, target.id())?;
    for space in &target.spaces {
        spaces::delete(conn, space)?;
    }
    chunks::delete_all(conn, target.id())?;
    documents::delete_all(conn, target.id())?;
    for table in ["fields", "relations", "tombstones"] {
        sql::execute(conn, &format!("DELETE FROM {table} WHERE collection_id = ?1"), params![target.id()])?;
    }
    collections::delete(conn, target.id())?;
    // The collection's own tombstone covers all that was in it.
    changes::bury(conn, stamp, 0, Entity::Collection, &request.name)?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Collection,
            uid: Some(&request.name),
            row_id: Some(target.id()),
            op: Op::Delete,
        },
    )
}
