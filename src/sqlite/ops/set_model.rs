use super::create_collection::{check_space, differs};
use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::request::SetModel;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::{collections, spaces};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &SetModel) -> Result<()> {
    check_space(None, Some(&request.model))?;
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    let Some(space) = target.spaces.first() else {
        return Err(Error::new(ErrorKind::Corrupt, format!("collection {:?} has no space", request.collection)));
    };
    match &space.model {
        Some(there) if *there == request.model => return Ok(()),
        Some(there) => return Err(differs(&request.collection, "model", there, &request.model)),
        None => {}
    }
    let stamp = txn.stamp();
    spaces::set_model(conn, space.id, &request.model)?;
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
