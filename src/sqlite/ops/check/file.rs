//! What SQLite itself says of its pages, trees, indexes and foreign keys.

use std::collections::HashMap;

use super::{Checker, Remedy};
use crate::error::Result;
use crate::model::Area;
use crate::sqlite::schema::Numbered;
use crate::sqlite::{migrate, sql};

/// Findings of SQLite that are asked for.
const MOST: usize = 100;

/// Pages, trees and rows; without the quick way also what each index has. FTS5 looks at its own structures in passing.
pub fn pages(checker: &mut Checker<'_>) -> Result<()> {
    let units = checker.pages();
    let pragma = if checker.quick { "quick_check" } else { "integrity_check" };
    let mut statement = checker.conn.prepare(&format!("PRAGMA {pragma}({MOST})"))?;
    let mut rows = statement.query([])?;
    let mut said = Vec::new();
    let outcome = loop {
        match rows.next() {
            Ok(Some(row)) => {
                said.push(String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or(b"?")).into_owned())
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let roots = roots(checker);
    for what in said.iter().flat_map(|text| text.lines()).filter(|text| *text != "ok" && !text.starts_with("***")) {
        let sentence = format!("SQLite: {}", what.trim());
        match remedy(what, &roots) {
            Some(remedy) => checker.findings.repairable(Area::File, sentence, remedy),
            None => checker.findings.broken(Area::File, sentence),
        }
    }
    if let Some(why) = migrate::unwritable(checker.conn)? {
        checker.findings.repairable(Area::File, why.message(), Remedy::Salvage);
    }
    outcome?;
    checker.done(units)
}

/// The names of trees by the number of their first page.
fn roots(checker: &Checker<'_>) -> HashMap<i64, (String, String)> {
    let text = "SELECT rootpage, type, name FROM sqlite_schema WHERE rootpage > 0";
    let read = sql::query_all(checker.conn, text, [], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    read.map(|rows| rows.into_iter().collect()).unwrap_or_default()
}

/// What helps against what SQLite says; it says it in English sentences alone.
fn remedy(what: &str, roots: &HashMap<i64, (String, String)>) -> Option<Remedy> {
    if let Some(table) = what.split("FTS5 table main.").nth(1) {
        return match Numbered::of(table.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?)? {
            Numbered::Text { collection, .. } => Some(Remedy::Text(collection)),
            _ => None,
        };
    }
    if what.contains("missing from index") || what.contains("entries in index") || what.contains("entry in index") {
        return Some(Remedy::Reindex);
    }
    let number = what.strip_prefix("Tree ")?.split(' ').next()?.parse().ok()?;
    let (kind, name) = roots.get(&number)?;
    match Numbered::of(name) {
        // What text indexes have is all derived; their pages may not be given back by what finds them broken.
        Some(Numbered::Text { .. }) => Some(Remedy::Salvage),
        _ if kind == "index" => Some(Remedy::Salvage),
        _ => None,
    }
}

/// Rows that refer to rows that are not there.
pub fn foreign_keys(checker: &mut Checker<'_>) -> Result<()> {
    let mut statement = checker.conn.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, id, parent): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let what = format!("{table} row {} belongs to a row of {parent} that is not there", id.unwrap_or_default());
        match (table.as_str(), parent.as_str()) {
            ("chunks", "documents") => checker.findings.lossy(Area::Chunks, what, Remedy::Orphans),
            ("chunks", _) => checker.findings.lossy(Area::Chunks, what, Remedy::Salvage),
            ("documents", _) => checker.findings.lossy(Area::Documents, what, Remedy::Salvage),
            _ => checker.findings.broken(Area::File, what),
        }
        (checker.keep_going)()?;
    }
    Ok(())
}
