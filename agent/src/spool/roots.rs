//! Which directories may be read: those below the roots of the agent's configuration.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Why a spool cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is below none of the roots.
    #[error("not below a --spool-root of the agent ({allowed})")]
    NotAllowed {
        /// The roots, for people.
        allowed: String,
    },
    /// A link on the way leads out of the root.
    #[error("a link on its way leads out of {root}")]
    Outside {
        /// The root.
        root: String,
    },
    /// It is there and is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// The kernel's answer.
    #[error("{0}")]
    Errno(Errno),
    /// The file system has not answered for long.
    #[error("the file system does not answer")]
    Hangs,
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOTDIR => Self::NotADirectory,
            errno => Self::Errno(errno),
        }
    }
}

/// The roots that the configuration allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    roots: Vec<PathBuf>,
    /// Where the node's file system begins.
    prefix: PathBuf,
}

impl Roots {
    /// `roots` as the node knows them; they are seen below `prefix`, which is `/` where the agent
    /// shares the node's file system.
    pub fn new(roots: Vec<PathBuf>, prefix: PathBuf) -> Self {
        Self { roots, prefix }
    }

    /// The roots as the node knows them.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(PathBuf::as_path)
    }

    /// Opens a directory, a root or one below it. No link can lead out of the root, whoever
    /// changes it meanwhile: the kernel sees to that (openat2, Linux 5.6).
    ///
    /// # Errors
    /// [`Problem`].
    pub fn open(&self, path: &Path) -> Result<OwnedFd, Problem> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let best = self
            .roots
            .iter()
            .filter(|root| plain && path.starts_with(root))
            .max_by_key(|root| root.components().count());
        let Some(root) = best else {
            return Err(Problem::NotAllowed {
                allowed: self.to_string(),
            });
        };
        let seen = self.prefix.join(root.strip_prefix("/").unwrap_or(root));
        let directory = rustix::fs::open(&seen, flags, Mode::empty())?;
        let below = path.strip_prefix(root).unwrap_or(Path::new(""));
        if below.as_os_str().is_empty() {
            return Ok(directory);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&directory, below, flags, Mode::empty(), resolve).map_err(|errno| {
            match errno {
                Errno::XDEV => Problem::Outside {
                    root: root.display().to_string(),
                },
                errno => errno.into(),
            }
        })
    }
}

impl std::fmt::Display for Roots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.roots.is_empty() {
            return f.write_str("none is set");
        }
        for (at, root) in self.roots.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", root.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(roots: &Roots, path: &Path) -> Result<(), Problem> {
        roots.open(path).map(|_| ())
    }

    #[test]
    fn only_what_lies_below_a_root_is_opened_and_no_link_leads_out() {
        let node = tempfile::tempdir().unwrap();
        let at = |name: &str| node.path().join(name);
        for name in ["spool/jobs", "secret"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("spool/file"), "").unwrap();
        symlink(at("secret"), at("spool/out")).unwrap();
        symlink("jobs", at("spool/in")).unwrap();
        let roots = Roots::new(vec![at("spool")], "/".into());
        for inside in ["spool", "spool/jobs", "spool/in"] {
            assert_eq!(open(&roots, &at(inside)), Ok(()), "{inside}");
        }
        for outside in ["secret", "spoolx", "spool/../secret"] {
            let problem = open(&roots, &at(outside)).unwrap_err();
            assert_eq!(
                problem.to_string(),
                format!(
                    "not below a --spool-root of the agent ({})",
                    at("spool").display()
                )
            );
        }
        let root = at("spool").display().to_string();
        assert_eq!(
            open(&roots, &at("spool/out")),
            Err(Problem::Outside { root })
        );
        assert_eq!(open(&roots, &at("spool/file")), Err(Problem::NotADirectory));
        assert_eq!(
            open(&roots, &at("spool/none")),
            Err(Problem::Errno(Errno::NOENT))
        );
        assert_eq!(
            open(&Roots::default(), &at("spool"))
                .unwrap_err()
                .to_string(),
            "not below a --spool-root of the agent (none is set)"
        );
    }

    #[test]
    fn the_nodes_file_system_may_be_seen_below_a_prefix() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("var/spool/jobs")).unwrap();
        let roots = Roots::new(vec!["/var/spool".into()], host.path().to_owned());
        assert_eq!(open(&roots, Path::new("/var/spool/jobs")), Ok(()));
        assert_eq!(
            open(&roots, Path::new("/var/spool/none")),
            Err(Problem::Errno(Errno::NOENT))
        );
    }
}
