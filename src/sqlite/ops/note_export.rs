use rusqlite::Connection;

use crate::error::Result;
use crate::request::NoteExport;
use crate::sqlite::file_system;
use crate::sqlite::tables::meta;
use crate::sqlite::tables::replicas::{self, InFile};
use crate::sqlite::txn::Txn;

/// Notes the file that the replica is in, if none was.
pub fn note_file(conn: &Connection) -> Result<()> {
    let number = file_system::number_of(conn);
    if replicas::file(conn, number)? == InFile::Unknown { replicas::note_file(conn, number) } else { Ok(()) }
}

/// Whether there is nothing to note: what others are told they were told before.
pub fn is_noted(conn: &Connection, request: &NoteExport) -> Result<bool> {
    let noted = replicas::marks(conn, 1)?.pop() == Some(meta::clock(conn)?);
    let known = replicas::acknowledged(conn)?;
    Ok(noted && request.acknowledged.is_none_or(|stamp| known.is_some_and(|known| known >= stamp)))
}

/// Whether what others were told last is later than every deletion that is forgotten.
pub fn is_enough(conn: &Connection) -> Result<bool> {
    let Some(horizon) = replicas::forgotten(conn)?.iter().max() else { return Ok(true) };
    Ok(replicas::marks(conn, 1)?.pop().is_some_and(|mark| mark >= horizon))
}

pub fn run(txn: &mut Txn<'_>, request: &NoteExport) -> Result<()> {
    note_file(txn.conn)?;
    if let Some(stamp) = request.acknowledged {
        replicas::acknowledge(txn.conn, stamp)?;
    }
    replicas::add_mark(txn.conn, txn.clock())
}
