//! Directories of files that are replaced while the program runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of one test. Dropped, it is gone.
pub struct Directory {
    path: PathBuf,
    /// How often a volume was mounted in it.
    mounts: AtomicUsize,
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Directory {
    pub fn new() -> Self {
        static DIRECTORIES: AtomicUsize = AtomicUsize::new(0);
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("qpext-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a free path");
        Self { path, mounts: AtomicUsize::new(0) }
    }

    pub fn path(&self, name: &str) -> String {
        let path = self.path.join(name).into_os_string();
        path.into_string().expect("a temporary directory's name is text")
    }

    /// Writes a file in place, and says where it is.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("the directory is there");
        path
    }

    /// Puts a file in the place of another, which is never seen half written.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::rename(self.write("next", content), self.path(name)).expect("the same directory");
    }

    /// Puts these files in as kubelet does: in a directory of their own, to which `..data` leads, through which the files'
    /// names lead; all of them are replaced by replacing `..data`, and the directory before is removed.
    pub fn mount(&self, files: &[(&str, &str)]) {
        let number = self.mounts.fetch_add(1, Ordering::Relaxed);
        let (data, new_data) = (self.path("..data"), self.path("..data_tmp"));
        let before = fs::read_link(&data).ok();
        let directory = format!("..mount_{number}");
        fs::create_dir(self.path(&directory)).expect("a free path");
        for (name, content) in files {
            self.write(&format!("{directory}/{name}"), content);
            let link = self.path.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).expect("a free path");
            }
        }
        symlink(&directory, &new_data).expect("a free path");
        fs::rename(&new_data, &data).expect("both are links");
        if let Some(before) = before {
            fs::remove_dir_all(self.path.join(before)).expect("it was mounted");
        }
    }
}
