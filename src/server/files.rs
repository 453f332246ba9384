//! Files that are read at the start, and again when they change.
//!
//! In: the files' paths, and what makes something of their bytes. Out: what the newest bytes that are any good come to.
//! Their times are not asked: a kubelet exchanges a symbolic link some folders up, and a restored file may be older than
//! the one it replaces. So the bytes are compared, which takes microseconds for the few kilobytes that such files have.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::ConfigError;
use crate::lock::lock;

/// How long what was read is taken for what is there: whoever connects over and over must not have us read over and over.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Bytes of a file, of which certificates with all that they lead to have some kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// A file, and the variable that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) variable: &'static str,
    pub(super) path: PathBuf,
}

/// What a file should have held: its place among the files, and the words for an operator. Nothing of what it does hold,
/// which may be a secret.
pub(super) type Unfit = (usize, String);

/// What some files, which only make sense together, come to.
pub(super) struct Watched<T, const N: usize> {
    files: [Named; N],
    read: fn(&[Vec<u8>; N]) -> Result<T, Unfit>,
    state: Mutex<State<T, N>>,
}

struct State<T, const N: usize> {
    looked: Instant,
    /// The newest contents, good or bad; or why there are none.
    newest: Result<[Vec<u8>; N], ConfigError>,
    /// What the newest good ones come to.
    good: Arc<T>,
}

impl<T, const N: usize> Watched<T, N> {
    /// Reads the files for the first time, when they must be good.
    pub(super) fn open(files: [Named; N], read: fn(&[Vec<u8>; N]) -> Result<T, Unfit>) -> Result<Self, ConfigError> {
        let contents = contents_of(&files)?;
        let good = read(&contents).map_err(|unfit| refuse(&files, unfit))?;
        Ok(Self {
            files,
            read,
            state: Mutex::new(State {
                looked: Instant::now(),
                newest: Ok(contents),
                good: Arc::new(good),
            }),
        })
    }

    /// What the files come to now, as of a second ago at most; what they came to last while they are no good. It is the
    /// same `Arc` until they change.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = lock(&self.state);
        if state.looked.elapsed() >= FRESH_FOR {
            state.looked = Instant::now();
            let newest = contents_of(&self.files);
            if newest != state.newest {
                self.take(&newest, &mut state);
                state.newest = newest;
            }
        }
        Arc::clone(&state.good)
    }

    /// Something changed: it is taken if it is good, and an operator is told once, either way.
    fn take(&self, newest: &Result<[Vec<u8>; N], ConfigError>, state: &mut State<T, N>) {
        let read = newest
            .as_ref()
            .map_err(ConfigError::clone)
            .and_then(|contents| (self.read)(contents).map_err(|unfit| refuse(&self.files, unfit)));
        match read {
            Ok(good) => {
                state.good = Arc::new(good);
                info!(files = self.names(), "files changed, and are in use");
            }
            Err(error) => warn!(%error, "files changed, and what they held before stays in use"),
        }
    }

    fn names(&self) -> String {
        self.files.each_ref().map(|file| file.variable).join(",")
    }
}

/// Without what the files hold.
impl<T, const N: usize> fmt::Debug for Watched<T, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Watched")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn contents_of<const N: usize>(files: &[Named; N]) -> Result<[Vec<u8>; N], ConfigError> {
    let mut contents = [const { Vec::new() }; N];
    for (index, (file, contents)) in files.iter().zip(&mut contents).enumerate() {
        *contents =
            read_file(file).map_err(|error| refuse(files, (index, format!("a file that can be read: {error}"))))?;
    }
    Ok(contents)
}

fn read_file(file: &Named) -> io::Result<Vec<u8>> {
    // Opening a pipe that nobody writes to would never end.
    if !fs::metadata(&file.path)?.is_file() {
        return Err(io::Error::other("this is none"));
    }
    let mut contents = Vec::new();
    File::open(&file.path)?.take(MAX_FILE + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_FILE {
        return Err(io::Error::other("this one has more than 1 MiB"));
    }
    Ok(contents)
}

fn refuse<const N: usize>(files: &[Named; N], (index, expected): Unfit) -> ConfigError {
    let Named { variable, path } = &files[index];
    ConfigError {
        variable: (*variable).into(),
        value: Some(path.display().to_string()),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that a file holds.
    fn watch(path: PathBuf) -> Result<Watched<u32, 1>, ConfigError> {
        let file = Named {
            variable: "QPEXT_NUMBER_FILE",
            path,
        };
        Watched::open([file], |[contents]| {
            let number = std::str::from_utf8(contents).ok().and_then(|text| text.parse().ok());
            number.ok_or((0, "a number".to_owned()))
        })
    }

    fn path_of(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("qpext-watched-{}-{name}", std::process::id()))
    }

    #[tokio::test(start_paused = true)]
    async fn contents_are_compared_once_a_second_and_the_last_good_ones_stay() {
        let path = path_of("number");
        fs::write(&path, "1").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let watched = watch(path.clone()).unwrap();
        let first = watched.current();
        tokio::time::advance(FRESH_FOR).await;
        assert!(Arc::ptr_eq(&first, &watched.current()), "nothing changed");

        fs::write(&path, "2").unwrap();
        // As old as the one before, as far as its time goes.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(*watched.current(), 1, "it was looked at just now");
        tokio::time::advance(FRESH_FOR).await;
        assert_eq!(*watched.current(), 2);

        let write = |contents: Option<&str>| match contents {
            Some(contents) => fs::write(&path, contents),
            None => fs::remove_file(&path),
        };
        for (contents, expected) in [
            (Some("x"), 2),
            (Some("3"), 3),
            (None, 3),
            (Some("3"), 3),
            (Some("4"), 4),
        ] {
            write(contents).unwrap();
            tokio::time::advance(FRESH_FOR).await;
            assert_eq!(*watched.current(), expected, "{contents:?}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_wrong_at_the_start_names_the_variable_and_the_path() {
        let path = path_of("wrong");
        fs::write(&path, "x").unwrap();
        let error = watch(path.clone()).unwrap_err().to_string();
        assert_eq!(error, format!("QPEXT_NUMBER_FILE={path:?}: expected a number"));
        fs::remove_file(&path).unwrap();
    }
}
