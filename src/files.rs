//! Files that change while the sidecar runs, as Kubernetes rotates secrets and certificates.
//!
//! In: the paths of files, and what is to be made of their contents. Out: what was made of them, made anew when a content
//! is another; where a file is gone, half written or does not fit another, what was made before. A target's files are read
//! for each scrape ([`LastGood`]); those that the sidecar serves with, at the start and once a second at most
//! ([`Watched`]). What a file holds is never shown, neither by an error nor by `Debug`.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::lock::lock;

/// The longest file that is read, in bytes: several times all the certificates of a system.
const MAX_BYTES: u64 = 1 << 20;

/// What is wrong with a file of a secret that may just be being written.
pub(crate) const IS_EMPTY: &str = "is empty";

/// What is wrong with a secret that is to be sent, or shown.
pub(crate) const IS_NO_HEADER: &str = "holds bytes that no header may have";

/// How long what a [`Watched`] read is taken for what is there: whoever connects over and over must not have us read over
/// and over.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A file, and what it held when it was last read.
///
/// It is read whole each time, and its content compared: neither the granularity of a file system's clock nor the way in
/// which the file is replaced can hide a change. These files are small and in memory mostly (a Kubernetes volume of
/// secrets is a tmpfs), so that reading them takes less time than handing that over to another thread.
pub(crate) struct WatchedFile {
    /// The option or variable that names it.
    pub(crate) option: &'static str,
    path: PathBuf,
    pub(crate) content: Vec<u8>,
}

impl WatchedFile {
    /// The file that this option or variable names.
    pub(crate) fn new(option: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { option, path: path.into(), content: Vec::new() }
    }

    /// Reads the file, and says whether its content is another.
    pub(crate) fn read(&mut self) -> io::Result<bool> {
        let content = self.content_now()?;
        let has_changed = content != self.content;
        self.content = content;
        Ok(has_changed)
    }

    fn content_now(&self) -> io::Result<Vec<u8>> {
        // Opening a pipe would wait for whoever writes to it, and so would looking first: it may be put there in between.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut content = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("it has more than 1 MiB"));
        }
        Ok(content)
    }

    pub(crate) fn error(&self, problem: impl fmt::Display) -> FileError {
        FileError { path: Some(self.path.clone()), ..FileError::without_path(self.option, problem) }
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile").field("option", &self.option).field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads files until one cannot be read, and says whether a content is another.
pub(crate) fn read_all<'a>(files: impl IntoIterator<Item = &'a mut WatchedFile>) -> Result<bool, FileError> {
    let mut has_changed = false;
    for file in files {
        has_changed |= file.read().map_err(|cause| file.error(cause))?;
    }
    Ok(has_changed)
}

/// Why a file cannot be used. Of what it holds this says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option} {}{problem}", path.as_ref().map(|path| format!("{path:?}: ")).unwrap_or_default())]
pub(crate) struct FileError {
    /// The option or variable that names it, or should.
    pub(crate) option: &'static str,
    pub(crate) path: Option<PathBuf>,
    /// What is wrong with it, as in "is empty".
    pub(crate) problem: String,
}

impl FileError {
    /// What is wrong where no file is to blame by itself.
    pub(crate) fn without_path(option: &'static str, problem: impl fmt::Display) -> Self {
        Self { option, path: None, problem: problem.to_string() }
    }
}

/// What was made of files when they last could be used.
#[derive(Debug)]
pub(crate) struct LastGood<T> {
    value: Option<T>,
    /// Why the value is not of what the files hold now, if so it is.
    pub(crate) problem: Option<FileError>,
}

/// What is to be told of files that were good before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FileNews {
    /// They hold something else, of which the value was made anew.
    Changed,
    /// They cannot be used any more, or they are others or there is another reason than before; the value is still the
    /// one made before.
    Worse(FileError),
    Better,
}

impl<T> Default for LastGood<T> {
    fn default() -> Self {
        Self { value: None, problem: None }
    }
}

