//! Things that triggers with equal settings share, kept only while a trigger uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A bounded table of shared values; an entry ends with its last user.
pub(crate) struct Shared<V> {
    limit: usize,
    entries: Mutex<HashMap<Digest, Weak<V>>>,
}

/// Why there is no shared value.
pub(crate) enum SharedError<E> {
    /// The table is full; holds the limit.
    Full(usize),
    /// The value could not be made.
    Make(E),
}

impl<V> Shared<V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            entries: Mutex::new(HashMap::new()),
        }
    }

    /// The value for `key`, made by `make` where no trigger uses one yet.
    pub(crate) fn get_or_make<E>(
        &self,
        key: Digest,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, SharedError<E>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = entries.get(&key).and_then(Weak::upgrade) {
            return Ok(value);
        }
        if entries.len() >= self.limit {
            entries.retain(|_, value| value.strong_count() > 0);
            if entries.len() >= self.limit {
                return Err(SharedError::Full(self.limit));
            }
        }
        let value = Arc::new(make().map_err(SharedError::Make)?);
        entries.insert(key, Arc::downgrade(&value));
        Ok(value)
    }
}

/// The first half of a SHA-256 over length-prefixed parts. Settings that hold secrets are compared
/// by it, so that no copy of them is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) u128);

impl Digest {
    pub(crate) fn of<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Self {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for part in parts {
            let part = part.as_ref();
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finish();
        let half = digest.as_ref().iter().take(16);
        Self(half.fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_while_in_use_and_no_further() {
        let shared = Shared::<u32>::new(2);
        let get = |key: &str, value| {
            shared
                .get_or_make(Digest::of([key]), || Ok::<_, ()>(value))
                .map(|value| *value)
                .ok()
        };
        let kept = shared
            .get_or_make(Digest::of(["a"]), || Ok::<_, ()>(1))
            .ok()
            .expect("made");
        assert_eq!(get("a", 2), Some(1), "in use");
        assert_eq!(get("b", 3), Some(3));
        assert_eq!(get("b", 4), Some(4), "dropped in between");
        assert_eq!(
            get("c", 5),
            Some(5),
            "makes room by dropping what nobody uses"
        );
        let second = shared
            .get_or_make(Digest::of(["d"]), || Ok::<_, ()>(6))
            .ok()
            .expect("made");
        assert_eq!(get("e", 7), None, "full");
        drop((kept, second));
        assert_eq!(get("e", 7), Some(7));
    }

    #[test]
    fn digest_keeps_parts_apart() {
        assert_ne!(Digest::of(["ab", "c"]), Digest::of(["a", "bc"]));
        assert_eq!(Digest::of(["ab"]), Digest::of([b"ab"]));
    }
}
