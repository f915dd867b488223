use rusqlite::Connection;

use super::add::{existing, same_content};
use super::shared::Target;
use crate::error::{ErrorKind, Result};
use crate::model::{NewDocument, OnConflict, Timestamp};
use crate::request::prepare_document;
use crate::sqlite::tables::chunks;

pub fn run(conn: &Connection, collection: &str, documents: &[NewDocument]) -> Result<Vec<bool>> {
    kept(conn, collection, documents, OnConflict::Error)
}

/// For each document, whether an add under that policy would leave the stored one as it is.
pub fn kept(
    conn: &Connection,
    collection: &str,
    documents: &[NewDocument],
    on_conflict: OnConflict,
) -> Result<Vec<bool>> {
    let target = Target::find(conn, collection)?;
    let now = Timestamp::now();
    let one = |(index, document)| -> Result<bool> {
        let new = prepare_document(document).map_err(|e| e.context(format!("document {index}")))?;
        let old = match existing(conn, &target, &new, now) {
            // Its id and uri belong to two documents: it is neither.
            Err(error) if error.kind() == ErrorKind::Conflict => None,
            found => found.map_err(|e| e.context(format!("document {index}")))?.filter(|old| !old.expired(now)),
        };
        match old {
            Some(_) if on_conflict == OnConflict::Skip => Ok(true),
            Some(old) => Ok(same_content(&old, &chunks::of_document(conn, old.id)?, &new, now)),
            None => Ok(false),
        }
    };
    documents.iter().enumerate().map(one).collect()
}
