use rusqlite::{Connection, params};

use super::count;
use crate::error::Result;
use crate::limits;
use crate::model::{Chunk, Document, Namespace, Relation, StateEntry, Timestamp};
use crate::request::Export;
use crate::sqlite::sql;
use crate::sqlite::tables::expiry::{chunk_alive, document_alive};
use crate::sqlite::tables::vectors::Reader;
use crate::sqlite::tables::{chunks, collections, documents, field_values, relations, spaces, state};
use crate::store::{ExportedCollection, ExportedEmbeddings, ExportedPage, Exporter, Vectors};

/// `go_on` is asked between two pages.
pub fn run(
    conn: &Connection,
    request: &Export,
    exporter: &mut dyn Exporter,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let rows = match &request.collections {
        None => collections::list(conn)?,
        Some(names) => names.iter().map(|name| collections::require(conn, name)).collect::<Result<_>>()?,
    };
    // One moment for all of it, as there is one snapshot.
    let now = Timestamp::now();
    for row in rows {
        let (id, name) = (row.id, row.name.clone());
        let spaces = spaces::list(conn, id)?;
        exporter.collection(ExportedCollection {
            info: collections::info(conn, row)?,
            indexes: field_values::declared(conn, id)?,
            documents: count::documents(conn, &name, None, now)?,
            chunks: count::chunks(conn, &name, None, now)?,
        })?;
        let mut after = 0;
        while let Some((page, last)) = read_page(conn, id, &spaces, after, now)? {
            exporter.page(page)?;
            go_on()?;
            after = last;
        }
        export_relations(conn, id, now, exporter, go_on)?;
    }
    if request.collections.is_none() {
        export_state(conn, now, exporter, go_on)?;
    }
    Ok(())
}

fn export_relations(
    conn: &Connection,
    collection_id: i64,
    now: Timestamp,
    exporter: &mut dyn Exporter,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut after = 0;
    loop {
        let mut room = Room::default();
        let full = |relation: &Relation| room.take(relation.metadata.as_json().len());
        let (ids, page): (Vec<i64>, Vec<Relation>) =
            relations::living_after(conn, collection_id, after, now, full)?.into_iter().unzip();
        let Some(&last) = ids.last() else { return Ok(()) };
        after = last;
        exporter.relations(page)?;
        go_on()?;
    }
}

fn export_state(
    conn: &Connection,
    now: Timestamp,
    exporter: &mut dyn Exporter,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let (mut namespace, mut key) = (Namespace { name: String::new(), local: false }, String::new());
    loop {
        let mut room = Room::default();
        let full = |entry: &StateEntry| room.take(entry.value.as_json().len());
        let page = state::living_after(conn, &namespace, &key, now, full)?;
        let Some((of, last)) = page.last() else { return Ok(()) };
        (namespace, key) = (of.clone(), last.key.clone());
        exporter.state(page)?;
        go_on()?;
    }
}

/// What is left of a page.
#[derive(Default)]
struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    /// Takes a row of so many bytes in, and says whether the page is full.
    fn take(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        self.bytes >= limits::EXPORT_PAGE_BYTES || self.rows >= limits::EXPORT_PAGE_ROWS
    }
}

/// The documents after a rowid, as many as fit a page and at least one, and the rowid of the last.
fn read_page(
    conn: &Connection,
    collection_id: i64,
    spaces: &[spaces::SpaceRow],
    after: i64,
    now: Timestamp,
) -> Result<Option<(ExportedPage, i64)>> {
    let (mut found, mut rowids, mut room, mut last) = (Vec::new(), Vec::new(), Room::default(), after);
    let text = format!(
        "SELECT {}, d.id FROM documents d WHERE +d.collection_id = ?1 AND d.id > ?2 AND {} ORDER BY d.id",
        documents::COLUMNS,
        document_alive(3)
    );
    let mut statement = sql::prepare(conn, &text)?;
    let mut rows = statement.query(params![collection_id, after, now.0])?;
    let vector_bytes: usize = spaces.iter().filter_map(|space| space.dimension).map(|d| d * size_of::<f32>()).sum();
    while let Some(row) = rows.next()? {
        let document = documents::read(row)?;
        last = row.get(9)?;
        let parts = chunks_of(conn, last, now)?;
        let bytes = weight(&document) + parts.iter().map(|(_, chunk)| weight_of(chunk) + vector_bytes).sum::<usize>();
        let (ids, parts): (Vec<i64>, Vec<Chunk>) = parts.into_iter().unzip();
        rowids.extend(ids);
        found.push((document, parts));
        if room.take(bytes) {
            break;
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let embeddings = spaces.iter().map(|space| embeddings_of(conn, space, &rowids)).collect::<Result<_>>()?;
    Ok(Some((ExportedPage { documents: found, embeddings }, last)))
}

fn chunks_of(conn: &Connection, document_id: i64, now: Timestamp) -> Result<Vec<(i64, Chunk)>> {
    let text = format!(
        "SELECT {}, c.id FROM chunks c JOIN documents d ON d.id = c.document_id WHERE c.document_id = ?1 AND {}
         ORDER BY c.chunk_index",
        chunks::COLUMNS,
        chunk_alive(2)
    );
    sql::query_all(conn, &text, params![document_id, now.0], |row| Ok((row.get(14)?, chunks::read(row)?)))
}

fn embeddings_of(conn: &Connection, space: &spaces::SpaceRow, rowids: &[i64]) -> Result<ExportedEmbeddings> {
    let Some(table) = space.table() else {
        let vectors = Vectors { values: Vec::new(), dimension: 0 };
        return Ok(ExportedEmbeddings { given: vec![false; rowids.len()], vectors });
    };
    let mut reader = Reader::new(conn, table);
    let (mut values, mut row) = (Vec::new(), vec![0.0; table.dimension]);
    let mut given = Vec::with_capacity(rowids.len());
    for &rowid in rowids {
        let found = reader.read(rowid, &mut row)?;
        if found {
            values.extend_from_slice(&row);
        }
        given.push(found);
    }
    Ok(ExportedEmbeddings { given, vectors: Vectors { values, dimension: table.dimension } })
}

fn weight(document: &Document) -> usize {
    document.text.as_ref().map_or(0, String::len) + document.metadata.as_json().len()
}

fn weight_of(chunk: &Chunk) -> usize {
    chunk.text.as_ref().map_or(0, String::len) + chunk.metadata.as_json().len() + size_of::<Chunk>()
}
