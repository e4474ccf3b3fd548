//! Opens, overwrites and deletes the queue's files, if they are files that the queue may
//! have created: regular files with one name. Follows no link.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    path::Path,
};

use crate::sink::queue::QueueError;

/// The reason why an operation on a file failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The file is a link, has several names, or is not a regular file.
    #[error("not a regular file with a single name")]
    NotRegular,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileError {
    /// Converts an error that occurred while opening a file.
    pub(super) fn while_opening(self) -> QueueError {
        match self {
            Self::NotRegular => QueueError::NotARegularFile,
            Self::Io(error) => QueueError::Open(Box::new(error)),
        }
    }

    /// Converts an error that occurred while deleting a file.
    pub(super) fn while_wiping(self) -> QueueError {
        match self {
            Self::NotRegular => QueueError::NotARegularFile,
            Self::Io(error) => QueueError::NotWiped(Box::new(error)),
        }
    }
}

/// The identity of a file, which does not depend on its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Result<Self, FileError> {
        if !metadata.is_file() {
            return Err(FileError::NotRegular);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;

            if metadata.nlink() != 1 {
                return Err(FileError::NotRegular);
            }
            Ok(Self { device_and_inode: (metadata.dev(), metadata.ino()) })
        }
        // On other platforms, the standard library provides neither number.
        #[cfg(not(unix))]
        Ok(Self {})
    }
}

/// Returns the identity of the file at `path`, or `None` if there is no file.
///
/// This does not open the file, because closing a second descriptor of a database releases
/// the locks of the first (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(super) fn identify(path: &Path) -> Result<Option<Identity>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Identity::of(&metadata).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Creates a file with permissions for its owner only, unless there is one. `O_EXCL` keeps
/// it from following a link.
pub(super) fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the file at `path`, which must not be open in a database connection.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, FileError> {
    // `O_NONBLOCK` keeps a pipe from waiting for its other end.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    #[cfg(windows)]
    {
        /// Opens a link itself, not its target. From `winnt.h`.
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        std::os::windows::fs::OpenOptionsExt::custom_flags(options, FILE_FLAG_OPEN_REPARSE_POINT);
    }
    let file = options.open(path)?;
    Identity::of(&file.metadata()?)?;
    Ok(file)
}

/// Reads the beginning of the file at `path` into `bytes`.
pub(super) fn read_start(path: &Path, bytes: &mut [u8]) -> Result<(), FileError> {
    Ok(open(path, OpenOptions::new().read(true))?.read_exact(bytes)?)
}

/// Deletes the file at `path`, if there is one, after overwriting it with zeros if possible.
pub(super) fn destroy(path: &Path) -> Result<(), FileError> {
    let Some(found) = identify(path)? else { return Ok(()) };
    match overwrite(path) {
        Err(FileError::NotRegular) => return Err(FileError::NotRegular),
        // Deleting matters more: a full disk may not even have room to overwrite.
        Err(FileError::Io(_)) | Ok(()) => {}
    }
    if identify(path)?.is_some_and(|now| now != found) {
        return Err(FileError::NotRegular);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn overwrite(path: &Path) -> Result<(), FileError> {
    let mut file = open(path, OpenOptions::new().write(true))?;
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.flush()?;
    Ok(file.sync_data()?)
}
