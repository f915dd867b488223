use super::shared::Target;
use crate::error::Result;
use crate::request::Clear;
use crate::sqlite::sql;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::relations;
use crate::sqlite::tables::spaces::{self};
use crate::sqlite::tables::vectors::{self, VectorTable};
use crate::sqlite::tables::{chunks, collections, documents};
use crate::sqlite::txn::Txn;

/// New generations of the text index and of the vectors take the place of the old ones, which are dropped whole.
pub fn run(txn: &mut Txn<'_>, request: &Clear) -> Result<()> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let stamp = txn.stamp();
    changes::bury_all(conn, stamp, target.id())?;
    relations::delete_all(conn, stamp, target.id())?;
    for old in target.vector_tables() {
        let new = VectorTable { generation: sql::next_generation(old.generation)?, ..old };
        vectors::create(conn, new)?;
        vectors::drop_table(conn, old)?;
        spaces::set_generation(conn, new)?;
    }
    let old = target.fts();
    let new = FtsTable { generation: sql::next_generation(old.generation)?, ..old };
    fts::drop_table(conn, old)?;
    chunks::delete_all(conn, target.id())?;
    documents::delete_all(conn, target.id())?;
    fts::create(conn, new, &target.collection.spec()?)?;
    collections::set_fts_generation(conn, target.id(), new.generation)?;
    collections::touch(conn, stamp, target.id())?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: None,
            entity: Entity::Collection,
            uid: Some(&request.collection),
            row_id: Some(target.id()),
            op: Op::Clear,
        },
    )
}
