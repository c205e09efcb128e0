use super::*;
use crate::keys::TargetKey;

fn change(at: i64, bytes: usize) -> Record {
    Record::Change(ChangeRow {
        key: TargetKey::new("ns", "a"),
        at_micros: at,
        desired: 1,
        decision: "x".repeat(bytes),
    })
}

#[test]
fn what_is_appended_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut file, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found, []);
    let records = [change(1, 10), Record::Gap { from: 2, to: 3 }];
    file.append(&records).unwrap();
    file.append(&[change(4, 10)]).unwrap();
    drop(file);
    let (mut file, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found, [&records[..], &[change(4, 10)]].concat());
    file.append(&[change(5, 10)]).unwrap();
    let (_, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found.len(), 4);
}

#[test]
fn torn_bytes_end_their_segment_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut file, _) = HistoryFile::open(folder.path()).unwrap();
    file.append(&[change(1, 10), change(2, 10)]).unwrap();
    let torn = path(folder.path(), 0);
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() - 3]).unwrap();
    let (mut file, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found, [change(1, 10)]);
    file.append(&[change(3, 10)]).unwrap();
    // A flipped bit is no record either, nor is a length beyond the limit.
    let mut bytes = std::fs::read(&torn).unwrap();
    bytes[HEADER + 4] ^= 1;
    std::fs::write(&torn, &bytes).unwrap();
    assert_eq!(HistoryFile::open(folder.path()).unwrap().1, [change(3, 10)]);
    assert!(next(&[0xff; 64]).is_none());
}

#[test]
fn the_oldest_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut file, _) = HistoryFile::open(folder.path()).unwrap();
    let large = (SEGMENT / 5) as usize;
    for at in 0..60 {
        file.append(&[change(at, large)]).unwrap();
    }
    let on_disk: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(on_disk <= SEGMENT * (SEGMENTS as u64 + 1), "{on_disk}");
    let (_, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found.last(), Some(&change(59, large)));
    assert!(found.len() >= 5 * (SEGMENTS - 2), "{}", found.len());
    // Too long a record is left out, and the next one is kept.
    let (mut file, _) = HistoryFile::open(folder.path()).unwrap();
    file.append(&[change(60, RECORD + 1), change(61, 1)])
        .unwrap();
    assert_eq!(
        HistoryFile::open(folder.path()).unwrap().1.last(),
        Some(&change(61, 1))
    );
}

#[test]
fn another_format_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("00000007.changes9");
    std::fs::write(&other, b"whatever").unwrap();
    let (_, found) = HistoryFile::open(folder.path()).unwrap();
    assert_eq!(found, []);
    assert!(other.exists());
}
