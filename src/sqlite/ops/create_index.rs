use std::sync::atomic::Ordering;

use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Column;
use crate::limits;
use crate::request::CreateIndex;
use crate::sqlite::filter_sql::Indexes;
use crate::sqlite::sql;
use crate::sqlite::tables::field_values;
use crate::sqlite::txn::{Progress, Txn};

/// Chunks between two looks at the caller's wish and the lock.
const STRIDE: usize = 256;

/// Says whether the index is new. It is not part of what peers exchange: each store declares its own.
pub fn run(txn: &mut Txn<'_>, request: &CreateIndex, progress: &Progress) -> Result<bool> {
    let conn = txn.conn;
    let target = Target::find(conn, &request.collection)?;
    check(&request.field)?;
    let Some(id) = field_values::declare(conn, target.id(), &request.field)? else { return Ok(false) };
    let fields: Indexes = [(request.field.clone(), id)].into();
    let count = "SELECT count(*) FROM chunks WHERE collection_id = ?1";
    let total: u64 = sql::query_one(conn, count, [target.id()], |row| row.get(0))?;
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(total, Ordering::Relaxed);
    let mut statement = sql::prepare(
        conn,
        "SELECT c.id, c.metadata, d.metadata FROM chunks c JOIN documents d ON d.id = c.document_id
         WHERE +c.collection_id = ?1",
    )?;
    let mut rows = statement.query([target.id()])?;
    let mut done = 0;
    while let Some(row) = rows.next()? {
        if done % STRIDE == 0 {
            txn.check(progress)?;
        }
        let text = |column: usize| row.get_ref(column).map_err(Error::from)?.as_str().map_err(|_| corrupt());
        field_values::insert(conn, &fields, row.get(0)?, text(1)?, text(2)?)?;
        done += 1;
        progress.done.store(done as u64, Ordering::Relaxed);
    }
    Ok(true)
}

fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "metadata is no text; run repair()")
}

/// Refuses what no filter can ask for.
fn check(field: &str) -> Result<()> {
    let refused = |why: &str| Err(Error::new(ErrorKind::Argument, format!("field is {field:?}, {why}")));
    if Column::named(field).is_some() {
        return refused("which is a column and needs no index");
    }
    if field.starts_with('$') || field.split('.').any(str::is_empty) {
        return refused("which is no name of metadata; give a key, or several with dots between them");
    }
    if field.len() > limits::NAME_BYTES {
        return refused("which is too long");
    }
    Ok(())
}