impl<T> LastGood<T> {
    /// Makes the value anew if reading its files said that they have changed, or if they could not be used before. Files that
    /// cannot be used, and never could be, are an error.
    pub(crate) fn refresh(
        &mut self,
        read: Result<bool, FileError>,
        make: impl FnOnce() -> Result<T, FileError>,
    ) -> Result<(&T, Option<FileNews>), FileError> {
        let has_changed = matches!(read, Ok(true));
        let is_current = matches!(read, Ok(false)) && self.problem.is_none() && self.value.is_some();
        let mut news = None;
        if !is_current {
            match read.and_then(|_| make()) {
                Ok(made) => {
                    let problem = self.problem.take();
                    let before = self.value.replace(made);
                    news = before.map(|_| problem.map_or(FileNews::Changed, |_| FileNews::Better));
                }
                Err(problem) if self.value.is_none() => return Err(problem),
                Err(problem) => {
                    if has_changed || self.problem.as_ref() != Some(&problem) {
                        news = Some(FileNews::Worse(problem.clone()));
                    }
                    self.problem = Some(problem);
                }
            }
        }
        Ok((self.value.as_ref().expect("it was made now or before"), news))
    }
}

/// What some files of the configuration, which only make sense together, come to. They are good at the start, and whoever
/// asks may do so at any rate.
pub(crate) struct Watched<T, const N: usize> {
    make: Make<T, N>,
    state: Mutex<WatchedState<T, N>>,
}

/// Makes something of files as they were last read.
type Make<T, const N: usize> = fn(&[WatchedFile; N]) -> Result<T, FileError>;

struct WatchedState<T, const N: usize> {
    files: [WatchedFile; N],
    looked: Instant,
    last_good: LastGood<Arc<T>>,
}

impl<T, const N: usize> Watched<T, N> {
    /// Reads the files for the first time, when they must be good.
    pub(crate) fn open(files: [WatchedFile; N], make: Make<T, N>) -> Result<Self, FileError> {
        let mut state = WatchedState { files, looked: Instant::now(), last_good: LastGood::default() };
        state.refresh(make)?;
        Ok(Self { make, state: Mutex::new(state) })
    }

    /// What the files come to now, as of a second ago at most; what they came to last while they are no good. It is the
    /// same `Arc` until they change.
    pub(crate) fn current(&self) -> Arc<T> {
        let mut state = lock(&self.state);
        if state.looked.elapsed() >= FRESH_FOR {
            state.looked = Instant::now();
            state.refresh(self.make).expect("they were good at the start");
        }
        let value = state.last_good.value.as_ref();
        Arc::clone(value.expect("they were good at the start"))
    }

    /// Why that is not what the files hold now, if so it is.
    pub(crate) fn problem(&self) -> Option<FileError> {
        lock(&self.state).last_good.problem.clone()
    }
}

impl<T, const N: usize> WatchedState<T, N> {
    fn refresh(&mut self, make: Make<T, N>) -> Result<(), FileError> {
        let read = read_all(&mut self.files);
        let (_, news) = self.last_good.refresh(read, || make(&self.files).map(Arc::new))?;
        match news {
            None => {}
            Some(FileNews::Worse(error)) => warn!(%error, "files changed, and what they held before stays in use"),
            Some(FileNews::Changed | FileNews::Better) => {
                let names = self.files.each_ref().map(|file| file.option).join(",");
                info!(files = names, "files changed, and are in use");
            }
        }
        Ok(())
    }
}

