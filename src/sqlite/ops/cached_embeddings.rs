use rusqlite::Connection;

use super::shared::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ContentHash;
use crate::request::{CachedEmbeddings, DEFAULT_SPACE};
use crate::sqlite::tables::embedding_cache;
use crate::sqlite::tables::spaces::{self, SpaceRow};
use crate::store::{Cached, Vectors};

pub fn run(conn: &Connection, request: &CachedEmbeddings) -> Result<Cached> {
    let target = Target::find(conn, &request.collection)?;
    let space = spaces::require(conn, target.id(), &request.space)?;
    let model = embedder_model(&target, &space, request)?;
    let mut vectors = Vectors { values: Vec::new(), dimension: 0 };
    let mut found = Vec::new();
    if let Some(model) = &model {
        let hashes: Vec<ContentHash> = request.texts.iter().map(|text| ContentHash::of_text(text)).collect();
        let mut dimension = space.dimension.or(request.dimension);
        for hash in &hashes {
            if dimension.is_some() {
                break;
            }
            dimension = embedding_cache::newest_dimension(conn, model, *hash)?;
        }
        if let Some(dimension) = dimension {
            vectors.dimension = dimension;
            for (index, hash) in hashes.iter().enumerate() {
                if embedding_cache::read(conn, model, *hash, dimension, &mut vectors.values)? {
                    found.push(index);
                }
            }
        }
    }
    Ok(Cached { model, space: space.info(), found, vectors })
}

/// The model of the embedder, which must be that of the space.
fn embedder_model(target: &Target, space: &SpaceRow, request: &CachedEmbeddings) -> Result<Option<String>> {
    let default = target.spaces.iter().find(|space| space.name == DEFAULT_SPACE);
    let of_default = || default.and_then(|space| space.model.clone());
    let embedder = request.model.clone().or_else(of_default);
    match (&space.model, &embedder) {
        (Some(there), Some(embedder)) if there != embedder => Err(Error::new(
            ErrorKind::CollectionExists,
            format!(
                "space {:?} of collection {:?} has model {there:?}, and the embedder's model is {embedder:?}; embed \
                 with {there:?}, or create_space for another",
                space.name, request.collection
            ),
        )),
        (there, _) => Ok(embedder.or_else(|| there.clone())),
    }
}
