use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::request::{DEFAULT_SPACE, DeleteSpace};
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::{collections, spaces};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &DeleteSpace) -> Result<()> {
    if request.name == DEFAULT_SPACE {
        return Err(Error::new(
            ErrorKind::Argument,
            "the default space goes only with its collection; delete_embeddings empties it",
        ));
    }
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let space = spaces::require(conn, target.id(), &request.name)?;
    let stamp = txn.stamp();
    spaces::delete(conn, &space)?;
    collections::touch(conn, stamp, target.id())?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(target.id()),
            space_id: Some(space.id),
            entity: Entity::Collection,
            uid: Some(&request.collection),
            row_id: Some(target.id()),
            op: Op::Put,
        },
    )
}
