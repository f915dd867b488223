use super::shared::{Target, is_there, no_such};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Relation, check_id, check_name};
use crate::request::Relate;
use crate::sqlite::tables::relations;
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &Relate) -> Result<()> {
    let Relate { collection, source, target: to, kind, strength, metadata } = request;
    check_id("source", source)?;
    check_id("target", to)?;
    check_name("type", kind)?;
    if source == to {
        return Err(Error::new(ErrorKind::Argument, format!("source and target are both {source:?}; give two ids")));
    }
    if !(0.0..=1.0).contains(strength) {
        return Err(Error::new(ErrorKind::Argument, format!("strength is {strength}; it is from 0 to 1")));
    }
    let target = Target::find(txn.conn, collection)?;
    let mut missing = Vec::new();
    for id in [source, to] {
        if !is_there(txn.conn, target.id(), id, txn.now)? {
            missing.push(id);
        }
    }
    if !missing.is_empty() {
        return Err(no_such("chunk or document", &missing));
    }
    let stamp = txn.stamp();
    let relation = Relation {
        source: source.clone(),
        target: to.clone(),
        kind: kind.clone(),
        strength: *strength,
        metadata: metadata.clone(),
        created_at: txn.now,
    };
    relations::put(txn.conn, stamp, target.id(), &relation)
}
