//! What every backend does.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::model::{
    AddResult, Applied, Change, CheckReport, Chunk, CollectionInfo, Conflict, Document, Exported, ForgetReport, Health,
    Hits, Imported, Namespace, NewDocument, OnConflict, Peer, RecallReport, Related, Relation, RepairReport, SpaceInfo,
    StateEntry, StoreStats, SyncLog,
};
use crate::request::{
    Add, AddChunks, AddPeer, ApplyChanges, Backup, CacheEmbeddings, CachedEmbeddings, Changes, Check, CheckRecall,
    Clear, ClearEmbeddingCache, CreateCollection, CreateIndex, CreateSpace, Delete, DeleteCollection, DeleteEmbeddings,
    DeleteSpace, DeleteState, DropIndex, Expire, Export, ExportChanges, Forget, GetDocument, ImportRelations,
    ImportState, ListDocuments, LogSync, Neighbors, Operation, Rekey, Relate, RelatedTo, Relations, RemovePeer, Repair,
    ScanState, Search, SearchBatch, SearchStore, SetEmbeddings, SetModel, SetState, SetTokenizer, Unrelate,
    UpdateMetadata, Write, Written,
};
use crate::sync::{ReplicaId, Watermark};

/// What a backend can do beyond the contract that all share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Other processes may open the same store and see each commit.
    pub shared_between_processes: bool,
    /// What is stored outlives `close`.
    pub persistent: bool,
}

/// Looks on while a write runs, on the caller's own thread.
pub trait Watch {
    /// Called every so often with the units done and the units in all. `false` asks to stop: the write rolls back and
    /// fails with `Cancelled`, unless it was committed before it could see the wish.
    fn keep_going(&mut self, done: u64, total: u64) -> bool;
}

/// Looks away.
#[derive(Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn keep_going(&mut self, _done: u64, _total: u64) -> bool {
        true
    }
}

/// Asked every so often while a search runs, on the caller's own thread.
pub trait Interrupt: Send + Sync {
    /// `false` cancels the search, which fails with `Cancelled`.
    fn keep_going(&self) -> bool;
}

/// Never cancels.
#[derive(Debug, Default)]
pub struct Uninterrupted;

impl Interrupt for Uninterrupted {
    fn keep_going(&self) -> bool {
        true
    }
}

/// Vectors read back, one row per id asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    pub values: Vec<f32>,
    pub dimension: usize,
}

/// What is known of the embeddings of texts before an embedder is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Cached {
    /// Of the embedder, where it is known.
    pub model: Option<String>,
    pub space: SpaceInfo,
    /// Which of the texts are there, in order.
    pub found: Vec<usize>,
    /// One row for each that was found.
    pub vectors: Vectors,
}

/// A collection that an export comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedCollection {
    pub info: CollectionInfo,
    /// The metadata fields that have an index, by name.
    pub indexes: Vec<String>,
    pub documents: u64,
    pub chunks: u64,
}

/// Some documents of an export, in the order in which they were added, with all that belongs to them.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedPage {
    /// Each with its chunks, by index.
    pub documents: Vec<(Document, Vec<Chunk>)>,
    /// For each space of the collection, in its order.
    pub embeddings: Vec<ExportedEmbeddings>,
}

/// The embeddings that the chunks of a page have in one space.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedEmbeddings {
    /// For each chunk of the page, whether it has one.
    pub given: Vec<bool>,
    /// One row for each that has.
    pub vectors: Vectors,
}

/// Takes the batches of an export of changes in, one after the other, on the caller's own thread. What it fails with ends
/// the export.
pub trait Batches {
    /// Another batch.
    fn begin(&mut self) -> Result<()>;
    /// More of it.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// It is whole; `last`: so is the export.
    fn end(&mut self, last: bool) -> Result<()>;
}

/// One batch in memory.
impl Batches for Vec<u8> {
    fn begin(&mut self) -> Result<()> {
        self.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, _last: bool) -> Result<()> {
        Ok(())
    }
}

/// Takes in what an export reads, on the caller's own thread. What it fails with ends the export.
///
/// It may call the store, but not fork: a child that is born meanwhile can open nothing.
pub trait Exporter {
    /// The collection of the pages that follow.
    fn collection(&mut self, collection: ExportedCollection) -> Result<()>;
    /// The next documents of it.
    fn page(&mut self, page: ExportedPage) -> Result<()>;
    /// The next relations of it, in the order in which they were made. They come after its documents.
    fn relations(&mut self, relations: Vec<Relation>) -> Result<()>;
    /// The next state values, by namespace and key. They come last.
    fn state(&mut self, entries: Vec<(Namespace, StateEntry)>) -> Result<()>;
}

