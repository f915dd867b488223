//! The files of a shared folder: what they are called, and how they get there.

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{Error, ErrorKind, Result};
use crate::store::Batches;
use crate::sync::{ReplicaId, Watermark, hex};

/// What files are called before they are whole.
pub const TEMPORARY: &str = ".ragstore-sync-";

/// The name of a file.
#[derive(Debug, PartialEq)]
pub enum Name {
    Mark(ReplicaId),
    Batch { replica: ReplicaId, export: String, part: u64, parts: u64 },
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        let (replica, rest) = name.split_once('.')?;
        let mark = Watermark::parse([(replica, "0000000000000000")]).ok()?;
        let replica = mark.iter().next()?.replica;
        if rest == "mark" {
            return Some(Self::Mark(replica));
        }
        let (export, rest) = rest.split_once('.')?;
        let (part, parts) = rest.strip_suffix(".batch")?.split_once("of")?;
        let (part, parts) = (part.parse::<u64>().ok()?.checked_sub(1)?, parts.parse().ok()?);
        (part < parts).then(|| Self::Batch { replica, export: export.to_owned(), part, parts })
    }

    pub fn text(&self) -> String {
        match self {
            Self::Mark(replica) => format!("{}.mark", hex(replica)),
            Self::Batch { replica, export, part, parts } => {
                format!("{}.{export}.{}of{parts}.batch", hex(replica), part + 1)
            }
        }
    }
}

/// Batches as files, which have their names when all of them are whole.
pub struct Files<'a> {
    folder: &'a Path,
    own: ReplicaId,
    pub written: Vec<NamedTempFile>,
}

impl<'a> Files<'a> {
    /// Of a replica.
    pub fn new(folder: &'a Path, own: ReplicaId) -> Self {
        Self { folder, own, written: Vec::new() }
    }

    /// Gives the batches of an export their names.
    pub fn publish(self, number: u64) -> Result<()> {
        let parts = self.written.len() as u64;
        let mut random = [0; 4];
        getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Io, format!("no random bytes: {e}")))?;
        let export = format!("{number:06}-{}", hex(&random));
        for (part, file) in (0..).zip(self.written) {
            let name = Name::Batch { replica: self.own, export: export.clone(), part, parts };
            persist(file, &self.folder.join(name.text()))?;
        }
        Ok(())
    }
}

impl Batches for Files<'_> {
    fn begin(&mut self) -> Result<()> {
        let prefix = format!("{TEMPORARY}{}-", hex(&self.own));
        let mut builder = Builder::new();
        builder.prefix(&prefix);
        // Others read it, as far as the process's umask lets them.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        self.written.push(builder.tempfile_in(self.folder)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self.written.last_mut() {
            Some(file) => Ok(file.write_all(bytes)?),
            None => Err(Error::internal("a batch was not begun")),
        }
    }

    fn end(&mut self, _last: bool) -> Result<()> {
        match self.written.last() {
            Some(file) => Ok(file.as_file().sync_all()?),
            None => Ok(()),
        }
    }
}

/// Synced, renamed, and the folder synced: whoever sees the name sees all of the file.
pub fn persist(file: NamedTempFile, to: &Path) -> Result<()> {
    file.persist(to).map_err(|error| Error::from(error.error).context(to.display()))?;
    #[cfg(unix)]
    if let Some(folder) = to.parent() {
        // Not every file system of a network can; the file itself is synced.
        let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let replica = [0xab; 16];
        for name in
            [Name::Mark(replica), Name::Batch { replica, export: "000001-00ff00ff".to_owned(), part: 0, parts: 12 }]
        {
            assert_eq!(Name::parse(&name.text()), Some(name));
        }
        let own = hex(&replica);
        for other in [
            "",
            "notes.txt",
            "abc.mark",
            &format!("{own}.x"),
            &format!("{own}.a.0of1.batch"),
            &format!("{own}.a.3of2.batch"),
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
