use super::shared::{self, Incoming, Target};
use crate::error::Result;
use crate::model::check_id;
use crate::request::{AddChunks, DEFAULT_SPACE, prepare_chunks};
use crate::sqlite::tables::{chunks, documents, tombstones};
use crate::sqlite::txn::{Progress, Txn};

pub fn run(txn: &mut Txn<'_>, request: &AddChunks, progress: &Progress) -> Result<Vec<String>> {
    check_id("document id", &request.document_id)?;
    let mut target = Target::find(txn.conn, &request.collection)?;
    let document = tombstones::document_of(txn.conn, target.id(), &request.document_id)?
        .filter(|document| !document.expired(txn.now))
        .ok_or_else(|| shared::no_such("document", &[&request.document_id]))?;
    let text = documents::text(txn.conn, document.id)?;
    let new = prepare_chunks(&request.chunks, text.as_deref())?;
    let stamp = txn.stamp();
    let mut incoming = match &request.embeddings {
        Some(embeddings) => Some(Incoming::new(txn.conn, stamp, &mut target, DEFAULT_SPACE, embeddings, new.len())?),
        None => None,
    };
    txn.check(progress)?;
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let metadata = documents::metadata(txn.conn, document.id)?;
    let index = chunks::next_index(txn.conn, document.id)?;
    let incoming = incoming.as_mut().map(|incoming| (incoming, 0));
    let ids = shared::insert_chunks(txn, stamp, &target, (document.id, &metadata), index, &new, incoming)?;
    shared::document_touched(txn, stamp, &target, document.id)?;
    Ok(ids)
}