/// A store of collections. All methods may be called from any thread at any time.
///
/// Each fails with `Closed` after [`Store::close`], with `Fork` in a process forked from the one that opened it, with
/// `CollectionNotFound` where it names a collection that is not there, and with `Corrupt`, `Io`, `Locked` or `StoreFull`
/// where the backend says so.
pub trait Store: Send + Sync {
    /// What it can do beyond the contract.
    fn capabilities(&self) -> Capabilities;
    /// Where it lives; `None` for an ephemeral store.
    fn path(&self) -> Option<&Path>;
    /// Whether writes are refused with `ReadOnly`.
    fn read_only(&self) -> bool;
    /// Whether what is stored is encrypted.
    fn encrypted(&self) -> bool;
    /// Whether it was closed.
    fn closed(&self) -> bool;
    /// Waits for writes under way and lets go of everything. A second call does nothing.
    fn close(&self) -> Result<()>;

    /// Encrypts what is stored with another key, or with none, while nobody else has it open: `Locked`. The store goes on
    /// with the new one.
    fn rekey(&self, request: Rekey) -> Result<()>;

    /// Commits all writes as one, or none of them.
    fn write(&self, writes: Vec<Write>, watch: &mut dyn Watch) -> Result<Vec<Written>>;

    fn get_collection(&self, name: &str) -> Result<CollectionInfo>;
    /// By name.
    fn list_collections(&self) -> Result<Vec<CollectionInfo>>;
    /// In the order of the ids; `None` where there is no such chunk.
    fn get(&self, collection: &str, chunk_ids: &[String]) -> Result<Vec<Option<Chunk>>>;
    fn get_document(&self, request: &GetDocument) -> Result<Option<Document>>;
    fn list_documents(&self, request: &ListDocuments) -> Result<Vec<Document>>;
    /// By index; none for a document that is not there.
    fn get_chunks(&self, collection: &str, document_id: &str) -> Result<Vec<Chunk>>;
    fn get_chunk_by_index(&self, collection: &str, document_id: &str, index: u64) -> Result<Option<Chunk>>;
    /// By index, with the chunk itself; none for a chunk that is not there.
    fn neighbors(&self, request: &Neighbors) -> Result<Vec<Chunk>>;
    /// `NotFound` names the chunks without an embedding in the space.
    fn get_embeddings(&self, collection: &str, chunk_ids: &[String], space: &str) -> Result<Vectors>;
    /// Chunks, or those that match.
    fn count(&self, collection: &str, filter: Option<&Filter>) -> Result<u64>;
    /// Documents, or those of which a chunk matches.
    fn count_documents(&self, collection: &str, filter: Option<&Filter>) -> Result<u64>;
    /// For each document, whether it is stored, by id or else by uri, with the same content.
    fn unchanged(&self, collection: &str, documents: &[NewDocument]) -> Result<Vec<bool>>;
    /// The same, or, under `Skip`, whether there is a document of its id or uri: an add leaves what is stored as it is.
    fn kept(&self, collection: &str, documents: &[NewDocument], on_conflict: OnConflict) -> Result<Vec<bool>>;
    /// `CollectionExists` where the embedder's model is not that of the space.
    fn cached_embeddings(&self, request: &CachedEmbeddings) -> Result<Cached>;
    /// Reads collections whole, and state where all of them are asked for, in pages, all of one snapshot that lasts as long as this call. Writers are not kept
    /// waiting, but the log cannot begin anew meanwhile.
    fn export(&self, request: &Export, exporter: &mut dyn Exporter) -> Result<()>;
    fn search(&self, request: &Search, interrupt: Arc<dyn Interrupt>) -> Result<Hits>;
    /// The hits of each vector, in order.
    fn search_batch(&self, request: &SearchBatch, interrupt: Arc<dyn Interrupt>) -> Result<Vec<Hits>>;
    /// Over several collections.
    fn search_store(&self, request: &SearchStore, interrupt: Arc<dyn Interrupt>) -> Result<Hits>;

    /// `NotFound` where there are fewer than two embeddings.
    fn check_recall(&self, request: &CheckRecall, interrupt: Arc<dyn Interrupt>) -> Result<RecallReport>;

    fn get_state(&self, namespace: &Namespace, key: &str) -> Result<Option<StateEntry>>;
    /// By key.
    fn scan_state(&self, request: &ScanState) -> Result<Vec<StateEntry>>;
    fn count_state(&self, namespace: &Namespace) -> Result<u64>;

    /// In the order in which they were made; none for an id that is not there.
    fn relations(&self, request: &Relations) -> Result<Vec<Relation>>;
    /// The strongest first, then the nearest, then by id.
    fn related(&self, request: &RelatedTo) -> Result<Vec<Related>>;

