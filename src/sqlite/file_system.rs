//! What the file lies on. SQLite's log needs memory that all who open the file share, and locks that are kept: other
//! machines behind a network file system see neither, and their writes and ours destroy each other.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Result};
use crate::request::Open;

const FUSE: i64 = 0x6573_5546;

/// What the system says of a path: the number of its kind of file system, and the name of the mounted type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub magic: i64,
    /// As the list of mounts has it, for FUSE and where it could be found.
    pub kind: Option<String>,
}

/// Refuses to write on a network file system, unless that was asked for. Reading alone is let through: it is right as
/// long as no other machine writes.
pub fn check(path: &Path, request: &Open) -> Result<()> {
    check_with(path, request, &mounted)
}

/// Whether this process may write to a file or into a folder, as far as the system tells.
#[cfg(unix)]
pub fn writable(path: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;
    !matches!(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS), Err(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Not told on this platform.
#[cfg(not(unix))]
pub fn writable(_path: &Path) -> bool {
    true
}

fn check_with(path: &Path, request: &Open, ask: &dyn Fn(&Path) -> Option<Mounted>) -> Result<()> {
    if request.read_only || request.network_filesystem {
        return Ok(());
    }
    // A file that is not there will lie on what its folder lies on.
    let Some(there) = path.ancestors().find(|ancestor| ancestor.exists()) else { return Ok(()) };
    match ask(there).and_then(|mounted| network(&mounted)) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::NetworkFilesystem,
            format!(
                "{} lies on {name}, a network file system: its locks and shared memory do not reach other machines, and \
                 two that write destroy the file. Put it on a local disk and share copies made by backup(); or, if no \
                 other machine ever opens it, open with network_filesystem=True",
                path.display()
            ),
        )),
    }
}

/// Kinds that are known to reach over a network, or to another kernel. Whatever is not known is let through: overlays,
/// tmpfs, ext4, xfs, btrfs, zfs, and those that nobody heard of.
fn network(mounted: &Mounted) -> Option<&'static str> {
    const MAGIC: [(i64, &str); 14] = [
        (0x6969, "NFS"),
        (0xFF53_4D42, "CIFS"),
        (0xFE53_4D42, "SMB2"),
        (0x517B, "SMB"),
        (0x0102_1997, "9p"),
        (0x564C, "NCP"),
        (0x5346_414F, "AFS"),
        (0x6B41_4653, "AFS"),
        (0x7375_7245, "Coda"),
        (0x00C3_6400, "Ceph"),
        (0x0BD0_0BD0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0x786F_4256, "a shared folder of VirtualBox"),
    ];
    /// By the type that FUSE was mounted as; of itself it says nothing.
    const KINDS: [(&str, &str); 16] = [
        ("virtiofs", "virtiofs"),
        ("fuse.sshfs", "sshfs"),
        ("fuse.s3fs", "s3fs"),
        ("fuse.mount-s3", "mount-s3"),
        ("fuse.mountpoint-s3", "mount-s3"),
        ("fuse.goofys", "goofys"),
        ("fuse.gcsfuse", "gcsfuse"),
        ("fuse.blobfuse", "blobfuse"),
        ("fuse.blobfuse2", "blobfuse"),
        ("fuse.rclone", "rclone"),
        ("fuse.juicefs", "JuiceFS"),
        ("fuse.glusterfs", "GlusterFS"),
        ("fuse.ceph", "Ceph"),
        ("fuse.ceph-fuse", "Ceph"),
        ("fuse.davfs", "WebDAV"),
        ("fuse.vmhgfs-fuse", "a shared folder of VMware"),
    ];
    if mounted.magic == FUSE {
        let kind = mounted.kind.as_deref()?;
        return KINDS.iter().find(|(known, _)| *known == kind).map(|(_, name)| *name);
    }
    MAGIC.iter().find(|(known, _)| *known == mounted.magic).map(|(_, name)| *name)
}

/// Bytes that may still be written where `path` is; `None` where the system does not say.
#[cfg(unix)]
pub fn free(path: &Path) -> Option<u64> {
    let there = rustix::fs::statvfs(path).ok()?;
    Some(there.f_bavail.saturating_mul(there.f_frsize))
}

/// The system is not asked on this platform.
#[cfg(not(unix))]
pub fn free(_path: &Path) -> Option<u64> {
    None
}

