//! Ids of workloads, pods and containers.

use neap_units::PodUid;

/// A UID that the object of this name has in every run, so that what was decided on it is still its own.
pub(crate) fn stable_uid(kind: &str, key: &crate::keys::TargetKey) -> String {
    // FNV-1a, 64 bits, twice: no secret, only the same each time.
    let hash = |seed: u64| {
        let text = format!("{kind}/{key}");
        text.bytes().fold(seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    uid_of(&format!(
        "{:016x}{:016x}",
        hash(0xcbf2_9ce4_8422_2325),
        hash(0x6c62_272e_07bb_0142)
    ))
}

/// A UID by chance.
pub(super) fn random_uid() -> String {
    uid_of(&random_hex(16))
}

/// 32 hexadecimal digits in the form of a UID.
fn uid_of(hex: &str) -> String {
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    let uid = format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    );
    debug_assert!(PodUid::new(&uid).is_ok());
    uid
}

/// 64 hexadecimal digits, as runtimes name containers.
pub(super) fn container_id() -> String {
    random_hex(32)
}

/// `2 * bytes` random hexadecimal digits. They name things; nothing is kept secret by them.
pub(super) fn random_hex(bytes: usize) -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut text = String::with_capacity(bytes * 2);
    while text.len() < bytes * 2 {
        // Each RandomState has keys of its own.
        let hash = RandomState::new().build_hasher().finish();
        text.push_str(&format!("{hash:016x}"));
    }
    text.truncate(bytes * 2);
    text
}