    /// The feed, in order. `Sync` for a follower that is further behind than it goes.
    fn changes(&self, request: &Changes) -> Result<Vec<Change>>;
    /// The number of the last change.
    fn last_change(&self) -> Result<i64>;
    /// How much of each replica is here, and who this store is.
    fn watermark(&self) -> Result<(ReplicaId, Watermark)>;
    /// Writes what is newer than a watermark, all of one snapshot. Nobody waits for it.
    fn export_changes(&self, request: &ExportChanges, batches: &mut dyn Batches) -> Result<Exported>;
    /// The other stores that were named, by name.
    fn peers(&self) -> Result<Vec<Peer>>;
    /// The latest syncs, the last first.
    fn sync_log(&self, limit: usize) -> Result<Vec<SyncLog>>;
    /// What lost to changes that were made without knowing of it, the last first.
    fn conflicts(&self, limit: usize) -> Result<Vec<Conflict>>;

    /// Deletes documents, removes what the files of the store still hold of them, and looks for it in all of these.
    /// `Locked` where readers or another process stayed in the way for longer than the timeout: they are deleted then, and
    /// another call goes on.
    fn forget(&self, request: Forget, watch: &mut dyn Watch) -> Result<ForgetReport>;
    /// Works on the file itself. `Locked` where readers or another process stayed in the way for longer than the timeout.
    fn operate(&self, operation: Operation, watch: &mut dyn Watch) -> Result<()>;
    /// Writes a copy of one moment to another file, which is replaced when the copy is whole and verified.
    fn backup(&self, request: &Backup, watch: &mut dyn Watch) -> Result<()>;
    /// What it holds and what its file is made of.
    fn stats(&self) -> Result<StoreStats>;
    /// How it fares. What it finds is no error.
    fn health(&self) -> Result<Health>;
    /// Looks at everything that must hold, in one snapshot. What it finds is no error.
    fn check(&self, request: &Check, watch: &mut dyn Watch) -> Result<CheckReport>;
    /// Rebuilds what is derived, in place or, with what can be read of everything else, as a new store.
    fn repair(&self, request: &Repair, watch: &mut dyn Watch) -> Result<RepairReport>;

