use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Document, Timestamp, check_id};
use crate::request::ListDocuments;
use crate::sqlite::filter_sql::{self, Documents, Indexes};
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::{chunk_alive, document_alive};
use crate::sqlite::tables::{collections, documents};

pub fn run(conn: &Connection, request: &ListDocuments) -> Result<Vec<Document>> {
    let collection = collections::require(conn, &request.collection)?;
    let before = match &request.after {
        None => i64::MAX,
        Some(uid) => {
            check_id("after", uid)?;
            let document = documents::by_uid(conn, collection.id, uid)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::DocumentNotFound,
                    format!("after names document {uid:?}, which is not there; it may have been deleted: start over"),
                )
            })?;
            document.id
        }
    };
    let mut values = vec![
        Value::Integer(collection.id),
        Value::Integer(before),
        Value::Integer(i64::try_from(request.limit).unwrap_or(i64::MAX)),
        Value::Integer(i64::try_from(request.offset).unwrap_or(i64::MAX)),
        Value::Integer(Timestamp::now().0),
    ];
    let condition = match &request.filter {
        None => String::new(),
        Some(filter) => {
            let condition = filter_sql::condition(filter, &Indexes::new(), Documents::Joined, values.len() + 1);
            values.extend(condition.values);
            // A document without chunks is judged by its own metadata: every column of `c` is NULL then.
            format!(
                " AND EXISTS (SELECT 1 FROM (SELECT 1) LEFT JOIN chunks c ON c.document_id = d.id AND {} WHERE {})",
                chunk_alive(5),
                condition.sql
            )
        }
    };
    let text = format!(
        "SELECT {} FROM documents d WHERE +d.collection_id = ?1 AND d.id < ?2 AND {}{condition}
         ORDER BY d.id DESC LIMIT ?3 OFFSET ?4",
        documents::COLUMNS,
        document_alive(5)
    );
    sql::query_all(conn, &text, params_from_iter(values), documents::read)
}
