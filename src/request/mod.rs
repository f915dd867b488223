//! One plain struct per operation: what a caller asks, before any backend sees it.

mod add;
mod add_chunks;
mod cache_embeddings;
mod cached_embeddings;
mod clear;
mod clear_embedding_cache;
mod create_collection;
mod create_index;
mod create_space;
mod delete;
mod delete_collection;
mod delete_embeddings;
mod delete_space;
mod drop_index;
mod get_document;
mod key;
mod list_documents;
mod neighbors;
mod open;
mod prepare;
mod rekey;
mod search;
mod search_batch;
mod search_store;
mod set_embeddings;
mod set_model;
mod set_tokenizer;
mod update_metadata;

pub use add::Add;
pub use add_chunks::AddChunks;
pub use cache_embeddings::CacheEmbeddings;
pub use cached_embeddings::CachedEmbeddings;
pub use clear::Clear;
pub use clear_embedding_cache::ClearEmbeddingCache;
pub use create_collection::CreateCollection;
pub use create_index::CreateIndex;
pub use create_space::CreateSpace;
pub use delete::Delete;
pub use delete_collection::DeleteCollection;
pub use delete_embeddings::DeleteEmbeddings;
pub use delete_space::DeleteSpace;
pub use drop_index::DropIndex;
pub use get_document::{DocumentKey, GetDocument};
pub use key::{Key, Secret};
pub use list_documents::ListDocuments;
pub use neighbors::Neighbors;
pub use open::{Derived, Durability, Open};
pub use prepare::{PreparedChunk, PreparedDocument, prepare_chunks, prepare_document};
pub use rekey::Rekey;
pub use search::{Fusion, Include, Mode, Rerank, Search, Syntax};
pub use search_batch::SearchBatch;
pub use search_store::SearchStore;
pub use set_embeddings::SetEmbeddings;
pub use set_model::SetModel;
pub use set_tokenizer::SetTokenizer;
pub use update_metadata::{MetadataMode, UpdateMetadata};

use crate::model::{AddResult, CollectionInfo};

/// The space that every collection has.
pub const DEFAULT_SPACE: &str = "default";

/// A change. Those that are given together are committed together.
#[derive(Debug, Clone)]
pub enum Write {
    Add(Add),
    AddChunks(AddChunks),
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
    DropIndex(DropIndex),
    SetEmbeddings(SetEmbeddings),
    SetModel(SetModel),
    SetTokenizer(SetTokenizer),
    UpdateMetadata(UpdateMetadata),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of `Add`.
    Added(AddResult),
    /// Of `AddChunks`: the ids of the chunks.
    Ids(Vec<String>),
    /// Of `CreateCollection`.
    Collection(CollectionInfo),
    /// Of `ClearEmbeddingCache`, `Delete`, `DeleteEmbeddings` and `UpdateMetadata`: how many it found.
    Count(u64),
    /// Of `CreateIndex`: whether it is new.
    Made(bool),
    /// Of the others.
    Done,
}
