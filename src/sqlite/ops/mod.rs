//! One file per operation. Writes work inside the writer's transaction, reads on one snapshot.

mod add;
mod add_chunks;
mod add_peer;
mod apply_changes;
mod cache_embeddings;
mod clear;
mod clear_embedding_cache;
mod create_collection;
mod create_index;
mod create_space;
mod delete;
mod delete_collection;
mod delete_embeddings;
mod delete_space;
mod delete_state;
mod drop_index;
mod forget;
mod import_relations;
mod import_state;
mod log_sync;
mod reclock;
mod relate;
mod remove_peer;
mod renew_replica;
mod set_embeddings;
mod set_model;
mod set_state;
pub mod shared;
mod staging;
mod steps;
mod unrelate;
mod update_metadata;

pub mod cached_embeddings;
pub mod changes;
pub mod check;
pub mod check_recall;
pub mod count;
pub mod count_state;
pub mod expire;
pub mod export;
pub mod export_changes;
pub mod get;
pub mod get_chunks;
pub mod get_collection;
pub mod get_document;
pub mod get_embeddings;
pub mod get_state;
pub mod list_documents;
pub mod neighbors;
pub mod note_export;
pub mod related;
pub mod relations;
pub mod repair;
pub mod scan_state;
pub mod search;
pub mod search_batch;
pub mod search_store;
pub mod set_tokenizer;
pub mod unchanged;
pub mod watermark;

use super::txn::{Progress, Txn};
use crate::error::Result;
use crate::request::{Add, AddChunks, PreparedDocument, Write, Written, prepare_document};

/// A write that is checked as far as it can be without the database.
pub enum Step<'w> {
    Add { request: &'w Add, documents: Vec<PreparedDocument<'w>> },
    AddChunks(&'w AddChunks),
    Other(&'w Write),
}

impl<'w> Step<'w> {
    /// Checks a write.
    ///
    /// # Errors
    /// `Argument` and `Limit`, naming the document.
    pub fn prepare(write: &'w Write) -> Result<Self> {
        Ok(match write {
            Write::Add(request) => {
                let prepare =
                    |(index, document)| prepare_document(document).map_err(|e| e.context(format!("document {index}")));
                let documents = request.documents.iter().enumerate().map(prepare).collect::<Result<_>>()?;
                Step::Add { request, documents }
            }
            Write::AddChunks(request) => Step::AddChunks(request),
            other => Step::Other(other),
        })
    }
}

/// Runs one write.
pub fn run(txn: &mut Txn<'_>, step: &Step<'_>, progress: &Progress) -> Result<Written> {
    txn.check(progress)?;
    let written = match step {
        Step::Add { request, documents } => Written::Added(add::run(txn, request, documents, progress)?),
        Step::AddChunks(request) => Written::Ids(add_chunks::run(txn, request, progress)?),
        Step::Other(write) => match write {
            Write::Add(_) | Write::AddChunks(_) => {
                return Err(crate::error::Error::internal("an add was not prepared"));
            }
            Write::AddPeer(request) => {
                add_peer::run(txn, request)?;
                Written::Done
            }
            Write::ApplyChanges(request) => Written::Applied(apply_changes::run(txn, request, progress)?),
            Write::CacheEmbeddings(request) => {
                cache_embeddings::run(txn, request, progress)?;
                Written::Done
            }
            Write::Clear(request) => {
                clear::run(txn, request)?;
                Written::Done
            }
            Write::ClearEmbeddingCache(request) => Written::Count(clear_embedding_cache::run(txn, request, progress)?),
            Write::CreateCollection(request) => Written::Collection(create_collection::run(txn, request)?),
            Write::CreateIndex(request) => Written::Made(create_index::run(txn, request, progress)?),
            Write::CreateSpace(request) => {
                create_space::run(txn, request)?;
                Written::Done
            }
            Write::Delete(request) => Written::Count(delete::run(txn, request, progress)?),
            Write::DeleteCollection(request) => {
                delete_collection::run(txn, request)?;
                Written::Done
            }
            Write::DeleteEmbeddings(request) => Written::Count(delete_embeddings::run(txn, request, progress)?),
            Write::DeleteSpace(request) => {
                delete_space::run(txn, request)?;
                Written::Done
            }
            Write::DeleteState(request) => Written::Count(delete_state::run(txn, request, progress)?),
            Write::DropIndex(request) => {
                drop_index::run(txn, request)?;
                Written::Done
            }
            Write::Expire(request) => Written::Count(expire::run(txn, request, progress)?),
            Write::Forget(request) => Written::Forgotten(Box::new(forget::run(txn, request, progress)?)),
            Write::ImportRelations(request) => Written::Imported(import_relations::run(txn, request, progress)?),
            Write::ImportState(request) => Written::Imported(import_state::run(txn, request, progress)?),
            Write::LogSync(request) => {
                log_sync::run(txn, request)?;
                Written::Done
            }
            Write::NoteExport(request) => {
                note_export::run(txn, request)?;
                Written::Done
            }
            Write::Reclock => Written::Count(reclock::run(txn)?),
            Write::Relate(request) => {
                relate::run(txn, request)?;
                Written::Done
            }
            Write::RemovePeer(request) => {
                remove_peer::run(txn, request)?;
                Written::Done
            }
            Write::RenewReplica => {
                renew_replica::run(txn)?;
                Written::Done
            }
            Write::Repair => Written::Repaired(repair::run(txn, progress)?),
            Write::SetEmbeddings(request) => {
                set_embeddings::run(txn, request, progress)?;
                Written::Done
            }
            Write::SetModel(request) => {
                set_model::run(txn, request)?;
                Written::Done
            }
            Write::SetState(request) => Written::Made(set_state::run(txn, request, progress)?),
            Write::SetTokenizer(request) => {
                set_tokenizer::run(txn, request, progress)?;
                Written::Done
            }
            Write::Unrelate(request) => Written::Count(unrelate::run(txn, request)?),
            Write::UpdateMetadata(request) => Written::Count(update_metadata::run(txn, request, progress)?),
        },
    };
    shared::cut_relations(txn)?;
    Ok(written)
}
