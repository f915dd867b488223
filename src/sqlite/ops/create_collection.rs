use super::set_model;
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{CollectionInfo, Metadata, check_name};
use crate::request::{CreateCollection, DEFAULT_SPACE, SetModel};
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::collections::{self, NewCollection};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::spaces::{self, NewSpace};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &CreateCollection) -> Result<CollectionInfo> {
    check_name("collection name", &request.name)?;
    check_space(request.dimension, request.model.as_deref())?;
    Metadata::from_map(&request.settings).map_err(|error| error.context("settings"))?;
    let tokenizer = TokenizerSpec::parse(&request.tokenizer)?;
    if let Some(row) = collections::find(txn.conn, &request.name)? {
        let info = collections::info(txn.conn, row)?;
        compare(&info, request, &tokenizer)?;
        let Some(model) =
            request.model.clone().filter(|_| info.spaces.first().is_some_and(|space| space.model.is_none()))
        else {
            return Ok(info);
        };
        set_model::run(txn, &SetModel { collection: request.name.clone(), model })?;
        return collections::info(txn.conn, collections::require(txn.conn, &request.name)?);
    }
    let conn = txn.conn;
    let stamp = txn.stamp();
    let id = collections::insert(
        conn,
        stamp,
        &NewCollection {
            name: &request.name,
            description: request.description.as_deref(),
            settings: &request.settings,
            tokenizer: &tokenizer.as_text(),
            created_at: txn.now,
        },
    )?;
    fts::create_view(conn, id)?;
    fts::create(conn, FtsTable { collection_id: id, generation: 1 }, &tokenizer)?;
    spaces::insert(
        conn,
        &NewSpace {
            collection_id: id,
            name: DEFAULT_SPACE,
            dimension: request.dimension,
            metric: request.metric,
            model: request.model.as_deref(),
            created_at: txn.now,
            stamp,
        },
    )?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: Some(id),
            space_id: None,
            entity: Entity::Collection,
            uid: Some(&request.name),
            row_id: Some(id),
            op: Op::Put,
        },
    )?;
    let row = collections::require(conn, &request.name)?;
    collections::info(conn, row)
}

/// Limits that every new space obeys.
pub fn check_space(dimension: Option<usize>, model: Option<&str>) -> Result<()> {
    if let Some(dimension) = dimension
        && !(1..=limits::DIMENSION).contains(&dimension)
    {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("dimension is {dimension}; from 1 to {} are allowed", limits::DIMENSION),
        ));
    }
    model.map_or(Ok(()), |model| check_name("model", model))
}

/// `exist_ok` returns what is there only if it is what was asked for. A dimension or a model that one side leaves open is
/// no difference.
fn compare(info: &CollectionInfo, request: &CreateCollection, tokenizer: &TokenizerSpec) -> Result<()> {
    if !request.exist_ok {
        return Err(Error::new(
            ErrorKind::CollectionExists,
            format!("collection {:?} exists already; get_collection opens it, or pass exist_ok=True", request.name),
        ));
    }
    let Some(space) = info.spaces.first() else {
        return Err(Error::new(ErrorKind::Corrupt, format!("collection {:?} has no space", request.name)));
    };
    let name = &request.name;
    match (space.dimension, request.dimension) {
        (Some(there), Some(asked)) if there != asked => return Err(differs(name, "dimension", &there, &asked)),
        _ => {}
    }
    if space.metric != request.metric {
        return Err(differs(name, "metric", &space.metric, &request.metric));
    }
    if info.tokenizer != tokenizer.as_text() {
        return Err(differs(name, "tokenizer", &info.tokenizer, &tokenizer.as_text()));
    }
    match (&space.model, &request.model) {
        (Some(there), Some(asked)) if there != asked => Err(differs(name, "model", there, asked)),
        _ => Ok(()),
    }
}

/// What is there is not what was asked for.
pub fn differs(name: &str, what: &str, there: &dyn std::fmt::Display, asked: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::CollectionExists,
        format!(
            "collection {name:?} exists already with {what} {there}, and {asked} was asked for; use the same, or another name"
        ),
    )
}