/// Without what the files hold.
impl<T, const N: usize> fmt::Debug for Watched<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("files", &lock(&self.state).files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    fn bad(why: &str) -> FileError {
        FileError::without_path("token_file", why)
    }

    #[test]
    fn a_value_is_made_anew_only_when_its_files_changed() {
        let mut held = LastGood::default();
        assert_eq!(held.refresh(Ok(true), || Ok(1)), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(false), || Ok(2)), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(true), || Ok(3)), Ok((&3, Some(FileNews::Changed))));
    }

    #[test]
    fn without_a_value_every_problem_is_an_error_and_every_refresh_another_try() {
        let mut held = LastGood::default();
        assert_eq!(held.refresh(Err(bad("gone")), || Ok(1)), Err(bad("gone")));
        assert_eq!(held.refresh(Ok(true), || Err(bad("empty"))), Err(bad("empty")));
        assert_eq!(held.refresh(Ok(false), || Ok(2)), Ok((&2, None)));
    }

    #[test]
    fn a_value_outlives_its_files_and_each_change_of_that_is_told_once() {
        let mut held = LastGood::default();
        let gone = Err(bad("gone"));
        let worse = |why| Some(FileNews::Worse(bad(why)));
        assert_eq!(held.refresh(Ok(true), || Ok(1)), Ok((&1, None)));
        assert_eq!(held.refresh(gone.clone(), || Ok(2)), Ok((&1, worse("gone"))));
        assert_eq!(held.refresh(gone.clone(), || Ok(2)), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(true), || Err(bad("empty"))), Ok((&1, worse("empty"))));
        assert_eq!(held.refresh(Ok(false), || Err(bad("empty"))), Ok((&1, None)));
        // Somebody wrote the file anew, and no better.
        assert_eq!(held.refresh(Ok(true), || Err(bad("empty"))), Ok((&1, worse("empty"))));
        assert_eq!(held.refresh(Ok(false), || Ok(3)), Ok((&3, Some(FileNews::Better))));
        assert_eq!(held.refresh(Ok(false), || Ok(4)), Ok((&3, None)));
    }

    /// A path of one test's own.
    fn path_of(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("qpext-watched-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_file_is_compared_by_its_content() {
        let path = path_of("token");
        let mut file = WatchedFile::new("token_file", &path);
        assert_eq!(file.read().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(file.error("is bad").to_string(), format!("token_file {path:?}: is bad"));

        fs::write(&path, "one").unwrap();
        assert!(file.read().unwrap());
        assert_eq!(file.content, b"one");
        assert!(!file.read().unwrap());
        // As long as before, within the same tick of any clock.
        fs::write(&path, "two").unwrap();
        assert!(file.read().unwrap());
        assert_eq!(file.content, b"two");
        assert!(!format!("{file:?}").contains("two") && !format!("{file:?}").contains(&format!("{:?}", b"two")));

        fs::write(&path, vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        assert_eq!(file.read().unwrap_err().to_string(), "it has more than 1 MiB");
        assert_eq!(file.content, b"two");
        fs::remove_file(&path).unwrap();

        // Nobody writes to it.
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(file.read().unwrap_err().to_string(), "it is no file");
        fs::remove_file(&path).unwrap();

        let mut directory = WatchedFile::new("token_file", std::env::temp_dir());
        assert_eq!(directory.read().unwrap_err().to_string(), "it is no file");
    }

    /// A number that a file holds.
    fn watch(path: &Path) -> Result<Watched<u32, 1>, FileError> {
        Watched::open([WatchedFile::new("QPEXT_NUMBER_FILE", path)], |[file]| {
            let number = std::str::from_utf8(&file.content).ok();
            let number = number.and_then(|text| text.parse().ok());
            number.ok_or_else(|| file.error("holds no number"))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn contents_are_compared_once_a_second_and_the_last_good_ones_stay() {
        let path = path_of("number");
        fs::write(&path, "1").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let watched = watch(&path).unwrap();
        let first = watched.current();
        tokio::time::advance(FRESH_FOR).await;
        assert!(Arc::ptr_eq(&first, &watched.current()), "nothing changed");

        fs::write(&path, "2").unwrap();
        // As old as the one before, as far as its time goes.
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(*watched.current(), 1, "it was looked at just now");
        tokio::time::advance(FRESH_FOR).await;
        assert_eq!(*watched.current(), 2);

        let write = |contents: Option<&str>| match contents {
            Some(contents) => fs::write(&path, contents),
            None => fs::remove_file(&path),
        };
        for (contents, expected) in [(Some("x"), 2), (Some("3"), 3), (None, 3), (Some("3"), 3), (Some("4"), 4)] {
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
        let error = watch(&path).unwrap_err().to_string();
        assert_eq!(error, format!("QPEXT_NUMBER_FILE {path:?}: holds no number"));
        fs::remove_file(&path).unwrap();
    }
}
