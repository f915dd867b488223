//! Plain data: what a store holds and what it hands out. Nothing here knows a backend.

mod check;
mod chunk;
mod collection;
mod document;
mod embeddings;
mod forget;
mod health;
mod hit;
mod ids;
mod imported;
mod metadata;
mod recall;
mod relation;
mod repair;
mod state;
mod stats;
mod sync;
mod time;

pub use check::{Area, CheckReport, Problem};
pub use chunk::{Chunk, NewChunk, Span};
pub use collection::{CollectionInfo, Metric, SpaceInfo};
pub use document::{AddResult, ContentHash, ContentHasher, Document, HashedChunk, NewDocument, OnConflict};
pub use embeddings::{Embeddings, Matrix, Rows, check_vector};
pub use forget::{ForgetReport, Residue};
pub use health::{Health, Reason, Status};
pub use hit::{Hit, Hits, KeywordPlan, Leg, Marker};
pub use ids::{check_id, check_key, check_name, new_id};
pub use imported::Imported;
pub use metadata::{Metadata, check_numbers};
pub use recall::RecallReport;
pub use relation::{Direction, NewRelation, Related, Relation};
pub use repair::RepairReport;
pub use state::{Expected, Namespace, NewStateEntry, StateEntry, StateValue};
pub use stats::{IndexStats, StoreStats};
pub use sync::{Applied, Change, Conflict, Exported, Peer, SyncLog, SyncReport};
pub use time::Timestamp;
