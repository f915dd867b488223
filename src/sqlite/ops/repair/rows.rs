//! The rows of a damaged file, and what they cannot be without.

use rusqlite::Row;
use rusqlite::types::{Value, ValueRef};

use super::content::unreadable;
use crate::error::Result;
use crate::model::{ContentHash, Metric, Timestamp, check_id, new_id};
use crate::sqlite::ops::check::is_object;

/// The tokenizer of a collection whose own cannot be read.
pub const TOKENIZER: &str = "porter unicode61";
/// How the rows of a table are found.
#[derive(Clone, Copy)]
pub enum Order {
    /// By their rowid, which has this name.
    Id(&'static str),
    /// By so many columns, the first: it has no rowids.
    Key(usize),
}

/// A table whose rows are taken as they are.
pub struct Copied {
    pub name: &'static str,
    pub order: Order,
    pub columns: &'static [&'static str],
}

/// All of them, each after what it refers to.
pub const COPIED: [Copied; 17] = [
    Copied {
        name: "collections",
        order: Order::Id("id"),
        columns: &["name", "description", "settings", "tokenizer", "created_at", "hlc"],
    },
    Copied {
        name: "documents",
        order: Order::Id("id"),
        columns: &[
            "collection_id",
            "uid",
            "source_uri",
            "content_hash",
            "content_type",
            "raw_content",
            "metadata",
            "created_at",
            "updated_at",
            "expires_at",
            "hlc",
        ],
    },
    Copied {
        name: "chunks",
        order: Order::Id("id"),
        columns: &[
            "document_id",
            "collection_id",
            "uid",
            "chunk_index",
            "content",
            "content_hash",
            "token_count",
            "char_start",
            "char_end",
            "byte_start",
            "byte_end",
            "line_start",
            "line_end",
            "metadata",
            "expires_at",
            "hlc",
        ],
    },
    Copied { name: "fields", order: Order::Id("id"), columns: &["collection_id", "path", "created_at"] },
    Copied {
        name: "relations",
        order: Order::Id("id"),
        columns: &["collection_id", "source", "target", "type", "strength", "metadata", "created_at", "hlc"],
    },
    Copied {
        name: "state",
        order: Order::Id("id"),
        columns: &["namespace", "local", "key", "value", "expires_at", "updated_at", "hlc"],
    },
    Copied {
        name: "changes",
        order: Order::Id("seq"),
        columns: &["commit_tag", "hlc", "collection_id", "space_id", "entity", "uid", "row_id", "op"],
    },
    Copied { name: "tombstones", order: Order::Key(3), columns: &["collection_id", "entity", "uid", "hlc"] },
    Copied { name: "uri_tombstones", order: Order::Key(2), columns: &["collection_id", "uri", "hlc"] },
    Copied { name: "space_tombstones", order: Order::Key(2), columns: &["collection_id", "name", "hlc"] },
    Copied { name: "space_stamps", order: Order::Id("space_id"), columns: &["hlc"] },
    Copied { name: "past_collections", order: Order::Key(1), columns: &["name", "collection_id"] },
    Copied { name: "aliases", order: Order::Key(2), columns: &["collection_id", "uid", "uri"] },
    Copied { name: "chunk_claims", order: Order::Id("chunk_id"), columns: &["collection_id", "uid"] },
    Copied {
        name: "waiting_relations",
        order: Order::Key(4),
        columns: &["collection_id", "source", "target", "type", "strength", "metadata", "created_at", "hlc"],
    },
    Copied {
        name: "sync_peers",
        order: Order::Id("id"),
        columns: &["name", "endpoint", "replica_id", "watermark", "added_at", "last_synced_at"],
    },
    Copied {
        name: "embedding_cache",
        order: Order::Id("id"),
        columns: &["model", "content_hash", "dimension", "created_at", "embedding"],
    },
];

/// Every column of a row; text that is no UTF-8 loses what is none.
pub fn values(row: &Row<'_>) -> Result<Vec<Value>> {
    let columns = row.as_ref().column_count();
    (0..columns)
        .map(|at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
                other => other.try_into().map_err(|_| unreadable("a value"))?,
            })
        })
        .collect()
}

pub fn statement(table: &Copied) -> String {
    let id = match table.order {
        Order::Id(id) => Some(id),
        Order::Key(_) => None,
    };
    let columns: Vec<&str> = id.into_iter().chain(table.columns.iter().copied()).collect();
    let places: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    format!("INSERT OR IGNORE INTO {} ({}) VALUES ({})", table.name, columns.join(", "), places.join(", "))
}

