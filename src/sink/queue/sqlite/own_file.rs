//! Opens, overwrites and deletes a file at a name of the queue, if it is one that the
//! queue may have made: a regular file with one name. Follows no link.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    path::Path,
};

use crate::sink::queue::QueueError;

/// Why a file was not touched, or not as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It is a link, has another name, or is no regular file.
    #[error("it is not a regular file with one name")]
    NotRegular,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FileError {
    /// The error of a file that was to be opened.
    pub(super) fn while_opening(self) -> QueueError {
        match self {
            Self::NotRegular => QueueError::NotARegularFile,
            Self::Io(error) => QueueError::Open(Box::new(error)),
        }
    }

    /// The error of a file that was to be deleted.
    pub(super) fn while_wiping(self) -> QueueError {
        match self {
            Self::NotRegular => QueueError::NotARegularFile,
            Self::Io(error) => QueueError::NotWiped(Box::new(error)),
        }
    }
}

/// What a file is known by, whatever its name.
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
        // The standard library tells neither there.
        #[cfg(not(unix))]
        Ok(Self {})
    }
}

/// Looks at what is at `path`: nothing, or a file that may be one of ours.
///
/// It opens nothing, for to close a second descriptor of a database takes away the locks
/// of the first (<https://sqlite.org/howtocorrupt.html>, section 2.2).
pub(super) fn identify(path: &Path) -> Result<Option<Identity>, FileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Identity::of(&metadata).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a file for its owner only, unless there is one. Follows no link: `O_EXCL` does not.
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

/// Opens the file at `path`, which no database connection may have open.
fn open(path: &Path, options: &mut OpenOptions) -> Result<File, FileError> {
    // Not to wait for the other end, should it be a pipe.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    #[cfg(windows)]
    {
        /// From `winnt.h`: opens a link itself.
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        std::os::windows::fs::OpenOptionsExt::custom_flags(options, FILE_FLAG_OPEN_REPARSE_POINT);
    }
    let file = options.open(path)?;
    Identity::of(&file.metadata()?)?;
    Ok(file)
}

/// Fills `bytes` from the beginning of the file at `path`.
pub(super) fn read_start(path: &Path, bytes: &mut [u8]) -> Result<(), FileError> {
    Ok(open(path, OpenOptions::new().read(true))?.read_exact(bytes)?)
}

/// Deletes the file at `path`, if there is one, with zeros in the place of its content if
/// that can be done.
pub(super) fn destroy(path: &Path) -> Result<(), FileError> {
    let Some(found) = identify(path)? else { return Ok(()) };
    match overwrite(path) {
        Err(FileError::NotRegular) => return Err(FileError::NotRegular),
        // Its bytes are free, and a full disk may have no room even for zeros.
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
