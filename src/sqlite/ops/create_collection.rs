use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{CollectionInfo, check_name};
use crate::request::{CreateCollection, DEFAULT_SPACE};
use crate::sqlite::tables::changes::{self, Change, Entity, Op};
use crate::sqlite::tables::collections::{self, NewCollection};
use crate::sqlite::tables::fts::{self, FtsTable};
use crate::sqlite::tables::spaces::{self, NewSpace};
use crate::sqlite::tokenizer::TokenizerSpec;
use crate::sqlite::txn::Txn;

pub fn run(txn: &mut Txn<'_>, request: &CreateCollection) -> Result<CollectionInfo> {
    check_name("collection name", &request.name)?;
    check_space(request.dimension, request.model.as_deref())?;
    let tokenizer = TokenizerSpec::parse(&request.tokenizer)?;
    if let Some(row) = collections::find(txn.conn, &request.name)? {
        let info = collections::info(txn.conn, row)?;
        compare(&info, request, &tokenizer)?;
        return Ok(info);
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
        },
    )?;
    changes::unbury(conn, 0, Entity::Collection, &request.name)?;
    changes::append(
        conn,
        stamp,
        Change {
            collection_id: id,
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
    let refused = |what: String| {
        Error::new(ErrorKind::CollectionExists, format!("collection {:?} exists already{what}", request.name))
    };
    if !request.exist_ok {
        return Err(refused("; get_collection opens it, or pass exist_ok=True".to_owned()));
    }
    let Some(space) = info.spaces.first() else {
        return Err(Error::new(ErrorKind::Corrupt, format!("collection {:?} has no space", request.name)));
    };
    let differs = |what: &str, there: &dyn std::fmt::Display, asked: &dyn std::fmt::Display| {
        refused(format!(" with {what} {there}, and {asked} was asked for; use the same, or another name"))
    };
    match (space.dimension, request.dimension) {
        (Some(there), Some(asked)) if there != asked => return Err(differs("dimension", &there, &asked)),
        _ => {}
    }
    if space.metric != request.metric {
        return Err(differs("metric", &space.metric, &request.metric));
    }
    if info.tokenizer != tokenizer.as_text() {
        return Err(differs("tokenizer", &info.tokenizer, &tokenizer.as_text()));
    }
    match (&space.model, &request.model) {
        (Some(there), Some(asked)) if there != asked => Err(differs("model", there, asked)),
        _ => Ok(()),
    }
}
