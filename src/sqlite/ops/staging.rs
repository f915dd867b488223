//! The embeddings of one write on their way into vec0.

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::model::{Embeddings, Metric, check_vector};

/// A window over a caller's rows. A row is validated when it is copied in, and what was copied is what is stored.
pub struct Staging<'e> {
    embeddings: &'e Embeddings,
    metric: Metric,
    buffer: Vec<f32>,
    first: usize,
    /// Rows in the buffer.
    rows: usize,
}

impl<'e> Staging<'e> {
    /// Looks at every row once, so that a bad one is found before anything is written.
    ///
    /// # Errors
    /// `InvalidVector`, naming the row, and where the rows are not as many as the chunks.
    pub fn new(embeddings: &'e Embeddings, metric: Metric, chunks: usize) -> Result<Self> {
        if embeddings.chunks() != chunks {
            return Err(Error::new(
                ErrorKind::InvalidVector,
                format!(
                    "embeddings have {} rows for {chunks} chunks; give one row per chunk of all documents, in order",
                    embeddings.chunks()
                ),
            ));
        }
        embeddings.validate(metric)?;
        let dimension = embeddings.dimension();
        let block = (limits::STAGING_BYTES / (dimension * size_of::<f32>())).max(1).min(embeddings.rows());
        Ok(Self { embeddings, metric, buffer: vec![0.0; block * dimension], first: 0, rows: 0 })
    }

    /// The row of a chunk, validated; `None` where there is none for it.
    pub fn row(&mut self, chunk: usize) -> Result<Option<&[f32]>> {
        let Some(index) = self.embeddings.row_of(chunk) else { return Ok(None) };
        let dimension = self.embeddings.dimension();
        if index < self.first || index >= self.first + self.rows {
            let rows = (self.buffer.len() / dimension).min(self.embeddings.rows().saturating_sub(index));
            if rows == 0 {
                return Err(Error::internal(format!("embeddings row {index} is past the end")));
            }
            // Nothing of the old window may pass for the new one if a row is refused.
            self.rows = 0;
            self.embeddings.copy(index, &mut self.buffer[..rows * dimension]);
            for (offset, row) in self.buffer[..rows * dimension].chunks_exact(dimension).enumerate() {
                check_vector(row, self.metric).map_err(|e| e.context(format!("embeddings row {}", index + offset)))?;
            }
            (self.first, self.rows) = (index, rows);
        }
        let start = (index - self.first) * dimension;
        Ok(Some(&self.buffer[start..start + dimension]))
    }
}
