//! The collections and their spaces, and whether the tables that exist are theirs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Remedy, is_object};
use crate::error::Result;
use crate::model::{Area, Metric, Timestamp};
use crate::request::DEFAULT_SPACE;
use crate::sqlite::schema::{self, Declared, Deviations, Numbered};
use crate::sqlite::sql;
use crate::sqlite::tables::fts::FtsTable;
use crate::sqlite::tables::spaces::{self, SpaceRow};
use crate::sqlite::tables::vector_blocks;
use crate::sqlite::tables::vectors::VectorTable;
use crate::sqlite::tokenizer::TokenizerSpec;

/// What the file says that it has, as far as it can be read.
#[derive(Default)]
pub struct Catalog {
    /// By id, with the tokenizer where it is one.
    pub collections: BTreeMap<i64, (String, Option<TokenizerSpec>)>,
    /// The text indexes that are there.
    pub texts: Vec<(FtsTable, TokenizerSpec)>,
    /// The vectors that are there.
    pub spaces: Vec<Space>,
}

/// A space that has a table.
pub struct Space {
    pub collection_id: i64,
    pub table: VectorTable,
}

/// Reads the schema and the collections, and compares them.
pub fn read(checker: &mut Checker<'_>, catalog: &mut Catalog) -> Result<()> {
    let found = schema::compare(checker.conn)?;
    for what in &found.foreign {
        checker.findings.lossy(Area::Schema, what.clone(), Remedy::Salvage);
    }
    for name in &found.missing {
        let what = format!("{name} is not there");
        match schema::is_index(name)? {
            true => checker.findings.repairable(Area::Schema, what, Remedy::Make(name.clone())),
            false => checker.findings.lossy(Area::Schema, what, Remedy::Make(name.clone())),
        }
    }
    let mut expected = BTreeSet::new();
    let text = "SELECT id, name, settings, tokenizer, fts_generation, created_at FROM collections ORDER BY id";
    let mut statement = sql::prepare(checker.conn, text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (Ok(id), Ok(name), Ok(settings), Ok(tokenizer), Ok(generation)) = (
            row.get::<_, i64>(0),
            row.get::<_, String>(1),
            row.get::<_, String>(2),
            row.get::<_, String>(3),
            row.get::<_, i64>(4),
        ) else {
            checker.findings.broken(Area::Collections, "a row of collections does not have the types of its columns");
            continue;
        };
        if let Err(why) = is_object(&settings) {
            checker
                .findings
                .broken(Area::Collections, format!("collection {name:?}: settings are no JSON object: {why}"));
        }
        if !row.get(5).is_ok_and(|time| Timestamp(time).is_datetime()) {
            let what = format!("collection {name:?}: the time it was made is out of bounds");
            checker.findings.broken(Area::Collections, what);
        }
        let spec = TokenizerSpec::parse(&tokenizer).ok();
        if spec.is_none() {
            let what = format!("collection {name:?}: its tokenizer is {tokenizer:?}, which FTS5 does not have");
            checker.findings.broken(Area::Collections, what);
        }
        expected.insert(Numbered::View(id));
        expected.insert(Numbered::Text { collection: id, generation });
        text_tables(checker, catalog, &found, (id, generation), &name, spec.as_ref());
        catalog.collections.insert(id, (name, spec));
    }
    drop(rows);
    drop(statement);
    for id in catalog.collections.keys().copied().collect::<Vec<_>>() {
        match spaces::list(checker.conn, id) {
            Ok(all) => {
                for space in all {
                    vector_table(checker, catalog, &found, &mut expected, id, &space);
                }
            }
            Err(error) if super::is_outside(&error) => return Err(error),
            Err(error) => {
                let name = &catalog.collections[&id].0;
                checker
                    .findings
                    .broken(Area::Collections, format!("the spaces of collection {name:?}: {}", sql::plain(&error)));
                // What cannot be read is not what nobody wants.
                expected
                    .extend(found.numbered.keys().chain(&found.torn).filter(|n| matches!(n, Numbered::Vectors { .. })));
            }
        }
    }
    for numbered in found.numbered.keys().chain(&found.torn).filter(|numbered| !expected.contains(numbered)) {
        stray(checker, catalog, &found, *numbered)?;
    }
    Ok(())
}

/// A table that nobody names. It goes, unless what would name it may be lost and not it.
fn stray(checker: &mut Checker<'_>, catalog: &Catalog, found: &Deviations, numbered: Numbered) -> Result<()> {
    let name = numbered.name();
    let wanted = match numbered {
        Numbered::View(collection) | Numbered::Text { collection, .. } => {
            let text = "SELECT EXISTS (SELECT 1 FROM chunks WHERE collection_id = ?1)";
            !catalog.collections.contains_key(&collection)
                && sql::query_one(checker.conn, text, [collection], |row| row.get(0))?
        }
        Numbered::Vectors { space, .. } => {
            let text = "SELECT NOT EXISTS (SELECT 1 FROM spaces WHERE id = ?1)";
            sql::query_one(checker.conn, text, [space], |row| row.get::<_, bool>(0))?
                && !matches!(vector_blocks::is_empty(checker.conn, &name), Ok(true))
        }
    };
    let what = format!("{name} belongs to no collection and no space");
    if wanted {
        checker.findings.lossy(Area::Schema, format!("{what}, and what it holds is wanted"), Remedy::Salvage);
    } else if found.numbered.contains_key(&numbered) {
        checker.findings.repairable(Area::Schema, what, Remedy::Drop(name));
    } else {
        checker.findings.repairable(Area::Schema, what, Remedy::Salvage);
    }
    Ok(())
}

