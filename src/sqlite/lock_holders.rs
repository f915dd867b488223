//! Who holds locks that belong to an open file description. The kernel names no process for them, but says of each
//! descriptor of a process which locks are held through it.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use super::fork::{Inode, inode};

/// Processes that hold a lock on any of `bytes` of a `-shm`, among those that this user may look at.
pub fn of(shm: Inode, bytes: RangeInclusive<i64>) -> Vec<u32> {
    names(Path::new("/proc")).into_iter().filter(|pid| holds(*pid, shm, &bytes)).collect()
}

fn holds(pid: u32, shm: Inode, bytes: &RangeInclusive<i64>) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    names(&process.join("fd")).into_iter().any(|fd| {
        let link = process.join("fd").join(fd.to_string());
        // By its name first: to look at a file of a file system that does not answer is to wait for it.
        fs::read_link(&link).is_ok_and(|path| path.to_string_lossy().contains("-shm"))
            && fs::metadata(&link).is_ok_and(|metadata| inode(&metadata) == shm)
            && fs::read_to_string(process.join("fdinfo").join(fd.to_string())).is_ok_and(|text| {
                text.lines().filter_map(locked).any(|(from, to)| from <= *bytes.end() && to >= *bytes.start())
            })
    })
}

/// First and last byte of `lock: 1: OFDLCK ADVISORY READ -1 fe:00:4711 123 123`.
fn locked(line: &str) -> Option<(i64, i64)> {
    let mut words = line.strip_prefix("lock:")?.split_whitespace().skip(6);
    let from = words.next()?.parse().ok()?;
    Some((from, words.next()?.parse().unwrap_or(i64::MAX)))
}

/// The names in a folder that are numbers.
fn names(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_locks_are_read() {
        assert_eq!(locked("lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:4711 123 124"), Some((123, 124)));
        assert_eq!(locked("lock:\t2: FLOCK  ADVISORY  WRITE 7 fe:00:4711 0 EOF"), Some((0, i64::MAX)));
        assert_eq!(locked("flags:\t0100002"), None);
    }
}
