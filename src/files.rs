//! Files that change while the sidecar runs, as Kubernetes rotates secrets and certificates.
//!
//! In: the path of a file, and what is to be made of its content. Out: what was made of it, made anew when the content is
//! another; where a file is gone, half written or does not fit another, what was made before. What a file holds is never
//! shown, neither by an error nor by `Debug`.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;

/// The longest file that is read, in bytes: several times all the certificates of a system.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file cannot be used: it names the option and the path, and nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FileError(String);

impl FileError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// A file, and what it held when it was last read.
///
/// It is read whole each time, and its content compared: neither the granularity of a file system's clock nor the way in
/// which the file is replaced can hide a change. These files are small and in memory mostly (a Kubernetes volume of
/// secrets is a tmpfs), so that reading them takes less time than handing that over to another thread.
pub(crate) struct WatchedFile {
    option: &'static str,
    path: PathBuf,
    content: Vec<u8>,
}

impl WatchedFile {
    /// The file that this option names.
    pub(crate) fn new(option: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            option,
            path: path.into(),
            content: Vec::new(),
        }
    }

    /// Reads the file, and says whether its content is another.
    pub(crate) fn read(&mut self) -> Result<bool, FileError> {
        let content = self.content_now().map_err(|error| self.error(error))?;
        let has_changed = content != self.content;
        self.content = content;
        Ok(has_changed)
    }

    fn content_now(&self) -> io::Result<Vec<u8>> {
        // Opening a pipe would wait for whoever writes to it.
        if !fs::metadata(&self.path)?.is_file() {
            return Err(io::Error::other("is no file"));
        }
        let mut content = Vec::new();
        File::open(&self.path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("holds more than {MAX_BYTES} bytes")));
        }
        Ok(content)
    }

    /// What it held when it was last read.
    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    /// What is wrong with it.
    pub(crate) fn error(&self, problem: impl fmt::Display) -> FileError {
        FileError(format!("{} {:?}: {problem}", self.option, self.path))
    }
}

impl fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedFile")
            .field("option", &self.option)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What was made of files when they last could be used.
#[derive(Debug)]
pub(crate) struct LastGood<T> {
    value: Option<T>,
    /// Why the files cannot be used any more.
    problem: Option<FileError>,
}

/// What is to be told of a value that outlives its files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The files cannot be used any more, or for another reason than before; the value is still the one made before.
    Worse(FileError),
    /// They can be used again.
    Better,
}

impl<T> Default for LastGood<T> {
    fn default() -> Self {
        Self {
            value: None,
            problem: None,
        }
    }
}

impl<T> LastGood<T> {
    /// Makes the value anew if reading its files said that they have changed, or if they could not be used before.
    ///
    /// # Errors
    ///
    /// The files cannot be used, and never could be.
    pub(crate) fn refresh(
        &mut self,
        read: Result<bool, FileError>,
        make: impl FnOnce() -> Result<T, FileError>,
    ) -> Result<(&T, Option<News>), FileError> {
        let is_current = read == Ok(false) && self.problem.is_none();
        let (value, news) = match self.value.take() {
            Some(value) if is_current => (value, None),
            before => match (read.and_then(|_| make()), before) {
                (Ok(made), _) => (made, self.problem.take().map(|_| News::Better)),
                (Err(problem), None) => return Err(problem),
                (Err(problem), Some(before)) => {
                    let is_news = self.problem.as_ref() != Some(&problem);
                    self.problem = Some(problem.clone());
                    (before, is_news.then_some(News::Worse(problem)))
                }
            },
        };
        Ok((self.value.insert(value), news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(why: &str) -> FileError {
        FileError::new(why)
    }

    #[test]
    fn a_value_is_made_anew_only_when_its_files_changed() {
        let mut held = LastGood::default();
        assert_eq!(held.refresh(Ok(true), || Ok(1)), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(false), || Ok(2)), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(true), || Ok(3)), Ok((&3, None)));
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
        assert_eq!(held.refresh(Ok(true), || Ok(1)), Ok((&1, None)));
        let worse = Some(News::Worse(bad("gone")));
        assert_eq!(held.refresh(gone.clone(), || Ok(2)), Ok((&1, worse)));
        assert_eq!(held.refresh(gone.clone(), || Ok(2)), Ok((&1, None)));
        let worse = Some(News::Worse(bad("empty")));
        assert_eq!(held.refresh(Ok(true), || Err(bad("empty"))), Ok((&1, worse)));
        assert_eq!(held.refresh(Ok(false), || Err(bad("empty"))), Ok((&1, None)));
        assert_eq!(held.refresh(Ok(false), || Ok(3)), Ok((&3, Some(News::Better))));
        assert_eq!(held.refresh(Ok(false), || Ok(4)), Ok((&3, None)));
    }

    #[test]
    fn a_file_is_compared_by_its_content() {
        let path = std::env::temp_dir().join(format!("qpext-watched-{}", std::process::id()));
        let mut file = WatchedFile::new("token_file", &path);
        let named = format!("token_file {path:?}: ");
        let error = file.read().unwrap_err().to_string();
        assert!(error.starts_with(&named) && error.contains("No such file"), "{error}");

        fs::write(&path, "one").unwrap();
        assert_eq!((file.read(), file.content()), (Ok(true), &b"one"[..]));
        assert_eq!(file.read(), Ok(false));
        // As long as before, within the same tick of any clock.
        fs::write(&path, "two").unwrap();
        assert_eq!((file.read(), file.content()), (Ok(true), &b"two"[..]));
        assert!(!format!("{file:?}").contains("two") && !format!("{file:?}").contains(&format!("{:?}", b"two")));

        fs::write(&path, vec![b'x'; MAX_BYTES as usize + 1]).unwrap();
        assert!(file.read().unwrap_err().to_string().contains("more than 1048576 bytes"));
        assert_eq!(file.content(), b"two");
        fs::remove_file(&path).unwrap();

        let mut directory = WatchedFile::new("token_file", std::env::temp_dir());
        assert!(directory.read().unwrap_err().to_string().ends_with("is no file"));
    }
}