fn text_tables(
    checker: &mut Checker<'_>,
    catalog: &mut Catalog,
    found: &Deviations,
    (id, generation): (i64, i64),
    name: &str,
    spec: Option<&TokenizerSpec>,
) {
    if !found.numbered.contains_key(&Numbered::View(id)) {
        let what = format!("collection {name:?}: the view fts_src_{id} is not there");
        checker.findings.repairable(Area::Schema, what, Remedy::View(id));
    }
    let numbered = Numbered::Text { collection: id, generation };
    match (found.numbered.get(&numbered), spec) {
        (Some(Declared::Tokenizer(made)), Some(spec)) if made == spec => {
            catalog.texts.push((FtsTable { collection_id: id, generation }, spec.clone()));
        }
        (Some(Declared::Tokenizer(_)), Some(_)) => {
            let what = format!("{} was made with another tokenizer than collection {name:?} has", numbered.name());
            checker.findings.repairable(Area::Text, what, Remedy::Text(id));
        }
        (_, None) => {}
        (_, Some(_)) => {
            let what = format!("collection {name:?}: {} or a part of it is not there", numbered.name());
            checker.findings.repairable(Area::Schema, what, Remedy::Text(id));
        }
    }
}

fn vector_table(
    checker: &mut Checker<'_>,
    catalog: &mut Catalog,
    found: &Deviations,
    expected: &mut BTreeSet<Numbered>,
    collection_id: i64,
    space: &SpaceRow,
) {
    let name = &space.name;
    let Some(table) = space.table() else { return };
    let numbered = Numbered::Vectors { space: table.space_id, generation: table.generation };
    expected.insert(numbered);
    match found.numbered.get(&numbered) {
        Some(Declared::Vectors { dimension, metric }) => {
            let wanted = schema::declared_metric(table.metric);
            if (*dimension, *metric) != (table.dimension, wanted) {
                let what = format!(
                    "{} was made for dimension {dimension} and {metric}, and space {name:?} has {} and {wanted}",
                    table.name(),
                    table.dimension
                );
                checker.findings.lossy(Area::Vectors, what, Remedy::Vectors(space.id));
            } else {
                catalog.spaces.push(Space { collection_id, table });
            }
        }
        _ => {
            let what = format!("space {name:?}: {} or a part of it is not there", table.name());
            checker.findings.lossy(Area::Schema, what, Remedy::Vectors(space.id));
        }
    }
}

/// What each collection must have.
pub fn collections(checker: &mut Checker<'_>, catalog: &Catalog) -> Result<()> {
    for (&id, (name, _)) in &catalog.collections {
        if name.is_empty() {
            checker.findings.broken(Area::Collections, format!("collection {id} has an empty name"));
        }
        let text = "SELECT name FROM spaces WHERE collection_id = ?1 ORDER BY id LIMIT 1";
        let first: Option<String> = sql::query_optional(checker.conn, text, [id], |row| row.get(0))?;
        if first.as_deref() != Some(DEFAULT_SPACE) {
            let what = format!("collection {name:?}: its first space is not {DEFAULT_SPACE:?}");
            checker.findings.broken(Area::Collections, what);
        }
    }
    // A sentence for each row that the types of its columns do not hold.
    let mut statement =
        sql::prepare(checker.conn, "SELECT id, collection_id, dimension, metric, vec_generation FROM spaces")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get::<_, i64>(0).unwrap_or_default();
        let collection = row.get::<_, i64>(1).ok();
        if collection.is_none_or(|id| !catalog.collections.contains_key(&id)) {
            checker.findings.broken(Area::Collections, format!("spaces row {id} belongs to no collection"));
        }
        let dimension: Option<Option<i64>> = row.get(2).ok();
        if dimension.is_none_or(|d| d.is_some_and(|d| !(1..=crate::limits::DIMENSION as i64).contains(&d))) {
            checker.findings.broken(Area::Collections, format!("spaces row {id}: its dimension is out of bounds"));
        }
        if row.get::<_, String>(3).ok().and_then(|metric| metric.parse::<Metric>().ok()).is_none() {
            checker.findings.broken(Area::Collections, format!("spaces row {id}: its metric is none"));
        }
        let generation = row.get::<_, i64>(4).ok();
        if generation.is_none_or(|g| (g == 0) != matches!(dimension, Some(None)) || g < 0) {
            let what = format!("spaces row {id}: its generation and its dimension do not fit");
            checker.findings.broken(Area::Collections, what);
        }
    }
    Ok(())
}
