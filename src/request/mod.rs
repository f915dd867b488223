//! One plain struct per operation: what a caller asks, before any backend sees it.

mod add;
mod add_chunks;
mod add_peer;
mod apply_changes;
mod backup;
mod cache_embeddings;
mod cached_embeddings;
mod changes;
mod check;
mod check_recall;
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
mod expire;
mod export;
mod export_changes;
mod forget;
mod get_document;
mod import_relations;
mod import_state;
mod key;
mod list_documents;
mod log_sync;
mod neighbors;
mod note_export;
mod open;
mod operation;
mod prepare;
mod rekey;
mod relate;
mod related;
mod relations;
mod remove_peer;
mod repair;
mod scan_state;
mod search;
mod search_batch;
mod search_store;
mod set_embeddings;
mod set_model;
mod set_state;
mod set_tokenizer;
mod unrelate;
mod update_metadata;

pub use add::Add;
pub use add_chunks::AddChunks;
pub use add_peer::AddPeer;
pub use apply_changes::{ApplyChanges, BatchSource};
pub use backup::Backup;
pub use cache_embeddings::CacheEmbeddings;
pub use cached_embeddings::CachedEmbeddings;
pub use changes::Changes;
pub use check::Check;
pub use check_recall::CheckRecall;
pub use clear::Clear;
pub use clear_embedding_cache::ClearEmbeddingCache;
pub use create_collection::CreateCollection;
pub use create_index::CreateIndex;
pub use create_space::CreateSpace;
pub use delete::Delete;
pub use delete_collection::DeleteCollection;
pub use delete_embeddings::DeleteEmbeddings;
pub use delete_space::DeleteSpace;
pub use delete_state::DeleteState;
pub use drop_index::DropIndex;
pub use expire::Expire;
pub use export::Export;
pub use export_changes::ExportChanges;
pub use forget::{Forget, Forgotten};
pub use get_document::{DocumentKey, GetDocument};
pub use import_relations::ImportRelations;
pub use import_state::ImportState;
pub use key::{Key, Secret};
pub use list_documents::ListDocuments;
pub use log_sync::LogSync;
pub use neighbors::Neighbors;
pub use note_export::NoteExport;
pub use open::{Derived, Durability, IndexAt, Open};
pub use operation::{Checkpoint, Operation};
pub use prepare::{PreparedChunk, PreparedDocument, prepare_chunks, prepare_document};
pub use rekey::Rekey;
pub use relate::Relate;
pub use related::RelatedTo;
pub use relations::Relations;
pub use remove_peer::RemovePeer;
pub use repair::Repair;
pub use scan_state::ScanState;
pub use search::{Accuracy, Expand, Fusion, Include, Mode, Rerank, Search, Syntax};
pub use search_batch::SearchBatch;
pub use search_store::SearchStore;
pub use set_embeddings::SetEmbeddings;
pub use set_model::SetModel;
pub use set_state::SetState;
pub use set_tokenizer::SetTokenizer;
pub use unrelate::Unrelate;
pub use update_metadata::{MetadataMode, UpdateMetadata};

use crate::model::{AddResult, Applied, CollectionInfo, Imported, RepairReport};

/// The space that every collection has.
pub const DEFAULT_SPACE: &str = "default";

/// A change. Those that are given together are committed together.
#[derive(Debug, Clone)]
pub enum Write {
    Add(Add),
    AddChunks(AddChunks),
    AddPeer(AddPeer),
    ApplyChanges(ApplyChanges),
    CacheEmbeddings(CacheEmbeddings),
    Clear(Clear),
    ClearEmbeddingCache(ClearEmbeddingCache),
    CreateCollection(CreateCollection),
    CreateIndex(CreateIndex),
    CreateSpace(CreateSpace),
    Delete(Delete),
    DeleteCollection(DeleteCollection),
    DeleteEmbeddings(DeleteEmbeddings),
    DeleteSpace(DeleteSpace),
    DeleteState(DeleteState),
    DropIndex(DropIndex),
    Expire(Expire),
    /// Deletes, and keeps pieces of what it deletes; removing what the files hold of it comes after.
    Forget(Forget),
    ImportRelations(ImportRelations),
    ImportState(ImportState),
    LogSync(LogSync),
    NoteExport(NoteExport),
    /// Restamps what a clock that ran ahead stamped and nobody else has.
    Reclock,
    Relate(Relate),
    RemovePeer(RemovePeer),
    /// Makes the store another replica, of a file that was copied.
    RenewReplica,
    /// In place; a repair to another file is no write.
    Repair,
    SetEmbeddings(SetEmbeddings),
    SetModel(SetModel),
    SetState(SetState),
    SetTokenizer(SetTokenizer),
    Unrelate(Unrelate),
    UpdateMetadata(UpdateMetadata),
}

impl Write {
    /// Whether another table takes the place of one, or none does.
    pub fn drops_tables(&self) -> bool {
        matches!(
            self,
            Self::Clear(_) | Self::DeleteCollection(_) | Self::DeleteSpace(_) | Self::Repair | Self::SetTokenizer(_)
        )
    }

    /// The name of the operation.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::AddChunks(_) => "add_chunks",
            Self::AddPeer(_) => "add_peer",
            Self::ApplyChanges(_) => "apply_changes",
            Self::CacheEmbeddings(_) => "cache_embeddings",
            Self::Clear(_) => "clear",
            Self::ClearEmbeddingCache(_) => "clear_embedding_cache",
            Self::CreateCollection(_) => "create_collection",
            Self::CreateIndex(_) => "create_index",
            Self::CreateSpace(_) => "create_space",
            Self::Delete(_) => "delete",
            Self::DeleteCollection(_) => "delete_collection",
            Self::DeleteEmbeddings(_) => "delete_embeddings",
            Self::DeleteSpace(_) => "delete_space",
            Self::DeleteState(_) => "delete_state",
            Self::DropIndex(_) => "drop_index",
            Self::Expire(_) => "expire",
            Self::Forget(_) => "forget",
            Self::ImportRelations(_) => "import_relations",
            Self::ImportState(_) => "import_state",
            Self::LogSync(_) => "log_sync",
            Self::NoteExport(_) => "note_export",
            Self::Reclock => "reclock",
            Self::Relate(_) => "relate",
            Self::RemovePeer(_) => "remove_peer",
            Self::RenewReplica => "renew_replica",
            Self::Repair => "repair",
            Self::SetEmbeddings(_) => "set_embeddings",
            Self::SetModel(_) => "set_model",
            Self::SetState(_) => "set_state",
            Self::SetTokenizer(_) => "set_tokenizer",
            Self::Unrelate(_) => "unrelate",
            Self::UpdateMetadata(_) => "update_metadata",
        }
    }
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of `Add`.
    Added(AddResult),
    /// Of `AddChunks`: the ids of the chunks.
    Ids(Vec<String>),
    /// Of `ApplyChanges`.
    Applied(Applied),
    /// Of `CreateCollection`.
    Collection(CollectionInfo),
    /// Of `ClearEmbeddingCache`, `Delete`, `DeleteEmbeddings`, `DeleteState`, `Expire`, `Reclock`,
    /// `Unrelate` and `UpdateMetadata`: how many it found.
    Count(u64),
    /// Of `Forget`.
    Forgotten(Box<Forgotten>),
    /// Of `ImportRelations` and `ImportState`: what became of each.
    Imported(Vec<Imported>),
    /// Of `CreateIndex`: whether it is new. Of `SetState`: whether what was there is what was expected.
    Made(bool),
    /// Of `Repair`.
    Repaired(RepairReport),
    /// Of the others.
    Done,
}