/// Takes out what no write would have stored and nothing refuses. False where nothing is left without it. Places are those
/// of the statement, the id being the first.
pub fn bound(table: &str, values: &mut [Value]) -> bool {
    /// Beyond it there would be no numbers left for what comes.
    const LAST: i64 = i64::MAX / 2;
    let unnumbered = matches!(values[0], Value::Integer(id) if id > LAST);
    if unnumbered && matches!(table, "space_stamps" | "chunk_claims") {
        return false;
    }
    if unnumbered
        && !matches!(table, "tombstones" | "uri_tombstones" | "space_tombstones" | "aliases" | "waiting_relations")
    {
        values[0] = Value::Null;
    }
    let object = |value: &Value| matches!(value, Value::Text(json) if is_object(json).is_ok());
    let (required, optional): (&[usize], &[usize]) = match table {
        "collections" => {
            if !object(&values[3]) {
                values[3] = Value::Text("{}".to_owned());
            }
            (&[5], &[])
        }
        "changes" => {
            if !matches!(values[7], Value::Integer(row) if (1..LAST).contains(&row)) {
                values[7] = Value::Null;
            }
            return true;
        }
        "documents" => (&[8, 9], &[10]),
        "chunks" => (&[], &[15]),
        "relations" | "sync_peers" => {
            let at = if table == "relations" { 6 } else { 4 };
            if !object(&values[at]) {
                values[at] = Value::Text("{}".to_owned());
            }
            return true;
        }
        "waiting_relations" => return object(&values[5]) && matches!(values[6], Value::Integer(_)),
        "state" => {
            let json = |json: &str| serde_json::from_str::<serde_json::Value>(json).is_ok();
            return matches!(&values[4], Value::Text(value) if json(value));
        }
        _ => return true,
    };
    let uid = if table == "documents" { 2 } else { 3 };
    if table != "collections" && !matches!(&values[uid], Value::Text(id) if check_id("id", id).is_ok()) {
        values[uid] = Value::Text(new_id());
    }
    let moment = |value: &Value| matches!(value, Value::Integer(time) if Timestamp(*time).is_datetime());
    for &at in required {
        if !moment(&values[at]) {
            values[at] = Value::Integer(0);
        }
    }
    for &at in optional {
        if !moment(&values[at]) {
            values[at] = Value::Null;
        }
    }
    if table == "chunks" && !matches!(values[7], Value::Integer(tokens) if tokens >= 0) {
        values[7] = Value::Null;
    }
    true
}

/// Makes up what a row cannot be without. False where there is nothing to be done.
pub fn mend(table: &str, values: &mut [Value]) -> bool {
    /// Behind every chunk that has an index.
    const BEHIND: i64 = 1 << 40;
    let id = if let Some(Value::Integer(id)) = values.first() { *id } else { 0 };
    let text = |value: &Value| matches!(value, Value::Text(text) if !text.is_empty());
    // Places in the statement, the id being the first.
    let (uid, content, hash, hlc, metadata) = match table {
        "collections" => {
            values[1] = Value::Text(format!("recovered-{id}"));
            values[3] = Value::Text("{}".to_owned());
            if !text(&values[4]) {
                values[4] = Value::Text(TOKENIZER.to_owned());
            }
            values[6] = Value::Blob(vec![0; 24]);
            return true;
        }
        "documents" => {
            values[3] = Value::Null;
            if !text(&values[5]) {
                values[5] = Value::Text("text/plain".to_owned());
            }
            if !matches!(values[6], Value::Text(_)) {
                values[6] = Value::Null;
            }
            (2, None, 4, 11, 7)
        }
        "chunks" => {
            values[4] = Value::Integer(BEHIND + id);
            (3, Some(5), 6, 16, 14)
        }
        _ => return false,
    };
    values[uid] = Value::Text(new_id());
    match content.map(|content| &values[content]) {
        Some(Value::Text(text)) => values[hash] = Value::Blob(ContentHash::of_text(text).0.to_vec()),
        Some(_) => {
            values[hash] = Value::Null;
            values[hash - 1] = Value::Null;
        }
        None => values[hash] = Value::Blob(vec![0; 32]),
    }
    values[hlc] = Value::Blob(vec![0; 24]);
    if !matches!(values[metadata], Value::Text(_)) {
        values[metadata] = Value::Text("{}".to_owned());
    }
    true
}

/// What a row is called.
pub fn describe(values: &[Value]) -> String {
    let text = values.iter().find_map(|value| match value {
        Value::Text(text) => Some(format!("{:?}", text.chars().take(64).collect::<String>())),
        _ => None,
    });
    match (text, values.first()) {
        (Some(text), Some(Value::Integer(id))) => format!("row {id} ({text})"),
        (Some(text), _) => text,
        (None, Some(Value::Integer(id))) => format!("row {id}"),
        _ => "a row".to_owned(),
    }
}

/// A space, as its row may still have it.
pub struct SpaceRow {
    pub id: i64,
    pub collection_id: i64,
    pub name: String,
    pub dimension: Option<usize>,
    pub metric: Metric,
    pub model: Option<String>,
    pub generation: i64,
    pub created_at: i64,
}

impl SpaceRow {
    /// From a row that may be anything.
    pub fn of(values: &[Value]) -> Option<Self> {
        let integer = |at: usize| match values.get(at) {
            Some(Value::Integer(value)) => Some(*value),
            _ => None,
        };
        let text = |at: usize| match values.get(at) {
            Some(Value::Text(value)) => Some(value.clone()),
            _ => None,
        };
        let dimension = integer(3).and_then(|d| usize::try_from(d).ok());
        Some(Self {
            id: integer(0)?,
            collection_id: integer(1)?,
            name: text(2).filter(|name| !name.is_empty())?,
            dimension: dimension.filter(|d| (1..=crate::limits::DIMENSION).contains(d)),
            metric: text(4)?.parse().ok()?,
            model: text(5),
            created_at: integer(6).unwrap_or(0),
            generation: integer(7).unwrap_or(1),
        })
    }
}
