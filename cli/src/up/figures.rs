//! What this process costs.

/// Resident memory of this process, bytes, and the most it ever was.
pub(super) fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kibibytes("VmRSS:")? * 1024, kibibytes("VmHWM:")? * 1024))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory() {
        let (now, most) = super::resident().unwrap();
        assert!(now > 1 << 20 && most >= now, "{now} {most}");
    }
}