    /// The spaces of a collection, `default` first.
    fn list_spaces(&self, collection: &str) -> Result<Vec<SpaceInfo>> {
        Ok(self.get_collection(collection)?.spaces)
    }
    fn add(&self, request: Add, watch: &mut dyn Watch) -> Result<AddResult> {
        match self.write_one(Write::Add(request), watch)? {
            Written::Added(result) => Ok(result),
            other => Err(mismatch(&other)),
        }
    }
    fn add_chunks(&self, request: AddChunks) -> Result<Vec<String>> {
        match self.write_one(Write::AddChunks(request), &mut Unwatched)? {
            Written::Ids(ids) => Ok(ids),
            other => Err(mismatch(&other)),
        }
    }
    /// Merges a batch, or nothing of it.
    fn apply_changes(&self, request: ApplyChanges, watch: &mut dyn Watch) -> Result<Applied> {
        // What a passphrase takes is not the writer's to wait for; and what is no batch does not come to it.
        request.open()?;
        match self.write_one(Write::ApplyChanges(request), watch)? {
            Written::Applied(applied) => Ok(applied),
            other => Err(mismatch(&other)),
        }
    }
    /// `Conflict` where there is a peer of that name.
    fn add_peer(&self, request: AddPeer) -> Result<()> {
        self.write_one(Write::AddPeer(request), &mut Unwatched).map(drop)
    }
    /// `NotFound` where there is none.
    fn remove_peer(&self, request: RemovePeer) -> Result<()> {
        self.write_one(Write::RemovePeer(request), &mut Unwatched).map(drop)
    }
    /// Restamps what a clock that ran ahead stamped and nobody has, and says how many changes.
    fn reclock(&self) -> Result<u64> {
        self.write_count(Write::Reclock)
    }
    /// Makes the store another replica, of a file that was copied.
    fn renew_replica(&self) -> Result<()> {
        self.write_one(Write::RenewReplica, &mut Unwatched).map(drop)
    }
    fn log_sync(&self, request: LogSync) -> Result<()> {
        self.write_one(Write::LogSync(request), &mut Unwatched).map(drop)
    }
    fn create_collection(&self, request: CreateCollection) -> Result<CollectionInfo> {
        match self.write_one(Write::CreateCollection(request), &mut Unwatched)? {
            Written::Collection(info) => Ok(info),
            other => Err(mismatch(&other)),
        }
    }
    fn delete_collection(&self, request: DeleteCollection) -> Result<()> {
        self.write_one(Write::DeleteCollection(request), &mut Unwatched).map(drop)
    }
    fn create_space(&self, request: CreateSpace) -> Result<()> {
        self.write_one(Write::CreateSpace(request), &mut Unwatched).map(drop)
    }
    /// How many of those that were there and as expected are deleted.
    fn delete_state(&self, request: DeleteState) -> Result<u64> {
        self.write_count(Write::DeleteState(request))
    }
    fn delete_space(&self, request: DeleteSpace) -> Result<()> {
        self.write_one(Write::DeleteSpace(request), &mut Unwatched).map(drop)
    }
    /// `DocumentNotFound` names the ids that are of no chunk and no document.
    fn relate(&self, request: Relate) -> Result<()> {
        self.write_one(Write::Relate(request), &mut Unwatched).map(drop)
    }
    /// What became of each, all in one transaction. `Conflict` names the first that is there with other content.
    fn import_relations(&self, request: ImportRelations) -> Result<Vec<Imported>> {
        match self.write_one(Write::ImportRelations(request), &mut Unwatched)? {
            Written::Imported(outcomes) => Ok(outcomes),
            other => Err(mismatch(&other)),
        }
    }
    /// What became of each, all in one transaction. `Conflict` names the first whose key has another value.
    fn import_state(&self, request: ImportState) -> Result<Vec<Imported>> {
        match self.write_one(Write::ImportState(request), &mut Unwatched)? {
            Written::Imported(outcomes) => Ok(outcomes),
            other => Err(mismatch(&other)),
        }
    }
    /// How many documents, and chunks of documents that stay, had expired.
    fn expire(&self, request: Expire) -> Result<u64> {
        self.write_count(Write::Expire(request))
    }
    /// How many there were.
    fn unrelate(&self, request: Unrelate) -> Result<u64> {
        self.write_count(Write::Unrelate(request))
    }
    fn set_embeddings(&self, request: SetEmbeddings) -> Result<()> {
        self.write_one(Write::SetEmbeddings(request), &mut Unwatched).map(drop)
    }
    /// Whether the index is new.
    fn create_index(&self, request: CreateIndex, watch: &mut dyn Watch) -> Result<bool> {
        match self.write_one(Write::CreateIndex(request), watch)? {
            Written::Made(new) => Ok(new),
            other => Err(mismatch(&other)),
        }
    }
    fn drop_index(&self, request: DropIndex) -> Result<()> {
        self.write_one(Write::DropIndex(request), &mut Unwatched).map(drop)
    }
    fn set_model(&self, request: SetModel) -> Result<()> {
        self.write_one(Write::SetModel(request), &mut Unwatched).map(drop)
    }
    fn cache_embeddings(&self, request: CacheEmbeddings) -> Result<()> {
        self.write_one(Write::CacheEmbeddings(request), &mut Unwatched).map(drop)
    }
    /// How many vectors there were.
    fn clear_embedding_cache(&self, request: ClearEmbeddingCache) -> Result<u64> {
        self.write_count(Write::ClearEmbeddingCache(request))
    }
    /// Whether what was there is what was expected, and all are set.
    fn set_state(&self, request: SetState) -> Result<bool> {
        match self.write_one(Write::SetState(request), &mut Unwatched)? {
            Written::Made(set) => Ok(set),
            other => Err(mismatch(&other)),
        }
    }
    fn set_tokenizer(&self, request: SetTokenizer, watch: &mut dyn Watch) -> Result<()> {
        self.write_one(Write::SetTokenizer(request), watch).map(drop)
    }
    fn clear(&self, request: Clear) -> Result<()> {
        self.write_one(Write::Clear(request), &mut Unwatched).map(drop)
    }
    fn delete(&self, request: Delete) -> Result<u64> {
        self.write_count(Write::Delete(request))
    }
    fn delete_embeddings(&self, request: DeleteEmbeddings) -> Result<u64> {
        self.write_count(Write::DeleteEmbeddings(request))
    }
    fn update_metadata(&self, request: UpdateMetadata) -> Result<u64> {
        self.write_count(Write::UpdateMetadata(request))
    }

    /// Commits one write.
    fn write_one(&self, write: Write, watch: &mut dyn Watch) -> Result<Written> {
        self.write(vec![write], watch)?
            .pop()
            .ok_or_else(|| Error::internal("a backend acknowledged a write without an outcome"))
    }
    /// Commits one write that counts.
    fn write_count(&self, write: Write) -> Result<u64> {
        match self.write_one(write, &mut Unwatched)? {
            Written::Count(count) => Ok(count),
            other => Err(mismatch(&other)),
        }
    }
}

fn mismatch(written: &Written) -> Error {
    Error::internal(format!("a backend answered a write with another outcome: {written:?}"))
}