/// The number that its file system gave a file, which a copy does not share and a new name does not change. `None` where
/// there is none that lasts.
#[cfg(unix)]
pub fn number(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    // FAT and exFAT make numbers up as files are met; FUSE may.
    const MADE_UP: [i64; 3] = [0x4D44, 0x2011_BAB0, FUSE];
    if magic(path).is_some_and(|magic| MADE_UP.contains(&magic)) {
        return None;
    }
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// The system is not asked on this platform.
#[cfg(not(unix))]
pub fn number(_path: &Path) -> Option<u64> {
    None
}

/// That of the file of a connection.
pub fn number_of(conn: &Connection) -> Option<u64> {
    conn.path().and_then(|path| number(Path::new(path)))
}

/// The file of that name with something behind it, as SQLite and this library name what belongs to a file.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether two folders share their space.
#[cfg(unix)]
pub fn same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(a).is_some() && device(a) == device(b)
}

/// The system is not asked on this platform.
#[cfg(not(unix))]
pub fn same(_a: &Path, _b: &Path) -> bool {
    false
}

fn mounted(path: &Path) -> Option<Mounted> {
    let magic = magic(path)?;
    // The list of mounts may be long, and is asked only where it says more.
    let kind = if magic == FUSE { kind_of(path) } else { None };
    Some(Mounted { magic, kind })
}

#[cfg(target_os = "linux")]
fn magic(path: &Path) -> Option<i64> {
    let found = rustix::fs::statfs(path).ok()?;
    // The type differs between architectures; the number has 32 bits.
    Some(i64::from(found.f_type as u32))
}

/// Other systems are not asked yet.
#[cfg(not(target_os = "linux"))]
fn magic(_path: &Path) -> Option<i64> {
    None
}

/// Other systems are not asked yet.
#[cfg(not(target_os = "linux"))]
fn kind_of(_path: &Path) -> Option<String> {
    None
}

/// The type of the mount that has the path's device.
#[cfg(target_os = "linux")]
fn kind_of(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mount_kind(&mounts, &device)
}

/// As proc(5) has it: the third field is the device, and the first behind a lone hyphen the type.
#[cfg(target_os = "linux")]
fn mount_kind(mounts: &str, device: &str) -> Option<String> {
    mounts.lines().find(|line| line.split(' ').nth(2) == Some(device)).and_then(|line| {
        let (_, behind) = line.split_once(" - ")?;
        behind.split(' ').next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(magic: i64, kind: &str) -> impl Fn(&Path) -> Option<Mounted> {
        move |_| Some(Mounted { magic, kind: Some(kind.to_owned()) })
    }

    #[test]
    fn network_file_systems_are_refused_for_writing_unless_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/a.db");
        let request = Open::file(&path);
        for (magic, kind, name) in [
            (0x6969, "nfs4", "NFS"),
            (0xFF53_4D42, "cifs", "CIFS"),
            (0xFE53_4D42, "cifs", "SMB2"),
            (0x0102_1997, "9p", "9p"),
            (0x6573_5546, "virtiofs", "virtiofs"),
            (0x6573_5546, "fuse.sshfs", "sshfs"),
        ] {
            let refused = check_with(&path, &request, &says(magic, kind)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NetworkFilesystem);
            assert!(refused.message().contains(name) && refused.message().contains("network_filesystem=True"));
            let read_only = Open { read_only: true, ..request.clone() };
            check_with(&path, &read_only, &says(magic, kind)).unwrap();
            let asked = Open { network_filesystem: true, ..request.clone() };
            check_with(&path, &asked, &says(magic, kind)).unwrap();
        }
    }

    #[test]
    fn what_works_is_not_refused() {
        let folder = tempfile::tempdir().unwrap();
        let request = Open::file(folder.path().join("a.db"));
        let path = request.path.clone().unwrap();
        for (magic, kind) in [
            (0xEF53, "ext4"),
            (0x5846_5342, "xfs"),
            (0x9123_683E, "btrfs"),
            (0x2FC1_2FC1, "zfs"),
            (0x0102_1994, "tmpfs"),
            (0x794C_7630, "overlay"),
            (0x6573_5546, "fuse.gocryptfs"),
            (0x6573_5546, "fuseblk"),
            (0x1234_5678, "new"),
        ] {
            check_with(&path, &request, &says(magic, kind)).unwrap();
        }
        check_with(&path, &request, &|_| None).unwrap();
        check(&path, &request).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_type_of_a_mount_is_found_by_its_device() {
        let mounts = "\
22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw
36 28 0:52 / /data\\040x rw shared:1 master:2 - fuse.sshfs host:/x rw,user_id=0
37 28 253:0 /a /b rw - ext4 /dev/vda rw
";
        assert_eq!(mount_kind(mounts, "0:52").unwrap(), "fuse.sshfs");
        assert_eq!(mount_kind(mounts, "253:0").unwrap(), "ext4");
        assert_eq!(mount_kind(mounts, "0:5"), None);
        let here = mounted(Path::new("/")).unwrap();
        assert_ne!(here.magic, 0);
        assert!(here.kind.is_none() || here.magic == FUSE);
        assert!(free(Path::new("/")).unwrap() > 0 && same(Path::new("/"), Path::new("/")));
    }
}
