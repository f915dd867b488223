use super::shared::{Target, is_there, no_such};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{NewRelation, Relation, check_id, check_name};
use crate::request::Relate;
use crate::sqlite::tables::relations;
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &Relate) -> Result<()> {
    let Relate { collection, relation } = request;
    check(relation)?;
    let target = Target::find(txn.conn, collection)?;
    let mut missing = Vec::new();
    for id in [&relation.source, &relation.target] {
        if !is_there(txn.conn, target.id(), id, txn.now)? {
            missing.push(id);
        }
    }
    if !missing.is_empty() {
        return Err(no_such("chunk or document", &missing));
    }
    let stamp = txn.stamp();
    relations::put(txn.conn, stamp, target.id(), &Relation::new(relation, txn.now))
}

/// What needs no store to be seen.
pub(super) fn check(relation: &NewRelation) -> Result<()> {
    let NewRelation { source, target, kind, strength, metadata: _ } = relation;
    check_id("source", source)?;
    check_id("target", target)?;
    check_name("type", kind)?;
    if source == target {
        return Err(Error::new(ErrorKind::Argument, format!("source and target are both {source:?}; give two ids")));
    }
    if !(0.0..=1.0).contains(strength) {
        return Err(Error::new(ErrorKind::Argument, format!("strength is {strength}; it is from 0 to 1")));
    }
    Ok(())
}
