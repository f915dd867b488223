use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::request::DropIndex;
use crate::sqlite::filter_sql;
use crate::sqlite::tables::field_values;
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &DropIndex) -> Result<()> {
    let target = Target::find(txn.conn, &request.collection)?;
    let indexes = filter_sql::indexes(txn.conn, target.id())?;
    let id = indexes.get(&request.field).ok_or_else(|| {
        let mut names: Vec<&str> = indexes.keys().map(String::as_str).collect();
        names.sort_unstable();
        Error::new(ErrorKind::NotFound, format!("there is no index of {:?}; there are {names:?}", request.field))
    })?;
    field_values::drop_field(txn.conn, *id)
}
