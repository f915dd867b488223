use super::create_collection::check_space;
use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::check_name;
use crate::request::CreateSpace;
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::collections;
use crate::sqlite::tables::spaces::{self, NewSpace};
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &CreateSpace) -> Result<()> {
    check_name("space name", &request.name)?;
    check_space(request.dimension, request.model.as_deref())?;
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    if target.spaces.iter().any(|space| space.name == request.name) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("collection {:?} has a space {:?} already; give another name", request.collection, request.name),
        ));
    }
    let stamp = txn.stamp();
    let space = spaces::insert(
        conn,
        &NewSpace {
            collection_id: target.id(),
            name: &request.name,
            dimension: request.dimension,
            metric: request.metric,
            model: request.model.as_deref(),
            created_at: txn.now,
        },
    )?;
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
